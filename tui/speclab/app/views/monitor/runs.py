"""The runs of one integration: counts, events, and the failures of each."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, ClassVar, Final

from textual import on, work
from textual.app import ComposeResult
from textual.binding import BindingType

from speclab.app import formatting
from speclab.app.actions import Action, bindings
from speclab.app.dialogs import MessageDialog
from speclab.app.formatting import NOTHING, ago, count, exactly, moment, span
from speclab.app.view import BACK, DetailScreen
from speclab.app.widgets.grid import Grid, GridCell, GridColumn, GridRow
from speclab.app.widgets.log import EventLog
from speclab.app.widgets.panel import Panel
from speclab.core.outcome import Outcome, RunState
from speclab.core.text import format_count
from speclab.runlog.rows import format_progress

if TYPE_CHECKING:
    from speclab.app.view import AppContext
    from speclab.runlog import RunRow
    from speclab.runlog.reader import LogUpdate

RUNS: Final = (
    BACK,
    Action("failures", "failures", "Show the failed records of this run.", ("enter",)),
    Action("event", "event", "Show the full text of the event under the cursor.", footer=False),
    Action("follow", "follow", "Keep the newest event visible, or stay at the current one.", ("l",)),
)
MOST: Final = 500
"""Runs listed at once: the newest."""

_MARKS: Final = {
    RunState.RUNNING: formatting.RUNNING,
    RunState.SUCCEEDED: formatting.WELL,
    RunState.PARTIAL: formatting.ATTENTION,
    RunState.FAILED: formatting.FAILED,
    RunState.CANCELLED: formatting.IDLE,
    RunState.INTERRUPTED: formatting.FAILED,
}
_OPEN: Final = {Outcome.WAITING: "attention", Outcome.DEAD: "failed", Outcome.UNKNOWN: "failed"}


class RunsPage(DetailScreen[None]):
    """Runs, newest first, with their counts; below, the events of the run under the cursor."""

    ACTIONS = RUNS
    BINDINGS: ClassVar[list[BindingType]] = bindings(RUNS)
    DEFAULT_CSS = """
    RunsPage #runs { height: 55%; }
    """

    def __init__(self, context: AppContext, spec_id: str) -> None:
        super().__init__(context)
        self._spec_id = spec_id
        self._runs: dict[str, RunRow] = {}
        self._of = ""

    def crumbs(self) -> tuple[str, ...]:
        """Return the path to this screen."""
        return (self._spec_id,)

    def body(self) -> ComposeResult:
        """Yield the runs above and the events below."""
        columns = (
            GridColumn("", 1, gap=1),
            GridColumn("state", 11),
            GridColumn("started", 12),
            GridColumn("took", 7, align="right"),
            GridColumn("trigger", 9, drop=5),
            GridColumn("read", 8, align="right"),
            *(
                GridColumn(outcome.value, 9, align="right", drop=drop)
                for outcome, drop in zip(Outcome, (0, 3, 4, 1, 0, 2), strict=True)
            ),
            GridColumn("", 1, flex=1, drop=6),
        )
        empty = (f"{self._spec_id} never ran.", "Press r in the Monitor to run it now.")
        yield Panel(Grid(columns, empty=empty, id="list"), title=f"runs of {self._spec_id}", id="runs")
        yield Panel(EventLog(with_spec=False), title="events", id="events")

    def on_mount(self) -> None:
        """Read the list."""
        self.query_one("#list").focus()
        self._read()

    def log_changed(self, update: LogUpdate | None) -> None:
        """Read the list again and add new events of the run that is shown."""
        self._read()
        if update is None or update.replaced or update.skipped:
            self._of = ""
            self._read_events()
        else:
            self.query_one(EventLog).append([event for event in update.events if event.run == self._of])

    @work(exclusive=True, group="runs")
    async def _read(self) -> None:
        runs = await self.context.ask(lambda reader: reader.runs(self._spec_id, limit=MOST))
        if runs is None:
            return
        self._runs = {run.run: run for run in runs}
        at = self.context.now()
        self.query_one("#list", Grid).show([_row(run, at) for run in runs])
        newest = f"the newest {MOST:,}" if len(runs) == MOST else format_count(len(runs), "run")
        self.query_one("#runs", Panel).note = newest if runs else ""

    @on(Grid.Moved, "#list")
    @work(exclusive=True, group="events")
    async def _read_events(self) -> None:
        row = self.query_one("#list", Grid).row
        if row is None or row.key == self._of:
            return
        self._of = row.key
        events = await self.context.ask(lambda reader: reader.latest_events(1000, run=row.key))
        if events is None:
            return
        self.query_one(EventLog).replace(events)
        self.query_one("#events", Panel).title = f"events of {self._run_title(row.key)}"
        self.refresh_bindings()

    def _run_title(self, run: str) -> str:
        return f"the run {ago(self._runs[run].started_at, self.context.now())}"

    # Actions

    def explain_disabled(self, action: str) -> str | None:
        """Return why an action is disabled."""
        if action == "failures":
            run = self._runs.get(self._of)
            if run is None:
                return "no run is selected"
            if not run.waiting + run.dead + run.unknown:
                return "nothing failed in this run"
        return None

    @on(Grid.Chosen, "#list")
    async def _open(self) -> None:
        await self.action_act("failures")

    def action_failures(self) -> None:
        """Show the records that failed in the run under the cursor."""
        from speclab.app.views.monitor.failures import MOST as AT_ONCE
        from speclab.app.views.monitor.failures import FailuresPage

        run = self._of
        crumbs = (self._spec_id, self._run_title(run))
        self.app.push_screen(FailuresPage(self.context, crumbs, lambda reader: reader.failures(run=run, limit=AT_ONCE)))

    @on(Grid.Chosen, "EventLog")
    def action_event(self) -> None:
        """Show the full text of the event under the cursor."""
        if (event := self.query_one(EventLog).event) is not None:
            self.app.push_screen(MessageDialog(exactly(event.at), event.message))

    def action_follow(self) -> None:
        """Follow the events, or stop."""
        log = self.query_one(EventLog)
        log.following = not log.following


def _row(run: RunRow, at: datetime) -> GridRow:
    mark = _MARKS[run.state]
    ended = moment(run.ended_at) if run.ended_at else at
    outcomes = (_counted(getattr(run, outcome), _OPEN.get(outcome, "")) for outcome in Outcome)
    return GridRow(
        run.run,
        (
            GridCell(mark.glyph, mark.style),
            GridCell(run.state.value, mark.style),
            ago(run.started_at, at),
            span((ended - moment(run.started_at)).total_seconds()),
            GridCell(run.trigger, "muted"),
            count(run.read),
            *outcomes,
            GridCell(run.error or format_progress(run), "muted"),
        ),
    )


def _counted(number: int, style: str) -> GridCell:
    return GridCell(count(number), style) if number else GridCell(NOTHING, "muted")
