"""What an answer says by itself of the pages after it: the names in use for that, in bodies and in headers.

The spec need not say where they are (`by: auto`); and where it says so wrongly, they show that there is more to read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeGuard
from urllib.parse import parse_qsl, urlsplit

import httpx

from speclab.connectors.http.response import get_value
from speclab.core.json import Json
from speclab.core.paths import FieldPath
from speclab.core.text import format_count


@dataclass(frozen=True, slots=True)
class ListLocation:
    """The number of the page or record an answer says it begins at, and the parameter that asks for another.

    `pages` is how many pages there are in all, if it says so; None for the number of a record, which is no page.
    """

    param: str
    at: int
    page: bool
    pages: int | None


@dataclass(frozen=True, slots=True)
class PaginationHints:
    """The signs in one answer: `body` and `headers`, what was asked for at `url`, and how many records came."""

    body: Json
    headers: httpx.Headers
    url: str
    records: int
    read: int  # so far, with these

    def next_url(self) -> str | None:
        """The URL of the next page; None where there is none to be seen."""
        found = (get_value(self.body, where) for where in _URL_FIELDS)
        return next((value for value in (*found, *self._next_headers().values()) if _is_url(value)), None)

    def next_params(self) -> Mapping[str, Json] | None:
        """The parameter that asks for the next page, by the conventions in use, with its value."""
        for where, param in _CURSOR_FIELDS:
            value = get_value(self.body, where)
            if isinstance(value, str) and value:
                return {param: value}
        for part in self._parts():
            for names, param in ((("next_page", "nextPage"), "page"), (("next_offset", "nextOffset"), "offset")):
                if (number := _count(part, names)) is not None and number > 0:
                    return {param: number}
        for name, text in self._next_headers().items():
            for word, param in (("cursor", "cursor"), ("token", "page_token"), ("page", "page"), ("offset", "offset")):
                if word in name and (text.isdecimal() or param not in ("page", "offset")):
                    return {param: int(text) if param in ("page", "offset") else text}
        return None

    def place(self) -> ListLocation | None:
        """Where in a list by numbers this page is; None where the answer does not say."""
        for part in self._parts():
            pages = _count(part, _PAGES)
            for name in _PAGE if pages is None else (*_PAGE, "number"):
                if (at := _count(part, (name,))) is not None:
                    return ListLocation(
                        name if name in ("pageNumber", "page_number") else "page", at, page=True, pages=pages
                    )
            for name in _OFFSET:
                if (at := _count(part, (name,))) is not None:
                    return ListLocation(name, at, page=False, pages=None)
        return None

    def goes_on(self) -> bool | None:
        """Whether there is more than was read so far: by a total, a flag, or an empty name for what comes next.

        None where the answer has nothing of that kind.
        """
        totals = [total for _, total in self._totals()]
        if totals:
            return max(totals) > self.read
        flags = [flag for where in _MORE_FIELDS if isinstance(flag := get_value(self.body, where), bool)]
        if flags:
            return flags[0]
        following = [value for place, value in self._places() if _NEXT.fullmatch(place[-1])]
        following += [value for name, value in self.headers.items() if _NEXT_HEADER.fullmatch(name)]
        return None if all(following) else False

    def more(self) -> str | None:
        """A plain sign that there is more than was read so far, in words; None where there is none."""
        for where in _MORE_FIELDS:
            if get_value(self.body, where) is True:
                return f"`{where}` is true"
        if (following := self._next_field()) is not None:
            return f"`{following}` is there"
        for name in self._next_headers():
            return f"the header `{name}` is there"
        for name, total in self._totals():
            if total > self.read:
                return f"{name} says {total:,} and {self.read:,} were read"
        for part in self._parts():
            pages = _count(part, _PAGES)
            if pages is not None and pages > 1 and self.read == self.records:
                return f"it says that there are {pages:,} pages"
        return None

    def like_a_page(self, *, whole: bool) -> str | None:
        """Why so many records look like a first page; None where they do not. `whole` if all were asked for."""
        for name, value in parse_qsl(urlsplit(self.url).query):
            if name in _SIZES and self.records > 1 and value == str(self.records):
                return f"as `{name}` asks for"
        return "as a first page often has" if whole and self.records in _USUAL else None

    def records_elsewhere(self, key: Sequence[FieldPath]) -> str | None:
        """What the body has, in words, that must be records, for they have a `key`, where none were taken."""
        for place, value in self._places():
            if isinstance(value, list) and value and all(get_value(value[0], path) is not None for path in key):
                return f"{format_count(len(value), 'record')} at `{FieldPath(place)}`"
        return None

    def _parts(self) -> Iterator[Mapping[str, Json]]:
        """What may say where a list stands: the body, the objects right in it, and the headers."""
        if isinstance(self.body, dict):
            yield self.body
            yield from (part for part in self.body.values() if isinstance(part, dict))
        yield {_PREFIX.sub("", name).replace("-", "_"): value for name, value in self.headers.items()}

    def _totals(self) -> Iterator[tuple[str, int]]:
        """Numbers that are called a total, each with its place."""
        for where in _TOTAL_FIELDS:
            if (total := _number(get_value(self.body, where))) is not None:
                yield f"`{where}`", total
        if (
            count := _number(get_value(self.body, _COUNT))
        ) is not None and count > self.records:  # else it is of this page
            yield f"`{_COUNT}`", count
        for name in _TOTAL_HEADERS:
            if (total := _number(self.headers.get(name))) is not None:
                yield f"the header `{name}`", total
        if part := _RANGE.fullmatch(self.headers.get("content-range", "")):
            yield "the header `content-range`", int(part[1])

    def _next_headers(self) -> Mapping[str, str]:
        """The headers by a name for what comes next, and with something in them."""
        return {name: value for name, value in self.headers.items() if value and _NEXT_HEADER.fullmatch(name)}

    def _next_field(self) -> FieldPath | None:
        """Where the body has something by a name for what comes next, at its top or one level below."""
        for place, value in self._places():
            if _NEXT.fullmatch(place[-1]) and isinstance(value, str | int) and value:
                return FieldPath(place)
        at = (where for where, _ in _CURSOR_FIELDS if isinstance(text := get_value(self.body, where), str) and text)
        return next(at, None)

    def _places(self) -> Iterator[tuple[tuple[str, ...], Json]]:
        """What the body has at its top, and then one level below."""
        if not isinstance(self.body, dict):
            return
        for name, value in self.body.items():
            yield (name,), value
        for name, part in self.body.items():
            if isinstance(part, dict):
                yield from (((name, key), value) for key, value in part.items())


def _is_url(value: Json) -> TypeGuard[str]:
    return isinstance(value, str) and (value.startswith(("http://", "https://", "/")) or "?" in value)


def _count(part: Mapping[str, Json], names: Sequence[str]) -> int | None:
    """The first number by one of `names` in `part`."""
    return next((number for name in names if (number := _number(part.get(name))) is not None), None)


def _number(value: Json) -> int | None:
    if isinstance(value, str):
        return int(value) if value.isdecimal() and len(value) < _DIGITS else None
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _paths(*texts: str) -> tuple[FieldPath, ...]:
    return tuple(FieldPath.parse(text) for text in texts)


_URL_FIELDS: Final = _paths(
    "next", "next_url", "nextUrl", "next_page", "nextPage", "next_page_url", "links.next", "_links.next.href",
    "links.next.href", "paging.next", "pagination.next", "pagination.next_url", "meta.next", "meta.next_url",
    '["@odata.nextLink"]', "nextLink", "nextRecordsUrl",
)  # fmt: skip
_CURSOR_FIELDS: Final = tuple(
    (FieldPath.parse(text), param)
    for text, param in (
        ("next_cursor", "cursor"),
        ("meta.next_cursor", "cursor"),
        ("pagination.next_cursor", "cursor"),
        ("paging.next_cursor", "cursor"),
        ("response_metadata.next_cursor", "cursor"),
        ("nextCursor", "cursor"),
        ("meta.nextCursor", "cursor"),
        ("paging.next.after", "after"),
        ("next_page_token", "page_token"),
        ("nextPageToken", "pageToken"),
        ("nextToken", "nextToken"),
    )
)
"""Where APIs put the cursor of the next page, and the parameter that takes it there by their convention."""
_NEXT: Final = re.compile(
    r"@?(odata\.)?next[-_]?((page|cursor|token|url|uri|link|href|offset|marker|key|start|after|id|records)[-_]?)*",
    re.IGNORECASE,
)
"""Names for what comes next, in whatever spelling."""
_PREFIX: Final = re.compile(r"^(x-)?(pagination-)?")
_NEXT_HEADER: Final = re.compile(r"(x-)?(pagination-)?next(-?(page|cursor|token|url|uri|link|href|offset))*")
_PAGE: Final = ("page", "current_page", "currentPage", "page_number", "pageNumber")
_PAGES: Final = (
    "total_pages", "totalPages", "pages", "page_count", "pageCount", "num_pages", "last_page", "lastPage",
)  # fmt: skip
_OFFSET: Final = ("offset", "skip", "startAt", "startIndex", "start_index")
_SIZES: Final = frozenset(
    {"limit", "per_page", "perPage", "per-page", "page_size", "pageSize", "page[size]", "page[limit]", "size", "$top",
     "top", "max_results", "maxResults", "_limit", "_per_page"}
)  # fmt: skip
_USUAL: Final = frozenset({10, 20, 25, 30, 50, 100, 200, 250, 500, 1000})
_MORE_FIELDS: Final = _paths(
    "has_more", "hasMore", "has_next", "hasNext", "more", "meta.has_more", "meta.hasMore", "pagination.has_more",
    "pagination.hasMore", "pagination.has_next", "paging.has_more", "pageInfo.hasNextPage",
)  # fmt: skip
_TOTAL_FIELDS: Final = _paths(
    "total", "total_count", "totalCount", "total_results", "totalResults", "totalSize", "totalElements", "meta.total",
    "meta.total_count", "meta.totalCount", "pagination.total", "paging.total", "page.totalElements",
)  # fmt: skip
_RANGE: Final = re.compile(r"(?:[a-z]+ )?\d+-\d+/(\d{1,18})")
"""A part of a list, and how long that is, such as `0-99/250` (RFC 9110 section 14.4, with a unit of its own)."""
_COUNT: Final = FieldPath(("count",))
_TOTAL_HEADERS: Final = ("x-total-count", "x-total", "total-count", "x-pagination-total-count")
_DIGITS: Final = 19
