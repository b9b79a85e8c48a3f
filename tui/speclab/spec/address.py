"""Addresses of keys, sections and cells of a spec, as in `speclab show` and `speclab set`.

`status` · `Data Flow > Volume` · `Field Mapping[target.email].Transformation`
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date
from typing import Final, TypeAlias

from speclab.core.errors import UsageError
from speclab.core.text import describe_choices, find_likely_name, find_similar
from speclab.spec.document import Document, MarkdownTable, Section
from speclab.spec.guide import KEYS
from speclab.spec.parser import lint
from speclab.spec.workspace import INTEGRATION

_CELL: Final = re.compile(r"(?P<section>[^\[]+?(?:\[\d+\](?=\[))?)\s*\[(?P<row>.+)\]\s*\.\s*(?P<column>[^\]]+)")
_CHOICE_CODES: Final = ("F103", "F104", "C101", "C103")
"""The problem codes of spec_id, status, choices and schedule."""


@dataclass(frozen=True, slots=True)
class KeyAddress:
    """A key of the front matter."""

    key: str


@dataclass(frozen=True, slots=True)
class SectionAddress:
    """The own text of a section."""

    section: Section


@dataclass(frozen=True, slots=True)
class CellAddress:
    """A cell of a table: the row by its key (target path or first cell), the column by its name."""

    table: MarkdownTable
    row: int
    column: str


Address: TypeAlias = KeyAddress | SectionAddress | CellAddress


def parse(document: Document, text: str) -> Address:
    """Resolve `text` in `document`: to a cell, an existing key, a section, or a key of the template, in this order.

    Raises `UsageError` with similar names.
    """
    if match := _CELL.fullmatch(text.strip()):
        return _cell(document, match["section"], match["row"], match["column"])
    name = text.strip()
    if document.front_matter.entry(name):
        return KeyAddress(name)
    try:
        return SectionAddress(document.section(name))
    except UsageError:
        if name in KEYS:
            return KeyAddress(name)
        keys = [entry.key for entry in document.front_matter.entries]
        if ">" in name or not find_similar(name, keys):
            raise
        raise UsageError(f"no key or section {text!r}", hint=describe_choices(name, keys, "")) from None


def read(document: Document, address: str) -> str:
    """Return the content at `address`: a section's body, a cell's text, or a key's value, as written unless text.

    Raises `UsageError` if the address or key does not exist.
    """
    at = parse(document, address)
    if isinstance(at, SectionAddress):
        return document.body(at.section)
    if isinstance(at, CellAddress):
        return at.table.cell(at.row, at.column).text
    value, span = document.front_matter.get(at.key), document.front_matter.get_span(at.key)
    if span is None:
        raise UsageError(f"the front matter has no key {at.key!r}", hint="speclab set adds it")
    return value if isinstance(value, str) else span.of(document.text)


def write(document: Document, address: str, value: str) -> Document:
    """Return `document` with `value` at `address`. A missing key of the template is added; a date is written as one.

    Raises `UsageError` if the address does not exist or the value is not one of its choices (a status, a Frequency),
    and `EditRejected` if the value cannot be written there.
    """
    at = parse(document, address)
    if isinstance(at, CellAddress):
        return document.with_cell(at.table, at.row, at.column, value)
    if isinstance(at, SectionAddress):
        written, name = document.with_body(at.section, value), at.section.address
    else:
        written, name = document.with_front_matter(at.key, _parse_date(value) or value), at.key
        if name == "type" and value != INTEGRATION and (meant := find_likely_name(value, (INTEGRATION,))):
            raise UsageError(f"type: unknown type {value!r}", hint=f"Did you mean {meant!r}? Nothing was changed.")
    _reject_unknown_choice(document, written, name)
    return written


def _reject_unknown_choice(before: Document, after: Document, name: str) -> None:
    """Raise `UsageError` if `after` has an invalid choice that `before` does not have.

    An error that existed before does not prevent the edit.
    """
    known = {(problem.code, problem.message) for problem in lint(before)}
    for problem in lint(after):
        if problem.code in _CHOICE_CODES and (problem.code, problem.message) not in known:
            raise UsageError(f"{name}: {problem.message}", hint="Nothing was changed.")


def _cell(document: Document, section: str, row: str, column: str) -> CellAddress:
    here = document.section(section)
    tables = document.tables(here)
    table = next((table for table in tables if table.is_mapping), None) or next(iter(tables), None)
    if table is None:
        raise UsageError(f"the section {here.address!r} has no table")
    at = table.find(row)
    table.column(column)
    return CellAddress(table, at, column)


def _parse_date(value: str) -> date | None:
    try:
        return date.fromisoformat(value) if re.fullmatch(r"\d{4}-\d\d-\d\d", value) else None
    except ValueError:
        return None
