"""A list in windows of time, several of which are asked for at once: years of changes on a first run, or after a pause.

A window is asked for only when all of it is in the past by some margin, whether by the source's clock or by ours. So a
record that changes while windows are read gets a time later than that of any that was asked for by then, and goes to
one that is still to come; the last has no end, and is asked for when all others are through. A record may be seen twice
that way, and then in the order of its changes, but never not at all.
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
from speclab.connectors.http.prefetch import MOST_WAITING, GatheredPage, PageBuffer
from speclab.connectors.http.read_state import build_bookmark_cursor
from speclab.connectors.http.request_builder import RequestBuilder, format_scalar
from speclab.connectors.http.settings import HttpSince
from speclab.connectors.incremental import (
    Bookmark,
    IncomparableValues,
    Scalar,
    digest,
    earlier,
    has_zone,
    instant,
    is_after,
    later,
    order,
    precision,
    value_of,
)
from speclab.core.errors import BadResponse, EndpointError, SpecError
from speclab.core.json import Json, Record
from speclab.core.outcome import Level
from speclab.core.paths import FieldPath

_MOST_TIES: Final = 1000
"""Digests that are carried over a boundary; what is beyond is read twice, and found unchanged."""
_PASSES: Final = 5
"""Times a window is read whose numbered pages shift, before the read is given up."""
_DAY: Final = 86_400.0
_FAR: Final = _DAY
"""Seconds beyond its window at which a record is too late for a difference of notation or time zone."""
_NEEDED_BY: Final = "window"


@dataclass(slots=True)
class TimeWindow:
    """A stretch of time and how far it was read: plain values, as a checkpoint holds them.

    `end` is None for one that was not asked for yet. `within` is the cursor in its list. `ties` are digests of records
    at its start or without a time, which the window before has delivered; `carried` are those for the one after.
    """

    start: Scalar
    end: Scalar | None = None
    within: Json = None
    ties: set[str] = field(default_factory=set)
    carried: dict[str, None] = field(default_factory=dict)

    @classmethod
    def load(cls, value: Json) -> TimeWindow | None:
        """The window a checkpoint holds as `value`; None for anything else."""
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
        """The window as a checkpoint holds it."""
        ties: list[Json] = sorted(self.ties)  # type: ignore[assignment]  # texts are JSON
        carried: list[Json] = list(self.carried)
        return {"start": self.start, "end": self.end, "within": self.within, "ties": ties, "carried": carried}

    def following(self) -> TimeWindow:
        """The window after this one, which was read to its end."""
        assert self.end is not None  # noqa: S101 - one that was read was asked for
        return TimeWindow(self.end, ties=set(self.carried) if len(self.carried) <= _MOST_TIES else set())


@dataclass(slots=True)
class WindowProgress:
    """One read in windows on its way. `mark` is where it began; with `begins`, nothing of it was read before."""

    fingerprint: str
    since: HttpSince
    mark: Bookmark | None
    window: TimeWindow
    begins: bool
    moved: bool = False  # on from the window it began with
    strayed: bool = False

    @property
    def fresh(self) -> bool:
        """Whether the read began at the source's start."""
        return self.begins and self.mark is None

    def cursor(self) -> Json:
        """The cursor in the middle of the windows."""
        mark = self.mark.dump() if self.mark else None
        return build_bookmark_cursor(mark, self.since, of=self.fingerprint, window=self.window.dump())

    def rest(self, cursor: Json) -> Json:
        """The cursor from which what is left is read without an end: `cursor`, where nothing was cut.

        The mark in it stands for what a read asks for, which is the lookback before the mark.
        """
        if self.begins and not self.moved:
            return cursor
        reached = self.window.start
        if self.since.lookback:
            reached = later(reached, self.since.lookback, needed_by="lookback")
        return build_bookmark_cursor(Bookmark(reached, tuple(sorted(self.window.ties))).dump(), self.since)


