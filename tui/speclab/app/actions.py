"""What can be done in the app, each action told once: keys, footer, palette, help and docs are read from here.

Declarations need no Textual, so that the reference pages can be made from them; `bindings` and `Actor` tie them to the
widgets that do them.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, ClassVar, Final, cast

if TYPE_CHECKING:
    from textual.binding import BindingType
    from textual.dom import DOMNode


@dataclass(frozen=True, slots=True)
class Action:
    """One thing a person can do.

    The owner of the scope does it in a method named after `id`: `run-now` is `action_run_now`.
    """

    id: str
    title: str
    """Two or three words for the footer and the palette."""
    description: str
    """One sentence for the help and the docs."""
    keys: tuple[str, ...] = ()
    """Textual's names of the keys, the plainest first; none: by the palette only."""
    footer: bool = True
    """Worth a place in the footer."""
    palette: bool = True
    """Worth a line in the palette; moving a cursor is not."""

    @property
    def method(self) -> str:
        """The name of the owner's method."""
        return f"action_{self.id.replace('-', '_')}"


class Actor:
    """A widget or screen that does actions: list it before the Textual base, and give it `ACTIONS` and `BINDINGS`.

        class MonitorView(Actor, View):
            ACTIONS = MONITOR
            BINDINGS = bindings(MONITOR)

    A key, the palette and a click in the footer all come through `action_act`.
    """

    ACTIONS: ClassVar[Sequence[Action]] = ()

    def actions(self) -> Sequence[Action]:
        """What this one does; the class's `ACTIONS`, unless their words depend on the instance."""
        return self.ACTIONS

    def why_not(self, action: str) -> str | None:  # noqa: ARG002 (the default: everything can be done)
        """Why `action` (its id) cannot be done now, in a sentence for a person; None if it can."""
        return None

    async def action_act(self, action: str) -> None:
        """Do `action`, or say why not."""
        if (reason := self.why_not(action)) is not None:
            offered = chain(self.actions(), self.ACTIONS)  # a key may be bound also while its action is not offered
            self.refuse(next(a for a in offered if a.id == action), reason)
            return
        result = getattr(self, f"action_{action.replace('-', '_')}")()
        if inspect.isawaitable(result):
            await result

    def refuse(self, action: Action, reason: str) -> None:
        """Tell the reason why `action` was not done."""
        from speclab.app.widgets.toast import refuse

        refuse(cast("DOMNode", self).app, f"Not now: {action.title.removesuffix(' now')}", reason)


@dataclass(frozen=True, slots=True)
class Offer:
    """An action within reach: who would do it, and why it cannot be done now, if it cannot."""

    action: Action
    actor: Actor
    reason: str | None


@dataclass(frozen=True, slots=True)
class Command:
    """A line of the palette: what it does, where, with which key, and why it cannot be done now, if it cannot."""

    title: str
    where: str
    run: Callable[[], Awaitable[None]]
    detail: str = ""
    key: str = ""
    reason: str | None = None


def bindings(actions: Sequence[Action]) -> list[BindingType]:
    """The key bindings of `actions`, for an `Actor`'s `BINDINGS`."""
    from textual.binding import Binding

    return [
        Binding(",".join(action.keys), f"act('{action.id}')", action.title, show=action.footer)
        for action in actions
        if action.keys
    ]


def offers(node: DOMNode) -> Iterator[Offer]:
    """What can be done from `node`, the nearest actor's actions first; a key taken nearer is not offered again.

    Moving a cursor takes no key from what stands around it: enter in a grid is what its place makes of it.
    """
    taken: set[str] = set()
    for ancestor in node.ancestors_with_self:
        if isinstance(ancestor, Actor):
            mine = [action for action in ancestor.actions() if not action.keys or not taken.issuperset(action.keys)]
            for action in mine:
                yield Offer(action, ancestor, ancestor.why_not(action.id))
            taken.update(chain.from_iterable(action.keys for action in mine if action.palette))
        if ancestor.is_modal:
            return


def working_keys(offer: Offer, focused: DOMNode) -> tuple[str, ...]:
    """Return the keys of `offer` that do it while `focused` has the focus.

    A text editor takes the keys that write, and those it binds itself, such as ctrl+c.
    """
    return tuple(key for key in offer.action.keys if not _is_taken(key, offer.actor, focused))


def _is_taken(key: str, actor: Actor, focused: DOMNode) -> bool:
    from textual.keys import key_to_character
    from textual.widget import Widget

    if isinstance(focused, Widget) and focused.check_consume_key(key, key_to_character(key)):
        return True
    if cast("DOMNode", actor) is focused or not isinstance(focused, Widget) or focused.is_modal:
        return False
    own = {name for action in focused.ACTIONS for name in action.keys} if isinstance(focused, Actor) else set()
    return key in focused._bindings.key_to_bindings and key not in own  # noqa: SLF001 (Textual has no public way)


_NAMES: Final = {
    "question_mark": "?",
    "slash": "/",
    "space": "space",
    "escape": "esc",
    "pagedown": "pgdn",
    "pageup": "pgup",
    "backspace": "bksp",
    "delete": "del",
    "up": "↑",
    "down": "↓",
    "left": "←",
    "right": "→",
    "plus": "+",
    "minus": "-",
    "left_square_bracket": "[",
    "right_square_bracket": "]",
}


def key_name(key: str) -> str:
    """`key` as a person reads it: `ctrl+p`, `F2`, `?`."""
    if len(key) > 1 and key[0] == "f" and key[1:].isdigit():
        return key.upper()
    return _NAMES.get(key, key)
