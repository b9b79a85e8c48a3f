"""Requests ahead of their turn: pages, parents and windows fetched concurrently, delivered in order."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from speclab.connectors.api import Page
from speclab.connectors.http.client import Exchange
from speclab.connectors.http.pagination import Position
from speclab.core.json import Json, Record

MOST_WAITING: Final = 4_000_000
"""Bytes of answers that may wait for their turn in all lanes: as records they take some ten times the memory."""
_RECORDS: Final = 100
"""Records at which a page of several short lists is full: each page is a transaction, and a line in the run log."""
_REQUESTS: Final = 25
"""Requests at which it is, so that not too much is asked again after a crash."""


class PageBuffer:
    """One list on its way: a task reads it, and stops for as long as too much of it waits for its turn."""

    def __init__(self, pages: AsyncGenerator[Page], most: int) -> None:
        """Begin to read `pages`; with `most` bytes of them waiting, no more are read. One page always may wait."""
        self.waiting = 0
        """Bytes that wait for their turn."""
        self._pages = pages
        self._most = most
        self._read: deque[Page] = deque()
        self._over = False
        self._page_added, self._page_taken = asyncio.Event(), asyncio.Event()
        self._task = asyncio.create_task(self._follow())

    async def wait_for_page(self) -> None:
        """Wait until the first page is here, or it is known that none comes."""
        while not self._read and not self._over:
            self._page_added.clear()
            await self._page_added.wait()

    async def next(self) -> Page | None:
        """The next page; None after the last. Raises what reading it raised."""
        await self.wait_for_page()
        if not self._read:
            await self._task
            return None
        page = self._read.popleft()
        self.waiting -= page.bytes_in
        self._page_taken.set()
        return page

    async def aclose(self) -> None:
        """Give up what is not needed any more."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        await self._pages.aclose()

    async def _follow(self) -> None:
        try:
            async for page in self._pages:
                self._read.append(page)
                self.waiting += page.bytes_in
                self._page_added.set()
                while self._read and self.waiting >= self._most:
                    self._page_taken.clear()
                    await self._page_taken.wait()
        finally:
            self._over = True
            self._page_added.set()


@dataclass(slots=True)
class GatheredPage:
    """What was read since the last page that was given."""

    from_start: bool
    whole: bool = False
    records: list[Record] = field(default_factory=list)
    bytes_in: int = 0
    requests: list[str] = field(default_factory=list)

    @property
    def full(self) -> bool:
        """Whether it is enough for a page."""
        return len(self.records) >= _RECORDS or len(self.requests) >= _REQUESTS

    def add(self, page: Page, records: list[Record]) -> None:
        """Add a page, whose records are `records` now."""
        self.records += records
        self.bytes_in += page.bytes_in
        self.requests.append(page.request)

    def take(self, cursor: Json, *, complete: bool = False) -> Page:
        """All of it as a page, and nothing is left."""
        first, more = self.requests[0] if self.requests else "", len(self.requests) - 1
        request = f"{first} and {more} more" if more > 0 else first
        page = Page(
            self.records,
            cursor,
            self.bytes_in,
            request,
            complete=complete,
            from_start=self.from_start,
            whole=self.whole,
        )
        self.records, self.bytes_in, self.requests = [], 0, []
        return page


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
