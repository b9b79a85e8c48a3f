"""The document: one immutable version of a spec file, with its edits; and the addresses of its sections."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from speclab.core.errors import UsageError
from speclab.core.files import read_regular_file
from speclab.spec import edit
from speclab.spec.front_matter import FrontMatter, Settable, Splice
from speclab.spec.outline import (
    Block,
    BlockKind,
    LineSpan,
    Section,
)
from speclab.spec.parsed_document import ParsedDocument
from speclab.spec.problems import ProblemCollector
from speclab.spec.table import MarkdownTable, TableCell, TableRow

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
class Document(ParsedDocument):
    """One version of a spec file; immutable, an edit returns a new version."""

    @classmethod
    def load(cls, path: Path) -> Document:
        """Read and parse the file at `path`.

        Raises `UsageError` if it cannot be read, and `TooLarge` if it is larger than a spec may be.
        """
        try:
            data = read_regular_file(path)
        except OSError as error:
            raise UsageError(f"{path}: cannot be read: {error.strerror or error}") from error
        return cls.parse(data.decode("utf-8", "surrogateescape"), path)

    @property
    def mapping(self) -> MarkdownTable | None:
        """The Field Mapping table: the first table of that section with the required columns."""
        sections = self.outline.at(FIELD_MAPPING)
        return next((table for table in self.tables(sections[0]) if table.is_mapping), None) if sections else None

    # Edits: each returns a new document, or raises `EditRejected` if anything else would change.

    def with_body(self, section: Section, body: str) -> Document:
        """Replace the section's own text by `body`, with the file's line ends and without blank lines around it."""
        return edit.with_body(self, section, body)

    def with_splices(self, section: Section, splices: Sequence[Splice]) -> Document:
        """Apply splices inside the section's own text; every other byte stays the same."""
        return edit.with_splices(self, section, splices)

    def with_front_matter(self, key: str, value: Settable) -> Document:
        """Set `key` to `value`, quoted if necessary; a missing key is added."""
        return edit.with_front_matter(self, key, value)

    def with_cell(self, table: MarkdownTable, row: int, column: str, text: str) -> Document:
        """Set the text of a cell, stripped; no other cell moves."""
        return edit.with_cell(self, table, row, column, text)

    def with_row_added(self, table: MarkdownTable, at: int, cells: Mapping[str, str]) -> Document:
        """Insert a row before the row `at`, or after the last; `cells` by column name, others empty."""
        texts = [""] * len(table.header.cells)
        for name, text in cells.items():
            texts[table.column(name)] = text
        return edit.with_row_added(self, table, at, texts)

    def with_row_deleted(self, table: MarkdownTable, row: int) -> Document:
        """Delete a row."""
        return edit.with_row_deleted(self, table, row)

    def with_row_moved(self, table: MarkdownTable, row: int, to: int) -> Document:
        """Move a row to the index `to`."""
        return edit.with_row_moved(self, table, row, to)

    def with_row_duplicated(self, table: MarkdownTable, row: int) -> Document:
        """Duplicate a row."""
        return edit.with_row_duplicated(self, table, row)

    def with_table_aligned(self, table: MarkdownTable) -> Document:
        """Pad every column of the table to the width of its widest cell."""
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
PHASES: Final = "Implementation Phases"
API_DEPENDENCIES: Final = "Dependencies & Risks > API Dependencies"
DATA_DEPENDENCIES: Final = "Dependencies & Risks > Data Dependencies"
RISKS: Final = "Dependencies & Risks > Technical Risks"
TASKS: Final = "Tasks Created"


class Sections:
    """Finds a document's sections by address; missing and repeated ones are reported to `findings`."""

    def __init__(self, document: Document, findings: ProblemCollector) -> None:
        self._outline = document.outline
        self._findings = findings

    def find(self, address: str) -> Section | None:
        """Return the section at `address`, or the one with that title; of several, the first that is not empty.

        Report further ones that are not empty (D103).
        """
        found = self._outline.at(address)
        for other in found[1:]:
            if not other.empty:
                message = f"{other.title!r} is on line {found[0].line} too; keep one of the two"
                self._findings.error("D103", other.heading, message)
        return found[0] if found else None

    def need(self, address: str, example: str) -> None:
        """Report that a run needs the section at `address`, which is missing (D101)."""
        above, _, title = address.rpartition(" > ")
        around = self._outline.at(above) if above else ()
        at = around[0].heading if around else LineSpan(0, 0)
        self._findings.need("D101", at, f"the section {title!r} is missing; {example}")

    def need_block(self, section: Section, example: str) -> None:
        """Report that a run needs a settings block in `section` (D102 if it is empty, otherwise D104)."""
        if section.empty:
            self._findings.need("D102", section.heading, f"{section.title!r} is empty; {example}")
            return
        fence = next((block for block in section.blocks if block.kind is BlockKind.FENCE and not block.info), None)
        message = f"{section.title!r} has no settings block; {example}"
        if fence is None:
            self._findings.need("D104", section.heading, message)
        else:
            self._findings.need("D104", fence.span, f"{message}; if it is this one, write ```yaml")
