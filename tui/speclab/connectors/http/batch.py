"""Writing over HTTP, many records a request: the list, its envelope, and one result a record in the answer."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Final

from speclab.connectors.api import MappedRecord, WriteResult
from speclab.connectors.http.client import Client, Exchange, RequestFailed
from speclab.connectors.http.request_builder import EndpointTemplate, HeaderTemplates, MissingValue, Template
from speclab.connectors.http.response import UnreadableBody, filled, kind, look, parsed, path, shape_of
from speclab.connectors.http.response_check import ResponseCheck
from speclab.connectors.http.write_errors import WriteErrors, no_answer, unsendable
from speclab.connectors.http.write_settings import BatchItem, HttpWrite
from speclab.core.json import Json, encode
from speclab.core.outcome import Effect
from speclab.core.paths import FieldPath

_NAMES: Final = frozenset({"source"})


class BatchWriter:
    """Sends batches as `write.batch` says."""

    def __init__(self, write: HttpWrite, client: Client, refusals: WriteErrors, headers: HeaderTemplates) -> None:
        """Batches over `client`. Raises `SpecError`."""
        self._client = client
        self._write_errors = refusals
        self._line = write.batch or ""
        self._method, target = EndpointTemplate.fixed(self._line, where="write.batch")
        self._url = client.base + target
        self._shape = shape_of(write)
        self._item = None if write.item is None else _ItemTemplate(write.item)
        self._results = None if write.results is None else _list_at(write.results)
        self._successes = ResponseCheck(write)
        self._exists = frozenset(write.exists)
        self._headers = headers

    async def write(self, items: Sequence[MappedRecord]) -> list[WriteResult]:
        """One answer an item, in order; a batch that is refused whole is answered with one refusal for all."""
        entries: list[Json] = []
        answers: list[WriteResult | None] = []
        sent: list[MappedRecord] = []
        for item in items:
            try:
                entries.append(self._item.render(item) if self._item else item.payload)
            except MissingValue as error:
                answers.append(WriteResult(error=unsendable(error, self._line)))
            else:
                answers.append(None)
                sent.append(item)
        given = iter(await self._send(sent, entries) if sent else [])
        return [answer or next(given) for answer in answers]

    async def _send(self, items: Sequence[MappedRecord], entries: list[Json]) -> list[WriteResult]:
        content = encode(filled(self._shape, entries))
        share = len(content) // len(items)
        keys = ",".join(item.idempotency_key for item in items)
        headers = [*self._headers.fixed, *self._headers.keyed(str(uuid.uuid5(uuid.NAMESPACE_OID, keys)))]
        try:
            exchange = await self._client.send(self._method, self._url, content=content, headers=headers)
        except RequestFailed as error:
            return [WriteResult(error=no_answer(error), bytes_out=share)] * len(items)
        if exchange.status in self._exists and len(items) == 1:  # of several, one may be there and the others not
            return [WriteResult(effect=Effect.WRITTEN, bytes_out=share)]
        if exchange.status >= 300:
            return [WriteResult(error=self._write_errors.of_answer(exchange), bytes_out=share)] * len(items)
        if self._results is None:
            return [self._as_one(exchange, entries, share)] * len(items)
        return self._judged(exchange, self._results, len(items), share)

    def _as_one(self, exchange: Exchange, entries: list[Json], share: int) -> WriteResult:
        """The answer for a whole batch that has no results."""
        try:
            denied = self._successes.denied(exchange, entries)
        except UnreadableBody as error:
            return WriteResult(error=self._write_errors.bad(exchange, str(error)), bytes_out=share)
        if denied is None:
            return WriteResult(effect=Effect.WRITTEN, bytes_out=share)
        if denied.whole:
            return WriteResult(error=self._write_errors.denied(exchange, denied.message), bytes_out=share)
        message = f"{denied.message}; the others may be written: say with `results` where each has its own"
        return WriteResult(error=self._write_errors.bad(exchange, message), bytes_out=share)

    def _judged(self, exchange: Exchange, where: FieldPath, count: int, share: int) -> list[WriteResult]:
        """One answer a result; a list that does not match what was sent leaves all of it in doubt."""
        results = look(parsed(exchange), where)
        if not isinstance(results, list) or len(results) != count:
            found = f"{len(results)} results" if isinstance(results, list) else kind(results)
            message = f"expected {count} results at `{where if where.parts else '[*]'}`, found {found}"
            return [WriteResult(error=self._write_errors.bad(exchange, message), bytes_out=share)] * count
        return [self._judge(exchange, entry, share) for entry in results]

    def _judge(self, exchange: Exchange, entry: Json, share: int) -> WriteResult:
        if look(entry, self._successes.status) is None:
            entry = self._successes.unwrapped(entry)
        try:
            ok = self._successes.takes(entry)
        except UnreadableBody as error:
            return WriteResult(error=self._write_errors.bad(exchange, str(error)), bytes_out=share)
        status = self._successes.status_of(entry)
        if ok or status in self._exists:
            return WriteResult(effect=Effect.CREATED if status == 201 else Effect.WRITTEN, bytes_out=share)
        said = self._successes.of_entry(entry)
        return WriteResult(error=self._write_errors.of_entry(exchange, entry, status, said), bytes_out=share)


class _ItemTemplate:
    """What stands in the list for a record."""

    def __init__(self, item: BatchItem) -> None:
        self._fixed: dict[str, Json] = {"method": item.method} if item.method else {}
        self._path = None if item.path is None else Template.parse(item.path, where="write.item.path", names=_NAMES)
        self._body = item.body

    def render(self, item: MappedRecord) -> Json:
        entry = dict(self._fixed)
        if self._path is not None:
            entry["path"] = self._path.render(item.payload, {"source": item.source})
        return {**entry, "body": filled(self._body, item.payload)}


def _list_at(text: str) -> FieldPath:
    where = text.removesuffix("[*]")
    return path(where, "write.results") if where else FieldPath(())
