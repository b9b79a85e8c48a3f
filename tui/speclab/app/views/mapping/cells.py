"""Editing one cell of the mapping in place: the input over the cell, its hint and completions, and writing it."""

from __future__ import annotations

from contextlib import suppress
from functools import partial

from textual.geometry import Region

from speclab.app.views.mapping.cell_editor import CellInput, CompletionPopup, Editing, Hint
from speclab.app.views.mapping.host import MappingHost
from speclab.app.views.mapping.rows import EDITED, text_of
from speclab.core.errors import EditRejected
from speclab.core.outcome import Level
from speclab.mapping.completion import Candidate, complete_source, complete_step, complete_target
from speclab.spec.table import SOURCE, TARGET, TRANSFORMATION
from speclab.workbench.mapping_edits import CellEdit


class CellEditing:
    """The cell that is being edited, if any."""

    def __init__(self, host: MappingHost) -> None:
        self._host = host
        self.popup = CompletionPopup()
        self.line = CellInput(self.popup)
        self._edit: CellEdit | None = None
        self._column = 0  # of the grid
        self._groups = 0

    @property
    def active(self) -> bool:
        """Whether a cell is being edited."""
        return self.line.editing

    @property
    def index(self) -> int:
        """The row of the table that is being edited."""
        return self._edit.index if self._edit is not None else 0

    @property
    def column(self) -> int:
        """The column of the grid that is being edited."""
        return self._column

    def new_group(self) -> str:
        """Return a name for edits that are one step to undo."""
        self._groups += 1
        return f"cells {self._groups}"

    def begin(self, index: int, column: int, group: str = "") -> None:
        """Edit the cell of that row of the table, in that column of the grid."""
        host, sheet = self._host, self._host.state.sheet
        if sheet is None:
            return
        host.grid.move(index, column)
        if not host.grid.region_of(index, column):
            return
        name, row = EDITED[column], sheet.rows[index]
        text = row.texts[name]
        self._edit = CellEdit(index, name, row.texts[TARGET], text, text, group or self.new_group())
        self._column = column
        editing = Editing(partial(self._hint, index, name), partial(self._complete, name))
        self.line.begin(text, editing, self._region(), Region(0, 0, *host.size))
        host.refresh_bindings()

    def follow_cell(self) -> None:
        """Move the input to where the cell is after a resize."""
        if self._edit is not None:
            self.line.put(self._region(), Region(0, 0, *self._host.size))

    def _region(self) -> Region:
        """Return the region of the cell in the view."""
        grid = self._host.grid
        return grid.region_of(self.index, self._column).translate(grid.content_region.offset - self._host.region.offset)

    def _hint(self, index: int, column: str, text: str) -> Hint:
        """Return what the cell would do with `text` in it, and show the row as it would be."""
        self._host.put_aside_soon()
        state = self._host.state
        if state.sheet is None:
            return Hint("")
        try:
            trial = state.sheet.trial(index, column, text)
        except EditRejected as refusal:
            return Hint(refusal.message, "failed")
        self._host.show_trial(trial)
        errors = [each for each in trial.wrong if each.level is Level.ERROR]
        here = next((each for each in errors if each.column == column), None)
        if here is not None:
            return Hint(here.message, "failed", here.start, max(here.end, here.start + 1))
        if errors:
            return Hint(errors[0].message, "muted")
        outcome = trial.outcome(state.record) if state.record is not None else None
        if outcome is None:
            return Hint("")
        if outcome.failure is not None:
            return Hint(outcome.failure.reason, "attention")
        return Hint(f"→ {text_of(outcome.result.value)}", "good")

    def _complete(self, column: str, text: str, cursor: int) -> tuple[Candidate, ...]:
        state = self._host.state
        paths = [field.path for field in state.fields]
        if column == SOURCE:
            return complete_source(text, cursor, paths)
        if column == TARGET:
            return complete_target(text, cursor, [each.target for each in state.unmapped.values()])
        if column == TRANSFORMATION and state.sheet is not None:
            return complete_step(text, cursor, fields=paths, lookups=state.sheet.settings.lookups)
        return ()

    # Writing

    def finish(self, text: str, *, onward: bool) -> None:
        """Write the cell; with `onward`, edit the next cell of the row."""
        edit, grid = self._edit, self._host.grid
        if edit is None or not self.write(text) or not onward:
            return
        here = grid.cursor_row
        visible = [at for at in EDITED if self.has_column(at) and grid.region_of(here, at)]
        if self._column != visible[-1]:
            self.begin(here, visible[visible.index(self._column) + 1], edit.group)

    def has_column(self, column: int) -> bool:
        """Return whether the table has the column that is shown there in the grid."""
        sheet = self._host.state.sheet
        return sheet is not None and sheet.table is not None and EDITED[column] in sheet.table.columns

    def write(self, text: str) -> bool:
        """Write `text` into the cell and stop editing; if it is refused, show why and go on editing."""
        try:
            self._put(text)
        except EditRejected as refusal:
            self._host.context.tell("Not changed", refusal)
            self.line.focus()
            return False
        self._end()
        return True

    def cancel(self) -> None:
        """Stop editing and restore the text the cell had before."""
        edit = self._edit
        if edit is not None and edit.written != edit.before:
            try:
                self._put(edit.before)
            except EditRejected as refusal:
                self._host.context.tell("Not restored", refusal)
        self._end()

    def _end(self) -> None:
        self._edit = None
        self.line.end()
        self._host.grid.focus()
        self._host.changed()

    @property
    def has_draft(self) -> bool:
        """Whether the text in the input is not in the document yet."""
        return self._edit is not None and self.line.value != self._edit.written

    def draft(self) -> str | None:
        """Return the whole document with the text that is being typed; None if the document contains it."""
        opened = self._host.opened
        if self._edit is None or opened is None or not self.has_draft:
            return None
        try:
            return self._edit.apply(opened.document, self.line.value)[0].text
        except EditRejected:  # the hint says why, and the text stays in the input
            return None

    def write_draft(self) -> None:
        """Bring the text that is being typed into the document, and go on editing."""
        if self.has_draft:
            with suppress(EditRejected):  # the hint says why, and the text stays in the input
                self._put(self.line.value)

    def _put(self, text: str) -> None:
        """Have `text` in the cell. Raises `EditRejected`."""
        edit, opened = self._edit, self._host.opened
        if edit is None or opened is None:
            return
        document, written = edit.apply(opened.document, text)
        opened.edit(document, f"{edit.name} of row {written.index + 1}", edit.group)
        self._edit = written
