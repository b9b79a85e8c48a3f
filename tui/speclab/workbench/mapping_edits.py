"""Edits of the Field Mapping table: one cell while it is edited, pasted cells, suggested rows."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from speclab.core.errors import EditRejected
from speclab.mapping.completion import qualify_path
from speclab.spec.document import Document, MarkdownTable
from speclab.spec.table import SOURCE, TARGET, TRANSFORMATION
from speclab.workbench.mapping_sheet import COLUMNS
from speclab.workbench.unmapped import UnmappedTarget


@dataclass(frozen=True, slots=True)
class CellEdit:
    """A cell while it is edited: the column `name` of row `index`.

    `before` is its text when editing began, `written` its text in the document now. By `written` and the row's
    `target` the cell is found again after an external change. The edits of one `group` are one step to undo.
    """

    index: int
    name: str
    target: str
    before: str
    written: str
    group: str

    def find_row(self, table: MarkdownTable) -> int:
        """Return the current index of the row. Raises `EditRejected` if the row or the cell changed."""
        if self.name not in table.columns:
            raise EditRejected(f"the table no longer has a column {self.name}")
        for index in sorted(range(len(table.rows)), key=lambda at: abs(at - self.index)):
            texts = (table.cell(index, TARGET).text, table.cell(index, self.name).text)
            if texts == (self.target, self.written):
                return index
        raise EditRejected("the cell was changed by others meanwhile", hint="esc keeps their text")

    def apply(self, document: Document, text: str) -> tuple[Document, CellEdit]:
        """Write `text` into the cell. Raises `EditRejected`."""
        table = table_of(document)
        index = self.find_row(table)
        target = text if self.name == TARGET else self.target
        edited = document.with_cell(table, index, self.name, text)
        return edited, replace(self, index=index, written=text.strip(), target=target.strip())


def table_of(document: Document) -> MarkdownTable:
    """Return the Field Mapping table. Raises `EditRejected` if there is none."""
    if document.mapping is None:
        raise EditRejected("the spec no longer has a Field Mapping table")
    return document.mapping


def parse_pasted_rows(text: str) -> list[list[str]]:
    """Return the cells of text copied from a spreadsheet, without blank rows and the heading of the table."""
    lines = [line for line in csv.reader(io.StringIO(text), dialect="excel-tab") if any(line)]
    if lines and {cell.strip().lower() for cell in lines[0]} <= {name.lower() for name in COLUMNS}:
        del lines[0]
    return lines


def paste_rows(document: Document, first: int | None, rows: Sequence[Mapping[str, str]]) -> Document:
    """Write cells into the rows from `first` on; None, and rows that are missing, add rows at the end."""
    start = len(table_of(document).rows) if first is None else first
    for index, cells in enumerate(rows, start):
        if index < len(table_of(document).rows):
            for name, text in cells.items():
                document = document.with_cell(table_of(document), index, name, text)
        else:
            document = document.with_row_added(table_of(document), len(table_of(document).rows), cells)
    return document


def add_suggested_rows(document: Document, targets: Sequence[UnmappedTarget]) -> Document:
    """Add a row for each target, with the suggestion if there is one. Raises `EditRejected`."""
    for unmapped in targets:
        cells = {TARGET: qualify_path("target", unmapped.target), TRANSFORMATION: "Direct"}
        if unmapped.suggestion is not None:
            cells |= {SOURCE: unmapped.suggestion.source, TRANSFORMATION: unmapped.suggestion.transformation}
        if TRANSFORMATION not in table_of(document).columns and cells.pop(TRANSFORMATION) != "Direct":
            raise EditRejected(f"the table has no column {TRANSFORMATION}, which {unmapped.target} needs")
        document = document.with_row_added(table_of(document), len(table_of(document).rows), cells)
    return document
