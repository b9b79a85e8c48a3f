"""The first line of the screen: the three places, and how everything is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.message import Message
from textual.reactive import reactive
from textual.strip import Strip
from textual.widget import Widget

from speclab.app.glyphs import ATTENTION, CRUMB, FAILED, RUNNING

if TYPE_CHECKING:
    from speclab.monitor.health import Overview

TABS = ("Specs", "Mapping", "Monitor")


class Header(Widget):
    """The places as tabs, the one that is seen in the accent colour, and the totals on the right."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "header--name",
        "header--here",
        "header--key",
        "header--live",
        "header--attention",
        "header--failed",
    }
    DEFAULT_CSS = """
    Header {
        dock: top;
        height: 1;
        background: $background;
        color: $muted;
        & > .header--name { color: $foreground; text-style: bold; }
        & > .header--here { color: $accent; text-style: bold; }
        & > .header--live { color: $accent; }
        & > .header--attention { color: $warning; }
        & > .header--failed { color: $error; }
        &:ansi > .header--here { text-style: reverse; }
    }
    """

    crumbs: reactive[tuple[str, ...]] = reactive(())
    here: reactive[str] = reactive("")
    overview: reactive[Overview | None] = reactive(None)

    @dataclass
    class Tab(Message):
        """A tab was clicked; `place` is its place's name."""

        place: str

    def on_mount(self) -> None:
        """Show what the app knows, as it changes."""
        self.watch(self.app, "here", self._set_here)
        self.watch(self.app, "overview", self._set_overview)

    def _set_here(self, here: str) -> None:
        self.here = here

    def _set_overview(self, overview: Overview | None) -> None:
        if _totals(overview) != _totals(self.overview):
            self.overview = overview

    def render_line(self, y: int) -> Strip:  # noqa: ARG002 (there is only one)
        """The whole header."""
        width = self.size.width
        left = self._left(crumbs=bool(self.crumbs))
        right = self._right()
        if _length(left) + _length(right) + 2 > width:
            right = self._right(words=False)
        if _length(left) + _length(right) + 2 > width:
            left = self._left(crumbs=False)
        space = Segment(" " * max(1, width - _length(left) - _length(right) - 1), self.rich_style)
        return Strip([*left, space, *right, Segment(" ", self.rich_style)]).adjust_cell_length(width, self.rich_style)

    def _left(self, *, crumbs: bool) -> list[Segment]:
        plain = self.rich_style
        segments = [Segment(" speclab ", self._style("name"))]
        for number, tab in enumerate(TABS, 1):
            here = tab.lower() == self.here
            segments.append(Segment("  ", plain))
            segments.append(Segment(f"{number} {tab}", self._style("here") if here else plain))
        if crumbs:
            segments.append(Segment(f" {CRUMB} ".join(("", *self.crumbs)), plain))
        return segments

    def _right(self, *, words: bool = True) -> list[Segment]:
        alerts, waiting, dead, unknown, running = _totals(self.overview)
        parts = [
            (alerts, ATTENTION.glyph, "alert" if alerts == 1 else "alerts", "attention"),
            (waiting, "", "waiting", ""),
            (dead, FAILED.glyph, "dead", "failed"),
            (unknown, FAILED.glyph, "unknown", "failed"),
            (running, RUNNING.glyph, "running", "live"),
        ]
        segments: list[Segment] = []
        for count, glyph, word, style in parts:
            if not count:
                continue
            if segments:
                segments.append(Segment("   " if words else " ", self.rich_style))
            if glyph:
                segments.append(Segment(f"{glyph} ", self._style(style)))
            shown = f"{count:,} {word}" if words or not glyph else f"{count:,}"
            segments.append(Segment(shown, self._style(style) if glyph else self.rich_style))
        return segments

    def _style(self, name: str) -> Style:
        return self.rich_style + self.get_component_rich_style(f"header--{name}", partial=True)

    def on_click(self, event: events.Click) -> None:
        """Go to the place whose tab was clicked."""
        x = cell_len(" speclab ")
        for number, tab in enumerate(TABS, 1):
            x += 2
            end = x + cell_len(f"{number} {tab}")
            if x <= event.x < end:
                self.post_message(self.Tab(tab.lower()))
            x = end


def _totals(overview: Overview | None) -> tuple[int, int, int, int, int]:
    """Alerts, waiting, dead, unknown and running, of all integrations together."""
    if overview is None:
        return 0, 0, 0, 0, 0
    return overview.firing, overview.waiting, overview.dead, overview.unknown, overview.running


def _length(segments: list[Segment]) -> int:
    return sum(cell_len(segment.text) for segment in segments)
