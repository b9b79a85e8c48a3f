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

from speclab.app import icons
from speclab.app.actions import Action
from speclab.app.dialogs import ConfirmDialog, PromptDialog
from speclab.app.formatting import ago, clock_time
from speclab.app.icons import Icon
from speclab.app.views.monitor.integrations import ListedIntegration
from speclab.app.widgets.cells import fit
from speclab.core.errors import RunLogError, UsageError
from speclab.core.text import format_count

if TYPE_CHECKING:
    from speclab.app.context import AppContext
    from speclab.runlog import FailureRow, RunLog, RunLogReader
    from speclab.service.heartbeat import Heartbeat, ServiceState


RETRY: Final = Action("retry", "retry", "Try the failed records again now, mapped as the spec is now.", ("R",))
DISCARD: Final = Action("discard", "discard", "Give the failed records up, with a reason.", ("D",))


@dataclass(frozen=True, slots=True)
class ChosenFailures:
    """Failures a decision is about: of which integration, how many, and how to ask the run log for them."""

    spec_id: str
    count: int
    question: Callable[[RunLogReader], Sequence[FailureRow]]


def why_not_run(context: AppContext, listed: ListedIntegration | None) -> str | None:
    """Why a spec cannot be run now; None if it can."""
    if listed is None:
        return "there is no integration to run"
    if context.read_only:
        return "the app was started with --read-only"
    if listed.path is None:
        return f"the spec of {listed.spec_id} is not in this directory"
    if listed.running:
        return f"{listed.spec_id} is running already"
    return None


def why_not_pause(context: AppContext, listed: ListedIntegration | None) -> str | None:
    """Why an integration cannot be paused, or resumed, now; None if it can."""
    if listed is None:
        return "there is no integration to pause"
    if context.read_only:
        return "the app was started with --read-only"
    if listed.path is None and not listed.paused:
        return f"the spec of {listed.spec_id} is not in this directory: nothing runs it by itself"
    return None


def why_not_cancel(context: AppContext, listed: ListedIntegration | None) -> str | None:
    """Return why the run of an integration cannot be cancelled now; None if it can."""
    if listed is None:
        return "there is no integration to cancel a run of"
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
        context.tell("Nothing was recorded", error)
        return
    if not runs:
        context.notify("It ended before.", title=f"{listed.spec_id} is not running", timeout=3)
    elif runs[0].cancel == CANCEL_NOW:
        context.notify("The next run continues from the checkpoint.", title=f"{listed.spec_id} stops now", timeout=3)
    else:
        context.notify(f"{key} again stops it now.", title=f"{listed.spec_id} stops after this page", timeout=5)


async def pause(context: AppContext, listed: ListedIntegration) -> None:
    """Have `speclab up` leave an integration alone, or end that."""
    from speclab.core.locks import get_user_name

    def entry(log: RunLog) -> bool:
        return (
            log.resume(listed.spec_id, get_user_name()) if listed.paused else log.pause(listed.spec_id, get_user_name())
        )

    try:
        await context.run_log.record(entry)
    except RunLogError as error:
        context.tell("Nothing was recorded", error)
        return
    if listed.paused:
        context.notify("Times that passed meanwhile come to one run.", title=f"{listed.spec_id} is resumed", timeout=3)
    else:
        going = " The run under way goes on to its end." if listed.running else ""
        context.notify(f"speclab up leaves it alone.{going}", title=f"{listed.spec_id} is paused", timeout=3)


async def retry(context: AppContext, chosen: ChosenFailures, listed: ListedIntegration | None) -> None:
    """Put them first into the retry queue, and start a run, which tries what is due before it reads on."""
    records = format_count(chosen.count, "record")
    question = ConfirmDialog(
        f"retry {records} of {chosen.spec_id}",
        "They are mapped anew, as the spec is now, and sent again; where a newer record was written, nothing is.",
        yes=f"retry {records}",
    )
    if not await context.push_screen_wait(question):
        return
    if await _record(context, chosen, lambda log, ids: log.requeue(ids)) is None:
        return
    if listed is not None and listed.path is not None and why_not_run(context, listed) is None:
        context.run_spec(listed.path, listed.spec_id)
    else:
        context.notify("The next run tries them first.", title=f"{records} in the retry queue")


async def discard(context: AppContext, chosen: ChosenFailures) -> None:
    """Ask for the reason, and give them up."""
    records = format_count(chosen.count, "record")
    reason = await context.push_screen_wait(
        PromptDialog(
            f"discard {records} of {chosen.spec_id}",
            "They are not tried again and no longer counted as dead. The run log keeps them, and why.",
            placeholder="the reason, for whoever asks later",
            wrong=lambda text: None if text.strip() else "A reason is needed: the record will not arrive.",
        )
    )
    if reason is None:
        return
    given_up = await _record(context, chosen, lambda log, ids: log.discard(ids, reason.strip()))
    if given_up is not None:
        context.notify(reason, title=f"{format_count(given_up, 'record')} discarded")


