"""Prefetch: pages, parents and windows are fetched concurrently and delivered in order."""

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
"""Bytes of prefetched pages in all buffers: as records, they take about ten times the memory."""
_RECORDS: Final = 100
"""Records per page of several short lists: each page is a transaction and an event in the run log."""
_REQUESTS: Final = 25
"""Requests per such a page, which limits the number repeated after a crash."""


class PageBuffer:
    """The prefetched pages of one list: a task reads it, and pauses while the buffer is full."""

    def __init__(self, pages: AsyncGenerator[Page], most: int) -> None:
        """Start to read `pages`, up to `most` bytes and at least one page ahead."""
        self.waiting = 0
        """Bytes in the buffer."""
        self._pages = pages
        self._most = most
        self._read: deque[Page] = deque()
        self._over = False
        self._page_added, self._page_taken = asyncio.Event(), asyncio.Event()
        self._task = asyncio.create_task(self._follow())

    async def wait_for_page(self) -> None:
        """Wait until there is a page, or until the list has ended."""
        while not self._read and not self._over:
            self._page_added.clear()
            await self._page_added.wait()

    async def next(self) -> Page | None:
        """Return the next page, None after the last. Raises the error of reading it."""
        await self.wait_for_page()
        if not self._read:
            await self._task
            return None
        page = self._read.popleft()
        self.waiting -= page.bytes_in
        self._page_taken.set()
        return page

    async def aclose(self) -> None:
        """Cancel the read."""
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
    """A page that collects the records of several requests."""

    from_start: bool
    whole: bool = False
    records: list[Record] = field(default_factory=list)
    bytes_in: int = 0
    requests: list[str] = field(default_factory=list)

    @property
    def full(self) -> bool:
        """Whether the page has enough records or requests."""
        return len(self.records) >= _RECORDS or len(self.requests) >= _REQUESTS

    def add(self, page: Page, records: list[Record]) -> None:
        """Add `records` of `page`."""
        self.records += records
        self.bytes_in += page.bytes_in
        self.requests.append(page.request)

    def take(self, cursor: Json, *, complete: bool = False) -> Page:
        """Return the collected records as a page, and start a new one."""
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
    """Responses in the order of their pages, whatever order they arrive in.

    Positions beyond the next page are predictions; each page decides what follows it, so prefetch never changes what is
    read. After a wrong prediction, only the next page is fetched.
    """

    def __init__(self, fetch: Fetch) -> None:
        self._fetch = fetch
        self._pending: deque[tuple[Position, asyncio.Task[Exchange]]] = deque()
        self._wasted: list[asyncio.Task[Exchange]] = []

    def expect(self, positions: Sequence[Position]) -> None:
        """Fetch the page at each of `positions`, starting with the next, unless that is in progress."""
        if any(pending != expected for (pending, _), expected in zip(self._pending, positions, strict=False)):
            self._wasted += [task for _, task in self._pending]
            self._pending.clear()
            for task in self._wasted:
                task.cancel()
        if self._wasted:
            positions = positions[:1]
        for position in positions[len(self._pending) :]:
            self._pending.append((position, asyncio.create_task(self._fetch(position))))

    async def next(self) -> Exchange:
        """Return the response for the next page. Raises the error of fetching it."""
        response = await self._pending[0][1]
        self._pending.popleft()
        return response

    async def aclose(self) -> None:
        """Cancel all pending requests."""
        tasks = [*self._wasted, *(task for _, task in self._pending)]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
