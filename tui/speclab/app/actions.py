"""The action registry: key bindings, footer, palette, help and docs are built from these declarations.

Declaring an action needs no Textual, so the reference pages are generated from them; `bindings` and `Actor` connect
actions to the widgets that run them.
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
    """An action of the app.

    The widget that lists it runs it in a method named after `id`: `action_run_now` for `run-now`.
    """

    id: str
    title: str
    """Two or three words for the footer and the palette."""
    description: str
    """One sentence for the help and the docs."""
    keys: tuple[str, ...] = ()
    """Textual's key names, the main one first; empty for actions of the palette only."""
    footer: bool = True
    """Whether the footer shows it."""
    palette: bool = True
    """Whether the palette lists it; cursor movements are not listed."""

    @property
    def method(self) -> str:
        """Name of the method that runs it."""
        return f"action_{self.id.replace('-', '_')}"


class Controller:
    """Runs some of an actor's actions, in methods named `action_...` like those of the actor."""

    def explain_disabled(self, action: str) -> str | None:  # noqa: ARG002 (the default: nothing is disabled)
        """Return why `action` (its id) is disabled; None if it is enabled or belongs to another controller."""
        return None


class Actor:
    """Mixin of widgets and screens that run actions: the first base class, with `ACTIONS` and `BINDINGS` set.

        class MonitorView(Actor, View):
            ACTIONS = MONITOR
            BINDINGS = bindings(MONITOR)

    Keys, the palette and clicks in the footer all call `action_act`.
    """

    ACTIONS: ClassVar[Sequence[Action]] = ()
    CONTROLLERS: ClassVar[Sequence[type[Controller]]] = ()
    """The types of its `controllers`."""
    controllers: Sequence[Controller] = ()
    """The controllers that run some of the actions; set in `__init__`."""

    def actions(self) -> Sequence[Action]:
        """Return the actions of this instance: the class's `ACTIONS`, unless their labels depend on its state."""
        return self.ACTIONS

    def explain_disabled(self, action: str) -> str | None:
        """Return why `action` (its id) is disabled, as a sentence for the user; None if it is enabled."""
        return next(
            (reason for each in self.controllers if (reason := each.explain_disabled(action)) is not None), None
        )

    async def action_act(self, action: str) -> None:
        """Run `action`, or show why it is disabled."""
        if (reason := self.explain_disabled(action)) is not None:
            offered = chain(self.actions(), self.ACTIONS)  # a key may be bound while its action is not offered
            self.refuse(next(a for a in offered if a.id == action), reason)
            return
        name = f"action_{action.replace('-', '_')}"
        owner = next(each for each in (self, *self.controllers) if hasattr(each, name))
        result = getattr(owner, name)()
        if inspect.isawaitable(result):
            await result

    def refuse(self, action: Action, reason: str) -> None:
        """Show why `action` was not run."""
        from speclab.app.widgets.panel import refuse

        refuse(cast("DOMNode", self).app, f"Not now: {action.title.removesuffix(' now')}", reason)


@dataclass(frozen=True, slots=True)
class Offer:
    """An available action, the actor that runs it, and why it is disabled, if it is."""

    action: Action
    actor: Actor
    reason: str | None


@dataclass(frozen=True, slots=True)
class Command:
    """A line of the palette: title, view, key, what it runs, and why it is disabled, if it is."""

    title: str
    where: str
    run: Callable[[], Awaitable[None]]
    detail: str = ""
    key: str = ""
    reason: str | None = None


def bindings(actions: Sequence[Action]) -> list[BindingType]:
    """Return the key bindings of `actions`, for an `Actor`'s `BINDINGS`."""
    from textual.binding import Binding

    return [
        Binding(",".join(action.keys), f"act('{action.id}')", action.title, show=action.footer)
        for action in actions
        if action.keys
    ]


def offers(node: DOMNode) -> Iterator[Offer]:
    """Yield the actions available at `node`, the nearest actor's first; its keys hide those of outer actors.

    Cursor movements hide no key: the enter key of a grid belongs to the view around it.
    """
    taken: set[str] = set()
    for ancestor in node.ancestors_with_self:
        if isinstance(ancestor, Actor):
            mine = [action for action in ancestor.actions() if not action.keys or not taken.issuperset(action.keys)]
            for action in mine:
                yield Offer(action, ancestor, ancestor.explain_disabled(action.id))
            taken.update(chain.from_iterable(action.keys for action in mine if action.palette))
        if ancestor.is_modal:
            return


def working_keys(offer: Offer, focused: DOMNode) -> tuple[str, ...]:
    """Return the keys that run `offer` while `focused` has the focus.

    A text editor consumes printable keys and the keys it binds itself, such as ctrl+c.
    """
    return tuple(key for key in offer.action.keys if not _is_taken(key, offer.actor, focused))


def _is_taken(key: str, actor: Actor, focused: DOMNode) -> bool:
    from textual.keys import key_to_character
    from textual.widget import Widget

    from speclab.app.terminal import get_bound_keys

    if isinstance(focused, Widget) and focused.check_consume_key(key, key_to_character(key)):
        return True
    if cast("DOMNode", actor) is focused or not isinstance(focused, Widget) or focused.is_modal:
        return False
    own = {name for action in focused.ACTIONS for name in action.keys} if isinstance(focused, Actor) else set()
    return key in get_bound_keys(focused) and key not in own


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
    """Return the label of `key`: `ctrl+p`, `F2`, `?`."""
    if len(key) > 1 and key[0] == "f" and key[1:].isdigit():
        return key.upper()
    return _NAMES.get(key, key)
