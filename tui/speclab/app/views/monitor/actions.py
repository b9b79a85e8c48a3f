"""Actions of the Monitor: run, pause, retry, discard, and starting the service."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, ClassVar, Final

from rich.cells import cell_len
from rich.segment import Segment
from textual.message import Message
from textual.reactive import reactive
from textual.strip import Strip
from textual.widget import Widget

from speclab.app import formatting
from speclab.app.actions import Action
from speclab.app.dialogs import ConfirmDialog, PromptDialog
from speclab.app.formatting import Icon, ago, clock_time
from speclab.app.views.monitor.integrations import ListedIntegration
from speclab.app.widgets.cells import fit
from speclab.core.errors import RunLogError, UsageError
from speclab.core.text import format_count

if TYPE_CHECKING:
    from speclab.app.view import AppContext
    from speclab.runlog import FailureRow, RunLog, RunLogReader
    from speclab.service.heartbeat import Heartbeat, ServiceState


RETRY: Final = Action("retry", "retry", "Retry the failed records now, with the current mapping.", ("R",))
DISCARD: Final = Action("discard", "discard", "Discard the failed records, with a reason.", ("D",))


@dataclass(frozen=True, slots=True)
class ChosenFailures:
    """The failures that a decision concerns: their integration, their number, and how to read them."""

    spec_id: str
    count: int
    question: Callable[[RunLogReader], Sequence[FailureRow]]


def explain_disabled_run(context: AppContext, listed: ListedIntegration | None) -> str | None:
    """Return why a spec cannot be run now; None if it can."""
    if listed is None:
        return "no integration is selected"
    if context.read_only:
        return "the app was started with --read-only"
    if listed.path is None:
        return f"the spec of {listed.spec_id} is not in this directory"
    if listed.running:
        return f"{listed.spec_id} is already running"
    return None


def explain_disabled_pause(context: AppContext, listed: ListedIntegration | None) -> str | None:
    """Return why an integration cannot be paused or resumed now; None if it can."""
    if listed is None:
        return "no integration is selected"
    if context.read_only:
        return "the app was started with --read-only"
    if listed.path is None and not listed.paused:
        return f"the spec of {listed.spec_id} is not in this directory, so the scheduler does not run it"
    return None


def explain_disabled_cancel(context: AppContext, listed: ListedIntegration | None) -> str | None:
    """Return why the run of an integration cannot be cancelled now; None if it can."""
    if listed is None:
        return "no integration is selected"
    if context.read_only:
        return "the app was started with --read-only"
    if not listed.running:
        return f"{listed.spec_id} is not running"
    return None


async def cancel(context: AppContext, listed: ListedIntegration, key: str) -> None:
    """Ask the running run to stop after its page, or at once if it was asked before; `key` asks again."""
    from speclab.core.locks import get_user_name
    from speclab.runlog.rows import CANCEL_NOW

    try:
        runs = await context.run_log.record(lambda log: log.cancel(listed.spec_id, get_user_name()))
    except RunLogError as error:
        context.show_error("Not saved in the run log", error)
        return
    if not runs:
        context.notify("The run already ended.", title=f"{listed.spec_id} is not running", timeout=3)
    elif runs[0].cancel == CANCEL_NOW:
        context.notify("The next run continues from the checkpoint.", title=f"{listed.spec_id} stops now", timeout=3)
    else:
        context.notify(f"{key} again stops it now.", title=f"{listed.spec_id} stops after this page", timeout=5)


async def pause(context: AppContext, listed: ListedIntegration) -> None:
    """Pause an integration, or resume it."""
    from speclab.core.locks import get_user_name

    def entry(log: RunLog) -> bool:
        return (
            log.resume(listed.spec_id, get_user_name()) if listed.paused else log.pause(listed.spec_id, get_user_name())
        )

    try:
        await context.run_log.record(entry)
    except RunLogError as error:
        context.show_error("Not saved in the run log", error)
        return
    if listed.paused:
        context.notify(
            "Runs missed while it was paused are made up for by one run.",
            title=f"{listed.spec_id} is resumed",
            timeout=3,
        )
    else:
        going = " The current run continues to its end." if listed.running else ""
        context.notify(f"The scheduler skips it.{going}", title=f"{listed.spec_id} is paused", timeout=3)


async def retry(context: AppContext, chosen: ChosenFailures, listed: ListedIntegration | None) -> None:
    """Move failed records to the front of the retry queue and start a run, which retries them before it reads."""
    records = format_count(chosen.count, "record")
    question = ConfirmDialog(
        f"retry {records} of {chosen.spec_id}",
        "They are mapped again with the current mapping and sent, unless a newer version was written in the meantime.",
        yes=f"retry {records}",
    )
    if not await context.push_screen_wait(question):
        return
    if await _record(context, chosen, lambda log, ids: log.requeue(ids)) is None:
        return
    if listed is not None and listed.path is not None and explain_disabled_run(context, listed) is None:
        context.run_spec(listed.path, listed.spec_id)
    else:
        context.notify("The next run retries them first.", title=f"{records} in the retry queue")


async def discard(context: AppContext, chosen: ChosenFailures) -> None:
    """Ask for a reason and discard failed records."""
    records = format_count(chosen.count, "record")
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
    discarded = await _record(context, chosen, lambda log, ids: log.discard(ids, reason.strip()))
    if discarded is not None:
        context.notify(reason, title=f"{format_count(discarded, 'record')} discarded")


async def _record(
    context: AppContext, chosen: ChosenFailures, entry: Callable[[RunLog, Sequence[str]], int]
) -> int | None:
    """Save a decision in the run log and return the number of records; None, after an error is shown, if that fails."""
    found = await context.ask(chosen.question)
    if found is None:
        return None
    ids = [failure.id for failure in found]
    try:
        return await context.run_log.record(lambda log: entry(log, ids))
    except RunLogError as error:
        context.show_error("Not saved in the run log", error)
        return None


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


async def start_or_stop(context: AppContext, service_state: ServiceState) -> None:
    """Start the scheduler, or stop the running one, after a confirmation."""
    from speclab.service.heartbeat import request_stop

    beat = service_state.beat
    if beat is None or not service_state.alive:
        question = ConfirmDialog(
            "start scheduler",
            f"It runs the specs in {context.directory} that are in progress on schedule, also after speclab is closed.",
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


def explain_disabled_service(context: AppContext) -> str | None:
    """Return why the scheduler cannot be started or stopped now; None if it can."""
    from speclab.service.heartbeat import explain_unstoppable

    if context.read_only:
        return "the app was started with --read-only"
    if context.service_state is None:
        return "the state of the scheduler is not known yet"
    if context.service_state.beat is not None and context.service_state.alive:
        return explain_unstoppable(context.service_state.beat)
    return "the scheduler is starting" if context.starting else None


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
