"""Pagination hints: well-known names in bodies and headers that point to further pages.

They find the next page without settings (`by: auto`), and reveal that there is more to read if the settings are wrong.
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
    """The number of the page or first record that a response reports, and the parameter that requests another.

    `pages` is the number of pages, if reported; None if `at` is the number of a record.
    """

    param: str
    at: int
    page: bool
    pages: int | None


@dataclass(frozen=True, slots=True)
class PaginationHints:
    """The hints in one response to a request for `url`, with `records` records."""

    body: Json
    headers: httpx.Headers
    url: str
    records: int
    read: int  # records read so far, including these

    def find_next_url(self) -> str | None:
        """Return the URL of the next page, or None."""
        found = (get_value(self.body, where) for where in _URL_FIELDS)
        return next((value for value in (*found, *self._find_next_headers().values()) if _is_url(value)), None)

    def find_next_params(self) -> Mapping[str, Json] | None:
        """Return the parameter that requests the next page by common conventions, with its value."""
        for where, param in _CURSOR_FIELDS:
            value = get_value(self.body, where)
            if isinstance(value, str) and value:
                return {param: value}
        for part in self._iterate_objects():
            for names, param in ((("next_page", "nextPage"), "page"), (("next_offset", "nextOffset"), "offset")):
                if (number := _count(part, names)) is not None and number > 0:
                    return {param: number}
        for name, text in self._find_next_headers().items():
            for word, param in (("cursor", "cursor"), ("token", "page_token"), ("page", "page"), ("offset", "offset")):
                if word in name and (text.isdecimal() or param not in ("page", "offset")):
                    return {param: int(text) if param in ("page", "offset") else text}
        return None

    def get_location(self) -> ListLocation | None:
        """Return the location of this page in a numbered list, or None if the response does not report it."""
        for part in self._iterate_objects():
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

    def has_more(self) -> bool | None:
        """Return whether there are more records, by a total, a flag, or an empty field for the next page.

        None if the response has none of these.
        """
        totals = [total for _, total in self._find_totals()]
        if totals:
            return max(totals) > self.read
        flags = [flag for where in _MORE_FIELDS if isinstance(flag := get_value(self.body, where), bool)]
        if flags:
            return flags[0]
        following = [value for get_location, value in self._iterate_fields() if _NEXT.fullmatch(get_location[-1])]
        following += [value for name, value in self.headers.items() if _NEXT_HEADER.fullmatch(name)]
        return None if all(following) else False

    def describe_more(self) -> str | None:
        """Describe a clear sign that there are more records, or return None."""
        for where in _MORE_FIELDS:
            if get_value(self.body, where) is True:
                return f"`{where}` is true"
        if (following := self._find_next_field()) is not None:
            return f"it has `{following}`"
        for name in self._find_next_headers():
            return f"it has the header `{name}`"
        for name, total in self._find_totals():
            if total > self.read:
                return f"{name} is {total:,} and {self.read:,} were read"
        for part in self._iterate_objects():
            pages = _count(part, _PAGES)
            if pages is not None and pages > 1 and self.read == self.records:
                return f"it reports {pages:,} pages"
        return None

    def describe_full_page(self, *, whole: bool) -> str | None:
        """Return why the number of records looks like that of a full page, or None; `whole` for a full read."""
        for name, value in parse_qsl(urlsplit(self.url).query):
            if name in _SIZES and self.records > 1 and value == str(self.records):
                return f"as many as `{name}` requests"
        return "a common page size" if whole and self.records in _USUAL else None

    def describe_other_records(self, key: Sequence[FieldPath]) -> str | None:
        """Describe another list in the body whose entries have the `key`, or return None."""
        for get_location, value in self._iterate_fields():
            if isinstance(value, list) and value and all(get_value(value[0], path) is not None for path in key):
                return f"{format_count(len(value), 'record')} at `{FieldPath(get_location)}`"
        return None

    def _iterate_objects(self) -> Iterator[Mapping[str, Json]]:
        """Yield the objects that may describe the page: the body, the objects in it, and the headers."""
        if isinstance(self.body, dict):
            yield self.body
            yield from (part for part in self.body.values() if isinstance(part, dict))
        yield {_PREFIX.sub("", name).replace("-", "_"): value for name, value in self.headers.items()}

    def _find_totals(self) -> Iterator[tuple[str, int]]:
        """Yield totals, each with the name of its field or header."""
        for where in _TOTAL_FIELDS:
            if (total := _number(get_value(self.body, where))) is not None:
                yield f"`{where}`", total
        if (
            count := _number(get_value(self.body, _COUNT))
        ) is not None and count > self.records:  # otherwise it counts this page
            yield f"`{_COUNT}`", count
        for name in _TOTAL_HEADERS:
            if (total := _number(self.headers.get(name))) is not None:
                yield f"the header `{name}`", total
        if part := _RANGE.fullmatch(self.headers.get("content-range", "")):
            yield "the header `content-range`", int(part[1])

    def _find_next_headers(self) -> Mapping[str, str]:
        """Return the non-empty headers that name the next page."""
        return {name: value for name, value in self.headers.items() if value and _NEXT_HEADER.fullmatch(name)}

    def _find_next_field(self) -> FieldPath | None:
        """Return the path of a non-empty field that names the next page, at most one level deep."""
        for get_location, value in self._iterate_fields():
            if _NEXT.fullmatch(get_location[-1]) and isinstance(value, str | int) and value:
                return FieldPath(get_location)
        at = (where for where, _ in _CURSOR_FIELDS if isinstance(text := get_value(self.body, where), str) and text)
        return next(at, None)

    def _iterate_fields(self) -> Iterator[tuple[tuple[str, ...], Json]]:
        """Yield the path and value of each field at the top of the body, then one level deep."""
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
    """Return the first number with one of `names` in `part`."""
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
"""Fields with the cursor of the next page, and the parameter that takes it by convention."""
_NEXT: Final = re.compile(
    r"@?(odata\.)?next[-_]?((page|cursor|token|url|uri|link|href|offset|marker|key|start|after|id|records)[-_]?)*",
    re.IGNORECASE,
)
"""Names of the next page, in any spelling."""
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
"""A range of a list and its length, such as `0-99/250` (RFC 9110 section 14.4, with a custom unit)."""
_COUNT: Final = FieldPath(("count",))
_TOTAL_HEADERS: Final = ("x-total-count", "x-total", "total-count", "x-pagination-total-count")
_DIGITS: Final = 19
