"""How the next page is asked for: one small class a style, all of them from answer to next position.

A position is plain JSON, so that a checkpoint can hold it: `{"params": {...}}` to add to the first request, or
`{"url": "/path?query"}` at the same origin to ask instead of it.
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
    """What a style goes by to find the next page: this page and where it was found."""

    position: Position
    exchange: Exchange
    body: Json
    records: list[Record]
    read: int  # records read so far, this page included
    look_behind: int = 0  # records of a full page, where an empty page may not be the end; 0 where it is

    @property
    def signs(self) -> PaginationHints:
        """What the answer says of the pages after it, beside what the spec goes by."""
        return PaginationHints(self.body, self.exchange.headers, self.exchange.url, len(self.records), self.read)


class PageTurnError(Exception):
    """The next page cannot be found, or must not be asked for; the message says why and what to do."""


class PaginationStyle(Protocol):
    """One way of paging."""

    def first(self) -> Position:
        """Where the first page is."""

    def after(self, turn: PageTurn) -> Position | None:
        """Where the page after `turn` is; None at the end. Raises `PageTurnError`."""

    def beyond(self, turn: PageTurn, most: int) -> list[Position]:
        """Where the pages after that one probably are, at most so many, if the answer says how many there are."""


def build_style(settings: Pagination) -> PaginationStyle:
    """The style `settings` ask for. Raises `SpecError` for a path that is none."""
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

    def first(self) -> Position:
        return {"params": dict(self._size)}

    def beyond(self, turn: PageTurn, most: int) -> list[Position]:  # noqa: ARG002 - who is told where to go cannot guess
        return []

    def _ended(self, turn: PageTurn) -> bool | None:
        """Whether `turn` is the last page by the setting `end`; None where that has another say, or is not set."""
        match self._end:
            case "empty":
                return not turn.records
            case "short":
                return len(turn.records) < self._full
            case "total" if self._total is not None:
                return turn.read >= read_number(turn.body, self._total) or not turn.records
        return None

    def _is_last(self, turn: PageTurn) -> bool:
        """Whether a numbered page is the last.

        By `end`; else by the total, where the answer has one and it is what was read: less than that it cannot be.
        Otherwise only an empty page is, unless `look_behind` asks for the one after it: a short page may be a server
        that sends fewer than requested, and stopping there would lose records.
        """
        ended = self._ended(turn)
        if ended is not None:
            return ended
        if self._total is not None:
            return turn.read == read_number(turn.body, self._total) or not turn.records
        return not turn.records and not turn.look_behind

    def _unnamed(self) -> Position | None:
        """None for a page that names no next page. Raises `PageTurnError` where only an empty page may be the last."""
        if self._end == "empty":
            raise PageTurnError("a page with records names no next page, but by `end: empty` an empty page is the last")
        return None

    def _next_value(self, turn: PageTurn) -> str | int | float | None:
        """What the answer gives as next, in the body or a header; None or empty text at the end."""
        if self._header is not None:
            return turn.exchange.headers.get(self._header) or None
        assert self._next is not None  # noqa: S101 - held by the settings
        value = get_value(turn.body, self._next)
        if value is None or value is False or value == "":
            # The last page often has none. But if there is more, the path is wrong, and stopping would lose records.
            if not _there(turn.body, self._next) and (more := turn.signs.more()):
                raise PageTurnError(f"there is no `{self._next}` in the answer, but {more}")
            return None
        if isinstance(value, bool | list | dict):
            raise PageTurnError(f"`{self._next}` is no cursor or URL but {value!r:.80}")
        return value


class _One(_Base):
    def after(self, turn: PageTurn) -> Position | None:  # noqa: ARG002 - one page is one page
        return None


class _Cursor(_Base):
    def after(self, turn: PageTurn) -> Position | None:
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

    def first(self) -> Position:
        return {"params": {**self._size, self._param: self._start}}

    def after(self, turn: PageTurn) -> Position | None:
        page = _number(turn.position, self._param)
        if self._pages is not None:
            pages = read_number(turn.body, self._pages)
            if page - self._start + 1 >= pages:
                return None
        elif self._is_last(turn):
            return None
        return {"params": {**self._size, self._param: page + 1}}

    def beyond(self, turn: PageTurn, most: int) -> list[Position]:
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

    def first(self) -> Position:
        return {"params": {**self._size, self._param: self._start}}

    def after(self, turn: PageTurn) -> Position | None:
        if self._is_last(turn):
            return None
        step = len(turn.records) or turn.look_behind
        return {"params": {**self._size, self._param: _number(turn.position, self._param) + step}}

    def beyond(self, turn: PageTurn, most: int) -> list[Position]:
        step = len(turn.records)
        if self._total is None or not step:
            return []
        offset = _number(turn.position, self._param) + 2 * step
        last = min(self._start + read_number(turn.body, self._total), offset + most * step)
        return [{"params": {**self._size, self._param: number}} for number in range(offset, last, step)]


class _NextUrl(_Base):
    def after(self, turn: PageTurn) -> Position | None:
        if self._ended(turn):
            return None
        value = self._next_value(turn)
        return self._unnamed() if value is None else _follow(str(value), turn)


class _Link(_Base):
    def after(self, turn: PageTurn) -> Position | None:
        if self._ended(turn):
            return None
        target = parse_next_link(turn.exchange.headers.get_list("link"))
        if target is not None:
            return _follow(target, turn)
        if more := turn.signs.more():
            raise PageTurnError(f'the answer has no Link header with rel="next", but {more}')
        return self._unnamed()


class _Auto(_Base):
    """Recognises a Link header, a next URL, a next cursor or page, and the number of this page or of its first record.

    Without any of them the page must be all there is.
    """

    def after(self, turn: PageTurn) -> Position | None:
        signs = turn.signs
        target = parse_next_link(turn.exchange.headers.get_list("link")) or signs.next_url()
        if target is not None:
            return _follow(target, turn)
        params = signs.next_params()
        if params is not None:
            return {"params": {**self._size, **params}}
        place = signs.place()
        if place is not None and turn.records and (following := self._numbered(turn, place)) is not None:
            return following
        if more := signs.more():
            raise PageTurnError(f"nothing in the answer says how to ask for the next page, but {more}")
        return None

    def _numbered(self, turn: PageTurn, place: ListLocation) -> Position | None:
        """The position after the page at `place`; None if that is the last. Numbers begin as the first page's does.

        A list whose pages said what is next comes to its end where one does not.
        """
        if turn.position != self.first() and "first" not in turn.position:
            return None
        first = turn.position.get("first", place.at)
        assert isinstance(first, int)  # noqa: S101 - made here; a reader drops what other settings made
        more = place.at - first + 1 < place.pages if place.pages is not None else turn.signs.goes_on() is not False
        following = place.at + (1 if place.page else len(turn.records))
        return {"params": {**self._size, place.param: following}, "first": first} if more else None


_LINK: Final = re.compile(r'<([^<>]*)>((?:\s*;\s*[\w*!-]+(?:\s*=\s*(?:"(?:[^"\\]|\\.)*"|[^\s",;]*))?)*)')
_LINK_PARAM: Final = re.compile(r';\s*([\w*!-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s",;]*))')


def parse_next_link(headers: list[str]) -> str | None:
    """The target of the link with relation `next` in Link headers (RFC 8288); None where there is none."""
    for header in headers:
        for target, params in _LINK.findall(header):
            for name, quoted, token in _LINK_PARAM.findall(params):
                if name.lower() == "rel":
                    if "next" in (quoted or token).lower().split():
                        return str(target)
                    break  # only the first rel counts (section 3.3)
    return None


def _follow(reference: str, turn: PageTurn) -> Position:
    """The position of a URL an answer gives, resolved against the URL that was asked.

    It must stay at the origin: the credentials that go with the next request are for that alone. The one exception is
    an http:// link at an https:// system, as servers behind a TLS proxy write it; it is asked for over https.
    """
    here = urlsplit(turn.exchange.url)
    try:
        there = urlsplit(urljoin(turn.exchange.url, reference))
        port = there.port
        httpx.URL(there.geturl())
    except (ValueError, httpx.InvalidURL) as error:
        raise PageTurnError(f"what is said to be the next page is no URL: {error}") from None
    if there.hostname == here.hostname and (there.scheme, here.scheme) == ("http", "https") and port in (None, 80):
        there = there._replace(scheme=here.scheme, netloc=here.netloc)
    if (there.scheme, there.hostname, _port(there)) != (here.scheme, here.hostname, _port(here)):
        raise PageTurnError(
            f"the next page is said to be at {there.scheme}://{there.netloc.rpartition('@')[2]}, another origin; the "
            f"credentials are not sent there"
        )
    return {"url": there._replace(scheme="", netloc="", path=there.path or "/", fragment="").geturl()}


def _port(url: SplitResult) -> int:
    return url.port or (443 if url.scheme == "https" else 80)


def read_number(body: Json, where: FieldPath) -> int:
    """The count at `where`, also if it is a text of digits. Raises `PageTurnError`."""
    value = get_value(body, where)
    if isinstance(value, str) and value.isdecimal():
        return int(value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return int(value)
    raise PageTurnError(
        f"expected a number at `{where}`, found {describe_kind(value) if _there(body, where) else 'nothing'}"
    )


def _number(position: Position, param: str) -> int:
    """The number of the page or record that was asked for at `position`."""
    params = position["params"]
    assert isinstance(params, dict)  # noqa: S101 - made by this class; a reader drops what other settings made
    value = params[param]
    assert isinstance(value, int)  # noqa: S101 - as above
    return value


def _there(body: Json, where: FieldPath) -> bool:
    try:
        where.get(body)
    except KeyError:
        return False
    return True


def _optional(text: str | None, where: str) -> FieldPath | None:
    return None if text is None else parse_path(text, where)
