"""Reads one list over HTTP page by page, with retries and prefetch.

A read that misses records must not look complete. A repeated page, a total that is not reached and a missing list end
it with `BadResponse`. If records may be missing, the rest is delivered and the read ends with `IncompleteRead`.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from datetime import timedelta
from functools import partial
from random import Random
from typing import Final

from speclab.connectors.api import Page, check_readable
from speclab.connectors.http.client import Client, Exchange, format_status_line
from speclab.connectors.http.pagination import PageTurn, PageTurnError, Position, build_style, read_number
from speclab.connectors.http.rate_limit_headers import get_server_time
from speclab.connectors.http.read_state import Prefetch, ReadState
from speclab.connectors.http.request_builder import RequestBuilder, format_scalar
from speclab.connectors.http.response import UnreadableBody, find_message, find_records, parse_path
from speclab.connectors.http.response_check import (
    Doubt,
    SeenKeys,
    compile_success_check,
    find_failure_sign,
    find_partial_page,
)
from speclab.connectors.http.retries import send_with_retries
from speclab.connectors.http.settings import HttpRead
from speclab.connectors.incremental import IncomparableValues, subtract_seconds
from speclab.core.errors import BadResponse, IncompleteRead, SpecError
from speclab.core.json import Json, LenientValue, Record, decode_leniently
from speclab.core.outcome import Level
from speclab.core.paths import FieldPath
from speclab.spec.settings import RetrySettings

_STALE: Final = frozenset({400, 404, 410, 422})
"""Statuses by which a server rejects an expired page cursor."""
_MOST_EMPTY: Final = 50
"""Empty pages in a row after which a read stops, to avoid a loop; the next run continues at that page."""
_MOST_AHEAD: Final = 16_000_000
"""Bytes of prefetched responses; a larger page is not prefetched."""


class ShiftedPages(IncompleteRead):
    """Numbered pages may have skipped records because the source shrank during the read."""


class PageReader:
    """Reads lists with the requests and the pagination of a `read` block."""

    def __init__(
        self,
        read: HttpRead,
        client: Client,
        retry: RetrySettings,
        random: Random,
        *,
        concurrency: int,
        fingerprint: str,
        key: Sequence[FieldPath] = (),
        identity: Sequence[FieldPath] = (),
    ) -> None:
        """Create a reader of `read` that prefetches up to `concurrency` pages; `fingerprint` identifies the settings.

        `key` are the paths of a record's identity, `identity` the paths that identify it within its list. Raises
        `SpecError` for settings that cannot work.
        """
        self._client = client
        self._retry = retry
        self._random = random
        self._concurrency = concurrency
        self._fingerprint = fingerprint
        self._records = _optional(read.records, "read.records")
        self._style = build_style(read.pagination)
        self._total = _optional(read.pagination.total, "read.pagination.total")
        self._numbered = read.pagination.by in ("page", "offset")
        self._auto = read.pagination.by == "auto"
        self._nested = read.for_each is not None
        self._size = read.pagination.size
        self._key = key
        self._identity = identity or key
        self._ok = None if read.ok is None else compile_success_check(read.ok, "read.ok")
        self._end = read.pagination.end
        self._counted = read.pagination.total is not None or read.pagination.pages is not None
        self._deletes_missing = read.missing == "delete"
        self._since = read.since
        _optional(read.since.field if read.since else None, "read.since.field")

    async def pages(self, requests: RequestBuilder, cursor: Json, *, full: bool) -> AsyncGenerator[Page]:
        """Yield the pages after `cursor`, and prefetch the next ones while one is processed."""
        read = ReadState.begin(
            cursor, full=full, fingerprint=self._fingerprint, since=self._since, first=self._style.get_first()
        )
        if isinstance(cursor, dict) and cursor.get("page") and not read.resumed and not full:
            self._client.report(
                Level.WARNING, "the `read` settings have changed since the last run; reading from the start"
            )
        async with aclosing(Prefetch(partial(self._fetch, requests, read))) as prefetch:
            exchange = await self._first(requests, read)
            while True:
                page, expected = self._convert(requests, read, exchange)
                if expected:
                    read.position = expected[0]
                    prefetch.expect(expected)
                yield page
                if not expected:
                    break
                exchange = await prefetch.next()
        if self._numbered and read.shrunk:
            raise self._build_error(
                exchange,
                "the total decreased during the read, so numbered pages may have skipped records",
                "The next run reads all pages again. Use a cursor, or a sort order in which new records come last.",
                ShiftedPages,
            )
        if read.doubt is not None:
            raise IncompleteRead(
                f"{read.doubt.message}; records may be missing",
                request=read.doubt.request,
                response=read.doubt.response,
                hint="The records read are delivered, and the next run reads the list again from the same cursor.",
            )

    async def _first(self, requests: RequestBuilder, read: ReadState) -> Exchange:
        """Fetch the first page, and set the start time of the read by the source's clock."""
        clock = self._client.clock
        started = clock.monotonic()
        exchange = await self._fetch(requests, read, read.position, _STALE if read.resumed else frozenset())
        if exchange.status in _STALE:
            self._client.report(
                Level.WARNING,
                "the source no longer has the page at which the last run stopped "
                f"({format_status_line(exchange)}); reading from the start",
            )
            read.restart(self._style.get_first())
            exchange = await self._fetch(requests, read, read.position)
        if read.watermark is None:
            # The list was made between the request and the `Date` of the response, which is truncated to seconds.
            elapsed = timedelta(seconds=clock.monotonic() - started + 1)
            read.watch(get_server_time(exchange.headers, clock.now()) - elapsed)
        if self._numbered and self._since is not None:
            read.keys = SeenKeys(self._identity, from_first=not read.resumed)
        read.visit(read.position)
        return exchange

    async def _fetch(
        self, requests: RequestBuilder, read: ReadState, position: Position, tolerated: frozenset[int] = frozenset()
    ) -> Exchange:
        request = requests.build(position, self._get_since_value(read))
        return await send_with_retries(self._client, request, self._retry, self._random, tolerated=tolerated)

    def _get_since_value(self, read: ReadState) -> str | None:
        """Return the value of the `since` parameter, or None if it is not sent."""
        if self._since is None or read.full:
            return None
        if read.before is None:
            return self._since.start
        try:
            return format_scalar(subtract_seconds(read.before.value, self._since.lookback))
        except IncomparableValues as error:
            raise SpecError(f"read.since: {error}") from None

    def _convert(self, requests: RequestBuilder, read: ReadState, exchange: Exchange) -> tuple[Page, list[Position]]:
        """Return the page in a response, and the positions of the next and those after it. Raises `BadResponse`."""
        found = self._parse(exchange)
        body = found.value
        records = self._find_records(exchange, body)
        if not found.is_clean:
            records = [check_readable(record) for record in records]
        self._check_complete(read, exchange, body, records)
        if records and records == read.previous:
            if not (self._numbered and self._size is not None and len(records) < self._size):
                raise self._build_error(exchange, "the same records as the page before", "Check `read.pagination`.")
            records = []  # some servers return the last page for any higher number
        read.previous = records
        total = self._read_total(exchange, body)
        read.add_page(len(records), total)
        turn = PageTurn(
            read.position, exchange, body, records, read.count, self._get_full_page_size(read, exchange, records)
        )
        read.empty = 0 if records else read.empty + 1
        read.last, read.longest = len(records), max(len(records), read.longest)
        try:
            following = self._style.find_next(turn)
            fresh = read.watermark.advance(records) if read.watermark else records
            if read.keys is not None:
                read.keys.add(records)
        except (PageTurnError, IncomparableValues) as error:
            raise self._build_error(exchange, str(error), "Check `read.pagination` and `read.since`.") from None
        following = self._validate_next(requests, read, exchange, following)
        if following is None:
            self._finish(read, exchange, total)
            self._warn_if_more(read, turn)
            self._check_moved_records(read, exchange)
        whole = following is None and not (self._numbered and read.shrunk) and read.doubt is None
        page = Page(
            records=fresh,
            cursor=read.build_cursor(following) if whole or following is not None else read.build_restart_cursor(),
            bytes_in=len(exchange.body),
            request=self._client.line(exchange.method, exchange.url),
            total=total,
            complete=whole,
            from_start=read.before is None and not read.resumed,
            whole=read.whole,
        )
        if following is None:
            return page, []
        room = min(self._concurrency, _MOST_AHEAD // max(len(exchange.body), 1))
        return page, [following, *self._style.predict(turn, room - 1)]

    def _validate_next(
        self, requests: RequestBuilder, read: ReadState, exchange: Exchange, following: Position | None
    ) -> Position | None:
        """Return `following` if it is a new position, or None if an empty page repeats its own."""
        if following is None:
            return None
        following = requests.remove_secrets(following)
        if not read.visit(following):
            if not read.previous and following == read.position:
                return None
            raise self._build_error(
                exchange, f"the next page has been read already: {following}", "Check `read.pagination`."
            )
        if read.empty and read.empty % _MOST_EMPTY == 0:
            raise self._build_error(
                exchange,
                f"{read.empty} empty pages in a row, each with another next page",
                "If an empty page ends this list, set `read.pagination: {end: empty}`. The next run continues here.",
            )
        return following

    def _finish(self, read: ReadState, exchange: Exchange, total: int | None) -> None:
        """Check that the read, which ends here, is complete."""
        if total is not None and read.count < total:
            raise self._build_error(
                exchange,
                f"the total at `{self._total}` is {total:,}, but {read.count:,} records were read",
                "Check `read.pagination`.",
            )
        if total is not None and read.count > total:
            self._client.report(
                Level.WARNING,
                f"{read.count:,} records were read, {read.count - total:,} more than the total",
            )
        if read.watermark is not None and self._since is not None:
            if read.count and read.watermark.missing == read.count:
                self._client.report(
                    Level.WARNING,
                    f"no record has `{self._since.field}`, so the next run cannot ask for changed records only",
                )
            if self._since.sorted and not read.watermark.ordered:
                self._client.report(
                    Level.WARNING, f"the records are not sorted by `{self._since.field}`; set `sorted: false`"
                )

    def _warn_if_more(self, read: ReadState, turn: PageTurn) -> None:
        """Warn if the response suggests that there are more records.

        Raises `BadResponse` if no record was read and the response has records elsewhere.
        """
        elsewhere = (
            turn.hints.describe_other_records(self._key) if not read.count and read.whole and self._key else None
        )
        if elsewhere is not None:
            at = f" at `{self._records}`" if self._records else ""
            raise self._build_error(turn.exchange, f"an empty list{at}, and {elsewhere}", "Check `read.records`.")
        line = self._client.line(turn.exchange.method, turn.exchange.url)
        if self._auto and read.count == len(turn.records):
            like = turn.hints.describe_full_page(whole=read.whole and not self._nested)
            if like is not None:
                self._client.report(
                    Level.WARNING,
                    f"{line}: {read.count:,} records, {like}, and nothing in the response says whether there are more; "
                    "set `read.pagination`, or `{by: none}` if these are all",
                )
        if self._numbered and self._total is None and read.whole and (more := turn.hints.describe_more()):
            self._client.report(
                Level.WARNING,
                f"{line}: the pages end here, but {more}; set `total` or `pages` in `read.pagination` to use it",
            )

    def _check_moved_records(self, read: ReadState, exchange: Exchange) -> None:
        """Mark a read of numbered pages as incomplete if a record moved from a read page to the end of the list."""
        mark, keys = read.watermark, read.keys
        if self._since is None or mark is None or keys is None or keys.moved is False:
            return
        if mark.passed and mark.ordered and (len(read.visited) > 1 or read.resumed):
            self._report_incomplete(
                read,
                exchange,
                f"records changed while numbered pages sorted by `{self._since.field}` were read, so records that "
                "moved onto a page already read are missed; sort by another field, such as id, or use a cursor",
            )

    def _get_full_page_size(self, read: ReadState, exchange: Exchange, records: list[Record]) -> int:
        """Return the size of a full page if an empty numbered page may not be the end of the list, otherwise 0.

        It may not be if only the empty page marks the end, and the page before was full or is unknown.
        """
        if not self._numbered or self._counted or self._end is not None:
            return 0
        if records:
            if read.empty and read.count > len(records):
                self._report_incomplete(
                    read, exchange, "the page before this one was empty, although the list continues"
                )
            return 0
        full = self._size or read.longest
        known_short = read.last < full if read.last else not read.resumed
        return 0 if read.empty or known_short else full or 1

    def _check_complete(self, read: ReadState, exchange: Exchange, body: Json, records: list[Record]) -> None:
        """Mark the read as incomplete if a page is partial. Raises `BadResponse` for an empty page with an error.

        If missing records are deleted at the target, it raises for any partial page.
        """
        if exchange.status == 204:
            if not self._numbered and self._end is None and read.position != self._style.get_first():
                self._report_incomplete(read, exchange, "no content, although the page before refers to this one")
            return
        if self._ok is not None:
            failed = not self._is_ok(exchange, body)
            problem = "`read.ok` is false" if failed else None
        else:
            failed = (
                find_failure_sign(body, {str(self._records.parts[0])} if self._records is not None else ()) is not None
            )
            problem = "an error" if failed else find_partial_page(exchange, body, records)
        if problem is None:
            return
        what = "records" if records else "an empty list"
        said = f": {find_message(body) or 'the response does not say which'}" if failed else ""
        message = f"{what}, and {problem}{said}"
        if self._deletes_missing or (failed and not records):
            raise self._build_error(exchange, message, "The rest of the list is unknown; the next run reads it again.")
        self._report_incomplete(read, exchange, message)

    def _is_ok(self, exchange: Exchange, body: Json) -> bool:
        assert self._ok is not None  # noqa: S101 - checked by the caller
        try:
            return self._ok(body)
        except UnreadableBody as error:
            raise self._build_error(exchange, str(error), "Correct `read.ok`.") from None

    def _report_incomplete(self, read: ReadState, exchange: Exchange, message: str) -> None:
        """Store the first reason why records may be missing, and report it."""
        if read.doubt is not None:
            return
        line = f"{self._client.line(exchange.method, exchange.url)}: {format_status_line(exchange)}"
        text = f"{self._client.message(line)}: {self._client.message(message)}"
        read.doubt = Doubt(text, self._client.request_text(exchange), self._client.response_text(exchange))
        self._client.report(Level.WARNING, f"{text}; records may be missing")

    def _read_total(self, exchange: Exchange, body: Json) -> int | None:
        """Return the total that the source reports, or None if the spec does not say where."""
        if self._total is None:
            return None
        try:
            return read_number(body, self._total)
        except PageTurnError as error:
            raise self._build_error(exchange, str(error), "Check `read.pagination`.") from None

    def _parse(self, exchange: Exchange) -> LenientValue:
        if exchange.status == 204:
            return LenientValue(None, is_clean=True)
        try:
            return decode_leniently(exchange.body)
        except ValueError as error:
            found = exchange.headers.get("content-type", "no content type")
            what = "an empty body" if not exchange.body.strip() else f"a body that is not JSON ({found}): {error}"
            raise self._build_error(
                exchange, f"found {what}, expected JSON", "Check `base_url` and `read.path`."
            ) from None

    def _find_records(self, exchange: Exchange, body: Json) -> list[Record]:
        if exchange.status == 204:
            return []
        try:
            return find_records(body, self._records, "found")
        except UnreadableBody as error:
            raise self._build_error(exchange, str(error), "Check `read.records`.") from None

    def _build_error(
        self, exchange: Exchange, message: str, hint: str, error_type: type[BadResponse] = BadResponse
    ) -> BadResponse:
        where = f"{self._client.line(exchange.method, exchange.url)}: {format_status_line(exchange)}"
        return error_type(
            f"{where}: {self._client.message(message)}",
            request=self._client.request_text(exchange),
            response=self._client.response_text(exchange),
            hint=hint,
        )


def _optional(text: str | None, where: str) -> FieldPath | None:
    return None if text is None else parse_path(text, where)
