"""Replaying dead letters from the mapping that was just fixed: save the spec, then `speclab retry`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import ClassVar, Final, Literal

from textual.binding import BindingType
from textual.widget import Widget
from textual.widgets import Static

from speclab.app.actions import Action, Controller, bindings
from speclab.app.dialogs import CANCEL, Dialog
from speclab.app.trust import may_use
from speclab.app.views.mapping.cells import CellEditing
from speclab.app.views.mapping.host import MappingHost
from speclab.core.outcome import FailureState
from speclab.core.text import format_count
from speclab.runlog import FailureRow
from speclab.workbench.replay import Replay, SimilarFailures, find_passing

REPLAY: Final = Action("replay", "replay", "Save the spec and replay this dead letter and all similar ones.", ("R",))

Which = Literal["all", "one"]


class ReplayDialog(Dialog[Which | None]):
    """Asks which records to replay: all that failed alike, or only the current one."""

    ALL = Action("all", "all", "Replay all that failed alike.", ("enter", "y"))
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
    """Replays the dead letter that is the current sample, and those that failed alike."""

    def __init__(self, host: MappingHost, cells: CellEditing) -> None:
        self._host = host
        self._cells = cells
        self.replay = Replay()

    def why_not(self, action: str) -> str | None:
        """Return why nothing can be replayed."""
        if action != "replay":
            return None
        opened, state = self._host.opened, self._host.state
        if state.failure is not None and opened is not None and opened.read_only:
            return opened.read_only
        return self.replay.why_not(state)

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
        if which is None or (host.opened is not None and host.opened.unsaved and not await host.save()):
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
            f"{here}.\n\n{saved}They are sent again; where a newer record was written, nothing is."
        )

    async def _replay(self, spec_id: str, selection: Sequence[str], records: str) -> None:
        context = self._host.context
        self.replay.begin(records)
        self._host.show_record()
        self._host.refresh_bindings()
        report = await self.replay.run(spec_id, selection, context.run_log.workspace, context.run_log.path)
        if report.error is not None:
            context.tell(f"{records} of {spec_id}: not all were replayed", report.error)
        if report.rows:
            severity: Literal["information", "warning"] = "information" if report.still_open is None else "warning"
            context.notify(str(report), title="Replayed", severity=severity, timeout=8)
        elif report.error is None:
            context.notify(report.last_line or "There was nothing to replay.", title=spec_id)
        self._host.show_record()
        self._host.refresh_bindings()
