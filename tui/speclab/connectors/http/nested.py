"""Nested lists (`for_each`): one list for each record of a parent list."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import AsyncGenerator, Collection, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Final, TypeAlias
from urllib.parse import quote

from speclab.connectors.api import Page, Report, UnreadableRecord
from speclab.connectors.http.page_reader import PageReader, ShiftedPages
from speclab.connectors.http.read_state import (
    MOST_WAITING,
    GatheredPage,
    PageBuffer,
    build_bookmark_cursor,
    read_bookmark,
)
from speclab.connectors.http.request_builder import EndpointTemplate, MissingValue, Placeholder, RequestBuilder
from speclab.connectors.http.retries import Forbidden
from speclab.connectors.http.settings import HttpRead
from speclab.connectors.incremental import compute_digest
from speclab.core.errors import BadResponse, EndpointError, IncompleteRead, SpecError
from speclab.core.json import Json, Record
from speclab.core.outcome import Level
from speclab.core.text import RESOLVED_PLACEHOLDER
from speclab.spec.settings import Since


class ParentRequests:
    """Builds the `RequestBuilder` of each parent.

    In the path, every placeholder is a field of the parent. In params and body, where the API may use braces itself,
    only those that start with the parents' name are placeholders; a value that is one placeholder keeps its type.
    """

    def __init__(self, read: HttpRead, name: str, base: str, origin: str, *, hidden: Collection[str]) -> None:
        """Parse the requests of `read`, whose parents are called `name`. Raises `SpecError`."""
        self._read = read
        self._name = name
        self._names = frozenset({name})
        self._base = base
        self._origin = origin
        self._hidden = hidden
        self._endpoint = EndpointTemplate.parse(read.request or f"GET {read.path}", where="read", names=self._names)
        places = [part for part in self._endpoint.target.parts if isinstance(part, Placeholder)]
        if stray := [found.text for found in places if found.name != name]:
            raise SpecError(f"read: {{{stray[0]}}} is not a field of `{name}`, the only record that a read can use")
        places += self._find_placeholders(read.params) + self._find_placeholders(read.body)
        self._identity = tuple(dict.fromkeys(places))

    def key(self, parent: Record) -> str:
        """Return the identity of `parent`: all of its values in the requests. Raises `MissingValue`."""
        scope: dict[str, Json] = {self._name: parent}
        self._endpoint.target.render({}, scope)  # raises for values that a path cannot contain, such as `..`
        return "/".join(quote(one.render({}, scope), safe="") for one in self._identity)

    def build(self, parent: Record) -> RequestBuilder:
        """Return the requests for `parent`. Raises `MissingValue`, but not for one that has a `key`."""
        scope: dict[str, Json] = {self._name: parent}
        resolved = {
            "request": f"{self._endpoint.method} {self._endpoint.target.render({}, scope)}",
            "params": {name: self._fill(value, scope) for name, value in self._read.params.items()},
            "body": self._fill(self._read.body, scope),
        }
        return RequestBuilder(self._read.model_copy(update=resolved), self._base, self._origin, hidden=self._hidden)

    def _fill(self, value: Json, scope: Mapping[str, Json]) -> Json:
        if isinstance(value, dict):
            return {name: self._fill(inner, scope) for name, inner in value.items()}
        if isinstance(value, list):
            return [self._fill(inner, scope) for inner in value]
        if not isinstance(value, str):
            return value
        whole = RESOLVED_PLACEHOLDER.fullmatch(value)
        if whole and (found := self._parse_placeholder(whole)):
            return found.value({}, scope)

        def written(match: re.Match[str]) -> str:
            found = self._parse_placeholder(match)
            return found.render({}, scope) if found else match[0]

        return RESOLVED_PLACEHOLDER.sub(written, value)

    def _find_placeholders(self, value: Json) -> list[Placeholder]:
        if isinstance(value, str):
            return [
                found for match in RESOLVED_PLACEHOLDER.finditer(value) if (found := self._parse_placeholder(match))
            ]
        inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
        return [found for one in inner for found in self._find_placeholders(one)]

    def _parse_placeholder(self, match: re.Match[str]) -> Placeholder | None:
        """Parse a placeholder of the parent; None for braces of the API itself."""
        text = match[1].strip()
        return Placeholder.parse(text, where="read", names=self._names) if text.startswith(f"{self._name}.") else None


ParentError: TypeAlias = "BadResponse | Forbidden"
"""Errors of one parent's list that do not affect the others."""
_MAX_FAILED: Final = 10
"""Number of failed parents, if more than were read, at which the settings are assumed to be wrong."""


