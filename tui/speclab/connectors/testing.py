"""Whether a connector keeps what the protocols promise: checks for the tests of whoever writes one.

Both work at a real system, with some hundreds of records, and raise `AssertionError` with what is not as it must be.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar
from uuid import NAMESPACE_OID, uuid5

from speclab.connectors.api import (
    Connector,
    FullReplace,
    MappedRecord,
    Page,
    RuntimeContext,
    WriteError,
    Writer,
    WriteResult,
)
from speclab.connectors.machine import ungated
from speclab.connectors.secrets.references import References
from speclab.core.json import Json, Record
from speclab.core.paths import FieldPath
from speclab.spec.auth import Auth, NoAuth
from speclab.spec.settings import RetrySettings, System

S = TypeVar("S", bound=System)


def check_reader(connector: Connector[S], system: S, workspace: Path, auth: Auth | None = None) -> list[Record]:
    """The records of a source that nobody changes meanwhile, read to its end.

    A read is broken off after each page and goes on in another reader, which must not miss a record that is left; a
    read of what changed since must give nothing that was not there; and a full read must give all again.
    """
    return asyncio.run(_Check(connector, system, workspace, auth or NoAuth()).reading())


def check_writer(
    connector: Connector[S], system: S, workspace: Path, records: Sequence[Record], auth: Auth | None = None
) -> list[WriteResult]:
    """What became of `records` at a target that takes all of them; keys are at `key` of the settings.

    Each must be answered as written; where the writer says that writing twice does no harm, all are written twice;
    and what the connector has to look records up with must find them as they were written.
    """
    return asyncio.run(_Check(connector, system, workspace, auth or NoAuth()).writing(records))


@dataclass(frozen=True, slots=True)
class _Check(Generic[S]):
    """One end of a system, opened anew for every step."""

    connector: Connector[S]
    system: S
    workspace: Path
    auth: Auth

    async def reading(self) -> list[Record]:
        pages = await self._pages(None, full=True)
        for number, page in enumerate(pages, 1):
            odd = [record for record in page.records if type(record) is not dict]
            _expect(not odd, f"page {number}: a record is a dict with names of text, not {odd[:1]}")
        complete = [page.complete for page in pages]
        _expect(complete == [False] * (len(pages) - 1) + [True], f"the last page alone is `complete`, not {complete}")
        for number, page in enumerate(pages, 1):
            _expect(_as_stored(page.cursor) == page.cursor, f"page {number}: the cursor is no plain JSON")
            if page.cursor is not None and not page.complete:
                rest = await self._pages(page.cursor, full=True)
                _expect_all(pages[number:], rest, f"a read that goes on after page {number}")
        since = await self._pages(pages[-1].cursor, full=False)
        _expect(since[-1].complete, "a read of what changed since must come to an end, too")
        _expect_all(since, pages, "the read before")
        _expect_all(pages, await self._pages(pages[-1].cursor, full=True), "a full read after one to the end")
        return [record for page in pages for record in page.records]

    async def writing(self, records: Sequence[Record]) -> list[WriteResult]:
        answers = await self._written(records)
        if self._writer().idempotent:
            await self._written(records)
        await self._find(records)
        return answers

    async def _pages(self, cursor: Json, *, full: bool) -> list[Page]:
        opens = self.connector.load().reader
        if opens is None:
            raise AssertionError("the connector has no reader")
        reader = opens(self.system, self.auth, *self._around())
        try:
            return [page async for page in reader.pages(cursor, full=full)]
        finally:
            await reader.close()

    async def _written(self, records: Sequence[Record]) -> list[WriteResult]:
        writer = self._writer()
        answers: list[WriteResult] = []
        try:
            for start in range(0, len(records), writer.batch):
                items = [self._item(record, keyed=writer.keyed) for record in records[start : start + writer.batch]]
                told = await writer.write(items)
                _expect(len(told) == len(items), f"{len(items)} items have {len(told)} answers")
                for item, answer in zip(items, told, strict=True):
                    why = f"{answer.error.request}: {answer.error.message}" if answer.error else "nobody says why"
                    _expect(answer.effect is not None and not answer.error, f"{item.key} is not written: {why}")
                answers += told
            if isinstance(writer, FullReplace):
                await writer.finish()
        finally:
            await writer.close()
        return answers

    async def _find(self, records: Sequence[Record]) -> None:
        opens = self.connector.load().lookup
        finder = opens(self.system, self.auth, *self._around()) if opens else None
        if finder is None:
            return
        try:
            found = await finder.find([self._item(record, keyed=False) for record in records])
        finally:
            await finder.close()
        for record, has in zip(records, found, strict=True):
            told = has.message if isinstance(has, WriteError) else has
            same = isinstance(has, dict) and all(has.get(name) == value for name, value in record.items())
            _expect(same, f"{record} was written, and what is found is {told}")

    def _writer(self) -> Writer:
        opens = self.connector.load().writer
        if opens is None:
            raise AssertionError("the connector has no writer")
        return opens(self.system, self.auth, *self._around())

    def _around(self) -> tuple[References, RuntimeContext, RetrySettings]:
        return *ungated(self.workspace), RetrySettings()

    def _item(self, record: Record, *, keyed: bool) -> MappedRecord:
        key = [self.system.key] if isinstance(self.system.key, str) else self.system.key
        parts = [str(FieldPath.parse(path).get(record)) for path in key]
        return MappedRecord(
            " ".join(parts), record, record, str(uuid5(NAMESPACE_OID, " ".join(parts))) if keyed else ""
        )


def _as_stored(cursor: Json) -> Json:
    stored: Json = json.loads(json.dumps(cursor))
    return stored


def _expect_all(pages: Sequence[Page], had: Sequence[Page], what: str) -> None:
    """`what`, which gave `had`, has all the records of `pages`."""
    there = [record for page in had for record in page.records]
    missed = [record for page in pages for record in page.records if record not in there]
    _expect(not missed, f"{what} misses {len(missed)} of {len(there) + len(missed)} records, such as {missed[:1]}")


def _expect(truth: bool, otherwise: str) -> None:  # noqa: FBT001 - it is what `assert` takes
    if not truth:
        raise AssertionError(otherwise)
