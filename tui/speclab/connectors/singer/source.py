"""A tap as the settings describe it: what it discovers, and one read of it as a process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import aclosing, asynccontextmanager
from typing import Final

from speclab.connectors.base import Seams
from speclab.connectors.jsontext import decode
from speclab.connectors.references import References
from speclab.connectors.singer.catalog import NoStream, names_of, selected, stream_of
from speclab.connectors.singer.process import Running
from speclab.connectors.singer.program import Files, Program
from speclab.connectors.singer.trouble import failure
from speclab.errors import BadAnswer, SpecError, SystemFailure
from speclab.jsonvalue import Json, Record
from speclab.outcome import Level
from speclab.spec.systems.singer import SingerSystem
from speclab.spec.units import size_text

_SHOWN: Final = 200


class Tap:
    """One tap."""

    def __init__(self, system: SingerSystem, references: References, seams: Seams) -> None:
        """Raises `UnresolvedReference`."""
        self.program = Program.of(system, references, seams)
        system = references.resolve_settings(system)
        self.request = f"{self.program.name}: {system.stream}"
        self.names = {system.stream}
        """What the stream is called, in the spec and by the tap."""
        self._stream = system.stream
        self._replication = system.replication
        self._catalog = system.catalog
        self._report = seams.report

    async def schema(self) -> Record | None:
        """The JSON Schema of the stream, by the catalog; None if the tap takes none.

        Raises as `reading` does.
        """
        if self._catalog == "none":
            return None
        with Files() as files:
            catalog = await self._selected(files)
        found = stream_of(catalog, self._stream).get("schema")
        return found if isinstance(found, dict) else {}

    @asynccontextmanager
    async def reading(self, state: Json) -> AsyncIterator[Running]:
        """The tap at work, from `state` on (None: from the start); it is ended with the context.

        Raises `Unreachable`, `Unauthorized` and `BadAnswer`, and `SpecError` for a catalog of the spec's own that
        cannot be read.
        """
        with Files() as files:
            arguments: list[str] = []
            if self._catalog != "none":
                arguments += ["--catalog", files.write("catalog", await self._selected(files))]
            if state is not None:
                arguments += ["--state", files.write("state", state)]
            running = await Running.start(self.program, files, arguments)
            try:
                yield running
            finally:
                await running.stop()
                if files.rewritten(self.program.config):
                    self._report(
                        Level.WARNING,
                        f"{self.program.name}: changed its config, which is lost, for the next one is made from the "
                        "spec; if that was a new refresh token, the one in the spec may be good no more",
                    )

    def failed(self, code: int) -> SystemFailure:
        """The error of a tap that ended with `code`."""
        return failure(self.program, code, self.request)

    def foreign(self, streams: Iterable[str]) -> BadAnswer:
        """The error of a tap that gives records, and does not know the stream."""
        found = ", ".join(sorted(streams))
        return BadAnswer(
            f"{self.request}: the tap does not know it; its records are of {found}",
            request=self.request,
            hint="Correct `stream`, or the catalog.",
        )

    def misspoke(self, line: int, what: str, text: bytes = b"") -> BadAnswer:
        """The error of a tap whose stdout has something in that line that no tap may write."""
        return BadAnswer(
            f"{self.program.name}: line {line} of its output {what}",
            request=self.request,
            response=self.program.redactor.excerpt(text, _SHOWN),
            hint="Messages stand alone on stdout; what a tap has to say besides goes to stderr.",
        )

    async def _selected(self, files: Files) -> dict[str, Json]:
        own = self._catalog is not None
        catalog = await asyncio.to_thread(self._own) if own else await self._discovered(files)
        try:
            self.names |= names_of(stream_of(catalog, self._stream))
            return selected(catalog, self._stream, self._replication, own=own)
        except NoStream as error:
            who = self._catalog if own else self.program.name
            raise BadAnswer(f"{who}: {error}", request=self.request, hint="Correct `stream`.") from None

    def _own(self) -> Json:
        """The catalog that the spec names."""
        path = self.program.directory / str(self._catalog)
        try:
            return decode(path.read_bytes())
        except (OSError, ValueError) as error:
            reason = (error.strerror or str(error)) if isinstance(error, OSError) else f"is not JSON: {error}"
            raise SpecError(f"catalog: {path}: {reason}") from None

    async def _discovered(self, files: Files) -> Json:
        request = f"{self.program.name} --discover"
        running = await Running.start(self.program, files, ["--discover"])
        lines: list[bytes] = []
        size = 0
        try:
            async with aclosing(running.lots()) as lots:
                async for lot in lots:
                    lines += lot
                    size += sum(map(len, lot))
                    if size > self.program.longest:
                        limit = size_text(self.program.longest)
                        raise BadAnswer(f"{request}: gives more than {limit} (limits.response)", request=request)
            code = await running.ended()
        finally:
            await running.stop()
        if code != 0:
            error = failure(self.program, code, request)
            if isinstance(error, BadAnswer):
                error.hint = "If it is a tap that cannot discover, give it `catalog: none`, or a catalog of your own."
            raise error
        text = b"\n".join(lines)
        try:
            return decode(text)
        except ValueError:
            shown = self.program.redactor.excerpt(text, _SHOWN)
            raise BadAnswer(f"{request}: gives no JSON", request=request, response=shown) from None
