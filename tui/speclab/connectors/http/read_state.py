"""The state of a read with its cursor, and the pages read ahead of it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final, TypeAlias

from speclab.connectors.api import Page
from speclab.connectors.http.client import Exchange
from speclab.connectors.http.pagination import Position
from speclab.connectors.http.response_check import Doubt, SeenKeys
from speclab.connectors.incremental import Bookmark, Watermark, build_time_ceiling
from speclab.core.clock import format_timestamp
from speclab.core.json import Json, Record, encode_canonical
from speclab.core.paths import FieldPath
from speclab.spec.settings import Since

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


@dataclass(slots=True)
class ReadState:
    """The state of one read.

    `fingerprint` identifies the settings, because a position is only valid for the same ones. `before` is the bookmark
    from which the read starts, None for a full read. `shrunk` is True once the source's total has decreased. `doubt` is
    the first reason why records may be missing. `longest` is the number of records of the longest page, `last` that of
    the previous page, `empty` the number of empty pages in a row.
    """

    fingerprint: str
    since: Since | None
    position: Position
    before: Bookmark | None
    full: bool
    resumed: bool = False
    count: int = 0
    total: int | None = None
    shrunk: bool = False
    started: datetime | None = None
    watermark: Watermark | None = None
    previous: list[Record] | None = None
    empty: int = 0
    last: int = 0
    longest: int = 0
    doubt: Doubt | None = None
    keys: SeenKeys | None = None
    visited: set[bytes] = field(default_factory=set)

    @classmethod
    def begin(cls, cursor: Json, *, full: bool, fingerprint: str, since: Since | None, first: Position) -> ReadState:
        """Resume the read that `cursor` describes if it was interrupted with the same settings, or start a new one."""
        stored = cursor if isinstance(cursor, dict) else {}
        before = (
            Bookmark.load(stored.get("since")) if since is not None and stored.get("field") == since.field else None
        )
        position, was_full = stored.get("page"), stored.get("full") is True
        if not isinstance(position, dict) or stored.get("of") != fingerprint or (full and not was_full):
            return cls(fingerprint, since, first, None if full else before, full)
        read = cls(fingerprint, since, position, before, was_full, resumed=True)
        count, total, started = stored.get("read"), stored.get("total"), stored.get("started")
        read.count = count if isinstance(count, int) else 0
        read.total = total if isinstance(total, int) else None
        read.shrunk = stored.get("shrunk") is True
        doubt = stored.get("doubt")
        read.doubt = Doubt(doubt) if isinstance(doubt, str) else None
        read.empty = 1 if stored.get("after_empty") is True else 0
        if isinstance(started, str):
            read.watch(datetime.fromisoformat(started), Bookmark.load(stored.get("reached")))
        return read

    @property
    def whole(self) -> bool:
        """Whether the read covers all records of the source."""
        return self.since is None or self.full or (self.before is None and self.since.start is None)

    def watch(self, started: datetime, reached: Bookmark | None = None) -> None:
        """Track the `since` field in a read that began at `started`, by the source's clock."""
        if self.since is not None:
            self.started = started.astimezone(UTC)
            self.watermark = Watermark(
                FieldPath.parse(self.since.field), build_time_ceiling(self.started), before=self.before, reached=reached
            )

    def restart(self, first: Position) -> None:
        """Restart at the `first` page; if the source is sorted, from the value that was reached."""
        if self.watermark is not None and self.since is not None and self.since.sorted and not self.full:
            self.before = self.watermark.get_reached()
        self.position = first
        self.resumed = False
        self.count = 0
        self.total = None
        self.shrunk = False
        self.doubt = None
        self.empty = 0
        self.started = self.watermark = None

    def add_page(self, records: int, total: int | None) -> None:
        """Count the records of a page, which reports `total` records at the source."""
        self.count += records
        self.shrunk = self.shrunk or (total is not None and self.total is not None and total < self.total)
        self.total = total

    def visit(self, position: Position) -> bool:
        """Store `position`, and return False if it was requested before."""
        place = encode_canonical(position)
        if place in self.visited:
            return False
        self.visited.add(place)
        return True

    def build_cursor(self, following: Position | None) -> Json:
        """Return the cursor after the current page: within the read, or at its end if `following` is None."""
        since = self.since
        if following is None:
            return self._build_final_cursor(self.watermark.get_reached() if self.watermark else None)
        stored: dict[str, Json] = {"page": following, "of": self.fingerprint, "full": self.full, "read": self.count}
        if self.total is not None:
            stored |= {"total": self.total, "shrunk": self.shrunk}
        if self.doubt is not None:
            stored["doubt"] = self.doubt.message
        if self.empty:
            stored["after_empty"] = True
        if since is not None and self.watermark is not None and self.started is not None:
            reached = self.watermark.get_reached()
            stored |= {
                "since": self.before.dump() if self.before else None,
                "field": since.field,
                "started": format_timestamp(self.started),
                "reached": reached.dump() if reached else None,
            }
        return stored

    def build_restart_cursor(self) -> Json:
        """Return the cursor that repeats this read from its first page."""
        return self._build_final_cursor(self.before)

    def _build_final_cursor(self, mark: Bookmark | None) -> Json:
        return build_bookmark_cursor(mark.dump() if mark else None, self.since)


def build_bookmark_cursor(mark: Json, since: Since | None, **more: Json) -> Json:
    """Return the cursor of a read that starts from the bookmark `mark`, with `more` fields."""
    return {"page": None, "since": mark, "field": since.field if since else None, **more}


def read_bookmark(cursor: Json) -> Json:
    """Return the bookmark in the cursor of a finished read."""
    return cursor["since"] if isinstance(cursor, dict) else None
