"""The header: tabs of the three views and the totals of all integrations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.message import Message
from textual.reactive import reactive
from textual.strip import Strip
from textual.widget import Widget

from speclab.app.icons import ATTENTION, CRUMB, FAILED, RUNNING, WAITING
from speclab.app.widgets.cells import fit

if TYPE_CHECKING:
    from speclab.monitor.health import Overview

TABS: Final = ("Specs", "Mapping", "Monitor")
_APART: Final = 4
"""Blank cells between the tabs and the totals."""


class HeaderBar(Widget):
    """The views as tabs, the visible one in the accent colour, and the totals on the right."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "header--name",
        "header--here",
        "header--key",
        "header--live",
        "header--attention",
        "header--failed",
    }
    DEFAULT_CSS = """
    HeaderBar {
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
        """Posted when a tab is clicked; `view` is the name of the view."""

        view: str

    def on_mount(self) -> None:
        """Update with the app's state."""
        self.watch(self.app, "here", self._set_here)
        self.watch(self.app, "overview", self._set_overview)

    def _set_here(self, here: str) -> None:
        self.here = here

    def _set_overview(self, overview: Overview | None) -> None:
        if _totals(overview) != _totals(self.overview):
            self.overview = overview

    def render_line(self, y: int) -> Strip:  # noqa: ARG002 (there is only one)
        """Render tabs, breadcrumbs and totals, shortened where they do not fit."""
        width = self.size.width
        left = self._left(names=width >= 80)
        right = self._right(words=True)
        crumbs = f" {CRUMB} ".join(("", *self.crumbs)) if self.crumbs else ""
        if _length(left) + cell_len(crumbs) + _length(right) + _APART > width:
            right = self._right(words=False)
        room = width - _length(left) - _length(right) - _APART
        if cell_len(crumbs) > room and self.crumbs:
            crumbs = f" {CRUMB} {self.crumbs[-1]}"
        left.append(Segment(fit(crumbs, max(0, room)), self.rich_style))
        space = Segment(" " * max(1, width - _length(left) - _length(right) - 1), self.rich_style)
        return Strip([*left, space, *right, Segment(" ", self.rich_style)]).adjust_cell_length(width, self.rich_style)

    def _left(self, *, names: bool) -> list[Segment]:
        """Return the tabs; without `names`, only the visible view shows its name beside the key."""
        segments = [Segment(" speclab ", self._style("name"))]
        for number, tab in enumerate(TABS, 1):
            here = tab.lower() == self.here
            segments.append(Segment("  ", self.rich_style))
            text = f"{number} {tab}" if names or here else str(number)
            segments.append(Segment(text, self._style("here") if here else self.rich_style))
        return segments

    def _right(self, *, words: bool) -> list[Segment]:
        alerts, waiting, dead, unknown, running = _totals(self.overview)
        parts = [
            (alerts, ATTENTION.glyph, "alert" if alerts == 1 else "alerts", "attention"),
            (waiting, WAITING.glyph, "waiting", "attention"),
            (dead, FAILED.glyph, "dead", "failed"),
            (unknown, FAILED.glyph, "unknown", "failed"),
            (running, RUNNING.glyph, "running", "live"),
        ]
        segments: list[Segment] = []
        for count, glyph, word, style in parts:
            if not count:
                continue
            if segments:
                segments.append(Segment("   " if words else "  ", self.rich_style))
            shown = f"{glyph} {count:,} {word}" if words else f"{glyph} {count:,}"
            segments.append(Segment(shown, self._style(style)))
        return segments

    def _style(self, name: str) -> Style:
        return self.rich_style + self.get_component_rich_style(f"header--{name}", partial=True)

    def on_click(self, event: events.Click) -> None:
        """Show the view whose tab was clicked."""
        x = 0
        tabs = iter(TABS)
        for segment in self._left(names=self.size.width >= 80):
            end = x + cell_len(segment.text)
            if segment.text[0].isdigit():
                tab = next(tabs)
                if x <= event.x < end:
                    self.post_message(self.Tab(tab.lower()))
            x = end


def _totals(overview: Overview | None) -> tuple[int, int, int, int, int]:
    """Return alerts, waiting, dead, unknown and running of all integrations."""
    if overview is None:
        return 0, 0, 0, 0, 0
    return overview.firing, overview.waiting, overview.dead, overview.unknown, overview.running


def _length(segments: list[Segment]) -> int:
    return sum(cell_len(segment.text) for segment in segments)