@dataclass(slots=True)
class ParentRound:
    """The progress of one read of all parents' lists, by the keys of the parents.

    `marks` are bookmarks of the previous round, `done` those of lists finished in this one, `within` the cursors of
    unfinished lists. `full` is True for a full read.
    """

    fingerprint: str
    since: Since | None
    full: bool
    marks: dict[str, Json] = field(default_factory=dict)
    done: dict[str, Json] = field(default_factory=dict)
    within: dict[str, Json] = field(default_factory=dict)

    @classmethod
    def begin(cls, cursor: Json, *, full: bool, fingerprint: str, since: Since | None) -> ParentRound:
        """Resume the round that `cursor` describes if it was interrupted with the same settings, or start a new one."""
        stored = cursor if isinstance(cursor, dict) else {}
        started, was_full = bool(stored.get("done") or stored.get("within")), stored.get("full") is True
        field_ = since.field if since else None
        if stored.get("of") != fingerprint or stored.get("field") != field_ or (full and not (started and was_full)):
            return cls(fingerprint, since, full)
        marks, done, within = (_as_dict(stored.get(name)) for name in ("marks", "done", "within"))
        return cls(fingerprint, since, was_full if started else full, marks, done, within)

    @property
    def fresh(self) -> bool:
        """Whether nothing was read before or in this round."""
        return not (self.marks or self.done or self.within)

    @property
    def whole(self) -> bool:
        """Whether the round covers all records; to be read at its start."""
        return self.since is None or self.full or (self.since.start is None and not self.marks)

    def get_start_cursor(self, key: str) -> Json:
        """Return the cursor from which to read a parent's list."""
        return self.within.get(key) or build_bookmark_cursor(self.marks.get(key), self.since)

    def record_page(self, key: str, page: Page) -> None:
        """Store the progress after a page of a parent's list."""
        if page.complete:
            self.done[key] = read_bookmark(page.cursor)
            self.within.pop(key, None)
            self.marks.pop(key, None)
        else:
            self.within[key] = page.cursor

    def build_cursor(self) -> Json:
        """Return the cursor within the round."""
        return self._build(self.marks, full=self.full, done=dict(self.done), within=dict(self.within))

    def build_final_cursor(self, failed: Collection[str]) -> Json:
        """Return the cursor of the next round. A `failed` parent keeps its bookmark; a deleted one loses it."""
        kept = {key: self.marks[key] for key in failed if key in self.marks}
        return self._build({key: mark for key, mark in {**kept, **self.done}.items() if mark is not None})

    def _build(self, marks: Mapping[str, Json], **more: Json) -> Json:
        return {
            "of": self.fingerprint,
            "field": self.since.field if self.since else None,
            "marks": dict(marks),
            **more,
        }


@dataclass(frozen=True, slots=True)
class ChildList:
    """A parent's list that is being read."""

    key: str
    parent: Record
    buffer: PageBuffer


