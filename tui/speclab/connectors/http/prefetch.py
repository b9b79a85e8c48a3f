"""Asking ahead: pages that are expected are asked for before their turn, and what they answer waits for it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from typing import TypeAlias

from speclab.connectors.http.client import Exchange
from speclab.connectors.http.pagination import Position

Fetch: TypeAlias = "Callable[[Position], Coroutine[None, None, Exchange]]"


class Prefetch:
    """Answers in the order of their pages, however they come in.

    What is expected beyond the next page is a guess, and it is the page before that decides: asking ahead never changes
    what is read. A source that does not page as expected is not asked in vain again.
    """

    def __init__(self, fetch: Fetch) -> None:
        self._fetch = fetch
        self._asked: deque[tuple[Position, asyncio.Task[Exchange]]] = deque()
        self._in_vain: list[asyncio.Task[Exchange]] = []

    def expect(self, positions: Sequence[Position]) -> None:
        """Ask for the page at each of `positions`, the next one first, where that is not done already."""
        if any(asked != expected for (asked, _), expected in zip(self._asked, positions, strict=False)):
            self._in_vain += [task for _, task in self._asked]
            self._asked.clear()
            for task in self._in_vain:
                task.cancel()
        if self._in_vain:
            positions = positions[:1]
        for position in positions[len(self._asked) :]:
            self._asked.append((position, asyncio.create_task(self._fetch(position))))

    async def next(self) -> Exchange:
        """The answer to the next page. Raises what asking for it raised."""
        answer = await self._asked[0][1]
        self._asked.popleft()
        return answer

    async def aclose(self) -> None:
        """Give up all that was asked and is not needed any more."""
        tasks = [*self._in_vain, *(task for _, task in self._asked)]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
