"""The Monitor view: the health of all integrations, their failures, and the event log."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, ClassVar, Final

from textual import on, work
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Container

from speclab.app.actions import Action, Command, bindings
from speclab.app.dialogs import MessageDialog
from speclab.app.formatting import exactly
from speclab.app.view import View
from speclab.app.views.monitor.actions import (
    DISCARD,
    RETRY,
    SILENCE,
    AlertActions,
    ChosenFailures,
    FailureActions,
    FiringAlert,
    RunActions,
    ServiceActions,
    ServiceLine,
    describe_service,
)
from speclab.app.views.monitor.failures import FailuresGrid, preview
from speclab.app.views.monitor.integrations import (
    FiguresLine,
    IntegrationRows,
    ListedIntegration,
    columns,
    list_integrations,
)
from speclab.app.widgets.grid import Grid
from speclab.app.widgets.log import EventLog
from speclab.app.widgets.panel import Panel
from speclab.app.widgets.record import RecordView
from speclab.core.text import format_count

if TYPE_CHECKING:
    from speclab.app.view import AppContext
    from speclab.core.errors import RunLogError
    from speclab.runlog.reader import LogUpdate
    from speclab.runlog.rows import FailureGroup


MONITOR: Final = (
    Action(
        "open",
        "open",
        "Open the runs of an integration, the records of a group, or the full text of an event.",
        ("enter",),
    ),
    Action("run-now", "run now", "Run the integration under the cursor in a separate process.", ("r",)),
    Action("cancel-run", "cancel run", "Stop the run after the current page. Press again to stop at once.", ("x",)),
    RETRY,
    DISCARD,
    SILENCE,
    Action(
        "pause", "pause", "Pause the integration under the cursor (the scheduler skips it), or resume it.", ("space",)
    ),
    Action("service", "start scheduler", "Start the scheduler (`speclab up`), or stop it.", ("S",)),
    Action("window", "window", "Change the time window of the figures.", ("w",)),
    Action("filter", "filter", "Show the events of the integration under the cursor only, or of all.", ("f",)),
    Action("follow", "follow", "Keep the newest event visible, or stay at the current one.", ("l",)),
)

WINDOWS: Final = {3600.0: "last hour", 86400.0: "last 24 h", 7 * 86400.0: "last 7 days", 30 * 86400.0: "last 30 days"}
WIDE: Final = 140
"""Columns from which a sparkline has a bar per hour of a day, and a pause names who paused."""

SLOW_TICK: Final = 10.0
"""Seconds after which times such as `6 min ago` are rendered again."""
TICK: Final = 1.0
"""Seconds after which times below a minute, such as `oldest 12 s` and `in 4 s`, are rendered again."""


class MonitorView(View):
    """Overall figures, the integrations, the failures of the one under the cursor, and the event log."""

    NAME = "monitor"
    ACTIONS = MONITOR
    BINDINGS: ClassVar[list[BindingType]] = bindings(MONITOR)
    CONTROLLERS = (RunActions, FailureActions, AlertActions, ServiceActions)
    SCOPED_CSS = False
    DEFAULT_CSS = """
    MonitorView {
        layout: vertical;
        #figures { height: 2; }
        #integrations { height: auto; max-height: 45%; min-height: 5; }
        #integrations > Grid { height: auto; max-height: 100%; }
        #below { height: 1fr; layout: vertical; }
        #failed, #failures, #events { height: 1fr; }
        #newest { display: none; }
    }
    .-narrow MonitorView #failed { height: auto; max-height: 100%; }
    MonitorView.-no-run-log #figures, MonitorView.-no-run-log #below { display: none; }
    MonitorView.-no-run-log #integrations { height: 1fr; max-height: 100%; }
    .-wide MonitorView #figures { height: 3; }
    .-wide MonitorView #figures > FiguresLine { height: 2; }
    .-wide MonitorView #below { layout: horizontal; }
    .-wide.-tall MonitorView #newest { display: block; height: 60%; }
    """

    def __init__(self, context: AppContext) -> None:
        super().__init__(context)
        self.controllers = (RunActions(self), FailureActions(self), AlertActions(self), ServiceActions(self))
        self._listed: dict[str, ListedIntegration] = {}
        self._of: str | None = None  # the integration whose events are shown; None for all

    def compose(self) -> ComposeResult:
        """Yield the panels."""
        yield Panel(FiguresLine(self.context.now), title="last 24 h", id="figures")
        yield Panel(Grid(columns((), wide=False)), ServiceLine(), title="integrations", id="integrations")
        with Container(id="below"):
            with Container(id="failed"):
                yield Panel(FailuresGrid(self.context), title="failures", id="failures")
                yield Panel(RecordView(), title="newest of these", id="newest", classes="-extra")
            yield Panel(EventLog(), title="events", id="events")

    def on_mount(self) -> None:
        """Watch the state of the app, and update relative times."""
        self.watch(self.app, "overview", self._list)
        self.watch(self.app, "specs", self._list)
        self.watch(self.app, "window", self._name_window)
        self.watch(self.app, "run_log_error", self._show_run_log_error)
        self.watch(self.app, "service_state", self._show_service)
        self.watch(self.app, "starting", self._show_service)
        self.set_interval(SLOW_TICK, self._show_service)
        self.set_interval(TICK, self._tick)

    def activate(self) -> None:
        """Focus the integrations, and read events and failures again."""
        self.query_one("#integrations Grid").focus()
        self._read_events()
        self._read_failures()

    # Rendering

    @property
    def _grid(self) -> Grid:
        return self.query_one("#integrations Grid", Grid)

    @property
    def _log(self) -> EventLog:
        return self.query_one(EventLog)

    @property
    def chosen(self) -> ListedIntegration | None:
        """The integration under the cursor."""
        return self._listed.get(self._grid.row.key) if self._grid.row is not None else None

    def _list(self) -> None:
        context = self.context
        if context.run_log_error is not None:
            self._listed = {}
        elif context.specs is None or context.overview is None:
            return  # a part of the list would be in another order
        else:
            self._listed = list_integrations(context.specs, context.overview)
        self._show_integrations()
        self.query_one(FiguresLine).shown = context.overview
        self.query_one("#integrations", Panel).note = format_count(len(self._listed), "spec") if self._listed else ""
        self.refresh_bindings()

    def _show_run_log_error(self, error: RunLogError | None) -> None:
        """Show only the error if the run log cannot be read."""
        panel = self.query_one("#integrations", Panel)
        panel.title = "integrations" if error is None else "run log"
        self.set_class(error is not None, "-no-run-log")
        if error is not None and self.display:
            self.enter(panel)
        self._list()

    def _show_service(self) -> None:
        context = self.context
        if context.service_state is not None:
            key = "" if context.read_only else "S"
            self.query_one(ServiceLine).shown = describe_service(
                context.service_state, context.now(), starting=context.starting, key=key
            )
        self._show_integrations()
        self.refresh_bindings()

    def _tick(self) -> None:
        """Update the relative times below a minute."""
        if self.display and self.screen is self.app.screen:
            self.query_one(FiguresLine).refresh()
            self._show_integrations()

    def _show_integrations(self) -> None:
        context, listed = self.context, self._listed.values()
        wide, served = (
            self.size.width >= WIDE,
            context.service_state.get_served if context.service_state is not None else _unknown,
        )
        self._grid.lay_out(columns(listed, wide=wide) if context.run_log_error is None else ())
        self._grid.show(IntegrationRows(listed, served, context.now(), wide=wide), empty=_empty_text(context))

    def on_resize(self) -> None:
        """Fit the sparklines to the new width."""
        self._show_integrations()

    def _name_window(self, window: float) -> None:
        self.query_one("#figures", Panel).title = WINDOWS[window]

    def log_changed(self, update: LogUpdate | None) -> None:
        """Add new events and read the failures again."""
        if update is None or update.replaced or update.skipped:
            self._read_events()
        else:
            self._log.append([event for event in update.events if self._of in (None, event.spec_id)])
        self._read_failures()

    @work(exclusive=True, group="events")
    async def _read_events(self) -> None:
        of = self._of
        events = await self.context.ask(lambda reader: reader.latest_events(1000, spec_id=of))
        if events is not None:
            self._log.replace(events)

    @on(Grid.Moved, "#integrations Grid")
    def _follow_cursor(self) -> None:
        """Show the failures of the integration under the cursor, and its events if they are filtered."""
        chosen = self.chosen
        if self._of is not None and chosen is not None and self._of != chosen.spec_id:
            self._of = chosen.spec_id
            self._read_events()
            self._name_events()
        self._read_failures()

    @work(exclusive=True, group="failures")
    async def _read_failures(self) -> None:
        chosen = self.chosen
        panel = self.query_one("#failures", Panel)
        panel.title = f"failures of {chosen.spec_id}" if chosen else "failures"
        last_run = chosen.health.last_run if chosen is not None and chosen.health is not None else None
        await self.query_one(FailuresGrid).read(chosen.spec_id if chosen else None, last_run)
        panel.note = self.query_one(FailuresGrid).note
        self._read_newest()
        self.refresh_bindings()

    @on(Grid.Moved, "FailuresGrid")
    @work(exclusive=True, group="newest")
    async def _read_newest(self) -> None:
        failures = self.query_one(FailuresGrid)
        group, newest = failures.group, self.query_one("#newest RecordView", RecordView)
        if group is None:
            newest.show_text(failures.full_text, instead=("No failed record.",))
            return
        found = await self.context.ask(lambda reader: reader.get_group_failures(group, 1, full=True))
        if found:
            newest.show_lines(lambda width: preview(found[0], self.context.now(), width))

    @on(EventLog.Followed)
    def _name_events(self) -> None:
        whose = f" of {self._of}" if self._of else ""
        panel = self.query_one("#events", Panel)
        panel.title = f"events{whose}"
        panel.note = "live" if self._log.following else "not following"

    # Actions

    def explain_disabled(self, action: str) -> str | None:
        """Return why an action is disabled."""
        if action == "open" and self.chosen is None:
            return "no integration is selected"
        return super().explain_disabled(action)

    def actions(self) -> Sequence[Action]:
        """Return the actions, with titles for the state of the integration and of the scheduler."""
        chosen, service_state = self.chosen, self.context.service_state
        alert = self.chosen_alert
        titles = {
            "silence": "end silence" if alert is not None and alert.silenced_until else "silence alert",
            "pause": "resume" if chosen is not None and chosen.paused else "pause",
            "service": "stop scheduler" if service_state is not None and service_state.alive else "start scheduler",
        }
        running = chosen is not None and chosen.running
        footer = {"run-now": not running, "cancel-run": running, "silence": alert is not None}
        return [
            replace(action, title=titles.get(action.id, action.title), footer=footer.get(action.id, action.footer))
            for action in self.ACTIONS
        ]

    @on(ServiceLine.Pressed)
    async def _pressed(self) -> None:
        await self.action_act("service")

    @property
    def chosen_alert(self) -> FiringAlert | None:
        """The firing alert under the cursor of the failures."""
        return self.query_one(FailuresGrid).alert

    @property
    def chosen_failures(self) -> ChosenFailures | None:
        """All failures of the group under the cursor."""
        group = self.query_one(FailuresGrid).group
        if group is None:
            return None
        return ChosenFailures(group.spec_id, group.count, lambda reader: reader.get_group_failures(group, limit=None))

    @property
    def no_failures_reason(self) -> str | None:
        """Why the row under the cursor has no records to retry or discard; None if it has some."""
        return self.query_one(FailuresGrid).disabled_reason

    @on(Grid.Chosen)
    async def _chose(self) -> None:
        await self.action_act("open")

    async def action_open(self) -> None:
        """Open the item under the cursor of the focused panel."""
        failures = self.query_one(FailuresGrid)
        if failures.has_focus and failures.group is not None:
            await self._open_failures(failures.group)
        elif failures.has_focus and failures.row is not None and self.chosen is not None:
            await self._open_runs(self.chosen.spec_id)
        elif self._log.has_focus and (event := self._log.event) is not None:
            await self.app.push_screen(MessageDialog(f"{event.spec_id}, {exactly(event.at)}", event.message))
        elif self.chosen is not None:
            await self._open_runs(self.chosen.spec_id)

    def commands(self) -> Iterable[Command]:
        """Yield a command per integration that shows its runs."""
        for spec_id in sorted(self._listed):
            yield Command(f"runs of {spec_id}", self.NAME, partial(self._open_runs, spec_id))

    async def _open_runs(self, spec_id: str) -> None:
        from speclab.app.views.monitor.runs import RunsPage

        await self.app.push_screen(RunsPage(self.context, spec_id))

    async def _open_failures(self, group: FailureGroup) -> None:
        from speclab.app.views.monitor.failures import MOST, FailuresPage

        crumbs = (group.spec_id, f"{group.row}: {group.message}" if group.row else group.message)
        await self.app.push_screen(
            FailuresPage(self.context, crumbs, lambda reader: reader.get_group_failures(group, MOST))
        )

    def action_window(self) -> None:
        """Switch to the next longer window, and from the longest to the shortest."""
        windows = list(WINDOWS)
        context = self.context
        context.show_window(windows[(windows.index(context.window) + 1) % len(windows)])

    def action_follow(self) -> None:
        """Follow the events, or stop."""
        self._log.following = not self._log.following

    def action_filter(self) -> None:
        """Show events of the integration under the cursor only, or of all."""
        chosen = self.chosen
        self._of = None if self._of is not None or chosen is None else chosen.spec_id
        self._read_events()
        self._name_events()


def _empty_text(context: AppContext) -> tuple[str, ...]:
    """Return the text shown when no integration is listed."""
    if context.run_log_error is not None:
        return ("The run log cannot be read.", context.run_log_error.message, "", context.run_log_error.hint)
    if context.specs is None or context.overview is None:
        return ()  # the figures show that the run log is being read
    return ("No integrations here yet.", "Press 1 for the specs and n to create one from the template.")


def _unknown(_spec_id: str) -> None:
    """Return nothing: the state of the scheduler is not known yet."""
