"""Header and footer: the visible view, totals, and the available keys."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.app import App
from textual.message import Message
from textual.reactive import reactive
from textual.screen import Screen
from textual.strip import Strip
from textual.widget import Widget

from speclab.app.actions import Offer, key_name, offers, working_keys
from speclab.app.formatting import ATTENTION, CRUMB, FAILED, RUNNING, WAITING
from speclab.app.widgets.cells import fit

if TYPE_CHECKING:
    from speclab.monitor.health import Overview

TABS: Final = ("Specs", "Mapping", "Monitor")
_HEADER_GAP: Final = 4
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
        if _length(left) + cell_len(crumbs) + _length(right) + _HEADER_GAP > width:
            right = self._right(words=False)
        room = width - _length(left) - _length(right) - _HEADER_GAP
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


_KEY_GAP = 3


@dataclass(frozen=True, slots=True)
class _Offered:
    """An action and its key: the first that the focused widget does not consume as text."""

    offer: Offer
    key: str

    @property
    def width(self) -> int:
        return cell_len(self.key) + 1 + cell_len(self.offer.action.title)


@dataclass(frozen=True, slots=True)
class _Key:
    offered: _Offered
    x: int


class KeyBar(Widget):
    """Keys and action titles, as many as fit; disabled actions are dim. A click runs the action.

    Unlike Textual's Footer, which rebuilds its widgets whenever the focus moves, it is one line that is redrawn only if
    its text changed.
    """

    COMPONENT_CLASSES: ClassVar[set[str]] = {"keybar--key", "keybar--cannot"}
    DEFAULT_CSS = """
    KeyBar {
        dock: bottom;
        height: 1;
        background: $background;
        color: $muted;
        & > .keybar--key { color: $accent; }
        & > .keybar--cannot { color: $rule; }
        &:ansi { text-style: dim; }
        &:ansi > .keybar--key { text-style: not dim; }
        &:ansi > .keybar--cannot { text-style: dim; }
    }
    """

    def __init__(self) -> None:
        super().__init__()
        self._offered: tuple[_Offered, ...] = ()

    def on_mount(self) -> None:
        """Subscribe to changes of focus and bindings."""
        self.screen.bindings_updated_signal.subscribe(self, lambda _screen: self._update())

    def _update(self) -> None:
        focused = self.screen.focused or self.screen
        found = tuple(
            _Offered(offer, key_name(key))
            for offer in offers(focused)
            if offer.action.footer and (key := next(iter(working_keys(offer, focused)), None)) is not None
        )
        if found != self._offered:
            self._offered = found
            self.refresh()

    def _keys(self) -> list[_Key]:
        """Return the keys that fit: those of the screen, of the focused widget, and on the right those of the app."""
        width = self.size.width
        own = [offered for offered in self._offered if isinstance(offered.offer.actor, App)]
        near = [offered for offered in self._offered if not isinstance(offered.offer.actor, App)]
        near.sort(key=lambda offered: not isinstance(offered.offer.actor, Screen))
        x = 1
        right = sum(offered.width + _KEY_GAP for offered in own) - _KEY_GAP + 1
        keys = []
        for offered in near:
            if x + offered.width + _KEY_GAP + right > width:
                break
            keys.append(_Key(offered, x))
            x += offered.width + _KEY_GAP
        x = max(x, width - right)
        for offered in own:
            keys.append(_Key(offered, x))
            x += offered.width + _KEY_GAP
        return keys

    def render_line(self, y: int) -> Strip:  # noqa: ARG002 (there is only one)
        """Render the bar."""
        plain = self.rich_style
        key = plain + self.get_component_rich_style("keybar--key", partial=True)
        cannot = plain + self.get_component_rich_style("keybar--cannot", partial=True)
        segments: list[Segment] = []
        at = 0
        for item in self._keys():
            offer = item.offered.offer
            off = offer.reason is not None
            segments.append(Segment(" " * (item.x - at), plain))
            segments.append(Segment(item.offered.key, cannot if off else key))
            segments.append(Segment(f" {offer.action.title}", cannot if off else plain))
            at = item.x + item.offered.width
        return Strip(segments).adjust_cell_length(self.size.width, plain)

    async def on_click(self, event: events.Click) -> None:
        """Run the action under the mouse."""
        for item in self._keys():
            if item.x <= event.x < item.x + item.offered.width:
                await item.offered.offer.actor.action_act(item.offered.offer.action.id)
