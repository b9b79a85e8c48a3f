"""Reading a tap: its records page by page, its STATE as the cursor."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass, field, replace
from typing import Final

from speclab.connectors.base import Page, Seams
from speclab.connectors.references import References
from speclab.connectors.singer.messages import (
    NoMessage,
    OtherMessage,
    RecordMessage,
    SchemaMessage,
    StateMessage,
    parse,
)
from speclab.connectors.singer.source import Tap
from speclab.errors import SystemFailure
from speclab.jsonvalue import Json, Record
from speclab.mapping.fields import fields_of_schema
from speclab.outcome import Level
from speclab.spec.auth import Auth
from speclab.spec.settings import RetrySettings
from speclab.spec.systems.singer import SingerSystem

_RECORDS: Final = 1000
_BYTES: Final = 8_000_000
"""A page ends with either."""


@dataclass(frozen=True, slots=True)
class Position:
    """Where a read goes on: the tap's `state`, and whether it is the middle of a read that began at the start."""

    state: Json = None
    whole: bool = False

    @classmethod
    def load(cls, cursor: Json, *, full: bool) -> Position:
        """Where to begin; a full read begins at the start, or where another was broken off."""
        match cursor:
            case {"state": state, "whole": True}:
                return cls(state, whole=True)
            case {"state": state} if not full:
                return cls(state)
        return cls(None, whole=True)

    def dump(self, of: str) -> Json:
        """The cursor a page has; the state is one `of` that tap and stream."""
        if self.state is None:
            return None
        cursor: dict[str, Json] = {"of": of, "state": self.state}
        return cursor | {"whole": True} if self.whole else cursor

    @property
    def at_start(self) -> bool:
        """Whether a tap that is given this state begins at the start: there is no bookmark in it.

        Only a state in the usual form, `{"bookmarks": {STREAM: {...}}}`, can be looked into.
        """
        match self.state:
            case None:
                return True
            case {"bookmarks": dict(bookmarks)}:
                marks = [mark.values() if isinstance(mark, dict) else [mark] for mark in bookmarks.values()]
                return not any(value for values in marks for value in values)
        return self.state == {}


@dataclass(slots=True)
class _Taken:
    """What came from a tap and is in no page yet, and the last STATE."""

    state: Json
    records: list[Record] = field(default_factory=list)
    settled: int = 0
    """How many of the records came before the last STATE."""
    size: int = 0
    line: int = 0

    @property
    def full(self) -> bool:
        return len(self.records) >= _RECORDS or self.size >= _BYTES


