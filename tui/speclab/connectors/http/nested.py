"""Nested lists (`for_each`): a list for each record of a parent list."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import AsyncGenerator, Collection, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Final, TypeAlias
from urllib.parse import quote

from speclab.connectors.api import Page, Report
from speclab.connectors.http.page_reader import PageReader, ShiftedPages
from speclab.connectors.http.prefetch import MOST_WAITING, GatheredPage, PageBuffer
from speclab.connectors.http.read_state import build_bookmark_cursor, read_bookmark
from speclab.connectors.http.request_builder import EndpointTemplate, MissingValue, Placeholder, RequestBuilder
from speclab.connectors.http.retries import Forbidden
from speclab.connectors.http.settings import HttpRead
from speclab.connectors.incremental import digest
from speclab.connectors.unreadable import UnreadableRecord
from speclab.core.errors import BadResponse, EndpointError, IncompleteRead, SpecError
from speclab.core.json import Json, Record
from speclab.core.outcome import Level
from speclab.core.placeholders import RESOLVED_PLACEHOLDER
from speclab.spec.settings import Since


class ParentRequests:
    """Makes the `RequestBuilder` about one parent.

    In the path every place is the parent's. In params and body, where braces may be the API's own, only those are
    places that begin with the name parents go by; one that is all there is keeps its value's type.
    """

    def __init__(self, read: HttpRead, name: str, base: str, origin: str, *, hidden: Collection[str]) -> None:
        """Questions of `read`, whose parents go by `name`. Raises `SpecError`."""
        self._read = read
        self._name = name
        self._names = frozenset({name})
        self._base = base
        self._origin = origin
        self._hidden = hidden
        self._endpoint = EndpointTemplate.parse(read.request or f"GET {read.path}", where="read", names=self._names)
        places = [part for part in self._endpoint.target.parts if isinstance(part, Placeholder)]
        if stray := [found.text for found in places if found.name != name]:
            raise SpecError(f"read: {{{stray[0]}}} is no field of `{name}`, the only record there is when it is asked")
        places += self._places(read.params) + self._places(read.body)
        self._identity = tuple(dict.fromkeys(places))

    def key(self, parent: Record) -> str:
        """What tells `parent` from the others: all of it that is asked for. Raises `MissingValue`."""
        scope: dict[str, Json] = {self._name: parent}
        self._endpoint.target.render({}, scope)  # a value may be there and still have no place in a path, such as `..`
        return "/".join(quote(one.render({}, scope), safe="") for one in self._identity)

    def of(self, parent: Record) -> RequestBuilder:
        """The questions about `parent`. Raises `MissingValue`, but not for one that has a `key`."""
        scope: dict[str, Json] = {self._name: parent}
        fill_shape = {
            "request": f"{self._endpoint.method} {self._endpoint.target.render({}, scope)}",
            "params": {name: self._filled(value, scope) for name, value in self._read.params.items()},
            "body": self._filled(self._read.body, scope),
        }
        return RequestBuilder(self._read.model_copy(update=fill_shape), self._base, self._origin, hidden=self._hidden)

    def _filled(self, value: Json, scope: Mapping[str, Json]) -> Json:
        if isinstance(value, dict):
            return {name: self._filled(inner, scope) for name, inner in value.items()}
        if isinstance(value, list):
            return [self._filled(inner, scope) for inner in value]
        if not isinstance(value, str):
            return value
        whole = RESOLVED_PLACEHOLDER.fullmatch(value)
        if whole and (found := self._place(whole)):
            return found.value({}, scope)

        def written(match: re.Match[str]) -> str:
            found = self._place(match)
            return found.render({}, scope) if found else match[0]

        return RESOLVED_PLACEHOLDER.sub(written, value)

    def _places(self, value: Json) -> list[Placeholder]:
        if isinstance(value, str):
            return [found for match in RESOLVED_PLACEHOLDER.finditer(value) if (found := self._place(match))]
        inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
        return [found for one in inner for found in self._places(one)]

    def _place(self, match: re.Match[str]) -> Placeholder | None:
        """The place of the parent that is written so; None for braces that are the API's own."""
        text = match[1].strip()
        return Placeholder.parse(text, where="read", names=self._names) if text.startswith(f"{self._name}.") else None


Refused: TypeAlias = "BadResponse | Forbidden"
"""What a parent's list may be refused with, and those of others not."""
_HOPELESS: Final = 10
"""Parents refused, and more than were read, after which it is the settings that are wrong."""


