"""Keys in the order they were pressed, each dealt with to its end before the next.

Textual gives letters to the widget that has focus, while every other key travels from there up to the app, queue by
queue. What comes all at once (over a slow line, from a macro, while the machine is busy) gets out of order on the way:
a backspace takes a letter that was typed after it (https://github.com/Textualize/textual/issues/6605), and what is
written ahead of an editor that opens is taken for commands.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Final, TypeVar
from unicodedata import category

from textual import events, work
from textual.app import App
from textual.message_pump import MessagePump

Return = TypeVar("Return")

_PATIENCE: Final = 2.0
"""Seconds after which a key is not waited for any longer, whatever it does."""


class OrderlyApp(App[Return]):
    """A Textual app in which no key overtakes another.

    Text for the widget that has focus is given to it at once. After any other key, what is typed waits until that key
    has gone all its way, and the focus is where it leads.
    """

    def __init__(self, *, ansi_color: bool | None = None) -> None:
        super().__init__(ansi_color=ansi_color)
        self._typed = asyncio.Queue[events.Key | events.Paste]()

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
            event = await self._typed.get()
            if isinstance(event, events.Key) and event.character and category(event.character) == "Cf":
                # Joiners and their like, which Textual takes for no text: Persian is not written without.
                event = events.Paste(event.character)
            is_text = isinstance(event, events.Paste) or (
                self.focused is not None and self.focused.check_consume_key(event.key, event.character)
            )
            await super().on_event(event)
            if not is_text:
                with suppress(TimeoutError):
                    async with asyncio.timeout(_PATIENCE):
                        await self._arrived()

    async def _arrived(self) -> None:
        """Wait until the key, and what it began, has gone from what has focus up to the app."""
        before = None
        while before is not (now := self.focused or self.screen):
            before = now
            for _ in ("the key", "what it sent on its way"):
                for node in now.ancestors_with_self:
                    await _is_through(node)


async def _is_through(pump: MessagePump) -> None:
    """Wait until `pump` has dealt with all that it has been given so far."""
    through = asyncio.Event()
    if pump.call_later(through.set):
        await through.wait()
