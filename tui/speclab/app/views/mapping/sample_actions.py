"""Samples and replay in the Mapping view."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final, Literal

from textual.binding import BindingType
from textual.widget import Widget
from textual.widgets import Static

from speclab.app.actions import Action, Controller, bindings
from speclab.app.dialogs import CANCEL, ChoiceDialog, ConfirmDialog, Dialog, PromptDialog, may_use
from speclab.app.views.mapping.cell_editor import CellEditing
from speclab.app.views.mapping.rows import (
    TRANSFORMATION_AT,
    MappingHost,
    failing_fields,
    fields_of,
    mapped_lines,
    record_lines,
    step_lines,
)
from speclab.app.widgets.grid import GridRow
from speclab.app.widgets.panel import Panel
from speclab.app.widgets.record import RecordView
from speclab.core.errors import SpeclabError
from speclab.core.outcome import FailureState
from speclab.core.text import format_count
from speclab.runlog import FailureRow
from speclab.spec.parser import read_endpoint
from speclab.workbench.mapping_sheet import SheetRow
from speclab.workbench.mapping_state import Replay, SimilarFailures, find_passing
from speclab.workbench.open_specs import find_section_address
from speclab.workbench.samples import (
    LIMIT,
    SampleRecords,
    fetch_target_fields,
    from_failures,
    kept_sample_path,
    read_live_sample,
    read_records,
    resolve_sample_path,
    save_sample,
)

if TYPE_CHECKING:
    from speclab.runlog import FailureRow
    from speclab.spec.integration import Integration

REPLAY: Final = Action("replay", "replay", "Save the spec and replay this dead letter and all similar ones.", ("R",))

Which = Literal["all", "one"]


class ReplayDialog(Dialog[Which | None]):
    """Ask whether to replay all similar failures or only the current one."""

    ALL = Action("all", "all", "Replay all similar failures.", ("enter", "y"))
    ONE = Action("one", "only this one", "Replay the current record.", ("o",))
    ACTIONS: ClassVar[Sequence[Action]] = (ALL, ONE, CANCEL)
    BINDINGS: ClassVar[list[BindingType]] = bindings(ACTIONS)

    def __init__(self, title: str, message: str, total: int) -> None:
        super().__init__(title)
        self._message = message
        self._total = total

    def actions(self) -> Sequence[Action]:
        """Return the choices, with the number of records."""
        if self._total == 1:
            return (replace(self.ALL, title="replay it"), CANCEL)
        return (replace(self.ALL, title=f"replay all {self._total:,}"), self.ONE, CANCEL)

    def inside(self) -> Sequence[Widget]:
        """Return the question."""
        return (Static(self._message, markup=False),)

    def action_all(self) -> None:
        """Choose all."""
        self.dismiss("all")

    def action_one(self) -> None:
        """Choose the current record."""
        self.dismiss("one")

    def action_cancel(self) -> None:
        """Choose none."""
        self.dismiss(None)


class ReplayAction(Controller):
    """Replays the dead letter that is the current sample, and similar ones."""

    def __init__(self, host: MappingHost, cells: CellEditing) -> None:
        self._host = host
        self._cells = cells
        self.replay = Replay()

    def explain_disabled(self, action: str) -> str | None:
        """Return why nothing can be replayed."""
        if action != "replay":
            return None
        opened, state = self._host.opened, self._host.state
        if state.failure is not None and opened is not None and opened.read_only:
            return opened.read_only
        return self.replay.explain_disabled(state)

    def action_replay(self) -> None:
        """Save the spec and replay the current record, and all similar ones if wanted."""
        failure = self._host.state.failure
        if failure is not None and (not self._cells.active or self._cells.write(self._cells.line.value)):
            self._host.run_in_background(partial(self._ask_and_replay, failure), "replay")

    async def _ask_and_replay(self, failure: FailureRow) -> None:
        host = self._host
        similar = SimilarFailures.of(failure)
        found = await host.context.ask(lambda reader: similar.read(reader, None, full=False)) or []
        # records with an unknown outcome are replayed only by id
        total = len({other.id for other in found if other.state is not FailureState.UNKNOWN} | {failure.id})
        title = f"replay dead letters of {similar.spec_id}"
        which = await host.context.push_screen_wait(ReplayDialog(title, self._message(similar, total), total))
        if which is None or (host.opened is not None and host.opened.unsaved and not await host.document.save()):
            return
        if host.opened is not None and not await may_use(host.context, host.opened.path):
            return
        alone = which == "one" or total == 1
        selection, count = ([failure.id], 1) if alone else (similar.options, total)
        await self._replay(similar.spec_id, selection, format_count(count, "record"))

    def _message(self, similar: SimilarFailures, total: int) -> str:
        state, opened = self._host.state, self._host.opened
        passing = find_passing(state)
        checked = sum(SimilarFailures.of(other) == similar for other in state.samples.failures)
        those = "them" if checked >= total else f"the newest {checked:,}"
        here = "this one too" if state.number in passing else "this one does not"
        saved = "The spec is saved first. " if opened is not None and opened.unsaved else ""
        return (
            f"{format_count(total, 'record')} failed {similar}. {len(passing):,} of {those} pass the mapping now, "
            f"{here}.\n\n{saved}They are sent again, except records of which a newer version was written."
        )

    async def _replay(self, spec_id: str, selection: Sequence[str], records: str) -> None:
        context = self._host.context
        self.replay.begin(records)
        self._host.show_record()
        self._host.refresh_bindings()
        report = await self.replay.run(spec_id, selection, context.run_log.workspace, context.run_log.path)
        if report.error is not None:
            context.show_error(f"{records} of {spec_id}: not all were replayed", report.error)
        if report.rows:
            severity: Literal["information", "warning"] = "information" if report.still_open is None else "warning"
            context.notify(str(report), title="Replayed", severity=severity, timeout=8)
        elif report.error is None:
            context.notify(report.last_line or "Nothing to replay.", title=spec_id)
        self._host.show_record()
        self._host.refresh_bindings()


_OPTIONS = (
    GridRow("live", ("live", "read some from the source")),
    GridRow("file", ("file", "JSON Lines, one object per line")),
    GridRow("dead", ("dead letters", "records that earlier runs could not write")),
)


class SampleActions(Controller):
    """Loads sample records into the state of the view."""

    def __init__(self, host: MappingHost) -> None:
        self._host = host
        self._cancel: Callable[[], None] | None = None  # stops the read from the source that is running

    @property
    def reading(self) -> bool:
        """Whether records are being read from the source."""
        return self._cancel is not None

    @property
    def spec_id(self) -> str:
        """The id of the spec; the stem of its file if it has none."""
        opened = self._host.opened
        if opened is None:
            return ""
        return opened.document.front_matter.get_text("spec_id", opened.document.text) or opened.path.stem

    def explain_disabled(self, action: str) -> str | None:
        """Return why an action on samples is disabled."""
        state = self._host.state
        if action in {"next-record", "previous-record", "keep", "explain"} and not state.samples.records:
            return "no sample records: press l to read some from the source"
        if action == "next-failing" and (state.last_check is None or not state.last_check.failed):
            return "no sample record fails"
        if action in {"live", "samples"} and self._host.opened is None:
            return "no spec is open"
        if action == "live" and state.sheet is not None and (problem := state.find_source_problem()) is not None:
            title = find_section_address(state.sheet.document, problem.line).rpartition(" > ")[2] or "Spec"
            return f"{title}: {problem.message}"
        if action == "live" and self.reading:
            return "records are being read from the source"
        return None

    def offer_section(self, action: Action, reason: str) -> bool:
        """Offer to go to the section that prevents a live sample; return whether there is one."""
        state = self._host.state
        problem = state.find_source_problem() if action.id == "live" else None
        if problem is None or state.sheet is None:
            return False
        address = find_section_address(state.sheet.document, problem.line)
        self._host.run_in_background(partial(self._ask_for_section, reason, address), "ask")
        return True

    async def _ask_for_section(self, reason: str, address: str) -> None:
        message = f"The source cannot be read yet.\n{reason}"
        dialog = ConfirmDialog("live sample", message, yes="go to the section", no="stay here")
        if await self._host.context.push_screen_wait(dialog):
            await self._host.context.show_section(address)

    # Loading

    def load_kept(self) -> None:
        """Load the sample that is kept for the spec, if there is one."""
        opened = self._host.opened
        if opened is not None and (path := kept_sample_path(opened.path, self.spec_id)).is_file():
            self._host.run_in_background(partial(self._read_file, path), "sample")

    async def _read_file(self, path: Path) -> None:
        try:
            records = await asyncio.to_thread(read_records, path)
        except SpeclabError as error:
            self._host.context.show_error("No sample", error)
            return
        opened = self._host.opened
        kept = opened is not None and path == kept_sample_path(opened.path, self.spec_id)
        self.use(replace(records, origin="kept sample") if kept else records)

    def use(self, records: SampleRecords) -> None:
        """Replace the sample records, and check them."""
        self._host.state.set_samples(records)
        self._host.show_document()
        self._host.check_samples()
        self._host.refresh_bindings()

    def use_failure(self, failure: FailureRow) -> None:
        """Use the record of `failure`, then those of similar failures, and go to the row it failed on."""
        if failure.source is not None:
            self.use(from_failures([failure]))
        sheet = self._host.state.sheet
        if sheet is not None and failure.row is not None and (row := sheet.row(failure.row)) is not None:
            self._host.grid.move(row.index, TRANSFORMATION_AT)
        if failure.source is not None:
            self._host.run_in_background(partial(self._find_similar, failure), "sample")

    async def _find_similar(self, failure: FailureRow) -> None:
        similar = SimilarFailures.of(failure)
        found = await self._host.context.ask(lambda reader: similar.read(reader, LIMIT, full=True))
        self.use(from_failures([failure, *(other for other in found or () if other.id != failure.id)]))

    def action_live(self) -> None:
        """Read some records from the source, and the fields of the target."""
        self._cancel = self._host.run_in_background(self._read_live, "sample")
        self._host.show_record()
        self._host.refresh_bindings()

    async def _read_live(self) -> None:
        from speclab.spec.settings import RetrySettings

        opened, sheet = self._host.opened, self._host.state.sheet
        try:
            if opened is None or sheet is None:
                return
            integration = sheet.reading.integration
            source = read_endpoint(sheet.document, "source")
            ends = integration.ends if integration is not None else [source]
            if await may_use(self._host.context, opened.path, ends):
                if integration is not None:
                    self._host.run_in_background(partial(self._read_target_fields, integration), "target")
                retry = integration.retry if integration is not None else RetrySettings.model_validate({})
                self.use(await read_live_sample(source, retry, opened.path))
        except SpeclabError as error:
            self._host.context.show_error("No sample from the source", error)
        finally:
            self._cancel = None
            self._host.show_record()
            self._host.refresh_bindings()

    async def _read_target_fields(self, integration: Integration) -> None:
        state = self._host.state
        try:
            state.target_fields = await fetch_target_fields(integration)
        except SpeclabError:
            state.target_fields = ()  # they are only suggestions; `speclab fields` reports the error
        state.update_unmapped()
        self._host.show_document()

    def action_stop(self) -> None:
        """Cancel reading from the source."""
        if self._cancel is not None:
            self._cancel()

    def action_samples(self) -> None:
        """Open sample records from a file or from dead letters."""
        self._host.run_in_background(self._ask_for_samples, "ask")

    async def _ask_for_samples(self) -> None:
        context, opened = self._host.context, self._host.opened
        chosen = await context.push_screen_wait(ChoiceDialog("sample records", _OPTIONS))
        if chosen == "live":
            await self._host.action_act("live")
        elif chosen == "dead":
            spec_id = self.spec_id
            found = await context.ask(lambda reader: reader.failures(spec_id, full=True, limit=LIMIT))
            records = from_failures(found or ())
            if records.records:
                self.use(records)
            else:
                context.notify("No run left any.", title="No dead letters")
        elif chosen == "file":
            path = await context.push_screen_wait(PromptDialog("sample file", "A JSON Lines file.", value=".speclab/"))
            if path and opened is not None:
                await self._read_file(resolve_sample_path(path, opened.path))

    def action_keep(self) -> None:
        """Keep these records as the sample of the spec."""
        opened, records = self._host.opened, self._host.state.samples.records
        if opened is None:
            return
        try:
            path = save_sample(records, opened.path, self.spec_id)
        except SpeclabError as error:
            self._host.context.show_error("Not kept", error)
            return
        self._host.context.notify(
            f"{format_count(len(records), 'record')} in {path.name}, read when the spec is opened."
        )

    # Moving between records

    def action_next_record(self) -> None:
        """Show the next sample record."""
        self._host.state.move(1)
        self._host.show_record()

    def action_previous_record(self) -> None:
        """Show the previous sample record."""
        self._host.state.move(-1)
        self._host.show_record()

    def action_next_failing(self) -> None:
        """Show the next record that fails, on this row if there is one."""
        self._host.state.move_to_failing(self._host.row.target if self._host.row is not None else "")
        self._host.show_record()


NO_SAMPLE: Final = (
    "No sample records yet.",
    "l reads records from the source,",
    "o opens a JSON Lines file,",
    "w keeps the records for the next start.",
)


class RecordPanels(Controller):
    """Shows the source record and the target record, or the steps of the row under the cursor."""

    def __init__(self, host: MappingHost, cells: CellEditing, samples: SampleActions, replays: ReplayAction) -> None:
        self._host, self._cells, self._samples, self._replay = host, cells, samples, replays.replay
        self._source, self._target = RecordView(id="source"), RecordView(id="mapped")
        self.source_panel = Panel(self._source, title="source record", id="record")
        self.target_panel = Panel(self._target, title="target record", id="target")
        self._explaining = False

    def action_explain(self) -> None:
        """Switch between the row's steps and the mapped record."""
        self._explaining = not self._explaining
        self._host.show_record()

    def show(self, rows: Sequence[SheetRow]) -> None:
        """Show the records, with `rows` as the rows of the mapping."""
        state, row = self._host.state, self._host.row
        record, outcomes, target = state.record, state.outcomes, row.target if row is not None else ""
        lit, failing = fields_of(row), failing_fields(rows, outcomes)
        self._source.show_lines(
            lambda width: record_lines(record, width, failing, lit) if record is not None else (),
            instead=NO_SAMPLE[:1] if self._cells.active else NO_SAMPLE,
        )
        explaining = self._explaining and record is not None
        self.target_panel.title = f"steps of {target}" if explaining else "target record"
        if explaining:
            outcome = state.outcome_of(row)
            self._target.show_lines(lambda _width: step_lines(outcome))
        else:
            self._target.show_lines(lambda _: mapped_lines(rows, outcomes, target) if record is not None else ())
        self.source_panel.title = (
            f"record {state.number + 1} of {len(state.samples.records):,}" if state.samples.records else "record"
        )
        self.source_panel.note = ", ".join(self._notes(row))

    def _notes(self, row: SheetRow | None) -> list[str]:
        """Return the notes of the source panel: the results of all records, or current work."""
        state, replay = self._host.state, self._replay
        if self._samples.reading:
            return ["reading from the source" if self._cells.active else "reading from the source, esc stops"]
        if replay.in_progress:
            return [f"replaying {replay.in_progress}"]
        notes: list[str] = []
        if state.failure is not None and state.failure.id in replay.results:
            notes.append(f"replayed: {replay.results[state.failure.id]}")
        check = state.last_check
        if check is not None and state.samples.records:
            if state.number in check.filtered:
                notes.append("filtered out")
            blocked = sum(each.mapper is None and not each.blank for each in state.sheet.rows) if state.sheet else 0
            passed = f"{check.passed:,} pass"
            notes.append(f"{format_count(blocked, 'row')} cannot run, {passed} the others" if blocked else passed)
            here = check.failing.get(row.target, ()) if row is not None else ()
            if here and row is not None:
                notes.append(f"{len(here):,} fail on {row.target}")
            elif check.failed:
                notes.append(f"{check.failed:,} fail")
        return [*notes, state.samples.origin] if state.samples.origin else notes