class NestedReader:
    """Reads the lists of all parents, in the parents' order."""

    def __init__(
        self,
        parents: tuple[PageReader, RequestBuilder],
        children: tuple[PageReader, ParentRequests],
        *,
        name: str,
        since: Since | None,
        concurrency: int,
        fingerprint: str,
        report: Report,
    ) -> None:
        """Read `children` for each of `parents`, which are called `name`, up to `concurrency` lists at once."""
        self._parents, self._parent_requests = parents
        self._children, self._requests = children
        self._name = name
        self._since = since
        self._concurrency = concurrency
        self._fingerprint = fingerprint
        self._report = report

    async def pages(self, cursor: Json, *, full: bool) -> AsyncGenerator[Page]:
        """Yield the pages after `cursor` of all lists; short lists share a page.

        If a parent's list fails, the others are still read. The read then ends with that error (`BadResponse` or
        `Forbidden`), unless the parent no longer exists.
        """
        incomplete: list[IncompleteRead] = []  # errors of the parent list
        parent_round = ParentRound.begin(cursor, full=full, fingerprint=self._fingerprint, since=self._since)
        if isinstance(cursor, dict) and cursor.get("of") != self._fingerprint and not full:
            self._report(Level.WARNING, "the `read` settings have changed since the last run; reading from the start")
        gathered, failed = (
            GatheredPage(from_start=parent_round.fresh, whole=parent_round.whole),
            dict[str, ParentError](),
        )
        failure: EndpointError | None = None
        try:
            async with aclosing(self._read(parent_round, failed, incomplete)) as read:
                async for child, page in read:
                    gathered.add(page, self._add_parent(child, page))
                    parent_round.record_page(child.key, page)
                    if gathered.full:
                        yield gathered.take(parent_round.build_cursor())
            failed = await self._find_existing(failed)
            if failed and not parent_round.done:
                raise _combine_errors(failed)
        except EndpointError as error:
            failure = error
        if failure is not None:
            if gathered.requests:
                yield gathered.take(parent_round.build_cursor())
            raise failure
        unread = {*failed, *(parent_round.marks if incomplete else ())}
        yield gathered.take(parent_round.build_final_cursor(unread), complete=not failed and not incomplete)
        if failed:
            raise _combine_errors(failed)
        if incomplete:
            raise incomplete[0]

    async def _read(
        self, parent_round: ParentRound, failed: dict[str, ParentError], incomplete: list[IncompleteRead]
    ) -> AsyncGenerator[tuple[ChildList, Page]]:
        """Yield the pages of all lists in order, and prefetch the next lists."""
        window: deque[ChildList] = deque()
        try:
            async with aclosing(self._read_parents(set(parent_round.done), incomplete)) as parents:
                while True:
                    while len(window) < self._concurrency and (parent := await anext(parents, None)) is not None:
                        key, missing = self._key(parent)
                        if missing is None:
                            window.append(self._open_child(parent_round, key, parent))
                        else:
                            failed[key] = missing
                    if not window:
                        return
                    child = window[0]
                    try:
                        while (page := await child.buffer.next()) is not None:
                            yield child, page
                    except (BadResponse, Forbidden) as error:
                        failed[child.key] = error
                    await child.buffer.aclose()
                    window.popleft()
                    if len(failed) >= _MAX_FAILED and len(failed) > len(parent_round.done):
                        raise _combine_errors(failed)
        finally:
            for child in window:
                await child.buffer.aclose()

    async def _read_parents(self, seen: set[str], incomplete: list[IncompleteRead]) -> AsyncGenerator[Record]:
        """Yield the parents that are not in `seen`.

        A list of several pages is repeated until it has no new parent, because a deleted parent can move another one
        onto a page that was already read. If parents may be missing, the reason is added to `incomplete`.
        """
        while True:
            pages, before = 0, len(seen)
            incomplete.clear()
            async with aclosing(self._all_parents()) as listed:
                try:
                    async for page in listed:
                        pages += 1
                        for parent in page.records:
                            key, _ = self._key(parent)
                            if key not in seen:
                                seen.add(key)
                                yield parent
                except IncompleteRead as error:
                    if isinstance(error, ShiftedPages):
                        raise
                    incomplete.append(error)
            if pages == 1 or len(seen) == before:
                return

    def _all_parents(self) -> AsyncGenerator[Page]:
        return self._parents.pages(self._parent_requests, None, full=True)

    def _open_child(self, parent_round: ParentRound, key: str, parent: Record) -> ChildList:
        """Start reading a parent's list."""
        pages = self._children.pages(
            self._requests.build(parent), parent_round.get_start_cursor(key), full=parent_round.full
        )
        return ChildList(key, parent, PageBuffer(pages, MOST_WAITING // self._concurrency))

    def _key(self, parent: Record) -> tuple[str, BadResponse | None]:
        """Return the key of a parent, and the error if its list cannot be requested."""
        try:
            return self._requests.key(parent), None
        except MissingValue as error:
            return f"#{compute_digest(parent)}", BadResponse(
                f"read.for_each: {error.message}", hint=f"Requests for every `{self._name}` use this field."
            )

    def _add_parent(self, child: ChildList, page: Page) -> list[Record]:
        """Return the records of a page, each with its parent."""
        if any(self._name in record for record in page.records):
            raise BadResponse(
                f"{page.request}: the records already have a field `{self._name}`",
                request=page.request,
                hint="Set another name for the parents in `read.for_each.as`.",
            )
        more: Record = {self._name: child.parent}
        return [
            record.with_fields(more) if isinstance(record, UnreadableRecord) else {**record, **more}
            for record in page.records
        ]

    async def _find_existing(self, failed: Mapping[str, ParentError]) -> dict[str, ParentError]:
        """Return those of `failed` whose parent still exists; a deleted one has nothing to read."""
        if not failed:
            return {}
        try:
            listed = {self._key(parent)[0] async for page in self._all_parents() for parent in page.records}
        except IncompleteRead:  # missing ones may exist
            return dict(failed)
        gone = len(failed.keys() - listed)
        if gone:
            self._report(Level.INFO, f"{gone} of `{self._name}` were deleted during the read")
        return {key: error for key, error in failed.items() if key in listed}


def _as_dict(value: Json) -> dict[str, Json]:
    return dict(value) if isinstance(value, dict) else {}


def _combine_errors(failed: Mapping[str, ParentError]) -> ParentError:
    """Return the first error, with the number of further ones."""
    first, *more = failed.values()
    if not more:
        return first
    return type(first)(
        f"{first.message} (and {len(more)} more like it)",
        request=first.request,
        response=first.response,
        hint=first.hint,
    )
