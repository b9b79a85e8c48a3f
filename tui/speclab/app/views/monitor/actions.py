"""Controllers of the Monitor: run, cancel, pause, retry, discard, and start or stop the scheduler."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, ClassVar, Final, Protocol

from rich.cells import cell_len
from rich.segment import Segment
from textual.message import Message
from textual.reactive import reactive
from textual.strip import Strip
from textual.widget import Widget

from speclab.app import formatting
from speclab.app.actions import Action, Controller
from speclab.app.dialogs import ConfirmDialog, PromptDialog
from speclab.app.formatting import Icon, ago, clock_time
from speclab.app.views.monitor.integrations import ListedIntegration, list_integrations
from speclab.app.widgets.cells import fit
from speclab.core.errors import RunLogError, UsageError
from speclab.core.text import format_count

if TYPE_CHECKING:
    from speclab.app.view import AppContext
    from speclab.runlog import AlertRow, FailureRow, RunLog, RunLogReader
    from speclab.service.heartbeat import Heartbeat, ServiceState


RETRY: Final = Action("retry", "retry", "Retry the failed records now, with the current mapping.", ("R",))
DISCARD: Final = Action("discard", "discard", "Discard the failed records, with a reason.", ("D",))
SILENCE: Final = Action("silence", "silence alert", "Silence the firing alert under the cursor, or end that.", ("m",))


_READ_ONLY: Final = "the app was started with --read-only"
_NOT_SELECTED: Final = "no integration is selected"


@dataclass(frozen=True, slots=True)
class ChosenFailures:
    """The failures that a decision concerns: their integration, their number, and how to read them."""

    spec_id: str
    count: int
    query: Callable[[RunLogReader], Sequence[FailureRow]]


class MonitorHost(Protocol):
    """The Monitor view, as the controllers of runs and of the scheduler see it."""

    context: AppContext

    @property
    def chosen(self) -> ListedIntegration | None:
        """The integration under the cursor."""

    def run_in_background(self, work: Callable[[], Coroutine[None, None, None]], group: str = "") -> Callable[[], None]:
        """Run `work`, and with `group` cancel earlier work of that group; return a function that cancels it."""


class RunActions(Controller):
    """Runs, cancels, pauses and resumes the integration under the cursor."""

    def __init__(self, host: MonitorHost) -> None:
        self._host = host

    def explain_disabled(self, action: str) -> str | None:
        """Return why the integration cannot be run, cancelled, paused or resumed now."""
        context, listed = self._host.context, self._host.chosen
        if action not in {"run-now", "cancel-run", "pause"}:
            return None
        if action == "run-now":
            return explain_disabled_run(context, listed)
        if listed is None:
            return _NOT_SELECTED
        if context.read_only:
            return _READ_ONLY
        if action == "cancel-run":
            return None if listed.running else f"{listed.spec_id} is not running"
        if listed.path is None and not listed.paused:
            return f"the spec of {listed.spec_id} is not in this directory, so the scheduler does not run it"
        return None

    def action_run_now(self) -> None:
        """Start a run of the integration under the cursor."""
        listed = self._host.chosen
        if listed is not None and listed.path is not None:
            self._host.context.run_spec(listed.path, listed.spec_id)

    def action_cancel_run(self) -> None:
        """Cancel the running run of the integration under the cursor."""
        if (listed := self._host.chosen) is not None:
            self._host.run_in_background(partial(self._cancel, listed.spec_id))

    async def _cancel(self, spec_id: str) -> None:
        """Stop the run after its page, or at once if that was requested before."""
        from speclab.core.locks import get_user_name
        from speclab.runlog.rows import CANCEL_NOW

        context = self._host.context
        try:
            runs = await context.run_log.record(lambda log: log.cancel(spec_id, get_user_name()))
        except RunLogError as error:
            context.show_error("Not saved in the run log", error)
            return
        if not runs:
            context.notify("The run already ended.", title=f"{spec_id} is not running", timeout=3)
        elif runs[0].cancel == CANCEL_NOW:
            context.notify("The next run continues from the checkpoint.", title=f"{spec_id} stops now", timeout=3)
        else:
            context.notify("x again stops it now.", title=f"{spec_id} stops after this page", timeout=5)

    def action_pause(self) -> None:
        """Pause the integration under the cursor, or resume it."""
        if (listed := self._host.chosen) is not None:
            self._host.run_in_background(partial(self._pause, listed))

    async def _pause(self, listed: ListedIntegration) -> None:
        from speclab.core.locks import get_user_name

        context, spec_id = self._host.context, listed.spec_id

        def write(log: RunLog) -> bool:
            return log.resume(spec_id, get_user_name()) if listed.paused else log.pause(spec_id, get_user_name())

        try:
            await context.run_log.record(write)
        except RunLogError as error:
            context.show_error("Not saved in the run log", error)
            return
        if listed.paused:
            text = "Runs missed while it was paused are made up for by one run."
            context.notify(text, title=f"{spec_id} is resumed", timeout=3)
        else:
            more = " The current run continues to its end." if listed.running else ""
            context.notify(f"The scheduler skips it.{more}", title=f"{spec_id} is paused", timeout=3)


def explain_disabled_run(context: AppContext, listed: ListedIntegration | None) -> str | None:
    """Return why a spec cannot be run now; None if it can."""
    if listed is None:
        return _NOT_SELECTED
    if context.read_only:
        return _READ_ONLY
    if listed.path is None:
        return f"the spec of {listed.spec_id} is not in this directory"
    if listed.running:
        return f"{listed.spec_id} is already running"
    return None


class FailureHost(Protocol):
    """A view or screen with failures, as `FailureActions` sees it."""

    context: AppContext

    @property
    def chosen_failures(self) -> ChosenFailures | None:
        """The failures to retry or discard."""

    @property
    def no_failures_reason(self) -> str | None:
        """Why there are no failures to retry or discard; None if there are some."""

    def run_in_background(self, work: Callable[[], Coroutine[None, None, None]], group: str = "") -> Callable[[], None]:
        """Run `work`, and with `group` cancel earlier work of that group; return a function that cancels it."""


class FailureActions(Controller):
    """Retries and discards failed records."""

    def __init__(self, host: FailureHost) -> None:
        self._host = host

    def explain_disabled(self, action: str) -> str | None:
        """Return why failed records cannot be retried or discarded now."""
        if action not in {"retry", "discard"}:
            return None
        return _READ_ONLY if self._host.context.read_only else self._host.no_failures_reason

    def action_retry(self) -> None:
        """Retry the chosen failures."""
        if (chosen := self._host.chosen_failures) is not None:
            self._host.run_in_background(partial(self._retry, chosen))

    async def _retry(self, chosen: ChosenFailures) -> None:
        """Move the records to the front of the retry queue and start a run, which retries them before it reads."""
        context, records = self._host.context, format_count(chosen.count, "record")
        question = ConfirmDialog(
            f"retry {records} of {chosen.spec_id}",
            "They are mapped again with the current mapping and sent, "
            "unless a newer version was written in the meantime.",
            yes=f"retry {records}",
        )
        if not await context.push_screen_wait(question):
            return
        if await self._record(chosen, lambda log, ids: log.requeue(ids)) is None:
            return
        listed = list_integrations(context.specs or (), context.overview).get(chosen.spec_id)
        if listed is not None and listed.path is not None and explain_disabled_run(context, listed) is None:
            context.run_spec(listed.path, listed.spec_id)
        else:
            context.notify("The next run retries them first.", title=f"{records} in the retry queue")

    def action_discard(self) -> None:
        """Discard the chosen failures."""
        if (chosen := self._host.chosen_failures) is not None:
            self._host.run_in_background(partial(self._discard, chosen))

    async def _discard(self, chosen: ChosenFailures) -> None:
        """Ask for a reason and discard the records."""
        context, records = self._host.context, format_count(chosen.count, "record")
        reason = await context.push_screen_wait(
            PromptDialog(
                f"discard {records} of {chosen.spec_id}",
                "They are not retried and no longer count as dead letters. The run log keeps them and the reason.",
                placeholder="reason",
                validate=lambda text: None if text.strip() else "A reason is required: the record will not be written.",
            )
        )
        if reason is None:
            return
        discarded = await self._record(chosen, lambda log, ids: log.discard(ids, reason.strip()))
        if discarded is not None:
            context.notify(reason, title=f"{format_count(discarded, 'record')} discarded")

    async def _record(self, chosen: ChosenFailures, write: Callable[[RunLog, Sequence[str]], int]) -> int | None:
        """Write a decision to the run log and return the number of records; None, with an error shown, on failure."""
        context = self._host.context
        found = await context.ask(chosen.query)
        if found is None:
            return None
        ids = [failure.id for failure in found]
        try:
            return await context.run_log.record(lambda log: write(log, ids))
        except RunLogError as error:
            context.show_error("Not saved in the run log", error)
            return None


@dataclass(frozen=True, slots=True)
class FiringAlert:
    """A firing alert, and until when it is silenced."""

    row: AlertRow
    silenced_until: str | None


class AlertHost(Protocol):
    """The Monitor view, as `AlertActions` sees it."""

    context: AppContext

    @property
    def chosen_alert(self) -> FiringAlert | None:
        """The firing alert under the cursor."""

    def run_in_background(self, work: Callable[[], Coroutine[None, None, None]], group: str = "") -> Callable[[], None]:
        """Run `work`, and with `group` cancel earlier work of that group; return a function that cancels it."""


class AlertActions(Controller):
    """Silences firing alerts, and ends silences."""

    def __init__(self, host: AlertHost) -> None:
        self._host = host

    def explain_disabled(self, action: str) -> str | None:
        """Return why no alert can be silenced now."""
        if action != "silence":
            return None
        if self._host.context.read_only:
            return _READ_ONLY
        return None if self._host.chosen_alert is not None else "no firing alert is selected"

    def action_silence(self) -> None:
        """Silence the alert under the cursor, or end its silence."""
        if (chosen := self._host.chosen_alert) is not None:
            self._host.run_in_background(partial(self._silence, chosen))

    async def _silence(self, chosen: FiringAlert) -> None:
        """Ask for a duration and a reason and silence the alert; end the silence of one that has one."""
        from speclab.core.locks import get_user_name

        context, spec_id, alert = self._host.context, chosen.row.spec_id, chosen.row.name
        text = None
        if chosen.silenced_until is None:
            text = await context.push_screen_wait(
                PromptDialog(
                    f"silence {alert} of {spec_id}",
                    "Its channels are not notified for that time. If it fires afterwards, they are notified then.",
                    placeholder="2h upgrade of the CRM",
                    validate=_explain_invalid_silence,
                )
            )
            if text is None:
                return

        def write(log: RunLog) -> None:
            if text is None:
                for name in (alert, None):
                    log.end_silence(spec_id, name, get_user_name())
                return
            seconds, reason = parse_silence(text)
            log.silence(spec_id, alert, context.now() + timedelta(seconds=seconds), get_user_name(), reason)

        try:
            await context.run_log.record(write)
        except RunLogError as error:
            context.show_error("Not saved in the run log", error)
            return
        done = "no longer silenced" if text is None else f"silenced for {text.split()[0]}"
        context.notify(f"Alert of {spec_id}", title=f"{alert} is {done}", timeout=3)


def parse_silence(text: str) -> tuple[float, str]:
    """Return the seconds and the reason in `2h upgrade of the CRM`. Raises `ValueError`."""
    from speclab.spec.settings_types import parse_duration

    duration, _, reason = text.strip().partition(" ")
    seconds = parse_duration(duration)
    if not seconds or not reason.strip():
        raise ValueError("A duration and a reason are required, such as: 2h upgrade of the CRM")
    return seconds, reason.strip()


def _explain_invalid_silence(text: str) -> str | None:
    try:
        parse_silence(text)
    except ValueError as error:
        return str(error)
    return None


class ServiceActions(Controller):
    """Starts and stops the scheduler."""

    def __init__(self, host: MonitorHost) -> None:
        self._host = host

    def explain_disabled(self, action: str) -> str | None:
        """Return why the scheduler cannot be started or stopped now."""
        from speclab.service.heartbeat import explain_unstoppable

        context = self._host.context
        if action != "service":
            return None
        if context.read_only:
            return _READ_ONLY
        if context.service_state is None:
            return "the state of the scheduler is not known yet"
        if context.service_state.beat is not None and context.service_state.alive:
            return explain_unstoppable(context.service_state.beat)
        return "the scheduler is starting" if context.starting else None

    def action_service(self) -> None:
        """Start or stop the scheduler."""
        if (service_state := self._host.context.service_state) is not None:
            self._host.run_in_background(partial(self._start_or_stop, service_state))

    async def _start_or_stop(self, service_state: ServiceState) -> None:
        """Start the scheduler, or stop the running one, after a confirmation."""
        from speclab.service.heartbeat import request_stop

        context, beat = self._host.context, service_state.beat
        if beat is None or not service_state.alive:
            question = ConfirmDialog(
                "start scheduler",
                f"It runs the specs in {context.directory} that are in progress on schedule, "
                "also after speclab is closed.",
                yes="start it",
            )
            if await context.push_screen_wait(question):
                context.start_service()
            return
        question = ConfirmDialog(
            "stop scheduler",
            f"No spec runs on its schedule after that. Running specs finish their current page first.\n{_who(beat)}",
            yes="stop it",
        )
        if await context.push_screen_wait(question):
            try:
                request_stop(context.run_log.workspace, beat)
            except UsageError as error:
                context.show_error("Scheduler was not stopped", error)


class ServiceLine(Widget):
    """Whether the scheduler is running and since when; if not, the key that starts it. A click does the same."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {f"service--{name}" for name in ("live", "muted", "failed")}
    DEFAULT_CSS = """
    ServiceLine {
        dock: bottom;
        height: 1;
        background: $background;
        & > .service--live { color: $accent; }
        & > .service--muted { color: $muted; }
        & > .service--failed { color: $error; text-style: bold; }
        &:ansi > .service--muted { text-style: dim; }
    }
    """

    shown: reactive[tuple[Icon, str, str] | None] = reactive(None)
    """The icon, the state and its details; None until the state is known."""

    class Pressed(Message):
        """The line was clicked."""

    def render_line(self, y: int) -> Strip:  # noqa: ARG002 (there is only one)
        """Render the icon and as much text as fits."""
        width, base = self.size.width, self.rich_style
        if self.shown is None:
            return Strip.blank(width, base)
        icon, what, more = self.shown
        style = base + self.get_component_rich_style(f"service--{icon.style}", partial=True)
        muted = base + self.get_component_rich_style("service--muted", partial=True)
        what = fit(what, width - 4)
        rest = fit(f"  {more}", width - 4 - cell_len(what)) if more else ""
        segments = [Segment(f" {icon.glyph} ", style), Segment(what, style if icon.style == "failed" else base)]
        return Strip([*segments, Segment(rest, muted)]).adjust_cell_length(width, base)

    def on_click(self) -> None:
        """Do the same as the key."""
        self.post_message(self.Pressed())


