"""The Mapping view: the rows of the Field Mapping, a sample record, its result, and where it fails."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final

from textual import on, work
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Container
from textual.events import Paste
from textual.widgets import Static

from speclab.app.actions import Action, Command, bindings
from speclab.app.formatting import CRUMB
from speclab.app.view import Reference, View
from speclab.app.views.document import DOCUMENT, DocumentController
from speclab.app.views.mapping.cell_editor import CellEditing, CellInput
from speclab.app.views.mapping.row_actions import RowActions
from speclab.app.views.mapping.rows import (
    TRANSFORMATION_AT,
    Fails,
    columns,
    fails_by_row,
    grid_row,
    keys,
    row_message,
    text_of,
    unmapped_row,
)
from speclab.app.views.mapping.sample_actions import REPLAY, RecordPanels, ReplayAction, SampleActions
from speclab.app.widgets.grid import MOVES, Grid
from speclab.app.widgets.panel import Panel
from speclab.core.outcome import Level
from speclab.core.text import format_count
from speclab.mapping.steps import STEPS
from speclab.spec.problems import Problem
from speclab.workbench.mapping_sheet import MappingSheet, SheetRow, UnmappedTarget
from speclab.workbench.mapping_state import MappingState
from speclab.workbench.open_specs import OpenSpec
from speclab.workbench.samples import NO_SAMPLES

if TYPE_CHECKING:
    from speclab.app.view import AppContext
    from speclab.runlog import FailureRow
    from speclab.runlog.reader import LogUpdate
    from speclab.spec.document import Document


CHECK_DELAY: Final = 0.1
"""Seconds without a further change before all sample records are checked."""
LARGE: Final = 200_000
"""Characters of a document from which its rows are read in a thread."""

MAPPING: Final = (
    Action("edit", "edit cell", "Edit the cell under the cursor, or accept a suggestion.", ("e",), footer=False),
    Action("next-record", "next record", "Next sample record.", ("n",)),
    Action("previous-record", "previous record", "Previous sample record.", ("p",), footer=False),
    Action("next-failing", "next failing", "Show the next record that fails, on this row if there is one.", ("F",)),
    Action("live", "live sample", "Read sample records from the source.", ("l",)),
    Action("samples", "open sample", "Load sample records from a file or from dead letters.", ("o",), footer=False),
    Action("keep", "keep sample", "Save these records as the spec's sample.", ("w",), footer=False),
    Action("add", "add", "Add a row below this one.", ("a",)),
    Action("delete", "delete", "Delete the row. Undo restores it.", ("d", "delete")),
    Action("suggest", "suggest all", "Add the suggested rows.", ("s",)),
    Action("explain", "explain steps", "Show the value after each step of the row.", ("x",)),
    Action("copy", "copy", "Copy the text of the cell.", ("y",), footer=False),
    *DOCUMENT,
    Action("duplicate", "duplicate", "Duplicate the row.", ("m",), footer=False),
    Action("move-up", "move up", "Move the row up.", ("K", "ctrl+up"), footer=False),
    Action("move-down", "move down", "Move the row down.", ("J", "ctrl+down"), footer=False),
    Action("stop", "stop reading", "Cancel reading from the source.", ("escape",), footer=False),
    replace(REPLAY, footer=False),
)
DEAD_LETTERS: Final = (REPLAY, *(action for action in MAPPING if action.id != REPLAY.id))
"""The actions while the sample consists of dead letters: replay comes first."""

CELLS: Final = (
    *(action for action in MOVES if action.id != "choose"),
    Action("choose", "edit cell", "Edit the cell under the cursor, or accept a suggestion.", ("enter",)),
)

NO_SPEC: Final = ("No spec is open.", "Press 1 for the specs.")
NO_TABLE: Final = ("This spec has no Field Mapping table.", "Its section in Specs begins one with i.")
NO_ROWS: Final = ("The Field Mapping has no rows.", "a adds the first.")


class MappingGrid(Grid):
    """The rows of the mapping."""

    ACTIONS = CELLS
    BINDINGS: ClassVar[list[BindingType]] = bindings(CELLS)

    def __init__(self) -> None:
        super().__init__(columns(120), cursor="cell", empty=NO_SPEC)
        self.move(column=TRANSFORMATION_AT)

    def on_resize(self) -> None:
        """Fit the columns to the width."""
        self.lay_out(columns(self.size.width))


class MappingView(View):
    """The grid of rows; below it the source record and the target record."""

    NAME = "mapping"
    ACTIONS = MAPPING
    BINDINGS: ClassVar[list[BindingType]] = bindings(MAPPING)
    CONTROLLERS = (RowActions, SampleActions, ReplayAction, RecordPanels, DocumentController)
    SCOPED_CSS = False
    DEFAULT_CSS = """
    MappingView {
        layout: vertical;
        layers: default above;
        #rows { height: 1fr; min-height: 6; }
        #rows > Grid { height: 1fr; }
        #message { height: auto; max-height: 3; padding: 0 1; }
        #panes { height: 34%; min-height: 5; max-height: 18; layout: horizontal; }
        #record, #target { height: 1fr; }
        CellInput, CompletionPopup { display: none; }
    }
    .-narrow MappingView #panes { height: auto; max-height: 100%; }
    """

    def __init__(self, context: AppContext) -> None:
        super().__init__(context)
        self.state = MappingState()
        self.grid: Grid = MappingGrid()
        self.cells = CellEditing(self)
        self.document = DocumentController(self, self.cells)
        self.rows = RowActions(self, self.cells)
        self.samples = SampleActions(self)
        self.replays = ReplayAction(self, self.cells)
        self.records = RecordPanels(self, self.cells, self.samples, self.replays)
        self.controllers = (self.rows, self.samples, self.replays, self.records, self.document)
        self._message = Static(id="message", markup=False)
        self._rows_panel = Panel(self.grid, self._message, title="field mapping", id="rows")
        self._fails: Mapping[str, int] = {}
        self._built: Document | None = None  # the large document that is, or was last, read in a thread

    def compose(self) -> ComposeResult:
        """Compose the panels, and the cell editor above them."""
        yield self._rows_panel
        yield Container(self.records.source_panel, self.records.target_panel, id="panes")
        yield self.cells.line
        yield self.cells.popup

    @property
    def opened(self) -> OpenSpec | None:
        """The open spec."""
        return self.document.opened

    @property
    def row(self) -> SheetRow | None:
        """The row of the table under the cursor."""
        at, sheet = self.grid.cursor_row, self.state.sheet
        return sheet.rows[at] if sheet is not None and at < len(sheet.rows) else None

    @property
    def unmapped(self) -> UnmappedTarget | None:
        """The unmapped target under the cursor."""
        return self.state.unmapped.get(self.grid.row.key) if self.grid.row is not None else None

    def refuse(self, action: Action, reason: str) -> None:
        """Show why `action` is disabled; if a section prevents a live sample, offer to go there."""
        if not self.samples.offer_section(action, reason):
            super().refuse(action, reason)

    # Opening and closing

    def on_mount(self) -> None:
        """Open the first spec once specs are found, if none is open."""
        self.document.start()
        self.watch(self.app, "specs", self._open_first, init=False)

    def on_unmount(self) -> None:
        """Keep unsaved changes."""
        self.document.close()

    def unsaved(self) -> str | None:
        """Return a sentence about changes that quitting would lose; None if there are none."""
        return self.document.describe_unsaved()

    def specs_changed(self, paths: Iterable[Path]) -> None:
        """Merge external changes to the open spec."""
        self.document.reload(paths)

    def activate(self) -> None:
        """Show the open spec, or the first; focus the grid."""
        if self.context.spec is not None:
            self.open(self.context.spec)
        self._open_first()
        self.grid.focus()
        self._count_fails()

    def _open_first(self) -> None:
        context = self.context
        if self.display and context.spec is None and context.specs:
            first = context.specs[0].path
            context.select_spec(first)
            self.open(first)

    def deactivate(self) -> None:
        """Write the cell that is being edited."""
        if self.cells.active:
            self.cells.write(self.cells.line.value)
        self.document.leave()

    def open(self, spec: Path, failure: FailureRow | None = None) -> None:
        """Show the mapping of `spec`; with a `failure`, use its record as the sample and go to the row that failed."""
        before = self.opened
        self.document.open(spec)
        if self.opened is None:
            return
        if self.opened is not before:
            self.state.target_fields = ()
        if failure is not None:
            self.samples.use_failure(failure)
        elif self.opened is not before:
            self.state.set_samples(NO_SAMPLES)
            self.document.refresh()
            self.samples.load_kept()

    def log_changed(self, update: LogUpdate | None) -> None:  # noqa: ARG002 (all failures are counted again)
        """Count the failures again."""
        self._count_fails()

    @work(exclusive=True, group="fails")
    async def _count_fails(self) -> None:
        spec_id = self.samples.spec_id
        groups = await self.context.ask(lambda reader: reader.groups(spec_id)) if spec_id else ()
        fails = fails_by_row((group.row, group.count) for group in groups or ())
        if fails != self._fails:
            self._fails = fails
            self._show_rows()

    # Rendering

    def show_document(self) -> None:
        """Show the rows and their results for the current record."""
        if self.opened is None or self.cells.active:
            return
        if self.state.sheet is None or self.state.sheet.document is not self.opened.document:
            if len(self.opened.document.text) > LARGE:
                if self._built is not self.opened.document:
                    before, self.state.sheet = (
                        self.state.sheet,
                        None,
                    )  # no edit may use the rows of another document
                    self._built = self.opened.document
                    self._build_sheet(self.opened.document, before)
                return
            self.state.sheet = MappingSheet.of(self.opened.document, self.state.sheet)
            self.check_samples()
        self.state.update_unmapped()
        self._show_rows()

    @work(exclusive=True, group="sheet")
    async def _build_sheet(self, document: Document, before: MappingSheet | None) -> None:
        """Read a large document in a thread, so that no key waits for it."""
        sheet = await asyncio.to_thread(MappingSheet.of, document, before)
        if self.opened is not None and self.opened.document is document:
            self.state.sheet = sheet
            self.check_samples()
            self.state.update_unmapped()
            self._show_rows()

    @work(exclusive=True, group="check")
    async def check_samples(self) -> None:
        """Check all sample records against the current mapping."""
        sheet, records = self.state.sheet, self.state.samples.records
        if sheet is None:
            return
        await asyncio.sleep(CHECK_DELAY)
        self.state.set_check(await asyncio.to_thread(sheet.check_records, records), sheet)
        self.show_record()
        self.refresh_bindings()

    def show_problems(self) -> None:
        """Show problems that only a check of the whole spec finds."""
        self._show_rows()

    async def show_change(self, line: int, column: int) -> None:
        """Go to the row that changed; if the change is outside the table, to its section in Specs."""
        self.document.refresh()
        if self.opened is None:
            return
        table = self.opened.document.mapping
        if table is None or not table.header.line <= line <= table.header.line + len(table.rows) + 2:
            await self.context.show_change(line, column)
        elif table.rows:
            index = max((index for index, row in enumerate(table.rows) if row.line <= line), default=0)
            self.grid.move(index)

    def _show_rows(self, trial: SheetRow | None = None) -> None:
        sheet = self.state.sheet
        if sheet is None or self.opened is None:
            return
        shown = [trial if trial is not None and trial.index == row.index else row for row in sheet.rows]
        record = self.state.record
        self.state.evaluate(shown)
        found = self._found(sheet)
        failing = (
            self.state.current_check.failing
            if self.state.current_check is not None and self.state.samples.records
            else None
        )
        rows = [
            grid_row(
                key,
                row,
                row.problems if row is trial else sheet.problems(row, found.get(row.line, ())),
                outcome,
                Fails(
                    len(failing.get(row.target, ())) if failing is not None and row.mapper is not None else None,
                    self._fails.get(row.target, 0),
                ),
                sampled=record is not None,
            )
            for key, row, outcome in zip(keys(sheet.rows), shown, self.state.outcomes, strict=True)
        ]
        rows += [unmapped_row(each, self._suggested_text(each)) for each in self.state.unmapped.values()]
        self.grid.show(rows, empty=NO_TABLE if sheet.table is None else NO_ROWS)
        count = sum(
            problem.level is not Level.INFO
            for row in sheet.rows
            for problem in sheet.problems(row, found.get(row.line, ()))
        )
        self._update_title(len(sheet.rows), count)
        self._show_row(shown)

    def _found(self, sheet: MappingSheet) -> Mapping[int, Sequence[Problem]]:
        """Return the problems of the document, if they are up to date, and those of the sample, by line."""
        opened = self.opened
        current = opened is not None and opened.checked is sheet.document
        return self.state.group_problems(opened.problems if opened is not None and current else ())

    def show_record(self) -> None:
        """Show the results of the rows for the current record."""
        self._show_rows()

    def show_trial(self, trial: SheetRow) -> None:
        """Show a row with the text that is being typed."""
        self._show_rows(trial)

    def _suggested_text(self, unmapped: UnmappedTarget) -> str:
        values = self.state.find_suggested_values(unmapped.key)
        return text_of(values[0]) if values else ""

    def _update_title(self, rows: int, problems: int) -> None:
        if self.opened is None:
            return
        panel = self._rows_panel
        name = self.opened.path.stem
        panel.title = name if self.app.size.width < 72 else f"{name} {CRUMB} Field Mapping"
        notes = [format_count(rows, "row")]
        notes += [format_count(problems, "problem")] if problems else []
        notes += [f"{format_count(len(self.state.unmapped), 'target')} unmapped"] if self.state.unmapped else []
        notes += ["read-only"] if self.opened.read_only else []
        notes += ["unsaved"] if self.opened.unsaved else []
        panel.note = ", ".join(notes)

    @on(Grid.Moved, "MappingGrid")
    def _moved(self) -> None:
        if self.state.sheet is not None and not self.cells.active:
            self._show_row(self.state.sheet.rows)

    def _show_row(self, rows: Sequence[SheetRow]) -> None:
        """Show the records and the message for the row under the cursor."""
        self.records.show(rows)
        row, sheet, check = self.row, self.state.sheet, self.state.current_check
        found = self._found(sheet) if row is not None and sheet is not None else {}
        problems = sheet.problems(row, found.get(row.line, ())) if row is not None and sheet is not None else ()
        undecided = check.undecided.get(self.state.number) if check is not None else None
        content = row_message(row, problems, self.state.outcome_of(row), undecided)
        self._message.update(content)
        self._message.display = bool(content.plain)

    # Actions

    def actions(self) -> Sequence[Action]:
        """Return the actions: none while a cell is edited, replay first for dead letters."""
        if self.cells.active:
            return ()
        return MAPPING if self.state.failure is None else DEAD_LETTERS

    @on(Grid.Chosen, "CompletionPopup Grid")
    def _take_completion(self, event: Grid.Chosen) -> None:
        event.stop()
        self.cells.line.take_chosen()

    @on(CellInput.Done)
    def _finish_cell(self, event: CellInput.Done) -> None:
        self.cells.finish(event.text, onward=event.onward)

    @on(CellInput.Cancelled)
    def _cancel_cell(self) -> None:
        self.cells.cancel()

    @on(CellInput.CellsPasted)
    def _paste_over_cell(self, event: CellInput.CellsPasted) -> None:
        self.rows.paste(event.text)

    def on_paste(self, event: Paste) -> None:
        """Write pasted cells, starting at the cell under the cursor."""
        event.stop()
        self.rows.paste(event.text)

    def on_resize(self) -> None:
        """Keep the input over the cell that is edited."""
        self.call_after_refresh(self.cells.follow_cell)

    @on(Grid.Chosen, "MappingGrid")
    async def _edit_cell(self) -> None:
        await self.action_act("edit")

    def reference(self) -> Reference:
        """Return all steps that a Transformation can have."""
        return (("steps", [(step.signature, step.summary) for step in STEPS.values()]),)

    def commands(self) -> Iterable[Command]:
        """Yield a command per spec."""
        for spec in self.context.specs or ():
            yield Command(spec.spec_id, "open", partial(self.context.open_spec, spec.path), spec.title)
