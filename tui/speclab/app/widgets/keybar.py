"""The footer: available actions and their keys, those of the focused widget first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from rich.cells import cell_len
from rich.segment import Segment
from textual import events
from textual.app import App
from textual.screen import Screen
from textual.strip import Strip
from textual.widget import Widget

from speclab.app.actions import Offer, key_name, offers, working_keys

_APART = 3


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

    Unlike Textual's Footer, which makes its widgets anew whenever focus moves, it is one line that is drawn again
    only if its words changed.
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
        right = sum(offered.width + _APART for offered in own) - _APART + 1
        keys = []
        for offered in near:
            if x + offered.width + _APART + right > width:
                break
            keys.append(_Key(offered, x))
            x += offered.width + _APART
        x = max(x, width - right)
        for offered in own:
            keys.append(_Key(offered, x))
            x += offered.width + _APART
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
