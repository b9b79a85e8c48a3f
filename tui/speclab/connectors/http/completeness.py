"""Signs in a successful page that it does not hold all its records, and the doubt that a read keeps of them.

A read that may have missed records must not look complete: its records are delivered, and it ends with
`IncompleteRead`, so that its cursor stays where it was.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from speclab.connectors.http.answers import look
from speclab.connectors.http.client import Exchange
from speclab.jsonvalue import Json, Record
from speclab.paths import FieldPath

_CONTENT_RANGE: Final = re.compile(r"\s*(?!bytes\b)[\w-]+[ =](\d+)-(\d+)(?:/(?:\d+|\*))?\s*", re.ASCII)
"""A range in a unit other than bytes, such as `items 20-29/50`: how some list APIs number a page (RFC 9110, 14.4)."""
_PLAIN_RANGE: Final = re.compile(r"\s*(\d+)-(\d+)(?:/(?:\d+|\*))?\s*", re.ASCII)
_FLAGS: Final = tuple(
    FieldPath.parse(text)
    for text in ("incomplete_results", "incompleteResults", "incomplete", "partial", "timed_out", "meta.partial")
)
"""Flags that are true of a part: GitHub search `incomplete_results`, Elasticsearch `timed_out`."""
_FAILED_SHARDS: Final = FieldPath.parse("_shards.failed")
_MOST_KEYS: Final = 500_000


@dataclass(frozen=True, slots=True)
class Doubt:
    """Why records may be missing, in a sentence that starts with the request; with the exchange where it is at hand."""

    message: str
    request: str = ""
    response: str = ""


class SeenKeys:
    """The keys of a read by numbered pages, which distinguish a record that moved to a later page from a new record.

    In a list in the order of changes, a record that changes moves to the end, and an unread record takes its place on
    a page that was read. Bounded: `moved` is None (not known) without a key, or with too many of them.
    """

    def __init__(self, key: Sequence[FieldPath], *, from_first: bool) -> None:
        self._key = key
        self._seen: set[int] | None = set() if key and from_first else None
        self.moved: bool | None = False if self._seen is not None else None

    def take(self, records: Sequence[Record]) -> None:
        """Look at the records of one more page."""
        if self._seen is None or self.moved:
            return
        keys = {hash(str([look(record, path) for path in self._key])) for record in records}
        if not keys.isdisjoint(self._seen):
            self.moved = True
        self._seen |= keys
        if len(self._seen) > _MOST_KEYS and not self.moved:
            self._seen = self.moved = None


def partial_page(exchange: Exchange, body: Json, records: Sequence[Record]) -> str | None:
    """Why a page of 2xx holds only a part of its records; None where nothing says so."""
    if exchange.status == 206 and (problem := _range_problem(exchange, len(records))):
        return problem
    for flag in _FLAGS:
        if look(body, flag) is True:
            return f"`{flag}` is true"
    failed = look(body, _FAILED_SHARDS)
    if isinstance(failed, int) and failed > 0:
        return f"`{_FAILED_SHARDS}` is {failed}"
    return None


def _range_problem(exchange: Exchange, count: int) -> str | None:
    """Why 206 is not a page of a list: no range of records in the headers, or one of another length."""
    stated = exchange.headers.get("content-range", "")
    found = _CONTENT_RANGE.fullmatch(stated) or _PLAIN_RANGE.fullmatch(stated)
    if found is None:
        return "it is partial content, and no `Content-Range` header says which part"
    if int(found[2]) - int(found[1]) + 1 != count:
        return f"`Content-Range` is {stated!r}, but there are {count} records"
    return None