async def _record(
    context: AppContext, chosen: ChosenFailures, entry: Callable[[RunLog, Sequence[str]], int]
) -> int | None:
    """Write a decision into the run log; None, and told, if it cannot be."""
    found = await context.ask(chosen.question)
    if found is None:
        return None
    ids = [failure.id for failure in found]
    try:
        return await context.run_log.record(lambda log: entry(log, ids))
    except RunLogError as error:
        context.tell("Nothing was recorded", error)
        return None


class ServiceLine(Widget):
    """Whether a `speclab up` is alive, which, since when; if none is, what to press. A click is that key."""

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

    told: reactive[tuple[Icon, str, str] | None] = reactive(None)
    """The sign, what is so, and more about it; None until it is known."""

    class Pressed(Message):
        """The line was clicked."""

    def render_line(self, y: int) -> Strip:  # noqa: ARG002 (there is only one)
        """The sign and the words, as many as fit."""
        width, base = self.size.width, self.rich_style
        if self.told is None:
            return Strip.blank(width, base)
        sign, what, more = self.told
        style = base + self.get_component_rich_style(f"service--{sign.style}", partial=True)
        muted = base + self.get_component_rich_style("service--muted", partial=True)
        what = fit(what, width - 4)
        rest = fit(f"  {more}", width - 4 - cell_len(what)) if more else ""
        segments = [Segment(f" {sign.glyph} ", style), Segment(what, style if sign.style == "failed" else base)]
        return Strip([*segments, Segment(rest, muted)]).adjust_cell_length(width, base)

    def on_click(self) -> None:
        """Do what the key does."""
        self.post_message(self.Pressed())


def words(service_state: ServiceState, now: datetime, *, starting: bool, key: str) -> tuple[Icon, str, str]:
    """What the line says; `key` starts a service (empty: it cannot be started here)."""
    beat = service_state.beat
    if beat is not None and service_state.alive:
        return icons.RUNNING, _alive(beat), f"since {_since(beat.since, now)}, {_who(beat)}"
    if starting:
        return icons.RUNNING, "speclab up is starting", ""
    if beat is not None and service_state.crashed:
        again = f": {key} starts another" if key else ""
        return (
            icons.FAILED,
            f"speclab up ended without a word{again}",
            f"last seen {ago(beat.beat, now)}, {_who(beat)}",
        )
    stopped = f"the last one stopped {ago(beat.stopped, now)}" if beat is not None and beat.stopped else ""
    return icons.IDLE, f"nothing runs by itself{f': {key} starts speclab up' if key else ''}", stopped


async def start_or_stop(context: AppContext, service_state: ServiceState) -> None:
    """Ask the service that is alive to stop, or start one; both after asking."""
    from speclab.service.heartbeat import ask_to_stop

    beat = service_state.beat
    if beat is None or not service_state.alive:
        question = ConfirmDialog(
            "start speclab up",
            f"It runs what is in progress in {context.directory} on its schedule, and goes on when speclab is closed.",
            yes="start it",
        )
        if await context.push_screen_wait(question):
            context.start_service()
        return
    question = ConfirmDialog(
        "stop speclab up",
        f"Nothing runs on its schedule after that. Its runs finish the page in hand first.\n{_who(beat)}",
        yes="stop it",
    )
    if await context.push_screen_wait(question):
        try:
            ask_to_stop(context.run_log.workspace, beat)
        except UsageError as error:
            context.tell("speclab up was not stopped", error)


def why_not_service(context: AppContext) -> str | None:
    """Why a service can be neither started nor stopped now; None if it can."""
    from speclab.service.heartbeat import why_not_stop

    if context.read_only:
        return "the app was started with --read-only"
    if context.service_state is None:
        return "it is not known yet whether one is alive"
    if context.service_state.beat is not None and context.service_state.alive:
        return why_not_stop(context.service_state.beat)
    return "speclab up is starting" if context.starting else None


def _alive(beat: Heartbeat) -> str:
    if beat.stopping is not None:
        return "speclab up is stopping, once its runs finished the page in hand"
    problems = sum(bool(spec.problem) for spec in beat.specs.values())
    cannot = f", {problems:,} cannot run" if problems else ""
    return f"speclab up runs {format_count(len(beat.specs), 'spec')}{cannot}"


def _who(beat: Heartbeat) -> str:
    return f"process {beat.pid} of {beat.user} on {beat.host}"


def _since(at: str, now: datetime) -> str:
    """The time of day, if it was today; otherwise how long ago."""
    return clock_time(at)[:5] if (now - datetime.fromisoformat(at)).total_seconds() < 86400 else ago(at, now)
