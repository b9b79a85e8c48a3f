"""The document: an immutable text, its outline and its sections."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from speclab.core.errors import UsageError
from speclab.core.files import read_regular_file
from speclab.core.text import describe_choices
from speclab.spec import edit
from speclab.spec.front_matter import FrontMatter, Settable, read_front_matter
from speclab.spec.outline import (
    Block,
    BlockKind,
    LineSpan,
    Outline,
    Section,
    TextLines,
    comparable_path,
    dominant_newline,
    read_outline,
)
from speclab.spec.problems import ProblemCollector
from speclab.spec.table import MarkdownTable, TableCell, TableRow, read_table

__all__ = [
    "Block",
    "BlockKind",
    "Document",
    "FrontMatter",
    "LineSpan",
    "MarkdownTable",
    "Section",
    "TableCell",
    "TableRow",
]


@dataclass(frozen=True, slots=True)
class Document:
    """One version of a spec file.

    `text` is the file's bytes read as UTF-8, bytes that are none kept as surrogates (PEP 383); `hash` is the SHA-256
    of the bytes, in hex; `newline` is the line end most lines have.
    """

    text: str
    path: Path | None = None
    lines: TextLines = field(repr=False, compare=False, kw_only=True)
    front_matter: FrontMatter = field(repr=False, compare=False, kw_only=True)
    outline: Outline = field(repr=False, compare=False, kw_only=True)
    newline: str = field(repr=False, compare=False, kw_only=True)
    hash: str = field(repr=False, compare=False, kw_only=True)

    @classmethod
    def parse(cls, text: str, path: Path | None = None) -> Document:
        """The document that `text` is. Any text is one; what is wrong with it is told as problems."""
        lines = TextLines.of_file(text)
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
    def mapping(self) -> MarkdownTable | None:
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
        hint = describe_choices(address, [section.address for section in self.sections], "its sections are")
        raise UsageError(f"no section {address!r}", hint=hint)

    def body(self, section: Section) -> str:
        """The section's own text, without the blank lines around it."""
        return section.body.of(self.text)

    def tables(self, section: Section) -> tuple[MarkdownTable, ...]:
        """The tables in the section's own text."""
        return tuple(read_table(self.lines, block) for block in section.blocks if block.kind is BlockKind.TABLE)

    def table(self, section: Section) -> MarkdownTable | None:
        """The section's first table."""
        return next(iter(self.tables(section)), None)

    # Edits. Each gives a new document in which nothing else reads otherwise, or raises `EditRefused` with the reason.

    def with_body(self, section: Section, body: str) -> Document:
        """With `body` as the section's own text: in the file's line ends, without blank lines around it."""
        return edit.with_body(self, section, body)

    def with_front_matter(self, key: str, value: Settable) -> Document:
        """With `value` for `key`, quoted if it must be to be read back; a key that is not there gets a line."""
        return edit.with_front_matter(self, key, value)

    def with_cell(self, table: MarkdownTable, row: int, column: str, text: str) -> Document:
        """With `text`, blanks around it left out, in that cell; no other cell moves."""
        return edit.with_cell(self, table, row, column, text)

    def with_row_added(self, table: MarkdownTable, at: int, cells: Mapping[str, str]) -> Document:
        """With a new row before the row `at` (or behind the last); `cells` by column name, the rest empty."""
        texts = [""] * len(table.header.cells)
        for name, text in cells.items():
            texts[table.column(name)] = text
        return edit.with_row_added(self, table, at, texts)

    def with_row_deleted(self, table: MarkdownTable, row: int) -> Document:
        """Without that row."""
        return edit.with_row_deleted(self, table, row)

    def with_row_moved(self, table: MarkdownTable, row: int, to: int) -> Document:
        """With that row as the row `to`."""
        return edit.with_row_moved(self, table, row, to)

    def with_row_duplicated(self, table: MarkdownTable, row: int) -> Document:
        """With that row twice."""
        return edit.with_row_duplicated(self, table, row)

    def with_table_aligned(self, table: MarkdownTable) -> Document:
        """With every column of the table as wide as its widest cell."""
        return edit.with_table_aligned(self, table)


SOURCE_SYSTEM: Final = "Integration Overview > Source System"
TARGET_SYSTEM: Final = "Integration Overview > Target System"
INTEGRATION_TYPE: Final = "Integration Overview > Integration Type"
DIRECTION: Final = "Data Flow > Direction"
FREQUENCY: Final = "Data Flow > Frequency"
VOLUME: Final = "Data Flow > Volume"
FIELD_MAPPING: Final = "Field Mapping"
SOURCE_AUTH: Final = "Authentication > Source System Auth"
TARGET_AUTH: Final = "Authentication > Target System Auth"
CREDENTIALS: Final = "Authentication > Credential Management"
ERROR_TYPES: Final = "Error Handling & Retry Strategy > Error Types"
RETRY_LOGIC: Final = "Error Handling & Retry Strategy > Retry Logic"
NOTIFICATIONS: Final = "Error Handling & Retry Strategy > Error Notifications"
METRICS: Final = "Monitoring & Alerting > Metrics"
ALERTS: Final = "Monitoring & Alerting > Alerts"
LOGGING: Final = "Monitoring & Alerting > Logging"
CRITERIA: Final = "Acceptance Criteria"


class Sections:
    """A document's sections by address; what is missing or there twice goes to `findings`."""

    def __init__(self, document: Document, findings: ProblemCollector) -> None:
        self._outline = document.outline
        self._findings = findings

    def find(self, address: str) -> Section | None:
        """The section at `address`, or wherever the only one of its title is; of several the first that says something.

        A second one that says something too is told of (D103).
        """
        found = self._outline.at(address)
        for other in found[1:]:
            if not other.empty:
                message = f"{other.title!r} is on line {found[0].line} too; keep one of the two"
                self._findings.error("D103", other.heading, message)
        return found[0] if found else None

    def need(self, address: str, example: str) -> None:
        """Tell that a run needs the section at `address` and that there is none (D101)."""
        above, _, title = address.rpartition(" > ")
        around = self._outline.at(above) if above else ()
        at = around[0].heading if around else LineSpan(0, 0)
        self._findings.need("D101", at, f"the section {title!r} is missing; {example}")

    def need_block(self, section: Section, example: str) -> None:
        """Tell that a run needs a settings block in `section` (D102 where it is empty, else D104)."""
        if section.empty:
            self._findings.need("D102", section.heading, f"{section.title!r} is empty; {example}")
            return
        fence = next((block for block in section.blocks if block.kind is BlockKind.FENCE and not block.info), None)
        message = f"{section.title!r} has no settings block; {example}"
        if fence is None:
            self._findings.need("D104", section.heading, message)
        else:
            self._findings.need("D104", fence.span, f"{message}; if it is this one, write ```yaml")