class WindowReader:
    """Reads one list: cut into windows as far as there is a past to cut, and from there on to its end."""

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
        """`whole` reads the list by `since`; `closed` reads windows that have an end, so many `concurrency`.

        Raises `SpecError` for a `since` that cannot be cut.
        """
        self._whole = whole
        self._closed = closed
        self._requests = requests
        self._client = client
        self._since = since
        self._param, self._until, self._length = since.param or "", since.until or "", since.window or 0.0
        self._start = _moment(since.start or "")
        self._field = FieldPath.parse(since.field)
        self._concurrency = concurrency
        self._fingerprint = fingerprint

    async def pages(self, cursor: Json, *, full: bool) -> AsyncGenerator[Page]:
        """Pages from after `cursor` to the end, in the order of their windows.

        A full read is not cut: windows would leave out what has no time, and what is older than `start`.
        """
        progress = None if full else self._progress(cursor)
        if progress is not None:
            async with aclosing(self._cut(progress)) as cut:
                async for page in cut:
                    yield page
            cursor = progress.rest(cursor)
        async with aclosing(self._whole.pages(self._requests, cursor, full=full)) as pages:
            async for page in pages:
                yield page if progress is None else replace(page, from_start=progress.fresh)

    def _progress(self, cursor: Json) -> WindowProgress | None:
        """Where a read in windows begins; None for one that was broken off where there are none any more."""
        held = cursor if isinstance(cursor, dict) else {}
        if isinstance(held.get("page"), dict):
            return None
        mark = Bookmark.load(held.get("since")) if held.get("field") == self._since.field else None
        resumed = TimeWindow.load(held.get("window"))
        if resumed is not None and held.get("of") != self._fingerprint:
            self._client.report(
                Level.WARNING, "the `read` settings are not those of the last run; reading from the start"
            )
            resumed = None
        try:
            first = TimeWindow(earlier(mark.value, self._since.lookback), ties=set(mark.ties)) if mark else None
        except IncomparableValues as error:
            raise SpecError(f"read.since: {error}") from None
        return WindowProgress(
            self._fingerprint, self._since, mark, resumed or first or TimeWindow(self._start), resumed is None
        )

    async def _cut(self, progress: WindowProgress) -> AsyncGenerator[Page]:
        """The pages of all windows that have an end; short ones share a page."""
        gathered = GatheredPage(from_start=progress.fresh)
        failure: EndpointError | None = None
        try:
            async with aclosing(self._in_order(progress)) as read:
                async for page, fresh in read:
                    gathered.add(page, fresh)
                    if gathered.full:
                        yield gathered.take(progress.cursor())
        except EndpointError as error:
            failure = error
        if gathered.requests:
            yield gathered.take(progress.cursor())
        if failure is not None:
            raise failure

    async def _in_order(self, progress: WindowProgress) -> AsyncGenerator[tuple[Page, list[Record]]]:
        """Pages, window after window, and what of each was not had before; `progress` follows."""
        buffers: deque[tuple[Scalar, PageBuffer]] = deque()
        passes = 1
        try:
            await self._sound(buffers, progress.window)
            while True:
                self._fill(buffers, progress.window.start)
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
                assert page is not None  # noqa: S101 - a list ends with a page that says so, or raises
                fresh = self._fresh(progress, page)
                window.within = page.cursor
                if page.complete:
                    passes = 1
                    buffers.popleft()
                    await buffer.aclose()
                    progress.window, progress.moved = window.following(), True
                yield page, fresh
        finally:
            for _, buffer in buffers:
                await buffer.aclose()

    async def _sound(self, buffers: deque[tuple[Scalar, PageBuffer]], window: TimeWindow) -> None:
        """Begin the first window alone: its answer tells what time it is at the source, and how large a page is."""
        end = window.end or self._end(window.start)
        if end is None:
            return
        buffer = self._open_window(window.start, end, window.within)
        buffers.append((end, buffer))
        await buffer.wait_for_page()
        if window.end is None and self._end(window.start) is None:
            buffers.pop()
            await buffer.aclose()

    def _fill(self, buffers: deque[tuple[Scalar, PageBuffer]], start: Scalar) -> None:
        """Begin as many windows from `start` on as are to be read at once and are over at the source."""
        start = buffers[-1][0] if buffers else start
        while len(buffers) < self._concurrency and sum(buffer.waiting for _, buffer in buffers) < MOST_WAITING:
            end = self._end(start)
            if end is None:
                return
            buffers.append((end, self._open_window(start, end)))
            start = end

    def _end(self, start: Scalar) -> Scalar | None:
        """The end of the window that begins at `start`; None if it is not over yet, margin and all.

        The date of an answer may be that of a gateway, so both clocks must say that it is. The margin is a window, for
        clocks that disagree a little, and the lookback, for what comes late; and a day where no time zone is written,
        which a source may then read in its own.
        """
        try:
            end = later(start, max(self._length, precision(start)), needed_by=_NEEDED_BY)
            margin = timedelta(seconds=self._length + self._since.lookback + (0 if has_zone(start) else _DAY))
            over = min(self._client.get_source_time(), self._client.clock.now()) - margin
            return end if instant(end, needed_by=_NEEDED_BY) <= over else None
        except OverflowError:  # as far in the future as time goes
            return None
        except IncomparableValues as error:
            raise SpecError(f"read.since: {error}") from None

    def _open_window(self, start: Scalar, end: Scalar, within: Json = None) -> PageBuffer:
        """A window's list, asked for.

        Its end is asked for one step too late: whether a source takes `start` and `end` as in or out, what is just
        there is in one of the two windows.
        """
        until = later(end, precision(end), needed_by=_NEEDED_BY)
        requests = self._requests.with_bounds({self._param: format_scalar(start), self._until: format_scalar(until)})
        return PageBuffer(self._closed.pages(requests, within, full=True), MOST_WAITING // self._concurrency)

    def _fresh(self, progress: WindowProgress, page: Page) -> list[Record]:
        """The records of `page` that the window before did not deliver; what the one after may bring is remembered."""
        window, fresh, late = progress.window, list[Record](), 0
        assert window.end is not None  # noqa: S101 - it was asked for
        end, far = order(window.end), order(later(window.end, _FAR, needed_by=_NEEDED_BY))
        for record in page.records:
            value = value_of(self._field, record)
            try:
                place = None if value is None else order(value)
                again = place is None or not is_after(end, place)
                late += place is not None and again and is_after(place, far)
            except IncomparableValues as error:
                raise BadResponse(
                    f"{page.request}: {error}",
                    request=page.request,
                    hint="Write `read.since.start` in the notation of the field.",
                ) from None
            if again or window.ties:
                known = digest(record)
                if again and len(window.carried) <= _MOST_TIES:
                    window.carried[known] = None
                if known in window.ties:
                    window.ties.remove(known)
                    continue
            fresh.append(record)
        if late and late == len(page.records) and not progress.strayed:
            progress.strayed = True
            self._client.report(
                Level.WARNING,
                f"{page.request}: all of its records are later than the window that was asked for; if the source does "
                f"not know `{self._until}`, every window holds all there is: check `read.since.until`",
            )
        return fresh


def _moment(start: str) -> Scalar:
    """`start` as a time to reckon with, in the notation of the field. Raises `SpecError`."""
    value: Scalar = int(start) if start.isdecimal() and len(start) in (10, 13) else start
    try:
        instant(value, needed_by=_NEEDED_BY)
    except IncomparableValues:
        raise SpecError(f"read.since.start: expected a time for windows to begin at, not {start!r}") from None
    return value
