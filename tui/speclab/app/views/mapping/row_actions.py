"""Actions on rows of the mapping: add, delete, duplicate, move, copy, paste, and accept suggestions."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import Final

from speclab.app.actions import Controller
from speclab.app.views.mapping.cell_editor import CellEditing
from speclab.app.views.mapping.rows import EDITED, RESULT_AT, TRANSFORMATION_AT, MappingHost, text_of
from speclab.app.widgets.cells import fit
from speclab.app.widgets.grid import GridCell
from speclab.core.text import format_count
from speclab.mapping import MappingFailure
from speclab.spec.document import Document
from speclab.workbench.mapping_sheet import SheetRow, UnmappedTarget
from speclab.workbench.mapping_state import add_suggested_rows, parse_pasted_rows, paste_rows, table_of

_SHOWN: Final = 200
"""Maximum width of copied text in the toast, in cells."""

_ON_A_ROW: Final = {"edit", "delete", "duplicate", "move-up", "move-down"}


class RowActions(Controller):
    """Edits the table of the open spec; every action is one step to undo."""

    def __init__(self, host: MappingHost, cells: CellEditing) -> None:
        self._host = host
        self._cells = cells

    def explain_disabled(self, action: str) -> str | None:
        """Return why an action on rows is disabled."""
        if action in {"undo", "redo"} and self._cells.active:
            return "a cell is being edited: enter writes it, esc leaves it as it was"
        if action not in {*_ON_A_ROW, "add", "suggest"}:
            return None
        opened, sheet = self._host.opened, self._host.state.sheet
        if opened is None:
            return "no spec is open"
        if opened.read_only:
            return opened.read_only
        if sheet is None or sheet.table is None:
            return "the spec has no Field Mapping table; its section in Specs begins one with i"
        if action == "suggest":
            suggested = any(each.suggestion for each in self._host.state.unmapped.values())
            return None if suggested else "nothing to suggest"
        return self._explain_disabled_row(action, self._host.row, len(sheet.rows))

    def _explain_disabled_row(self, action: str, row: SheetRow | None, rows: int) -> str | None:
        if action in _ON_A_ROW and row is None and not (action == "edit" and self._host.unmapped):
            return "no row is selected"
        if action == "edit" and row is not None and not self._cells.has_column(self._column):
            return f"the table has no column {EDITED[self._column]}"
        if action == "move-up" and row is not None and row.index == 0:
            return "it is the first row"
        if action == "move-down" and row is not None and row.index == rows - 1:
            return "it is the last row"
        return None

    @property
    def _column(self) -> int:
        """The column of the grid whose cell is edited."""
        at = self._host.grid.cursor_column
        return at if at in EDITED else TRANSFORMATION_AT

    def action_edit(self) -> None:
        """Edit the cell under the cursor in place, or accept the suggestion."""
        if self._host.unmapped is not None:
            self._add_suggested([self._host.unmapped])
        elif self._host.row is not None:
            self._cells.begin(self._host.row.index, self._column)

    def action_add(self) -> None:
        """Add a row below the cursor and edit its first cell; both are one step to undo."""
        row, sheet = self._host.row, self._host.state.sheet
        at = row.index + 1 if row is not None else len(sheet.rows) if sheet is not None else 0
        group = self._cells.new_group()

        def add(document: Document) -> Document:
            return document.with_row_added(table_of(document), at, {})

        if self._host.document.change("a new row", add, group):
            self._cells.begin(at, 1, group)

    def action_delete(self) -> None:
        """Delete the row under the cursor."""
        if (row := self._host.row) is not None:
            self._host.document.change(
                f"row {row.target} deleted",
                lambda document: document.with_row_deleted(table_of(document), row.index),
            )

    def action_duplicate(self) -> None:
        """Copy the row under the cursor and edit the target of the copy."""
        row = self._host.row
        if row is not None and self._host.document.change(
            f"row {row.target} duplicated",
            lambda document: document.with_row_duplicated(table_of(document), row.index),
        ):
            self._cells.begin(row.index + 1, 2)

    def action_move_up(self) -> None:
        """Move the row up."""
        self._move(-1)

    def action_move_down(self) -> None:
        """Move the row down."""
        self._move(1)

    def _move(self, by: int) -> None:
        if (row := self._host.row) is not None:
            self._host.document.change(
                f"row {row.target} moved",
                lambda document: document.with_row_moved(table_of(document), row.index, row.index + by),
                f"move {row.target}",
            )

    def action_copy(self) -> None:
        """Copy the whole value of the cell under the cursor."""
        grid, row, record = self._host.grid, self._host.row, self._host.state.record
        if grid.row is None:
            return
        cell = grid.row.cells[grid.cursor_column]
        text = cell.text if isinstance(cell, GridCell) else cell
        if grid.cursor_column == RESULT_AT and row is not None and record is not None:
            with suppress(MappingFailure, KeyError):  # the cell shows the reason
                text = text_of(row.full_value(record))
        self._host.context.copy_to_clipboard(text)
        self._host.context.notify(fit(text, _SHOWN), title="Copied", timeout=2)

    def action_suggest(self) -> None:
        """Add all suggested rows."""
        self._add_suggested([each for each in self._host.state.unmapped.values() if each.suggestion is not None])

    def _add_suggested(self, targets: Sequence[UnmappedTarget]) -> None:
        sheet = self._host.state.sheet
        if sheet is None:
            return
        first = len(sheet.rows)
        label = f"row {targets[0].target}" if len(targets) == 1 else f"{len(targets)} rows"
        if not self._host.document.change(f"{label} suggested", partial(add_suggested_rows, targets=targets)):
            return
        if len(targets) == 1 and targets[0].suggestion is None:
            self._cells.begin(first, 1)
        else:
            self._host.grid.move(first)

    def paste(self, text: str) -> None:
        """Write cells copied from a spreadsheet, from the cell under the cursor on; missing rows are added."""
        first, column = (self._host.row.index if self._host.row is not None else None), self._column
        if self._cells.active:
            first, column = self._cells.index, self._cells.column
            self._cells.cancel()
        lines = parse_pasted_rows(text)
        names = [EDITED[at] for at in EDITED if at >= column and self._cells.has_column(at)]
        widest = max(map(len, lines), default=0)
        reason = self.explain_disabled("add")
        if reason is None and not widest:
            reason = "the clipboard has no cells"
        if reason is None and widest > len(names):
            reason = f"{widest} columns do not fit: there are {len(names)} from {EDITED[column]} on"
        if reason is not None:
            self._host.context.notify(reason, title="Not pasted", severity="warning")
            return
        cells = [dict(zip(names, (" ".join(cell.split()) for cell in line), strict=False)) for line in lines]
        pasted = format_count(len(cells), "row")
        if self._host.document.change(f"paste of {pasted}", partial(paste_rows, first=first, rows=cells)):
            self._host.context.notify(f"{pasted} pasted; u undoes it.", timeout=3)