@dataclass(slots=True)
class ParentRound:
    """One read of all parents' lists, and how far it has come; by the parents' keys.

    `marks` are of the round before, `done` are those of lists read to the end in this one, and `within` are cursors of
    lists that were broken off. `full` is a round that asks for everything.
    """

    fingerprint: str
    since: Since | None
    full: bool
    marks: dict[str, Json] = field(default_factory=dict)
    done: dict[str, Json] = field(default_factory=dict)
    within: dict[str, Json] = field(default_factory=dict)

    @classmethod
    def begin(cls, cursor: Json, *, full: bool, fingerprint: str, since: Since | None) -> ParentRound:
        """The round that `cursor` asks for: one that was broken off under the same settings goes on, else a new one."""
        held = cursor if isinstance(cursor, dict) else {}
        wait_for_page, was_full = bool(held.get("done") or held.get("within")), held.get("full") is True
        field_ = since.field if since else None
        if held.get("of") != fingerprint or held.get("field") != field_ or (full and not (wait_for_page and was_full)):
            return cls(fingerprint, since, full)
        marks, done, within = (_mapping(held.get(name)) for name in ("marks", "done", "within"))
        return cls(fingerprint, since, was_full if wait_for_page else full, marks, done, within)

    @property
    def fresh(self) -> bool:
        """Whether nothing was read in this round yet, nor before it."""
        return not (self.marks or self.done or self.within)

    @property
    def whole(self) -> bool:
        """Whether all that the parents have is asked for; told before anything of the round is read."""
        return self.since is None or self.full or (self.since.start is None and not self.marks)

    def start(self, key: str) -> Json:
        """The cursor that a parent's list is read from."""
        return self.within.get(key) or build_bookmark_cursor(self.marks.get(key), self.since)

    def took(self, key: str, page: Page) -> None:
        """Remember that a page of a parent's list was read."""
        if page.complete:
            self.done[key] = read_bookmark(page.cursor)
            self.within.pop(key, None)
            self.marks.pop(key, None)
        else:
            self.within[key] = page.cursor

    def cursor(self) -> Json:
        """The cursor in the middle of the round."""
        return self._held(self.marks, full=self.full, done=dict(self.done), within=dict(self.within))

    def over(self, refused: Collection[str]) -> Json:
        """The cursor of the next round. A parent that `refused` is where it was, and one that is gone is forgotten."""
        kept = {key: self.marks[key] for key in refused if key in self.marks}
        return self._held({key: mark for key, mark in {**kept, **self.done}.items() if mark is not None})

    def _held(self, marks: Mapping[str, Json], **more: Json) -> Json:
        return {
            "of": self.fingerprint,
            "field": self.since.field if self.since else None,
            "marks": dict(marks),
            **more,
        }