def describe_service(service_state: ServiceState, now: datetime, *, starting: bool, key: str) -> tuple[Icon, str, str]:
    """Return the text of the line; `key` starts the scheduler (empty: it cannot be started here)."""
    beat = service_state.beat
    if beat is not None and service_state.alive:
        return formatting.RUNNING, _alive(beat), f"since {_since(beat.since, now)}, {_who(beat)}"
    if starting:
        return formatting.RUNNING, "Scheduler is starting", ""
    if beat is not None and service_state.crashed:
        again = f". Press {key} to start it." if key else ""
        return (
            formatting.FAILED,
            f"Scheduler stopped unexpectedly{again}",
            f"last seen {ago(beat.beat, now)}, {_who(beat)}",
        )
    stopped = f"last stopped {ago(beat.stopped, now)}" if beat is not None and beat.stopped else ""
    return formatting.IDLE, f"Scheduler is not running.{f' Press {key} to start it.' if key else ''}", stopped


def _alive(beat: Heartbeat) -> str:
    if beat.stopping is not None:
        return "Scheduler is stopping; running specs finish their current page"
    problems = sum(bool(spec.problem) for spec in beat.specs.values())
    cannot = f", {problems:,} cannot run" if problems else ""
    return f"Scheduler is running {format_count(len(beat.specs), 'spec')}{cannot}"


def _who(beat: Heartbeat) -> str:
    return f"process {beat.pid} of {beat.user} on {beat.host}"


def _since(at: str, now: datetime) -> str:
    """Return the time of day if it was within a day; else how long ago it was."""
    return clock_time(at)[:5] if (now - datetime.fromisoformat(at)).total_seconds() < 86400 else ago(at, now)
