"""The Singer target: one process per batch, whose exit decides the outcome of the batch."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final

from speclab.connectors.api import MappedRecord, RuntimeContext, WriteError, WriteResult
from speclab.connectors.secrets.references import References
from speclab.connectors.singer.catalog import StreamSchema
from speclab.connectors.singer.process import (
    ProgramFiles,
    SilentProgram,
    SingerProcess,
    SingerProgram,
    build_failure,
    classify_log,
    describe_exit,
    is_environment_failure,
)
from speclab.connectors.singer.settings import SingerSystem
from speclab.core.errors import BadResponse, EndpointError, SpecError, Unreachable
from speclab.core.json import Json, Record, decode, encode
from speclab.core.outcome import Effect, ErrorClass, Level
from speclab.core.paths import FieldPath
from speclab.core.text import format_count
from speclab.mapping.fields import Field
from speclab.spec.auth import Auth
from speclab.spec.settings import RetrySettings

_PASSING: Final = (ErrorClass.NETWORK, ErrorClass.TIMEOUT)
_BLAMED: Final = re.compile(r"On instance\['(?P<field>[^']+)'\]")
"""How jsonschema, which most targets use to validate records, names the invalid field."""


class SingerWriter:
    """Writes to one stream of a target, one process per batch.

    A target reports no single records: if its process succeeds, the whole batch is written; if it fails, the outcome of
    the batch is unknown. With `mode: upsert` the records are sent again in smaller batches; with `mode: append` their
    outcome stays unknown.
    """

    keyed = False
    deletes = False

    def __init__(
        self, system: SingerSystem, auth: Auth, references: References, context: RuntimeContext, retry: RetrySettings
    ) -> None:
        """Create a writer for settings as in the spec. Raise `SpecError` for settings that cannot work."""
        del auth, retry
        self.batch = system.size
        self.idempotent = system.mode == "upsert"
        self._program = SingerProgram.of(system, references, context)
        self._stream = references.resolve(system.stream)
        self._key = [_name(path) for path in ([system.key] if isinstance(system.key, str) else system.key)]
        self._shape = StreamSchema()
        self._report = context.report
        self._number = 0
        self._confirms: bool | None = None  # unknown until the first batch
        self._over: EndpointError | None = None

    def declare_fields(self, fields: Sequence[Field]) -> None:
        """Set the field types of the mapping, for the SCHEMA message."""
        self._shape.declare(fields)

    async def write(self, items: Sequence[MappedRecord]) -> Sequence[WriteResult]:
        """Return one result per record, in order: written, or the one write error of a batch that failed.

        Raise `Unreachable`, `Unauthorized` and `BadResponse` if the target fails for every batch.
        """
        if self._over is not None:
            raise self._over
        if not self.idempotent and not self._number:
            await self._begin()
        keyless = [any(item.payload.get(name) is None for name in self._key) for item in items]
        given = [item for item, lacks in zip(items, keyless, strict=True) if not lacks]
        lines = [self._record(item) for item in given]
        write_error = await self._delivered(given, lines) if given else None
        sizes = iter(lines)
        return [
            WriteResult(error=self._without_key(item))
            if lacks
            else WriteResult(None if write_error else Effect.WRITTEN, write_error, bytes_out=len(next(sizes)))
            for item, lacks in zip(items, keyless, strict=True)
        ]

    async def close(self) -> None:
        """Do nothing: no process outlives its batch."""

    async def _begin(self) -> None:
        """Start the target without records first, so that a broken target leaves no batch with an unknown outcome."""
        if (code := (await run_target(self._program, [])).code) != 0:
            raise build_failure(self._program, code, self._program.name)

    async def _delivered(self, items: Sequence[MappedRecord], lines: Sequence[bytes]) -> WriteError | None:
        """Run a target with `lines`. Return None if it succeeded."""
        self._shape.see(item.payload for item in items)
        request = f"{self._program.name}: {format_count(len(items), 'record')} of {self._stream}"
        self._number += 1
        state: Json = {"bookmarks": {self._stream: {"batch": self._number}}}
        try:
            end = await run_target(self._program, [self._schema(), *lines, _line({"type": "STATE", "value": state})])
        except SilentProgram as silent:
            self._over = None if self.idempotent else silent
            return WriteError(ErrorClass.TIMEOUT, silent.message, request, silent.response)
        if end.code != 0:
            return await self._refusal(items, end.code, request)
        doubt = self._doubt(state, end)
        message = f"{self._program.name}: ended well, but {doubt}"
        return WriteError(ErrorClass.BAD_ANSWER, message, request, self._program.log.tail) if doubt else None

    async def _refusal(self, items: Sequence[MappedRecord], code: int, request: str) -> WriteError:
        """Return the write error of `items` after the target failed.

        Raise the error of `_lasting`, unless waiting may help or the target appends.
        """
        response = self._program.log.tail
        message, field = describe_exit(self._program, code), self._blamed(items, response)
        kind = None if field else classify_log(self._program.log.cause)
        error = None if field else await self._lasting(code, request)
        if not self.idempotent:  # the outcome of the batch is unknown: it is not sent again, and no other batch is sent
            self._over = error
            return WriteError(ErrorClass.BAD_ANSWER, message, request, response, field=field)
        if error is not None and kind not in _PASSING:
            raise error
        return WriteError(kind or ErrorClass.REJECTED, message, request, response, field=field)

    async def _lasting(self, code: int, request: str) -> EndpointError | None:
        """Return the error of a target that fails for every batch; None if a record may be the cause."""
        error = build_failure(self._program, code, request)
        if classify_log(self._program.log.cause):
            return error
        hint = "Check `config`, and the place the target writes to."
        if is_environment_failure(self._program.log.cause):
            return Unreachable(error.message, request=request, response=error.response, hint=hint)
        if (await run_target(self._program, [self._schema()])).code != 0:
            message = f"{error.message}; it does so without a record, too"
            return BadResponse(message, request=request, response=error.response, hint=hint)
        return None

    def _doubt(self, state: Json, end: TargetProcess) -> str:
        """Return why a target that succeeded may not have written all records; empty if it has.

        A target emits a STATE once all preceding records are written (Singer specification). A target that never emits
        one is trusted without it.
        """
        try:
            confirmed = decode(end.last) == state
        except ValueError:
            confirmed = False
        if confirmed:
            self._confirms = True
        elif not end.listened:
            return "before it had read all it was given"
        elif self._confirms:
            return "did not give back the STATE that came after the records, as it did before"
        elif self._confirms is None:
            self._confirms = False
            message = f"{self._program.name}: emits no STATE; its success counts as all records written"
            self._report(Level.WARNING, message)
        return ""

    def _blamed(self, items: Sequence[MappedRecord], text: str) -> str | None:
        found = _BLAMED.search(text)
        return found["field"] if found and any(found["field"] in item.payload for item in items) else None

    def _without_key(self, item: MappedRecord) -> WriteError:
        name = next(name for name in self._key if item.payload.get(name) is None)
        message = f"the key `{name}` is empty or not mapped"
        return WriteError(ErrorClass.REJECTED, message, f"{self._program.name}: {self._stream}", field=name, sent=False)

    def _schema(self) -> bytes:
        schema = self._shape.schema(self._key)
        return _line({"type": "SCHEMA", "stream": self._stream, "schema": schema, "key_properties": [*self._key]})

    def _record(self, item: MappedRecord) -> bytes:
        return _line({"type": "RECORD", "stream": self._stream, "record": item.payload})


@dataclass(frozen=True, slots=True)
class TargetProcess:
    """The end of a target; `listened` if it read all input, `last` is the last line of its stdout."""

    code: int
    listened: bool
    last: bytes


async def run_target(program: SingerProgram, lines: Sequence[bytes]) -> TargetProcess:
    """Run a target with `lines`. Raise `SilentProgram`, `BadResponse`, and `Unreachable` if it cannot be started."""
    with ProgramFiles() as files:
        running = await SingerProcess.start(program, files, [], fed=True)
        heard = asyncio.create_task(_last_line(running))
        try:
            listened = await running.feed(lines)
            last = await heard
            return TargetProcess(await running.ended(), listened, last)
        finally:
            heard.cancel()
            await asyncio.gather(heard, return_exceptions=True)
            await running.stop()


async def check_target(
    system: SingerSystem, auth: Auth, references: References, context: RuntimeContext, retry: RetrySettings
) -> str:
    """Check a target by starting it without records. Raise `Unauthorized`, `Unreachable` and `BadResponse`."""
    del auth, retry
    program = SingerProgram.of(system, references, context)
    end = await run_target(program, [])
    if end.code != 0:
        raise build_failure(program, end.code, program.name)
    return f"{program.name}: starts with this config; what it may write shows when it is given a record"


async def _last_line(running: SingerProcess) -> bytes:
    last = b""
    async with aclosing(running.lots()) as lots:
        async for lot in lots:
            last = next((line for line in reversed(lot) if line.strip()), last)
    return last


def _name(path: str) -> str:
    """Return the field for a part of the key. Raise `SpecError` for a nested field."""
    match FieldPath.parse(path).parts:
        case [str(name)]:
            return name
    raise SpecError(f"key: a target knows a record by whole fields, and {path} is within one")


def _line(message: Record) -> bytes:
    return encode(message) + b"\n"
