"""The service in the Monitor: one line that says whether a `speclab up` is alive, and how to have it otherwise."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, ClassVar

from rich.cells import cell_len
from rich.segment import Segment
from textual.message import Message
from textual.reactive import reactive
from textual.strip import Strip
from textual.widget import Widget

from speclab.app import glyphs
from speclab.app.glyphs import Mark
from speclab.app.widgets.cells import fit
from speclab.app.widgets.dialogs import Confirm
from speclab.app.words import ago, clock_time
from speclab.errors import UsageError
from speclab.plural import plural

if TYPE_CHECKING:
    from speclab.app.application import SpeclabApp
    from speclab.sync.heartbeat import Heartbeat, Pulse


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

    told: reactive[tuple[Mark, str, str] | None] = reactive(None)
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


def words(pulse: Pulse, now: datetime, *, starting: bool, key: str) -> tuple[Mark, str, str]:
    """What the line says; `key` starts a service (empty: it cannot be started here)."""
    beat = pulse.beat
    if beat is not None and pulse.alive:
        return glyphs.RUNNING, _alive(beat), f"since {_since(beat.since, now)}, {_who(beat)}"
    if starting:
        return glyphs.RUNNING, "speclab up is starting", ""
    if beat is not None and pulse.crashed:
        again = f": {key} starts another" if key else ""
        return (
            glyphs.FAILED,
            f"speclab up ended without a word{again}",
            f"last seen {ago(beat.beat, now)}, {_who(beat)}",
        )
    stopped = f"the last one stopped {ago(beat.stopped, now)}" if beat is not None and beat.stopped else ""
    return glyphs.IDLE, f"nothing runs by itself{f': {key} starts speclab up' if key else ''}", stopped


async def start_or_stop(app: SpeclabApp, pulse: Pulse) -> None:
    """Ask the service that is alive to stop, or start one; both after asking."""
    from speclab.sync.heartbeat import ask_to_stop

    beat = pulse.beat
    if beat is None or not pulse.alive:
        question = Confirm(
            "start speclab up",
            f"It runs what is in progress in {app.directory} on its schedule, and goes on when speclab is closed.",
            yes="start it",
        )
        if await app.push_screen_wait(question):
            app.start_service()
        return
    question = Confirm(
        "stop speclab up",
        f"Nothing runs on its schedule after that. Its runs finish the page in hand first.\n{_who(beat)}",
        yes="stop it",
    )
    if await app.push_screen_wait(question):
        try:
            ask_to_stop(app.run_log.workspace, beat)
        except UsageError as error:
            app.tell("speclab up was not stopped", error)


def why_not_service(app: SpeclabApp) -> str | None:
    """Why a service can be neither started nor stopped now; None if it can."""
    from speclab.sync.heartbeat import why_not_stop

    if app.read_only:
        return "the app was started with --read-only"
    if app.pulse is None:
        return "it is not known yet whether one is alive"
    if app.pulse.beat is not None and app.pulse.alive:
        return why_not_stop(app.pulse.beat)
    return "speclab up is starting" if app.starting else None


def _alive(beat: Heartbeat) -> str:
    if beat.stopping is not None:
        return "speclab up is stopping, once its runs finished the page in hand"
    problems = sum(bool(spec.problem) for spec in beat.specs.values())
    cannot = f", {problems:,} cannot run" if problems else ""
    return f"speclab up runs {plural(len(beat.specs), 'spec')}{cannot}"


def _who(beat: Heartbeat) -> str:
    return f"process {beat.pid} of {beat.user} on {beat.host}"


def _since(at: str, now: datetime) -> str:
    """The time of day, if it was today; otherwise how long ago."""
    return clock_time(at)[:5] if (now - datetime.fromisoformat(at)).total_seconds() < 86400 else ago(at, now)
