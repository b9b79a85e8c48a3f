"""The Singer source: a tap's records as pages with state."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Final

from speclab.connectors.api import DiscoveredSchema, Page, Reader, RuntimeContext
from speclab.connectors.secrets.references import References
from speclab.connectors.singer.catalog import (
    NoMessage,
    NoStream,
    OtherMessage,
    RecordMessage,
    SchemaMessage,
    StateMessage,
    find_stream,
    get_stream_names,
    parse_message,
    select_stream,
)
from speclab.connectors.singer.process import ProgramFiles, SingerProcess, SingerProgram, build_failure
from speclab.connectors.singer.settings import SingerSystem
from speclab.core.errors import BadResponse, EndpointError, SpecError, SpeclabError
from speclab.core.json import Json, Record, decode
from speclab.core.outcome import Level
from speclab.mapping.fields import read_schema_fields
from speclab.spec.auth import Auth
from speclab.spec.integration import Role
from speclab.spec.settings import RetrySettings
from speclab.spec.settings_types import format_size

_SHOWN: Final = 200


class Tap:
    """One tap."""

    def __init__(self, system: SingerSystem, references: References, context: RuntimeContext) -> None:
        """Create a tap for settings as in the spec. Raise `UnresolvedReference`."""
        self.program = SingerProgram.of(system, references, context)
        system = references.resolve_settings(system)
        self.request = f"{self.program.name}: {system.stream}"
        self.names = {system.stream}
        """The names of the stream, in the spec and in the tap's messages."""
        self._stream = system.stream
        self._replication = system.replication
        self._catalog = system.catalog
        self._report = context.report

    async def schema(self) -> Record | None:
        """Return the JSON Schema of the stream from the catalog; None if the tap has no catalog.

        Raise the errors of `reading`.
        """
        if self._catalog == "none":
            return None
        with ProgramFiles() as files:
            catalog = await self._selected(files)
        found = find_stream(catalog, self._stream).get("schema")
        return found if isinstance(found, dict) else {}

    @asynccontextmanager
    async def reading(self, state: Json) -> AsyncIterator[SingerProcess]:
        """Run the tap from `state` (None: from the start) for the block.

        Raise `Unreachable`, `Unauthorized` and `BadResponse`, and `SpecError` for a catalog of the spec that cannot be
        read.
        """
        with ProgramFiles() as files:
            arguments: list[str] = []
            if self._catalog != "none":
                arguments += ["--catalog", files.write("catalog", await self._selected(files))]
            if state is not None:
                arguments += ["--state", files.write("state", state)]
            running = await SingerProcess.start(self.program, files, arguments)
            try:
                yield running
            finally:
                await running.stop()
                if files.rewritten(self.program.config):
                    self._report(
                        Level.WARNING,
                        f"{self.program.name}: changed its config, which is lost, for the next one is made from the "
                        "spec; if that was a new refresh token, the one in the spec may no longer be valid",
                    )

    def failed(self, code: int) -> EndpointError:
        """Return the error of a tap that exited with `code`."""
        return build_failure(self.program, code, self.request)

    def foreign(self, streams: Iterable[str]) -> BadResponse:
        """Return the error of a tap that sends records of a stream it did not announce."""
        found = ", ".join(sorted(streams))
        return BadResponse(
            f"{self.request}: the tap does not know it; its records are of {found}",
            request=self.request,
            hint="Correct `stream`, or the catalog.",
        )

    def misspoke(self, line: int, what: str, text: bytes = b"") -> BadResponse:
        """Return the error of a tap that wrote an invalid line to stdout."""
        return BadResponse(
            f"{self.program.name}: line {line} of its output {what}",
            request=self.request,
            response=self.program.redactor.excerpt(text, _SHOWN),
            hint="Messages stand alone on stdout; what a tap has to say besides goes to stderr.",
        )

    async def _selected(self, files: ProgramFiles) -> dict[str, Json]:
        own = self._catalog is not None
        catalog = await asyncio.to_thread(self._own) if own else await self._discovered(files)
        try:
            self.names |= get_stream_names(find_stream(catalog, self._stream))
            return select_stream(catalog, self._stream, self._replication, own=own)
        except NoStream as error:
            who = self._catalog if own else self.program.name
            raise BadResponse(f"{who}: {error}", request=self.request, hint="Correct `stream`.") from None

    def _own(self) -> Json:
        """Read the catalog that the spec names."""
        path = self.program.directory / str(self._catalog)
        try:
            return decode(path.read_bytes())
        except (OSError, ValueError) as error:
            reason = (error.strerror or str(error)) if isinstance(error, OSError) else f"is not JSON: {error}"
            raise SpecError(f"catalog: {path}: {reason}") from None

    async def _discovered(self, files: ProgramFiles) -> Json:
        request = f"{self.program.name} --discover"
        running = await SingerProcess.start(self.program, files, ["--discover"])
        lines: list[bytes] = []
        size = 0
        try:
            async with aclosing(running.lots()) as lots:
                async for lot in lots:
                    lines += lot
                    size += sum(map(len, lot))
                    if size > self.program.longest:
                        limit = format_size(self.program.longest)
                        raise BadResponse(f"{request}: writes more than {limit} (limits.response)", request=request)
            code = await running.ended()
        finally:
            await running.stop()
        if code != 0:
            error = build_failure(self.program, code, request)
            if isinstance(error, BadResponse):
                error.hint = "If it is a tap that cannot discover, give it `catalog: none`, or a catalog of your own."
            raise error
        text = b"\n".join(lines)
        try:
            return decode(text)
        except ValueError:
            shown = self.program.redactor.excerpt(text, _SHOWN)
            raise BadResponse(f"{request}: writes no valid JSON", request=request, response=shown) from None


