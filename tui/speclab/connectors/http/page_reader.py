"""One list over HTTP: page after page, retried where that helps, stopped where the result would be wrong.

A read that got less than the source holds must not look complete: a page that repeats, a total that is not reached, a
list that is not there end it with `BadResponse`. Where records may be missing, the rest is read and delivered, and the
read ends with `IncompleteRead`.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from datetime import timedelta
from functools import partial
from random import Random
from typing import Final

from speclab.connectors.api import Page
from speclab.connectors.http.client import Client, Exchange, format_status_line
from speclab.connectors.http.pagination import PageTurn, PageTurnError, Position, build_style, read_number
from speclab.connectors.http.prefetch import Prefetch
from speclab.connectors.http.rate_limit_headers import get_server_time
from speclab.connectors.http.read_state import ReadState
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
from speclab.connectors.incremental import IncomparableValues, earlier
from speclab.connectors.unreadable import checked
from speclab.core.errors import BadResponse, IncompleteRead, SpecError
from speclab.core.json import Json, LenientValue, Record, decode_leniently
from speclab.core.outcome import Level
from speclab.core.paths import FieldPath
from speclab.spec.settings import RetrySettings

_STALE: Final = frozenset({400, 404, 410, 422})
"""What a page cursor of yesterday may be answered with."""
_MOST_EMPTY: Final = 50
"""Empty pages in a row after which a read ends as a loop; the next run goes on from the page it stopped at."""
_MOST_AHEAD: Final = 16_000_000
"""Bytes of answers that may wait for their turn; a page as large as that is asked for alone."""


class ShiftedPages(IncompleteRead):
    """Numbered pages may have skipped records, for the source came to hold less while they were read."""


class PageReader:
    """Reads the lists that are asked for and paged as one `read` says."""

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

        `key` is where a record has its identity, if it has that by itself, and `identity` what tells it from others
        of the same list. Raises `SpecError` for settings that cannot work.
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
        """Pages from after `cursor` to the end; those that follow are asked for while one is worked on."""
        read = ReadState.begin(
            cursor, full=full, fingerprint=self._fingerprint, since=self._since, first=self._style.first()
        )
        if isinstance(cursor, dict) and cursor.get("page") and not read.resumed and not full:
            self._client.report(
                Level.WARNING, "the `read` settings are not those of the last run; reading from the start"
            )
        async with aclosing(Prefetch(partial(self._get, requests, read))) as ahead:
            exchange = await self._first(requests, read)
            while True:
                page, expected = self._take(requests, read, exchange)
                if expected:
                    read.position = expected[0]
                    ahead.expect(expected)
                yield page
                if not expected:
                    break
                exchange = await ahead.next()
        if self._numbered and read.shrunk:
            raise self._bad(
                exchange,
                "the total fell while it was read, so that numbered pages may have skipped records",
                "The next run reads them all again. Pages by cursor, or records that only come last, do not shift.",
                ShiftedPages,
            )
        if read.doubt is not None:
            raise IncompleteRead(
                f"{read.doubt.message}; records may be missing",
                request=read.doubt.request,
                response=read.doubt.response,
                hint="What was read is delivered, and the cursor stays: the next run reads it again.",
            )

    async def _first(self, requests: RequestBuilder, read: ReadState) -> Exchange:
        """The answer to a read's first question, and with it the time it began, by the source's clock."""
        clock = self._client.clock
        began = clock.monotonic()
        exchange = await self._get(requests, read, read.position, _STALE if read.resumed else frozenset())
        if exchange.status in _STALE:
            self._client.report(
                Level.WARNING,
                "the source no longer has the page at which the last run stopped "
                f"({format_status_line(exchange)}); reading from the start",
            )
            read.restart(self._style.first())
            exchange = await self._get(requests, read, read.position)
        if read.watermark is None:
            # The list was made at some time between the question and the answer's date, which is cut to the second.
            elapsed = timedelta(seconds=clock.monotonic() - began + 1)
            read.watch(get_server_time(exchange.headers, clock.now()) - elapsed)
        if self._numbered and self._since is not None:
            read.keys = SeenKeys(self._identity, from_first=not read.resumed)
        read.visit(read.position)
        return exchange

    async def _get(
        self, requests: RequestBuilder, read: ReadState, position: Position, tolerated: frozenset[int] = frozenset()
    ) -> Exchange:
        request = requests.build(position, self._asked(read))
        return await send_with_retries(self._client, request, self._retry, self._random, tolerated=tolerated)

    def _asked(self, read: ReadState) -> str | None:
        """What the `since` parameter says; None where it is not sent."""
        if self._since is None or read.full:
            return None
        if read.before is None:
            return self._since.start
        try:
            return format_scalar(earlier(read.before.value, self._since.lookback))
        except IncomparableValues as error:
            raise SpecError(f"read.since: {error}") from None

    def _take(self, requests: RequestBuilder, read: ReadState, exchange: Exchange) -> tuple[Page, list[Position]]:
        """The page in an answer, the position of the next, and those expected after it. Raises `BadResponse`."""
        found = self._parsed(exchange)
        body = found.value
        records = self._listed(exchange, body)
        if not found.is_clean:
            records = [checked(record) for record in records]
        self._check_complete(read, exchange, body, records)
        if records and records == read.previous:
            if not (self._numbered and self._size is not None and len(records) < self._size):
                raise self._bad(exchange, "the same records as the page before", "Check `read.pagination`.")
            records = []  # servers that answer any number beyond the last page with the last page
        read.previous = records
        total = self._total_in(exchange, body)
        read.count_on(len(records), total)
        turn = PageTurn(read.position, exchange, body, records, read.count, self._look_behind(read, exchange, records))
        read.empty = 0 if records else read.empty + 1
        read.last, read.longest = len(records), max(len(records), read.longest)
        try:
            following = self._style.after(turn)
            fresh = read.watermark.take(records) if read.watermark else records
            if read.keys is not None:
                read.keys.add(records)
        except (PageTurnError, IncomparableValues) as error:
            raise self._bad(exchange, str(error), "Check `read.pagination` and `read.since`.") from None
        following = self._checked(requests, read, exchange, following)
        if following is None:
            self._finish(read, exchange, total)
            self._warn_if_more(read, turn)
            self._check_moves(read, exchange)
        whole = following is None and not (self._numbered and read.shrunk) and read.doubt is None
        page = Page(
            records=fresh,
            cursor=read.cursor(following) if whole or following is not None else read.again(),
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
        return page, [following, *self._style.beyond(turn, room - 1)]

    def _checked(
        self, requests: RequestBuilder, read: ReadState, exchange: Exchange, following: Position | None
    ) -> Position | None:
        """`following`, if the read has not been there yet; None where it stands still at an empty page."""
        if following is None:
            return None
        following = requests.remove_secrets(following)
        if not read.visit(following):
            if not read.previous and following == read.position:
                return None
            raise self._bad(
                exchange, f"the next page is one that was read before: {following}", "Check `read.pagination`."
            )
        if read.empty and read.empty % _MOST_EMPTY == 0:
            raise self._bad(
                exchange,
                f"{read.empty} empty pages in a row, each with another next page",
                "If an empty page ends this list, say so: `read.pagination: {end: empty}`. The next run goes on here.",
            )
        return following

    def _finish(self, read: ReadState, exchange: Exchange, total: int | None) -> None:
        """Look whether the read that ends here is whole."""
        if total is not None and read.count < total:
            raise self._bad(
                exchange,
                f"the source holds {total:,} records by `{self._total}`, but gave {read.count:,}",
                "Check `read.pagination`.",
            )
        if total is not None and read.count > total:
            self._client.report(
                Level.WARNING,
                f"the source gave {read.count:,} records, {read.count - total:,} more than its total says",
            )
        if read.watermark is not None and self._since is not None:
            if read.count and read.watermark.missing == read.count:
                self._client.report(
                    Level.WARNING,
                    f"no record has `{self._since.field}`, so the next run cannot ask for what changed only",
                )
            if self._since.sorted and not read.watermark.ordered:
                self._client.report(
                    Level.WARNING, f"the records do not come in the order of `{self._since.field}`; set `sorted: false`"
                )

    def _warn_if_more(self, read: ReadState, turn: PageTurn) -> None:
        """Tell of an end that looks like none, where nothing proves that it is one.

        Raises `BadResponse` where there was nothing, and the answer has the records elsewhere.
        """
        elsewhere = turn.signs.records_elsewhere(self._key) if not read.count and read.whole and self._key else None
        if elsewhere is not None:
            at = f" at `{self._records}`" if self._records else ""
            raise self._bad(turn.exchange, f"an empty list{at}, and {elsewhere}", "Check `read.records`.")
        line = self._client.line(turn.exchange.method, turn.exchange.url)
        if self._auto and read.count == len(turn.records):
            like = turn.signs.like_a_page(whole=read.whole and not self._nested)
            if like is not None:
                self._client.report(
                    Level.WARNING,
                    f"{line}: {read.count:,} records, {like}, and nothing in the answer says whether there are more; "
                    "say in `read.pagination` how to ask for them, or `{by: none}` if these are all",
                )
        if self._numbered and self._total is None and read.whole and (more := turn.signs.more()):
            self._client.report(
                Level.WARNING,
                f"{line}: the pages end here, but {more}; set `total` or `pages` in `read.pagination` to go by it",
            )

    def _check_moves(self, read: ReadState, exchange: Exchange) -> None:
        """Doubt a read by numbered pages in which a record moved from a page that was read to one at the end."""
        mark, keys = read.watermark, read.keys
        if self._since is None or mark is None or keys is None or keys.moved is False:
            return
        if mark.passed and mark.ordered and (len(read.visited) > 1 or read.resumed):
            self._doubt(
                read,
                exchange,
                f"records changed while numbered pages were read in the order of `{self._since.field}`, and what moved "
                "onto a page that was read before is missed; sort by another field, such as id, or use a cursor",
            )

    def _look_behind(self, read: ReadState, exchange: Exchange, records: list[Record]) -> int:
        """Records of a full page, where an empty numbered page may stand in the middle of the list; else 0.

        Nothing but the empty page says that the list ends there, and the page before it was full or is not known.
        """
        if not self._numbered or self._counted or self._end is not None:
            return 0
        if records:
            if read.empty and read.count > len(records):
                self._doubt(read, exchange, "the page before this one was empty, in the middle of the list")
            return 0
        full = self._size or read.longest
        known_short = read.last < full if read.last else not read.resumed
        return 0 if read.empty or known_short else full or 1

    def _check_complete(self, read: ReadState, exchange: Exchange, body: Json, records: list[Record]) -> None:
        """Doubt a page that says it is a part, and refuse an empty one beside an error.

        Where missing records would be deleted at the target, a page in doubt is refused at once.
        """
        if exchange.status == 204:
            if not self._numbered and self._end is None and read.position != self._style.first():
                self._doubt(read, exchange, "no content, for a page that the page before it names")
            return
        if self._ok is not None:
            failed = not self._judge_results(exchange, body)
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
            raise self._bad(exchange, message, "What else the list holds is not known; the next run reads it again.")
        self._doubt(read, exchange, message)

    def _judge_results(self, exchange: Exchange, body: Json) -> bool:
        assert self._ok is not None  # noqa: S101 - the caller looked
        try:
            return self._ok(body)
        except UnreadableBody as error:
            raise self._bad(exchange, str(error), "Correct `read.ok`.") from None

    def _doubt(self, read: ReadState, exchange: Exchange, message: str) -> None:
        """Keep the first reason why records may be missing, and report it."""
        if read.doubt is not None:
            return
        line = f"{self._client.line(exchange.method, exchange.url)}: {format_status_line(exchange)}"
        text = f"{self._client.message(line)}: {self._client.message(message)}"
        read.doubt = Doubt(text, self._client.request_text(exchange), self._client.response_text(exchange))
        self._client.report(Level.WARNING, f"{text}; records may be missing")

    def _total_in(self, exchange: Exchange, body: Json) -> int | None:
        """What the source says the read holds; None where the spec does not say that it does."""
        if self._total is None:
            return None
        try:
            return read_number(body, self._total)
        except PageTurnError as error:
            raise self._bad(exchange, str(error), "Check `read.pagination`.") from None

    def _parsed(self, exchange: Exchange) -> LenientValue:
        if exchange.status == 204:
            return LenientValue(None, is_clean=True)
        try:
            return decode_leniently(exchange.body)
        except ValueError as error:
            found = exchange.headers.get("content-type", "no content type")
            what = "an empty body" if not exchange.body.strip() else f"a body that is no JSON ({found}): {error}"
            raise self._bad(exchange, f"found {what}, expected JSON", "Check `base_url` and `read.path`.") from None

    def _listed(self, exchange: Exchange, body: Json) -> list[Record]:
        if exchange.status == 204:
            return []
        try:
            return find_records(body, self._records, "found")
        except UnreadableBody as error:
            raise self._bad(exchange, str(error), "Check `read.records`.") from None

    def _bad(
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
