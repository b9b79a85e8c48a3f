"""Conformance checks for the tests of a connector.

Both run against a real system, with a few hundred records, and raise `AssertionError` if the connector breaks a rule.
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
from speclab.connectors.secrets.references import References
from speclab.connectors.trust import ungated
from speclab.core.json import Json, Record
from speclab.core.paths import FieldPath
from speclab.spec.auth import Auth, NoAuth
from speclab.spec.settings import RetrySettings, System

S = TypeVar("S", bound=System)


def check_reader(connector: Connector[S], system: S, workspace: Path, auth: Auth | None = None) -> list[Record]:
    """Read a source that does not change to its end, and return its records.

    The read is interrupted after each page and resumed by another reader, which must not miss a record. An incremental
    read must not return unknown records, and a full read must return all of them again.
    """
    return asyncio.run(_Check(connector, system, workspace, auth or NoAuth()).check_reading())


def check_writer(
    connector: Connector[S], system: S, workspace: Path, records: Sequence[Record], auth: Auth | None = None
) -> list[WriteResult]:
    """Write `records` to a target that accepts all of them, and return the results; keys are at `key` of the settings.

    Each result must be a success. If the writer is idempotent, all are written twice. If the connector has a lookup, it
    must find them as they were written.
    """
    return asyncio.run(_Check(connector, system, workspace, auth or NoAuth()).check_writing(records))


@dataclass(frozen=True, slots=True)
class _Check(Generic[S]):
    """A connector and a system, opened again for every step."""

    connector: Connector[S]
    system: S
    workspace: Path
    auth: Auth

    async def check_reading(self) -> list[Record]:
        pages = await self._pages(None, full=True)
        for number, page in enumerate(pages, 1):
            invalid = [record for record in page.records if type(record) is not dict]
            _expect(not invalid, f"page {number}: expected records as dicts, got {invalid[:1]}")
        complete = [page.complete for page in pages]
        _expect(
            complete == [False] * (len(pages) - 1) + [True],
            f"expected only the last page to be `complete`, got {complete}",
        )
        for number, page in enumerate(pages, 1):
            _expect(_encode_and_decode(page.cursor) == page.cursor, f"page {number}: the cursor is not plain JSON")
            if page.cursor is not None and not page.complete:
                rest = await self._pages(page.cursor, full=True)
                _expect_all(pages[number:], rest, f"a read resumed after page {number}")
        since = await self._pages(pages[-1].cursor, full=False)
        _expect(since[-1].complete, "expected an incremental read to have a `complete` page")
        _expect_all(since, pages, "the full read")
        _expect_all(pages, await self._pages(pages[-1].cursor, full=True), "a full read after a complete one")
        return [record for page in pages for record in page.records]

    async def check_writing(self, records: Sequence[Record]) -> list[WriteResult]:
        results = await self._write(records)
        if self._open_writer().idempotent:
            await self._write(records)
        await self._find(records)
        return results

    async def _pages(self, cursor: Json, *, full: bool) -> list[Page]:
        opens = self.connector.load().reader
        if opens is None:
            raise AssertionError("the connector has no reader")
        reader = opens(self.system, self.auth, *self._build_context())
        try:
            return [page async for page in reader.pages(cursor, full=full)]
        finally:
            await reader.close()

    async def _write(self, records: Sequence[Record]) -> list[WriteResult]:
        writer = self._open_writer()
        results: list[WriteResult] = []
        try:
            for start in range(0, len(records), writer.batch):
                batch = [self._map(record, keyed=writer.keyed) for record in records[start : start + writer.batch]]
                call_results = await writer.write(batch)
                _expect(len(call_results) == len(batch), f"expected {len(batch)} results, got {len(call_results)}")
                for record, result in zip(batch, call_results, strict=True):
                    why = f"{result.error.request}: {result.error.message}" if result.error else "no reason given"
                    _expect(result.effect is not None and not result.error, f"{record.key} was not written: {why}")
                results += call_results
            if isinstance(writer, FullReplace):
                await writer.finish()
        finally:
            await writer.close()
        return results

    async def _find(self, records: Sequence[Record]) -> None:
        opens = self.connector.load().lookup
        lookup = opens(self.system, self.auth, *self._build_context()) if opens else None
        if lookup is None:
            return
        try:
            found = await lookup.find([self._map(record, keyed=False) for record in records])
        finally:
            await lookup.close()
        for record, stored in zip(records, found, strict=True):
            same = isinstance(stored, dict) and all(stored.get(name) == value for name, value in record.items())
            shown = stored.message if isinstance(stored, WriteError) else stored
            _expect(same, f"{record} was written, but the lookup found {shown}")

    def _open_writer(self) -> Writer:
        opens = self.connector.load().writer
        if opens is None:
            raise AssertionError("the connector has no writer")
        return opens(self.system, self.auth, *self._build_context())

    def _build_context(self) -> tuple[References, RuntimeContext, RetrySettings]:
        return *ungated(self.workspace), RetrySettings()

    def _map(self, record: Record, *, keyed: bool) -> MappedRecord:
        key = [self.system.key] if isinstance(self.system.key, str) else self.system.key
        parts = [str(FieldPath.parse(path).get(record)) for path in key]
        return MappedRecord(
            " ".join(parts), record, record, str(uuid5(NAMESPACE_OID, " ".join(parts))) if keyed else ""
        )


def _encode_and_decode(cursor: Json) -> Json:
    stored: Json = json.loads(json.dumps(cursor))
    return stored


def _expect_all(expected: Sequence[Page], pages: Sequence[Page], read: str) -> None:
    """Check that `pages`, the result of `read`, have all records of `expected`."""
    found = [record for page in pages for record in page.records]
    missed = [record for page in expected for record in page.records if record not in found]
    _expect(not missed, f"{read} misses {len(missed)} of {len(found) + len(missed)} records, such as {missed[:1]}")


def _expect(condition: bool, message: str) -> None:  # noqa: FBT001 - like `assert`
    if not condition:
        raise AssertionError(message)
