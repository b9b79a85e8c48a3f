"""Pagination styles: one class per style, which finds the position of the next page in a response.

A position is plain JSON, so that a checkpoint can store it: `{"params": {...}}` to add to the first request, or
`{"url": "/path?query"}` at the same origin to request instead.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from math import ceil
from typing import Final, Protocol, TypeAlias
from urllib.parse import SplitResult, urljoin, urlsplit

import httpx

from speclab.connectors.http.client import Exchange
from speclab.connectors.http.pagination_hints import ListLocation, PaginationHints
from speclab.connectors.http.response import describe_kind, get_value, parse_path
from speclab.connectors.http.settings import Pagination
from speclab.core.json import Json, Record
from speclab.core.paths import FieldPath

Position: TypeAlias = "dict[str, Json]"


@dataclass(frozen=True, slots=True)
class PageTurn:
    """The current page and its position, from which a style finds the next page."""

    position: Position
    exchange: Exchange
    body: Json
    records: list[Record]
    read: int  # records read so far, this page included
    full_page_size: int = 0  # size of a full page if an empty page may not be the end, otherwise 0

    @property
    def hints(self) -> PaginationHints:
        """Other signs of further pages in the response."""
        return PaginationHints(self.body, self.exchange.headers, self.exchange.url, len(self.records), self.read)


class PageTurnError(Exception):
    """The next page cannot be found or must not be requested; the message says why."""


class PaginationStyle(Protocol):
    """A way to find the next page."""

    def get_first(self) -> Position:
        """Return the position of the first page."""

    def find_next(self, turn: PageTurn) -> Position | None:
        """Return the position of the page after `turn`, None at the end. Raises `PageTurnError`."""

    def predict(self, turn: PageTurn, most: int) -> list[Position]:
        """Return the probable positions of up to `most` pages after that, if the response says how many there are."""


def build_style(settings: Pagination) -> PaginationStyle:
    """Return the style for `settings`. Raises `SpecError` for an invalid path."""
    match settings.by:
        case "cursor":
            return _Cursor(settings)
        case "page":
            return _Page(settings)
        case "offset":
            return _Offset(settings)
        case "next_url":
            return _NextUrl(settings)
        case "link":
            return _Link(settings)
        case "none":
            return _One(settings)
        case "auto":
            return _Auto(settings)


class _Base:
    def __init__(self, settings: Pagination) -> None:
        self._param = settings.param or ""
        self._size: dict[str, Json] = {settings.size_param: settings.size} if settings.size_param else {}
        self._next = _optional(settings.next, "read.pagination.next")
        self._header = settings.header
        self._pages = _optional(settings.pages, "read.pagination.pages")
        self._total = _optional(settings.total, "read.pagination.total")
        self._end = settings.end
        self._full = settings.size or 0

    def get_first(self) -> Position:
        return {"params": dict(self._size)}

    def predict(self, turn: PageTurn, most: int) -> list[Position]:  # noqa: ARG002 - only a numbered style can predict
        return []

    def _ended(self, turn: PageTurn) -> bool | None:
        """Return whether `turn` is the last page by the setting `end`; None if it does not decide, or is not set."""
        match self._end:
            case "empty":
                return not turn.records
            case "short":
                return len(turn.records) < self._full
            case "total" if self._total is not None:
                return turn.read >= read_number(turn.body, self._total) or not turn.records
        return None

    def _is_last(self, turn: PageTurn) -> bool:
        """Return whether a numbered page is the last.

        Decided by `end`, or else by a total that equals the number of records read. Without either, only an empty page
        is the last, unless `full_page_size` asks for the next one: a server may send fewer records than requested, and
        stopping at a short page would lose records.
        """
        ended = self._ended(turn)
        if ended is not None:
            return ended
        if self._total is not None:
            return turn.read == read_number(turn.body, self._total) or not turn.records
        return not turn.records and not turn.full_page_size

    def _unnamed(self) -> Position | None:
        """Return None for a page without a next page. Raises `PageTurnError` if only an empty page may be the last."""
        if self._end == "empty":
            raise PageTurnError(
                "a page with records has no next page, but with `end: empty` only an empty page is the last"
            )
        return None

    def _next_value(self, turn: PageTurn) -> str | int | float | None:
        """Return the next cursor or URL in the body or header, or None at the end."""
        if self._header is not None:
            return turn.exchange.headers.get(self._header) or None
        assert self._next is not None  # noqa: S101 - held by the settings
        value = get_value(turn.body, self._next)
        if value is None or value is False or value == "":
            # The last page often has none. But if there are more, the path is wrong and stopping would lose records.
            if not _exists(turn.body, self._next) and (more := turn.hints.describe_more()):
                raise PageTurnError(f"the response has no `{self._next}`, but {more}")
            return None
        if isinstance(value, bool | list | dict):
            raise PageTurnError(f"`{self._next}`: expected a cursor or URL, got {value!r:.80}")
        return value


class _One(_Base):
    def find_next(self, turn: PageTurn) -> Position | None:  # noqa: ARG002 - one page is one page
        return None


class _Cursor(_Base):
    def find_next(self, turn: PageTurn) -> Position | None:
        if self._ended(turn):
            return None
        value = self._next_value(turn)
        if value is None:
            return self._unnamed()
        return {"params": {**self._size, self._param: value}}


class _Page(_Base):
    def __init__(self, settings: Pagination) -> None:
        super().__init__(settings)
        self._start = 1 if settings.start is None else settings.start

    def get_first(self) -> Position:
        return {"params": {**self._size, self._param: self._start}}

    def find_next(self, turn: PageTurn) -> Position | None:
        page = _number(turn.position, self._param)
        if self._pages is not None:
            pages = read_number(turn.body, self._pages)
            if page - self._start + 1 >= pages:
                return None
        elif self._is_last(turn):
            return None
        return {"params": {**self._size, self._param: page + 1}}

    def predict(self, turn: PageTurn, most: int) -> list[Position]:
        if self._pages is not None:
            pages = read_number(turn.body, self._pages)
        elif self._total is not None and turn.records:
            pages = ceil(read_number(turn.body, self._total) / len(turn.records))
        else:
            return []
        page = _number(turn.position, self._param) + 2
        last = min(self._start + pages, page + most)
        return [{"params": {**self._size, self._param: number}} for number in range(page, last)]


class _Offset(_Base):
    def __init__(self, settings: Pagination) -> None:
        super().__init__(settings)
        self._start = settings.start or 0

    def get_first(self) -> Position:
        return {"params": {**self._size, self._param: self._start}}

    def find_next(self, turn: PageTurn) -> Position | None:
        if self._is_last(turn):
            return None
        step = len(turn.records) or turn.full_page_size
        return {"params": {**self._size, self._param: _number(turn.position, self._param) + step}}

    def predict(self, turn: PageTurn, most: int) -> list[Position]:
        step = len(turn.records)
        if self._total is None or not step:
            return []
        offset = _number(turn.position, self._param) + 2 * step
        last = min(self._start + read_number(turn.body, self._total), offset + most * step)
        return [{"params": {**self._size, self._param: number}} for number in range(offset, last, step)]


class _NextUrl(_Base):
    def find_next(self, turn: PageTurn) -> Position | None:
        if self._ended(turn):
            return None
        value = self._next_value(turn)
        return self._unnamed() if value is None else _follow(str(value), turn)


class _Link(_Base):
    def find_next(self, turn: PageTurn) -> Position | None:
        if self._ended(turn):
            return None
        target = parse_next_link(turn.exchange.headers.get_list("link"))
        if target is not None:
            return _follow(target, turn)
        if more := turn.hints.describe_more():
            raise PageTurnError(f'the response has no Link header with rel="next", but {more}')
        return self._unnamed()


class _Auto(_Base):
    """Recognizes a Link header, a next URL, a next cursor or page, and the number of this page or of its first record.

    Without any of them, the page must be the only one.
    """

    def find_next(self, turn: PageTurn) -> Position | None:
        hints = turn.hints
        target = parse_next_link(turn.exchange.headers.get_list("link")) or hints.find_next_url()
        if target is not None:
            return _follow(target, turn)
        params = hints.find_next_params()
        if params is not None:
            return {"params": {**self._size, **params}}
        location = hints.get_location()
        if location is not None and turn.records and (following := self._numbered(turn, location)) is not None:
            return following
        if more := hints.describe_more():
            raise PageTurnError(f"nothing in the response says how to request the next page, but {more}")
        return None

    def _numbered(self, turn: PageTurn, location: ListLocation) -> Position | None:
        """Return the position after the page at `location`, or None if it is the last.

        Numbers start at that of the first page. If earlier pages named the next one, a page that does not is the last.
        """
        if turn.position != self.get_first() and "first" not in turn.position:
            return None
        first = turn.position.get("first", location.at)
        assert isinstance(first, int)  # noqa: S101 - built here; positions of other settings are discarded
        more = (
            location.at - first + 1 < location.pages
            if location.pages is not None
            else turn.hints.has_more() is not False
        )
        following = location.at + (1 if location.page else len(turn.records))
        return {"params": {**self._size, location.param: following}, "first": first} if more else None


_LINK: Final = re.compile(r'<([^<>]*)>((?:\s*;\s*[\w*!-]+(?:\s*=\s*(?:"(?:[^"\\]|\\.)*"|[^\s",;]*))?)*)')
_LINK_PARAM: Final = re.compile(r';\s*([\w*!-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s",;]*))')


def parse_next_link(headers: list[str]) -> str | None:
    """Return the target of the link with relation `next` in Link headers (RFC 8288), or None."""
    for header in headers:
        for target, params in _LINK.findall(header):
            for name, quoted, token in _LINK_PARAM.findall(params):
                if name.lower() == "rel":
                    if "next" in (quoted or token).lower().split():
                        return str(target)
                    break  # only the first rel counts (section 3.3)
    return None


def _follow(reference: str, turn: PageTurn) -> Position:
    """Return the position of a next-page URL, resolved against the request's URL.

    It must have the same origin, because the credentials are valid for that only. The exception is an http:// link of
    an https:// system, as written by servers behind a TLS proxy; it is requested over https.
    """
    here = urlsplit(turn.exchange.url)
    try:
        there = urlsplit(urljoin(turn.exchange.url, reference))
        port = there.port
        httpx.URL(there.geturl())
    except (ValueError, httpx.InvalidURL) as error:
        raise PageTurnError(f"the next page is not a valid URL: {error}") from None
    if there.hostname == here.hostname and (there.scheme, here.scheme) == ("http", "https") and port in (None, 80):
        there = there._replace(scheme=here.scheme, netloc=here.netloc)
    if (there.scheme, there.hostname, _port(there)) != (here.scheme, here.hostname, _port(here)):
        raise PageTurnError(
            f"the next page is at {there.scheme}://{there.netloc.rpartition('@')[2]}, another origin; "
            "credentials are not sent there"
        )
    return {"url": there._replace(scheme="", netloc="", path=there.path or "/", fragment="").geturl()}


def _port(url: SplitResult) -> int:
    return url.port or (443 if url.scheme == "https" else 80)


def read_number(body: Json, where: FieldPath) -> int:
    """Return the number at `where`, also from a text of digits. Raises `PageTurnError`."""
    value = get_value(body, where)
    if isinstance(value, str) and value.isdecimal():
        return int(value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return int(value)
    raise PageTurnError(
        f"expected a number at `{where}`, found {describe_kind(value) if _exists(body, where) else 'nothing'}"
    )


def _number(position: Position, param: str) -> int:
    """Return the number of the page or record in `position`."""
    params = position["params"]
    assert isinstance(params, dict)  # noqa: S101 - built by this class; positions of other settings are discarded
    value = params[param]
    assert isinstance(value, int)  # noqa: S101 - as above
    return value


def _exists(body: Json, where: FieldPath) -> bool:
    try:
        where.get(body)
    except KeyError:
        return False
    return True


def _optional(text: str | None, where: str) -> FieldPath | None:
    return None if text is None else parse_path(text, where)