@dataclass(frozen=True, slots=True)
class ChildList:
    """A parent's list on its way."""

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
        """Lists of `children` for each of `parents`, which go by `name`; so many lists are read `concurrency`."""
        self._parents, self._parent_requests = parents
        self._children, self._requests = children
        self._name = name
        self._since = since
        self._concurrency = concurrency
        self._fingerprint = fingerprint
        self._report = report

    async def pages(self, cursor: Json, *, full: bool) -> AsyncGenerator[Page]:
        """Pages from after `cursor` to the last parent's end; short lists share one.

        A parent whose list is refused does not keep the others from being read; the read ends with what was answered
        (`BadResponse` or `Forbidden`) then, unless the parent turns out to be gone.
        """
        doubts: list[IncompleteRead] = []  # of the list of parents
        round_ = ParentRound.begin(cursor, full=full, fingerprint=self._fingerprint, since=self._since)
        if isinstance(cursor, dict) and cursor.get("of") != self._fingerprint and not full:
            self._report(Level.WARNING, "the `read` settings are not those of the last run; reading from the start")
        gathered, refused = GatheredPage(from_start=round_.fresh, whole=round_.whole), dict[str, Refused]()
        failure: EndpointError | None = None
        try:
            async with aclosing(self._read(round_, refused, doubts)) as read:
                async for child, page in read:
                    gathered.add(page, self._named(child, page))
                    round_.took(child.key, page)
                    if gathered.full:
                        yield gathered.take(round_.cursor())
            refused = await self._still_there(refused)
            if refused and not round_.done:
                raise _refusal(refused)
        except EndpointError as error:
            failure = error
        if failure is not None:
            if gathered.requests:
                yield gathered.take(round_.cursor())
            raise failure
        unread = {*refused, *(round_.marks if doubts else ())}
        yield gathered.take(round_.over(unread), complete=not refused and not doubts)
        if refused:
            raise _refusal(refused)
        if doubts:
            raise doubts[0]

    async def _read(
        self, round_: ParentRound, refused: dict[str, Refused], doubts: list[IncompleteRead]
    ) -> AsyncGenerator[tuple[ChildList, Page]]:
        """The pages of all lists, one list after the other; the next lists are begun while one is read."""
        window: deque[ChildList] = deque()
        try:
            async with aclosing(self._unread(set(round_.done), doubts)) as parents:
                while True:
                    while len(window) < self._concurrency and (parent := await anext(parents, None)) is not None:
                        key, missing = self._key(parent)
                        if missing is None:
                            window.append(self._begin(round_, key, parent))
                        else:
                            refused[key] = missing
                    if not window:
                        return
                    child = window[0]
                    try:
                        while (page := await child.buffer.next()) is not None:
                            yield child, page
                    except (BadResponse, Forbidden) as error:
                        refused[child.key] = error
                    await child.buffer.aclose()
                    window.popleft()
                    if len(refused) >= _HOPELESS and len(refused) > len(round_.done):
                        raise _refusal(refused)
        finally:
            for child in window:
                await child.buffer.aclose()

    async def _unread(self, seen: set[str], doubts: list[IncompleteRead]) -> AsyncGenerator[Record]:
        """The parents that are not `seen` yet.

        A list of several pages is gone through until nothing in it is new: one that loses a parent may move another
        from a page that is still to come to one that was. If a list may lack parents, the reason goes to `doubts` and
        those it has are read.
        """
        while True:
            pages, before = 0, len(seen)
            doubts.clear()
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
                    doubts.append(error)
            if pages == 1 or len(seen) == before:
                return

    def _all_parents(self) -> AsyncGenerator[Page]:
        return self._parents.pages(self._parent_requests, None, full=True)

    def _begin(self, round_: ParentRound, key: str, parent: Record) -> ChildList:
        """A parent's list, asked for."""
        pages = self._children.pages(self._requests.of(parent), round_.start(key), full=round_.full)
        return ChildList(key, parent, PageBuffer(pages, MOST_WAITING // self._concurrency))

    def _key(self, parent: Record) -> tuple[str, BadResponse | None]:
        """What a parent goes by, and why it cannot be asked for, if it cannot."""
        try:
            return self._requests.key(parent), None
        except MissingValue as error:
            return f"#{digest(parent)}", BadResponse(
                f"read.for_each: {error.message}", hint=f"Every `{self._name}` is asked for by it."
            )

    def _named(self, child: ChildList, page: Page) -> list[Record]:
        """The records of a page with the parent in each."""
        if any(self._name in record for record in page.records):
            raise BadResponse(
                f"{page.request}: the records have a field `{self._name}` of their own",
                request=page.request,
                hint="Let the parents go by another name, with `as` in `read.for_each`.",
            )
        more: Record = {self._name: child.parent}
        return [
            record.with_fields(more) if isinstance(record, UnreadableRecord) else {**record, **more}
            for record in page.records
        ]

    async def _still_there(self, refused: Mapping[str, Refused]) -> dict[str, Refused]:
        """Those of `refused` whose parent is in the list still; one that was deleted meanwhile has nothing to read."""
        if not refused:
            return {}
        try:
            listed = {self._key(parent)[0] async for page in self._all_parents() for parent in page.records}
        except IncompleteRead:  # those it lacks may be there
            return dict(refused)
        gone = len(refused.keys() - listed)
        if gone:
            self._report(Level.INFO, f"{gone} of `{self._name}` went away while they were read")
        return {key: error for key, error in refused.items() if key in listed}


def _mapping(value: Json) -> dict[str, Json]:
    return dict(value) if isinstance(value, dict) else {}


def _refusal(refused: Mapping[str, Refused]) -> Refused:
    """The first refusal, which says how many there are."""
    first, *more = refused.values()
    if not more:
        return first
    return type(first)(
        f"{first.message} (and {len(more)} more like it)",
        request=first.request,
        response=first.response,
        hint=first.hint,
    )