_RECORDS: Final = 1000
_BYTES: Final = 8_000_000
"""Limits of a page: records and bytes."""


@dataclass(frozen=True, slots=True)
class TapPosition:
    """The position of a read: the tap's `state`, and whether it is within a full read."""

    state: Json = None
    whole: bool = False

    @classmethod
    def load(cls, cursor: Json, *, full: bool) -> TapPosition:
        """Return the start position. A full read starts at the beginning, or where an interrupted one stopped."""
        match cursor:
            case {"state": state, "whole": True}:
                return cls(state, whole=True)
            case {"state": state} if not full:
                return cls(state)
        return cls(None, whole=True)

    def dump(self, of: str) -> Json:
        """Return the cursor of a page; the state is valid for that tap and stream."""
        if self.state is None:
            return None
        cursor: dict[str, Json] = {"of": of, "state": self.state}
        return cursor | {"whole": True} if self.whole else cursor

    @property
    def at_start(self) -> bool:
        """Whether a tap starts from the beginning with this state: it contains no bookmark.

        Only a state of the usual form, `{"bookmarks": {STREAM: {...}}}`, can be inspected.
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
    """Records from a tap that are not in a page yet, and the last STATE."""

    state: Json
    records: list[Record] = field(default_factory=list)
    settled: int = 0
    """The number of records before the last STATE."""
    size: int = 0
    line: int = 0

    @property
    def full(self) -> bool:
        return len(self.records) >= _RECORDS or self.size >= _BYTES


class SingerReader(Reader):
    """Reads one stream of a tap.

    A page ends with the last STATE once 1,000 records are there, or no more are available at the moment. If a tap sends
    no STATE for that long, the page has the cursor of the STATE before it, or none: a run that continues there reads
    its records again and skips none.
    """

    def __init__(
        self, system: SingerSystem, auth: Auth, references: References, context: RuntimeContext, retry: RetrySettings
    ) -> None:
        """Create a reader for settings as in the spec. Raise `UnresolvedReference`."""
        del auth, retry  # the tap's config has the credentials, and the tap retries by itself
        self._tap = Tap(system, references, context)
        self._deletes = system.deletes_missing()
        self._report = context.report
        self._held = AsyncExitStack()
        self._reported: set[str] = set()
        self._foreign: set[str] = set()
        self._met = False
        """Whether the tap has sent a message about the stream."""
        self._fields: dict[str, str] | None = None
        self._key = {system.key} if isinstance(system.key, str) else set(system.key)

    async def pages(self, cursor: Json, *, full: bool) -> AsyncIterator[Page]:
        """Yield pages after `cursor`. The last page is yielded once the tap has ended successfully.

        Records received before a failure are yielded before it is raised.
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
        except EndpointError:
            while taken.records:
                yield self._page(taken, start)
            raise
        finally:
            await self._held.aclose()

    async def close(self) -> None:
        """End the tap if it is running."""
        await self._held.aclose()

    def _start(self, cursor: Json, *, full: bool) -> TapPosition:
        """Return the start position; the state of another tap or stream is ignored, since this tap might misread it."""
        match cursor:
            case {"of": of} if of != self._tap.request:
                self._report(
                    Level.WARNING, f"the last run stopped in {of}; this is {self._tap.request}, read from the start"
                )
                cursor = None
        start = TapPosition.load(cursor, full=full)
        return replace(start, whole=start.whole or start.at_start)

    def _page(self, taken: _Taken, start: TapPosition, *, complete: bool = False) -> Page:
        """Return a page with the records up to the last STATE, or with all of them, and remove them."""
        end = len(taken.records) if complete else taken.settled or len(taken.records)
        page = Page(
            records=taken.records[:end],
            cursor=TapPosition(taken.state, whole=start.whole and not complete).dump(self._tap.request),
            bytes_in=taken.size,
            request=self._tap.request,
            complete=complete,
            from_start=start.at_start,
            whole=start.whole,
        )
        taken.records, taken.settled, taken.size = taken.records[end:], 0, 0
        return page

    def _take(self, line: bytes, taken: _Taken) -> None:
        """Process a line. Raise `BadResponse` for an invalid line."""
        taken.line += 1
        if not line.strip():
            return
        try:
            message = parse_message(line)
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
                self._once(Level.WARNING, f"the tap also sends records of the stream {stream}; they are skipped")
            case OtherMessage():
                self._look_at_other(message, line, taken)

    def _look_at_other(self, message: OtherMessage, line: bytes, taken: _Taken) -> None:
        if message.kind == "BATCH":
            what = "names files of records, which are not read; take `batch_config` out of `config`"
            raise self._tap.misspoke(taken.line, what, line)
        if message.kind != "ACTIVATE_VERSION":
            self._once(Level.WARNING, f"the tap sends messages of the type {message.kind}; they are skipped")
        elif message.stream in self._tap.names:
            hint = "" if self._deletes else "; `missing: delete` deletes what a full read does not give"
            self._once(Level.INFO, f"the tap says that what it gave before and does not now is gone{hint}")

    def _look_at(self, message: SchemaMessage) -> None:
        """Report a schema that changes during a read, and a key that differs from the tap's."""
        now = {str(field.path): field.declared for field in read_schema_fields(message.schema)}
        if self._fields is not None and self._fields != now:
            changed = sorted({*now.items()} ^ {*self._fields.items()})
            names = ", ".join(dict.fromkeys(name for name, _ in changed))
            self._report(Level.WARNING, f"the tap changes the schema of {message.stream}: {names}")
        self._fields = now
        if message.key and set(message.key) != self._key:
            tap_key, spec_key = ", ".join(message.key), ", ".join(sorted(self._key))
            self._once(
                Level.WARNING, f"the tap says that the key of {message.stream} is {tap_key}; the spec says {spec_key}"
            )

    def _once(self, level: Level, message: str) -> None:
        """Report a message once: it would apply to every following line."""
        if message not in self._reported:
            self._reported.add(message)
            self._report(level, self._tap.program.redactor.redact(message))


async def discover(
    role: Role, system: SingerSystem, auth: Auth, references: References, context: RuntimeContext, limit: int
) -> DiscoveredSchema | None:
    """Return the schema of the stream from the catalog; None for a tap without one.

    Raise `Unreachable`, `Unauthorized` and `BadResponse`, and `SpeclabError` for a target.
    """
    del auth, limit
    if role == "target":
        raise SpeclabError(
            "what fields the target has cannot be known: a Singer target takes the records it is given",
            hint="What it checks is in its documentation; say it in `check:` of the Field Mapping section.",
        )
    tap = Tap(system, references, context)
    schema = await tap.schema()
    if schema is None:
        return None
    return DiscoveredSchema(read_schema_fields(schema), f"the catalog of {tap.program.name}")
