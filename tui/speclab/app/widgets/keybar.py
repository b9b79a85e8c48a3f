"""The last line of the screen: what can be done here and with which key, the nearest first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from rich.cells import cell_len
from rich.segment import Segment
from textual import events
from textual.app import App
from textual.strip import Strip
from textual.widget import Widget

from speclab.app.actions import Offer, key_name, offers

_APART = 3


@dataclass(frozen=True, slots=True)
class _Key:
    offer: Offer
    x: int
    width: int


class KeyBar(Widget):
    """Keys and their words, as many as fit; dim where the action cannot be done now. A click does what the key does.

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
        self._offers: tuple[Offer, ...] = ()

    def on_mount(self) -> None:
        """Listen for changes of focus and of what can be done."""
        self.screen.bindings_updated_signal.subscribe(self, lambda _screen: self._update())

    def _update(self) -> None:
        focused = self.screen.focused or self.screen
        found = tuple(offer for offer in offers(focused) if offer.action.footer and offer.action.keys)
        if found != self._offers:
            self._offers = found
            self.refresh()

    def _keys(self) -> list[_Key]:
        """The keys that fit; the app's own stand on the right."""
        width = self.size.width
        own = [offer for offer in self._offers if isinstance(offer.actor, App)]
        near = [offer for offer in self._offers if not isinstance(offer.actor, App)]
        x = 1
        right = sum(_width(offer) + _APART for offer in own) - _APART + 1
        keys = []
        for offer in near:
            size = _width(offer)
            if x + size + _APART + right > width:
                break
            keys.append(_Key(offer, x, size))
            x += size + _APART
        x = max(x, width - right)
        for offer in own:
            keys.append(_Key(offer, x, _width(offer)))
            x += _width(offer) + _APART
        return keys

    def render_line(self, y: int) -> Strip:  # noqa: ARG002 (there is only one)
        """The whole bar."""
        plain = self.rich_style
        key = plain + self.get_component_rich_style("keybar--key", partial=True)
        cannot = plain + self.get_component_rich_style("keybar--cannot", partial=True)
        segments: list[Segment] = []
        at = 0
        for item in self._keys():
            action = item.offer.action
            off = item.offer.reason is not None
            segments.append(Segment(" " * (item.x - at), plain))
            segments.append(Segment(key_name(action.keys[0]), cannot if off else key))
            segments.append(Segment(f" {action.title}", cannot if off else plain))
            at = item.x + item.width
        return Strip(segments).adjust_cell_length(self.size.width, plain)

    async def on_click(self, event: events.Click) -> None:
        """Do what the key under the mouse does."""
        for item in self._keys():
            if item.x <= event.x < item.x + item.width:
                await item.offer.actor.action_act(item.offer.action.id)


def _width(offer: Offer) -> int:
    return cell_len(key_name(offer.action.keys[0])) + 1 + cell_len(offer.action.title)
