"""A spec file as an immutable text that knows its front matter, sections and tables, and where each of them stands.

Nothing here writes Markdown or YAML anew: an edit is one splice into the text, and a Document is only ever made by
reading a text.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from speclab.errors import UsageError
from speclab.spec import edit
from speclab.spec.files import read_regular_file
from speclab.spec.front_matter import FrontMatter, Settable, read_front_matter
from speclab.spec.lines import Lines, Span, dominant_newline
from speclab.spec.names import nearest
from speclab.spec.outline import Block, BlockKind, Outline, Section, comparable_path, read_outline
from speclab.spec.table import Cell, Table, TableRow, read_table

__all__ = ["Block", "BlockKind", "Cell", "Document", "FrontMatter", "Section", "Span", "Table", "TableRow"]

FIELD_MAPPING = "Field Mapping"


@dataclass(frozen=True, slots=True)
class Document:
    """One version of a spec file.

    `text` is the file's bytes read as UTF-8, bytes that are none kept as surrogates (PEP 383); `hash` is the SHA-256
    of the bytes, in hex; `newline` is the line end most lines have.
    """

    text: str
    path: Path | None = None
    lines: Lines = field(repr=False, compare=False, kw_only=True)
    front_matter: FrontMatter = field(repr=False, compare=False, kw_only=True)
    outline: Outline = field(repr=False, compare=False, kw_only=True)
    newline: str = field(repr=False, compare=False, kw_only=True)
    hash: str = field(repr=False, compare=False, kw_only=True)

    @classmethod
    def parse(cls, text: str, path: Path | None = None) -> Document:
        """The document that `text` is. Any text is one; what is wrong with it is told as problems."""
        lines = Lines.of_file(text)
        front_matter = read_front_matter(lines, str(path or "<spec>"))
        return cls(
            text,
            path,
            lines=lines,
            front_matter=front_matter,
            outline=read_outline(lines, front_matter.end),
            newline=dominant_newline(text),
            hash=hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest(),
        )

    @classmethod
    def load(cls, path: Path) -> Document:
        """The document in the file at `path`.

        Raises `UsageError` if there is none, or it cannot be read, and `TooLarge` if it is larger than a spec may be.
        """
        try:
            data = read_regular_file(path)
        except OSError as error:
            raise UsageError(f"{path}: cannot be read: {error.strerror or error}") from error
        return cls.parse(data.decode("utf-8", "surrogateescape"), path)

    def to_bytes(self) -> bytes:
        """The file's bytes."""
        return self.text.encode("utf-8", "surrogateescape")

    @property
    def title(self) -> str:
        """The first heading of level 1, or ""."""
        return self.outline.title

    @property
    def sections(self) -> tuple[Section, ...]:
        """All sections in file order; the title is none."""
        return self.outline.sections

    @property
    def mapping(self) -> Table | None:
        """The Field Mapping table: the first in that section that has its columns."""
        sections = self.outline.at(FIELD_MAPPING)
        return next((table for table in self.tables(sections[0]) if table.is_mapping), None) if sections else None

    def position(self, offset: int) -> tuple[int, int]:
        """Line and column of `offset`, both from 1, columns in characters."""
        return self.lines.position(offset)

    def section(self, address: str) -> Section:
        """The section at `address`, such as `Data Flow > Volume` or `Phase[1]`, in any case and spacing.

        The end of an address will do where it is the only one. Raises `UsageError` with the names near it.
        """
        wanted = comparable_path(address)
        addresses = {comparable_path(section.address): section for section in self.sections}
        if wanted in addresses:
            return addresses[wanted]
        found = [section for path, section in addresses.items() if path[-len(wanted) :] == wanted]
        if len(found) == 1:
            return found[0]
        if found:
            names = " and ".join(repr(section.address) for section in found)
            raise UsageError(f"{len(found)} sections are called {address!r}: {names}", hint="write the whole address")
        hint = nearest(address, [section.address for section in self.sections], "its sections are")
        raise UsageError(f"no section {address!r}", hint=hint)

    def body(self, section: Section) -> str:
        """The section's own text, without the blank lines around it."""
        return section.body.of(self.text)

    def tables(self, section: Section) -> tuple[Table, ...]:
        """The tables in the section's own text."""
        return tuple(read_table(self.lines, block) for block in section.blocks if block.kind is BlockKind.TABLE)

    def table(self, section: Section) -> Table | None:
        """The section's first table."""
        return next(iter(self.tables(section)), None)

    # Edits. Each gives a new document in which nothing else reads otherwise, or raises `EditRefused` with the reason.

    def with_body(self, section: Section, body: str) -> Document:
        """With `body` as the section's own text: in the file's line ends, without blank lines around it."""
        return edit.with_body(self, section, body)

    def with_front_matter(self, key: str, value: Settable) -> Document:
        """With `value` for `key`, quoted if it must be to be read back; a key that is not there gets a line."""
        return edit.with_front_matter(self, key, value)

    def with_cell(self, table: Table, row: int, column: str, text: str) -> Document:
        """With `text`, blanks around it left out, in that cell; no other cell moves."""
        return edit.with_cell(self, table, row, column, text)

    def with_row_added(self, table: Table, at: int, cells: Mapping[str, str]) -> Document:
        """With a new row before the row `at` (or behind the last); `cells` by column name, the rest empty."""
        texts = [""] * len(table.header.cells)
        for name, text in cells.items():
            texts[table.column(name)] = text
        return edit.with_row_added(self, table, at, texts)

    def with_row_deleted(self, table: Table, row: int) -> Document:
        """Without that row."""
        return edit.with_row_deleted(self, table, row)

    def with_row_moved(self, table: Table, row: int, to: int) -> Document:
        """With that row as the row `to`."""
        return edit.with_row_moved(self, table, row, to)

    def with_row_duplicated(self, table: Table, row: int) -> Document:
        """With that row twice."""
        return edit.with_row_duplicated(self, table, row)

    def with_table_aligned(self, table: Table) -> Document:
        """With every column of the table as wide as its widest cell."""
        return edit.with_table_aligned(self, table)
