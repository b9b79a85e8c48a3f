"""Reads a list in time windows, several at once: years of changes on a first run, or after a pause.

A window is requested only once it lies in the past by a margin, by the source's clock and by the local one. A record
that changes during the read therefore gets a time in a later window; the last window has no end and is requested after
all others. A record may be read twice, in the order of its changes, but is never missed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Final

from speclab.connectors.api import Page
from speclab.connectors.http.client import Client
from speclab.connectors.http.page_reader import PageReader, ShiftedPages
from speclab.connectors.http.read_state import MOST_WAITING, GatheredPage, PageBuffer, build_bookmark_cursor
from speclab.connectors.http.request_builder import RequestBuilder, format_scalar
from speclab.connectors.http.settings import HttpSince
from speclab.connectors.incremental import (
    Bookmark,
    IncomparableValues,
    Scalar,
    add_seconds,
    build_sort_key,
    compute_digest,
    get_precision,
    has_zone,
    is_after,
    parse_instant,
    read_value,
    subtract_seconds,
)
from speclab.core.errors import BadResponse, EndpointError, SpecError
from speclab.core.json import Json, Record
from speclab.core.outcome import Level
from speclab.core.paths import FieldPath

_MOST_TIES: Final = 1000
"""Digests kept at the border of two windows; with more records, they are read twice and found unchanged."""
_PASSES: Final = 5
"""Attempts to read a window whose numbered pages shift."""
_DAY: Final = 86_400.0
_LATE: Final = _DAY
"""Seconds after the end of its window from which a record cannot be explained by notation or time zone."""
_NEEDED_BY: Final = "window"


@dataclass(slots=True)
class TimeWindow:
    """A time window and how far it has been read, as plain values for a checkpoint.

    `end` is None until it is requested. `within` is the cursor in its list. `ties` are digests of records at its start
    or without a time, which the previous window delivered; `carried` are those for the next one.
    """

    start: Scalar
    end: Scalar | None = None
    within: Json = None
    ties: set[str] = field(default_factory=set)
    carried: dict[str, None] = field(default_factory=dict)

    @classmethod
    def load(cls, value: Json) -> TimeWindow | None:
        """Return the window that a checkpoint stores as `value`, or None."""
        match value:
            case {
                "start": str() | int() | float() as start,
                "end": (str() | int() | float() | None) as end,
                "within": within,
                "ties": [*ties],
                "carried": [*carried],
            }:
                return cls(start, end, within, set(map(str, ties)), dict.fromkeys(map(str, carried)))
        return None

    def dump(self) -> Json:
        """Return the window as a checkpoint stores it."""
        ties: list[Json] = sorted(self.ties)  # type: ignore[assignment]  # texts are JSON
        carried: list[Json] = list(self.carried)
        return {"start": self.start, "end": self.end, "within": self.within, "ties": ties, "carried": carried}

    def get_next(self) -> TimeWindow:
        """Return the window after this one, which has been read to its end."""
        assert self.end is not None  # noqa: S101 - set when it was requested
        return TimeWindow(self.end, ties=set(self.carried) if len(self.carried) <= _MOST_TIES else set())


@dataclass(slots=True)
class WindowProgress:
    """The progress of a read in windows, which started at `bookmark`; `is_new` is False if it was resumed."""

    fingerprint: str
    since: HttpSince
    bookmark: Bookmark | None
    window: TimeWindow
    is_new: bool
    has_advanced: bool = False  # past the first window
    has_late_records: bool = False

    @property
    def fresh(self) -> bool:
        """Whether the read started at the beginning of the source."""
        return self.is_new and self.bookmark is None

    def build_cursor(self) -> Json:
        """Return the cursor within the windows."""
        bookmark = self.bookmark.dump() if self.bookmark else None
        return build_bookmark_cursor(bookmark, self.since, of=self.fingerprint, window=self.window.dump())

    def build_rest_cursor(self, cursor: Json) -> Json:
        """Return the cursor for the rest of the list, which is `cursor` if no window was read.

        Its bookmark is later by the lookback, which the next read subtracts.
        """
        if self.is_new and not self.has_advanced:
            return cursor
        reached = self.window.start
        if self.since.lookback:
            reached = add_seconds(reached, self.since.lookback, needed_by="lookback")
        return build_bookmark_cursor(Bookmark(reached, tuple(sorted(self.window.ties))).dump(), self.since)


class WindowReader:
    """Reads one list: its past in windows, and the rest without an end."""

    def __init__(
        self,
        whole: PageReader,
        closed: PageReader,
        requests: RequestBuilder,
        client: Client,
        *,
        since: HttpSince,
        concurrency: int,
        fingerprint: str,
    ) -> None:
        """Read the list by `since` with `whole`, and windows with `closed`, up to `concurrency` at once.

        Raises `SpecError` if `since` cannot be split into windows.
        """
        self._whole = whole
        self._closed = closed
        self._requests = requests
        self._client = client
        self._since = since
        self._param, self._until, self._length = since.param or "", since.until or "", since.window or 0.0
        self._start = _parse_start(since.start or "")
        self._field = FieldPath.parse(since.field)
        self._concurrency = concurrency
        self._fingerprint = fingerprint

    async def pages(self, cursor: Json, *, full: bool) -> AsyncGenerator[Page]:
        """Yield the pages after `cursor`, in the order of their windows.

        A full read is not split: windows would miss records without a time, or older than `start`.
        """
        progress = None if full else self._start_progress(cursor)
        if progress is not None:
            async with aclosing(self._read_windows(progress)) as cut:
                async for page in cut:
                    yield page
            cursor = progress.build_rest_cursor(cursor)
        async with aclosing(self._whole.pages(self._requests, cursor, full=full)) as pages:
            async for page in pages:
                yield page if progress is None else replace(page, from_start=progress.fresh)

    def _start_progress(self, cursor: Json) -> WindowProgress | None:
        """Return the progress of a new or resumed read, or None if it was interrupted after the last window."""
        stored = cursor if isinstance(cursor, dict) else {}
        if isinstance(stored.get("page"), dict):
            return None
        bookmark = Bookmark.load(stored.get("since")) if stored.get("field") == self._since.field else None
        resumed = TimeWindow.load(stored.get("window"))
        if resumed is not None and stored.get("of") != self._fingerprint:
            self._client.report(
                Level.WARNING, "the `read` settings have changed since the last run; reading from the start"
            )
            resumed = None
        try:
            first = (
                TimeWindow(subtract_seconds(bookmark.value, self._since.lookback), ties=set(bookmark.ties))
                if bookmark
                else None
            )
        except IncomparableValues as error:
            raise SpecError(f"read.since: {error}") from None
        return WindowProgress(
            self._fingerprint, self._since, bookmark, resumed or first or TimeWindow(self._start), resumed is None
        )

    async def _read_windows(self, progress: WindowProgress) -> AsyncGenerator[Page]:
        """Yield the pages of all windows with an end; short windows share a page."""
        gathered = GatheredPage(from_start=progress.fresh)
        failure: EndpointError | None = None
        try:
            async with aclosing(self._read_in_order(progress)) as read:
                async for page, fresh in read:
                    gathered.add(page, fresh)
                    if gathered.full:
                        yield gathered.take(progress.build_cursor())
        except EndpointError as error:
            failure = error
        if gathered.requests:
            yield gathered.take(progress.build_cursor())
        if failure is not None:
            raise failure

    async def _read_in_order(self, progress: WindowProgress) -> AsyncGenerator[tuple[Page, list[Record]]]:
        """Yield the pages of all windows in order, each with its new records, and update `progress`."""
        buffers: deque[tuple[Scalar, PageBuffer]] = deque()
        passes = 1
        try:
            await self._open_first_window(buffers, progress.window)
            while True:
                self._open_windows(buffers, progress.window.start)
                if not buffers:
                    return
                window = progress.window
                window.end, buffer = buffers[0]
                try:
                    page = await buffer.next()
                except ShiftedPages:
                    if passes == _PASSES:
                        raise
                    passes += 1
                    window.within = None
                    await buffer.aclose()
                    buffers[0] = window.end, self._open_window(window.start, window.end)
                    continue
                assert page is not None  # noqa: S101 - a list ends with a complete page, or raises
                fresh = self._filter_seen(progress, page)
                window.within = page.cursor
                if page.complete:
                    passes = 1
                    buffers.popleft()
                    await buffer.aclose()
                    progress.window, progress.has_advanced = window.get_next(), True
                yield page, fresh
        finally:
            for _, buffer in buffers:
                await buffer.aclose()

    async def _open_first_window(self, buffers: deque[tuple[Scalar, PageBuffer]], window: TimeWindow) -> None:
        """Open the first window alone: its response shows the source's time and the size of a page."""
        end = window.end or self._get_window_end(window.start)
        if end is None:
            return
        buffer = self._open_window(window.start, end, window.within)
        buffers.append((end, buffer))
        await buffer.wait_for_page()
        if window.end is None and self._get_window_end(window.start) is None:
            buffers.pop()
            await buffer.aclose()

    def _open_windows(self, buffers: deque[tuple[Scalar, PageBuffer]], start: Scalar) -> None:
        """Open windows from `start` on, up to the concurrency limit and the source's present."""
        start = buffers[-1][0] if buffers else start
        while len(buffers) < self._concurrency and sum(buffer.waiting for _, buffer in buffers) < MOST_WAITING:
            end = self._get_window_end(start)
            if end is None:
                return
            buffers.append((end, self._open_window(start, end)))
            start = end

    def _get_window_end(self, start: Scalar) -> Scalar | None:
        """Return the end of the window that starts at `start`, or None if it is not in the past by the margin.

        Both clocks must agree, because the date of a response may be that of a gateway. The margin is the length of a
        window, for clocks that differ, plus the lookback, for late records, plus a day if times have no time zone.
        """
        try:
            end = add_seconds(start, max(self._length, get_precision(start)), needed_by=_NEEDED_BY)
            margin = timedelta(seconds=self._length + self._since.lookback + (0 if has_zone(start) else _DAY))
            over = min(self._client.get_source_time(), self._client.clock.now()) - margin
            return end if parse_instant(end, needed_by=_NEEDED_BY) <= over else None
        except OverflowError:  # beyond the last representable time
            return None
        except IncomparableValues as error:
            raise SpecError(f"read.since: {error}") from None

    def _open_window(self, start: Scalar, end: Scalar, within: Json = None) -> PageBuffer:
        """Start reading the list of a window.

        It ends one step late: a record exactly at the border is then in one of the two windows, whether the source
        treats bounds as inclusive or exclusive.
        """
        until = add_seconds(end, get_precision(end), needed_by=_NEEDED_BY)
        requests = self._requests.with_bounds({self._param: format_scalar(start), self._until: format_scalar(until)})
        return PageBuffer(self._closed.pages(requests, within, full=True), MOST_WAITING // self._concurrency)

    def _filter_seen(self, progress: WindowProgress, page: Page) -> list[Record]:
        """Return the records of `page` that the previous window did not deliver, and store those at the end."""
        window, fresh, late = progress.window, list[Record](), 0
        assert window.end is not None  # noqa: S101 - set when it was requested
        end, far = build_sort_key(window.end), build_sort_key(add_seconds(window.end, _LATE, needed_by=_NEEDED_BY))
        for record in page.records:
            value = read_value(self._field, record)
            try:
                place = None if value is None else build_sort_key(value)
                again = place is None or not is_after(end, place)
                late += place is not None and again and is_after(place, far)
            except IncomparableValues as error:
                raise BadResponse(
                    f"{page.request}: {error}",
                    request=page.request,
                    hint="Write `read.since.start` in the notation of the field.",
                ) from None
            if again or window.ties:
                known = compute_digest(record)
                if again and len(window.carried) <= _MOST_TIES:
                    window.carried[known] = None
                if known in window.ties:
                    window.ties.remove(known)
                    continue
            fresh.append(record)
        if late and late == len(page.records) and not progress.has_late_records:
            progress.has_late_records = True
            self._client.report(
                Level.WARNING,
                f"{page.request}: all records are later than the requested window; if the source does not support "
                f"`{self._until}`, every window contains all records: check `read.since.until`",
            )
        return fresh


def _parse_start(start: str) -> Scalar:
    """Return `start` as a time in the notation of the field. Raises `SpecError`."""
    value: Scalar = int(start) if start.isdecimal() and len(start) in (10, 13) else start
    try:
        parse_instant(value, needed_by=_NEEDED_BY)
    except IncomparableValues:
        raise SpecError(f"read.since.start: expected the time at which windows start, not {start!r}") from None
    return value
