"""Keys in the order they were pressed, each dealt with to its end before the next.

Textual gives letters to the widget that has focus, while every other key travels from there up to the app, queue by
queue. What comes all at once (over a slow line, from a macro, while the machine is busy) gets out of order on the way:
a backspace takes a letter that was typed after it (https://github.com/Textualize/textual/issues/6605), and what is
written ahead of an editor that opens is taken for commands.
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress
from typing import Final, TypeVar
from unicodedata import category

from textual import events, work
from textual.app import App
from textual.message_pump import MessagePump

Return = TypeVar("Return")

_PATIENCE: Final = 2.0
"""Seconds after which a key is not waited for any longer, whatever it does."""

_MOST_KEYS: Final = 4096
"""Keys that become one paste at most."""

_LOOKS: Final = 20
"""Times that the app's messages are let pass to find the next key among them."""


class OrderlyApp(App[Return]):
    """A Textual app in which no key overtakes another.

    Text for the widget that has focus is given to it at once. After any other key, what is typed waits until that key
    has gone all its way, and the focus is where it leads.
    """

    def __init__(self, *, ansi_color: bool | None = None) -> None:
        super().__init__(ansi_color=ansi_color)
        self._typed = asyncio.Queue[events.Key | events.Paste]()
        self._ahead = deque[events.Key | events.Paste]()  # taken from `_typed`, to be dealt with next

    def on_mount(self) -> None:
        """Begin to take what is typed."""
        self._take_turns()

    async def on_event(self, event: events.Event) -> None:
        """Deal with an event: what is typed in its turn, anything else at once."""
        if isinstance(event, events.Key | events.Paste) and not event.is_forwarded:
            self._typed.put_nowait(event)
        else:
            await super().on_event(event)

    @work(group="keyboard")
    async def _take_turns(self) -> None:
        while True:
            event = self._ahead.popleft() if self._ahead else await self._typed.get()
            if (text := _text_of(event)) and self._takes_text():
                event = await self._with_what_follows(event, text)
            is_text = isinstance(event, events.Paste) or (
                self.focused is not None and self.focused.check_consume_key(event.key, event.character)
            )
            await super().on_event(event)
            if not is_text:
                with suppress(TimeoutError):
                    async with asyncio.timeout(_PATIENCE):
                        await self._arrived()

    def _takes_text(self) -> bool:
        """Return whether what has the focus is a line or a text that is being edited."""
        from textual.widgets import Input, TextArea

        focused = self.focused
        return isinstance(focused, Input) or (isinstance(focused, TextArea) and not focused.read_only)

    async def _with_what_follows(self, event: events.Key | events.Paste, text: str) -> events.Key | events.Paste:
        """Return `event`, or one paste of its `text` and that of the keys which have come already.

        A terminal without bracketed paste sends what is pasted key by key, and each edit costs milliseconds. Joiners
        and their like, which Textual takes for no text, become a paste also alone: Persian is not written without.
        """
        texts = [text]
        while len(texts) < _MOST_KEYS and (following := await self._next_that_has_come()) is not None:
            if not (more := _text_of(following)):
                self._ahead.append(following)
                break
            texts.append(more)
        return events.Paste("".join(texts)) if len(texts) > 1 or category(text) == "Cf" else event

    async def _next_that_has_come(self) -> events.Key | events.Paste | None:
        """Return the next key that is there, or among the app's messages; None if there is none."""
        for _ in range(_LOOKS):
            if not self._typed.empty():
                return self._typed.get_nowait()
            if not self.message_queue_size:
                return None
            await asyncio.sleep(0)  # the app passes one of its messages on
        return None

    async def _arrived(self) -> None:
        """Wait until the key, and what it began, has gone from what has focus up to the app."""
        before = None
        while before is not (now := self.focused or self.screen):
            before = now
            for _ in ("the key", "what it sent on its way"):
                for node in now.ancestors_with_self:
                    await _is_through(node)


def _text_of(event: events.Key | events.Paste) -> str:
    """Return the character that a key writes; empty for any other key, and for a paste."""
    if isinstance(event, events.Key) and (character := event.character):
        return character if character.isprintable() or category(character) == "Cf" else ""
    return ""


async def _is_through(pump: MessagePump) -> None:
    """Wait until `pump` has dealt with all that it has been given so far."""
    through = asyncio.Event()
    if pump.call_later(through.set):
        await through.wait()