class SingerReader:
    """Reads one stream of a tap.

    A page ends with the last STATE that has come when there are 1,000 records, or nothing more for now. Where a tap
    gives no STATE for that long, a page ends without one and its cursor is the STATE before, or none: a run that goes
    on from there reads its records again, and skips none.
    """

    def __init__(
        self, system: SingerSystem, auth: Auth, references: References, seams: Seams, retry: RetrySettings
    ) -> None:
        """A reader for settings as the spec has them. Raises `UnresolvedReference`."""
        del auth, retry  # a tap has its credentials in its config, and tries again by itself
        self._tap = Tap(system, references, seams)
        self._deletes = system.deletes_missing()
        self._report = seams.report
        self._held = AsyncExitStack()
        self._told: set[str] = set()
        self._foreign: set[str] = set()
        self._met = False
        """Whether the tap has spoken of the stream."""
        self._fields: dict[str, str] | None = None
        self._key = {system.key} if isinstance(system.key, str) else set(system.key)

    async def pages(self, cursor: Json, *, full: bool) -> AsyncIterator[Page]:
        """Pages from after `cursor` to the tap's end; the last is one that came after it had ended well.

        Records that came before a failure are given before it is raised.
        """
        start = self._start(cursor, full=full)
        taken = _Taken(start.state)
        try:
            running = await self._held.enter_async_context(self._tap.reading(start.state))
            async with aclosing(running.lots()) as lots:
                async for lot in lots:
                    for line in lot:
                        self._take(line, taken)
                        if taken.full:
                            yield self._page(taken, start)
                    if taken.settled:
                        yield self._page(taken, start)
            code = await running.ended()
            if code != 0:
                raise self._tap.failed(code)
            if self._foreign and not self._met:
                raise self._tap.foreign(self._foreign)
            yield self._page(taken, start, complete=True)
        except SystemFailure:
            while taken.records:
                yield self._page(taken, start)
            raise
        finally:
            await self._held.aclose()

    async def close(self) -> None:
        """End the tap, if it still runs."""
        await self._held.aclose()

    def _start(self, cursor: Json, *, full: bool) -> Position:
        """Where to begin: not with the state of another tap or stream, which this one might make something of."""
        match cursor:
            case {"of": of} if of != self._tap.request:
                self._report(Level.WARNING, f"the last run stopped in {of}; this is {self._tap.request}, read anew")
                cursor = None
        start = Position.load(cursor, full=full)
        return replace(start, whole=start.whole or start.at_start)

    def _page(self, taken: _Taken, start: Position, *, complete: bool = False) -> Page:
        """A page of what was taken up to the last STATE, or of all; it is no longer taken then."""
        end = len(taken.records) if complete else taken.settled or len(taken.records)
        page = Page(
            records=taken.records[:end],
            cursor=Position(taken.state, whole=start.whole and not complete).dump(self._tap.request),
            bytes_in=taken.size,
            request=self._tap.request,
            complete=complete,
            from_start=start.at_start,
            whole=start.whole,
        )
        taken.records, taken.settled, taken.size = taken.records[end:], 0, 0
        return page

    def _take(self, line: bytes, taken: _Taken) -> None:
        """Take a line. Raises `BadAnswer` for one that no tap may write."""
        taken.line += 1
        if not line.strip():
            return
        try:
            message = parse(line)
        except NoMessage as error:
            raise self._tap.misspoke(taken.line, str(error), line) from None
        match message:
            case RecordMessage(stream, record) if stream in self._tap.names:
                taken.records.append(record)
                taken.size += len(line)
                self._met = True
            case StateMessage(value):
                taken.state = value
                taken.settled = len(taken.records)
            case SchemaMessage(stream) if stream in self._tap.names:
                self._met = True
                self._look_at(message)
            case RecordMessage(stream):
                self._foreign.add(stream)
                self._once(Level.WARNING, f"the tap gives records of the stream {stream}, too; they are left out")
            case OtherMessage():
                self._look_at_other(message, line, taken)

    def _look_at_other(self, message: OtherMessage, line: bytes, taken: _Taken) -> None:
        if message.kind == "BATCH":
            what = "names files of records, which are not read; take `batch_config` out of `config`"
            raise self._tap.misspoke(taken.line, what, line)
        if message.kind != "ACTIVATE_VERSION":
            self._once(Level.WARNING, f"the tap gives messages of the type {message.kind}; they are left out")
        elif message.stream in self._tap.names:
            hint = "" if self._deletes else "; `missing: delete` deletes what a full read does not give"
            self._once(Level.INFO, f"the tap says that what it gave before and does not now is gone{hint}")

    def _look_at(self, message: SchemaMessage) -> None:
        """Tell of a schema that changes in the middle of a read, and of a key that is not the tap's."""
        now = {str(field.path): field.declared for field in fields_of_schema(message.schema)}
        if self._fields is not None and self._fields != now:
            changed = sorted({*now.items()} ^ {*self._fields.items()})
            names = ", ".join(dict.fromkeys(name for name, _ in changed))
            self._report(Level.WARNING, f"the tap describes {message.stream} anew: {names}")
        self._fields = now
        if message.key and set(message.key) != self._key:
            told, own = ", ".join(message.key), ", ".join(sorted(self._key))
            self._once(Level.WARNING, f"the tap says that the key of {message.stream} is {told}; the spec says {own}")

    def _once(self, level: Level, message: str) -> None:
        """Tell something that is as true of the next million lines."""
        if message not in self._told:
            self._told.add(message)
            self._report(level, self._tap.program.redactor.redact(message))
