"""The Mapping view: the rows of the Field Mapping, a sample record, its result, and where it fails."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final

from textual import on, work
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Container
from textual.content import Content
from textual.events import Paste
from textual.widgets import Static

from speclab.app.actions import Action, Command, Controller, bindings
from speclab.app.formatting import ATTENTION, CRUMB, FAILED
from speclab.app.view import Reference
from speclab.app.views.document import DOCUMENT, DocumentView
from speclab.app.views.mapping.cell_editor import CellEditing, CellInput
from speclab.app.views.mapping.row_actions import RowActions
from speclab.app.views.mapping.rows import (
    RESULT_AT,
    TRANSFORMATION_AT,
    Fails,
    columns,
    failing_fields,
    fails_by_row,
    fields_of,
    grid_row,
    keys,
    mapped_lines,
    record_lines,
    step_lines,
    text_of,
    unmapped_row,
)
from speclab.app.views.mapping.sample_actions import REPLAY, ReplayAction, SampleActions
from speclab.app.widgets.cells import fit, printable
from speclab.app.widgets.grid import MOVES, Grid, GridCell
from speclab.app.widgets.panel import Panel
from speclab.app.widgets.record import RecordView
from speclab.core.json import Record
from speclab.core.outcome import Level
from speclab.core.text import format_count
from speclab.mapping import MappingFailure
from speclab.mapping.steps import STEPS
from speclab.spec.problems import Problem
from speclab.workbench.mapping_sheet import CellProblem, MappingSheet, RowOutcome, SheetRow, UnmappedTarget
from speclab.workbench.mapping_state import MappingState
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

_SHOWN: Final = 200
"""Cells of copied text that the toast shows."""

NO_SPEC: Final = ("No spec is open.", "Press 1 for the specs.")
NO_TABLE: Final = ("This spec has no Field Mapping table.", "Its section in Specs begins one with i.")
NO_ROWS: Final = ("The Field Mapping has no rows.", "a adds the first.")
NO_SAMPLE: Final = (
    "No sample records yet.",
    "l reads records from the source,",
    "o opens a JSON Lines file,",
    "w keeps the records for the next start.",
)


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


class MappingView(DocumentView):
    """The grid of rows; below it the source record and the target record."""

    NAME = "mapping"
    ACTIONS = MAPPING
    BINDINGS: ClassVar[list[BindingType]] = bindings(MAPPING)
    CONTROLLERS = (RowActions, SampleActions, ReplayAction)
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
        self.rows = RowActions(self, self.cells)
        self.samples = SampleActions(self)
        self.replays = ReplayAction(self, self.cells)
        self._message = Static(id="message", markup=False)
        self._source, self._mapped = RecordView(id="source"), RecordView(id="mapped")
        self._rows_panel = Panel(self.grid, self._message, title="field mapping", id="rows")
        self._record_panel = Panel(self._source, title="source record", id="record")
        self._target_panel = Panel(self._mapped, title="target record", id="target")
        self._shown_rows: list[SheetRow] = []  # the rows of `_outcomes`, which are of `_shown_record`
        self._shown_record: Record | None = None
        self._outcomes: list[RowOutcome | None] = []
        self._fails: Mapping[str, int] = {}
        self._explaining = False
        self._built: Document | None = None  # the large document that is, or was last, read in a thread

    def compose(self) -> ComposeResult:
        """Compose the panels, and the cell editor above them."""
        yield self._rows_panel
        yield Container(self._record_panel, self._target_panel, id="panes")
        yield self.cells.line
        yield self.cells.popup

    @property
    def controllers(self) -> Sequence[Controller]:
        """The controllers of rows, samples and dead letters."""
        return (self.rows, self.samples, self.replays)

    @property
    def row(self) -> SheetRow | None:
        """The row of the table under the cursor."""
        at, sheet = self.grid.cursor_row, self.state.sheet
        return sheet.rows[at] if sheet is not None and at < len(sheet.rows) else None

    @property
    def unmapped(self) -> UnmappedTarget | None:
        """The unmapped target under the cursor."""
        return self.state.unmapped.get(self.grid.row.key) if self.grid.row is not None else None

    def explain_disabled(self, action: str) -> str | None:
        """Return why an action is disabled."""
        return self.rows.explain_disabled(action) or super().explain_disabled(action)

    def refuse(self, action: Action, reason: str) -> None:
        """Show why `action` is disabled; if a section prevents a live sample, offer to go there."""
        if not self.samples.offer_section(action, reason):
            super().refuse(action, reason)

    # Opening and closing

    def on_mount(self) -> None:
        """Open the first spec once specs are found, if none is open."""
        self.watch(self.app, "specs", self._open_first, init=False)

    def activate(self) -> None:
        """Show the open spec, or the first; focus the grid."""
        super().activate()
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
        super().deactivate()

    def open(self, spec: Path, failure: FailureRow | None = None) -> None:
        """Show the mapping of `spec`; with a `failure`, use its record as the sample and go to the row that failed."""
        before = self.opened
        super().open(spec)
        if self.opened is None:
            return
        if self.opened is not before:
            self.state.target_fields = ()
        if failure is not None:
            self.samples.use_failure(failure)
        elif self.opened is not before:
            self.state.set_samples(NO_SAMPLES)
            self.changed()
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
        self.changed()
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
        self._outcomes = self._evaluate_rows(shown, record)
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
            for key, row, outcome in zip(keys(sheet.rows), shown, self._outcomes, strict=True)
        ]
        rows += [unmapped_row(each, self._suggested_value(each.key)) for each in self.state.unmapped.values()]
        self.grid.show(rows, empty=NO_TABLE if sheet.table is None else NO_ROWS)
        count = sum(
            problem.level is not Level.INFO
            for row in sheet.rows
            for problem in sheet.problems(row, found.get(row.line, ()))
        )
        self._update_title(len(sheet.rows), count)
        self._show_row(shown)

    def _found(self, sheet: MappingSheet) -> Mapping[int, Sequence[Problem]]:
        """Return the document's problems, if they are up to date, and those of the sample, by line."""
        opened, check = self.opened, self.state.current_check
        found = opened.problems if opened is not None and opened.checked is sheet.document else ()
        missing = check.missing if check is not None and not self.state.samples.failures else ()
        by_line: dict[int, list[Problem]] = {}
        for problem in (*found, *missing):
            by_line.setdefault(problem.line, []).append(problem)
        return by_line

    def _evaluate_rows(self, rows: list[SheetRow], record: Record | None) -> list[RowOutcome | None]:
        """Return the outcome of each row for the record; unchanged rows are not evaluated again."""
        known = (
            dict(zip(map(id, self._shown_rows), self._outcomes, strict=True)) if record is self._shown_record else {}
        )
        outcomes = [
            known[id(row)] if id(row) in known else row.outcome(record) if record is not None else None for row in rows
        ]
        self._shown_rows, self._shown_record = rows, record
        return outcomes

    def show_record(self) -> None:
        """Show the results of the rows for the current record."""
        self._show_rows()

    def show_trial(self, trial: SheetRow) -> None:
        """Show a row with the text that is being typed."""
        self._show_rows(trial)

    def _suggested_value(self, key: str) -> str:
        suggestion = self.state.unmapped[key].suggestion
        field = next(
            (each for each in self.state.fields if suggestion and f"source.{each.path}" == suggestion.source), None
        )
        return text_of(field.values[0]) if field is not None and field.values else ""

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

    def _show_row(self, shown: Iterable[SheetRow]) -> None:
        """Show the records and the message for the row under the cursor."""
        rows, row, record = list(shown), self.row, self.state.record
        panel = self._target_panel
        lit = fields_of(row)
        failing = failing_fields(rows, self._outcomes)
        self._source.show_lines(
            lambda width: record_lines(record, width, failing, lit) if record is not None else (),
            instead=NO_SAMPLE[:1] if self.cells.active else NO_SAMPLE,
        )
        target = row.target if row is not None else ""
        outcome = self._outcomes[row.index] if row is not None and row.index < len(self._outcomes) else None
        if self._explaining and record is not None:
            panel.title = f"steps of {target}"
            self._mapped.show_lines(lambda _width: step_lines(outcome))
        else:
            panel.title = "target record"
            outcomes = self._outcomes
            mapped = mapped_lines(rows, outcomes, target) if record is not None else ()
            self._mapped.show_lines(lambda _width: mapped)
        self._update_record_title()
        self._show_message(row, outcome)

    def _update_record_title(self) -> None:
        total, panel = len(self.state.samples.records), self._record_panel
        panel.title = f"record {self.state.number + 1} of {total:,}" if total else "record"
        notes: list[str] = []
        check = self.state.last_check
        if check is not None and total:
            if self.state.number in check.filtered:
                notes.append("filtered out")
            blocked = (
                sum(row.mapper is None and not row.blank for row in self.state.sheet.rows) if self.state.sheet else 0
            )
            if blocked:
                notes.append(f"{format_count(blocked, 'row')} cannot run, {check.passed:,} pass the others")
            else:
                notes.append(f"{check.passed:,} pass")
            here = check.failing.get(self.row.target, ()) if self.row is not None else ()
            if here and self.row is not None:
                notes.append(f"{len(here):,} fail on {self.row.target}")
            elif check.failed:
                notes.append(f"{check.failed:,} fail")
        if self.state.samples.origin:
            notes.append(self.state.samples.origin)
        if self.state.failure is not None and self.state.failure.id in self.replays.replay.results:
            notes.insert(0, f"replayed: {self.replays.replay.results[self.state.failure.id]}")
        if self.replays.replay.in_progress:
            notes = [f"replaying {self.replays.replay.in_progress}"]
        if self.samples.reading:
            notes = ["reading from the source" if self.cells.active else "reading from the source, esc stops"]
        panel.note = ", ".join(notes)

    def _show_message(self, row: SheetRow | None, outcome: RowOutcome | None) -> None:
        content = Content("")
        problem = self._first_problem(row)
        if problem is not None and row is not None:
            icon, colour = (FAILED, "$error") if problem.level is Level.ERROR else (ATTENTION, "$warning")
            content = Content.assemble((f"{icon.glyph} {row.line} {problem.code} ", colour), printable(problem.message))
        elif outcome is not None and outcome.failure is not None:
            content = Content.assemble((f"{FAILED.glyph} ", "$error"), printable(str(outcome.failure)))
        elif self.state.current_check is not None and self.state.number in self.state.current_check.undecided:
            content = Content.assemble(
                (f"{FAILED.glyph} ", "$error"), printable(self.state.current_check.undecided[self.state.number])
            )
        elif row is not None:
            content = Content.styled(printable(row.texts["Notes"]), "$muted")
        self._message.update(content)
        self._message.display = bool(content.plain)

    def _first_problem(self, row: SheetRow | None) -> CellProblem | None:
        if row is None or self.state.sheet is None:
            return None
        found = self._found(self.state.sheet)
        worst = sorted(
            self.state.sheet.problems(row, found.get(row.line, ())), key=lambda each: list(Level).index(each.level)
        )
        return next((each for each in worst if each.level is not Level.INFO), None)

    def action_save(self) -> None:  # type: ignore[override]  # the cell is written first
        """Write the cell that is edited, then the file."""
        if not self.cells.active or self.cells.write(self.cells.line.value):
            super().action_save()

    # Actions

    def actions(self) -> Sequence[Action]:
        """Return the actions: none while a cell is edited, replay first for dead letters."""
        if self.cells.active:
            return ()
        return MAPPING if self.state.failure is None else DEAD_LETTERS

    def action_explain(self) -> None:
        """Switch between the row's steps and the mapped record."""
        self._explaining = not self._explaining
        if self.state.sheet is not None:
            self._show_row(self.state.sheet.rows)

    def action_copy(self) -> None:
        """Copy the whole value of the cell under the cursor."""
        row = self.grid.row
        if row is not None:
            cell = row.cells[self.grid.cursor_column]
            text = cell.text if isinstance(cell, GridCell) else cell
            if self.grid.cursor_column == RESULT_AT and self.row is not None and self.state.record is not None:
                with suppress(MappingFailure, KeyError):  # the cell shows the reason
                    text = text_of(self.row.full_value(self.state.record))
            self.app.copy_to_clipboard(text)
            self.notify(fit(text, _SHOWN), title="Copied", timeout=2)

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

    def has_draft(self) -> bool:
        """Return whether the cell that is edited has text that is not in the document yet."""
        return self.cells.has_draft

    def draft(self) -> str | None:
        """Return the text with the draft in the cell."""
        return self.cells.draft()

    def commit_draft(self) -> None:
        """Bring the text that is being typed into the document."""
        self.cells.write_draft()

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
