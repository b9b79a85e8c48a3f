"""Batch writes over HTTP: many records per request, with a result for each in the response."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Final

from speclab.connectors.api import MappedRecord, WriteResult
from speclab.connectors.http.client import Client, Exchange, RequestFailed
from speclab.connectors.http.request_builder import EndpointTemplate, HeaderTemplates, MissingValue, Template
from speclab.connectors.http.response import (
    UnreadableBody,
    describe_kind,
    fill_shape,
    get_body_shape,
    get_target_id,
    get_value,
    parse_body,
    parse_path,
)
from speclab.connectors.http.response_check import ResponseCheck
from speclab.connectors.http.write_errors import WriteErrors, convert_failed_request, reject_missing_value
from speclab.connectors.http.write_settings import BatchItem, HttpWrite
from speclab.core.json import Json, encode
from speclab.core.outcome import Effect
from speclab.core.paths import FieldPath

_NAMES: Final = frozenset({"source"})


class BatchWriter:
    """Sends batches as `write.batch` says."""

    def __init__(self, write: HttpWrite, client: Client, write_errors: WriteErrors, headers: HeaderTemplates) -> None:
        """Create a writer that sends with `client`. Raises `SpecError`."""
        self._client = client
        self._write_errors = write_errors
        self._line = write.batch or ""
        self._method, target = EndpointTemplate.parse_fixed(self._line, where="write.batch")
        self._url = client.base + target
        self._shape = get_body_shape(write)
        self._item = None if write.item is None else _ItemTemplate(write.item)
        self._results = None if write.results is None else _list_at(write.results)
        self._check = ResponseCheck(write)
        self._exists_statuses = frozenset(write.exists)
        self._headers = headers

    async def write(self, records: Sequence[MappedRecord]) -> list[WriteResult]:
        """Return one result per record, in order; a batch that is rejected as a whole shares one error."""
        entries: list[Json] = []
        results: list[WriteResult | None] = []
        sent: list[MappedRecord] = []
        for record in records:
            try:
                entries.append(self._item.render(record) if self._item else record.payload)
            except MissingValue as error:
                results.append(WriteResult(error=reject_missing_value(error, self._line)))
            else:
                results.append(None)
                sent.append(record)
        given = iter(await self._send(sent, entries) if sent else [])
        return [result or next(given) for result in results]

    async def _send(self, records: Sequence[MappedRecord], entries: list[Json]) -> list[WriteResult]:
        content = encode(fill_shape(self._shape, entries))
        share = len(content) // len(records)
        keys = ",".join(record.idempotency_key for record in records)
        headers = [*self._headers.fixed, *self._headers.build_key_header(str(uuid.uuid5(uuid.NAMESPACE_OID, keys)))]
        try:
            exchange = await self._client.send(self._method, self._url, content=content, headers=headers)
        except RequestFailed as error:
            return [WriteResult(error=convert_failed_request(error), bytes_out=share)] * len(records)
        if exchange.status in self._exists_statuses and len(records) == 1:  # of several, not all need to exist
            return [WriteResult(effect=Effect.WRITTEN, bytes_out=share)]
        if exchange.status >= 300:
            return [WriteResult(error=self._write_errors.from_response(exchange), bytes_out=share)] * len(records)
        if self._results is None:
            return [self._build_shared_result(exchange, entries, share)] * len(records)
        return self._judge_results(exchange, self._results, len(records), share)

    def _build_shared_result(self, exchange: Exchange, entries: list[Json], share: int) -> WriteResult:
        """Return the result of a batch whose response has no results per record."""
        try:
            rejection = self._check.find_rejection(exchange, entries)
        except UnreadableBody as error:
            return WriteResult(error=self._write_errors.bad_response(exchange, str(error)), bytes_out=share)
        if rejection is None:
            return WriteResult(effect=Effect.WRITTEN, bytes_out=share)
        if rejection.whole:
            return WriteResult(error=self._write_errors.rejected(exchange, rejection.message), bytes_out=share)
        message = f"{rejection.message}; the other records may be written: set `results` to the list of results"
        return WriteResult(error=self._write_errors.bad_response(exchange, message), bytes_out=share)

    def _judge_results(self, exchange: Exchange, where: FieldPath, count: int, share: int) -> list[WriteResult]:
        """Return one result per entry; if their number does not match, the outcome of all records is unknown."""
        results = get_value(parse_body(exchange), where)
        if not isinstance(results, list) or len(results) != count:
            found = f"{len(results)} results" if isinstance(results, list) else describe_kind(results)
            message = f"expected {count} results at `{where if where.parts else '[*]'}`, found {found}"
            return [WriteResult(error=self._write_errors.bad_response(exchange, message), bytes_out=share)] * count
        return [self._convert_entry(exchange, entry, share) for entry in results]

    def _convert_entry(self, exchange: Exchange, entry: Json, share: int) -> WriteResult:
        if get_value(entry, self._check.status) is None:
            entry = self._check.unwrap(entry)
        try:
            ok = self._check.is_success(entry)
        except UnreadableBody as error:
            return WriteResult(error=self._write_errors.bad_response(exchange, str(error)), bytes_out=share)
        status = self._check.get_status(entry)
        if ok or status in self._exists_statuses:
            effect = Effect.CREATED if status == 201 else Effect.WRITTEN
            return WriteResult(effect=effect, bytes_out=share, target_id=get_target_id(entry))
        message = self._check.find_message(entry)
        return WriteResult(error=self._write_errors.from_entry(exchange, entry, status, message), bytes_out=share)


class _ItemTemplate:
    """The list entry of a record."""

    def __init__(self, record: BatchItem) -> None:
        self._fixed: dict[str, Json] = {"method": record.method} if record.method else {}
        self._path = None if record.path is None else Template.parse(record.path, where="write.item.path", names=_NAMES)
        self._body = record.body

    def render(self, record: MappedRecord) -> Json:
        entry = dict(self._fixed)
        if self._path is not None:
            entry["path"] = self._path.render(record.payload, {"source": record.source})
        return {**entry, "body": fill_shape(self._body, record.payload)}


def _list_at(text: str) -> FieldPath:
    where = text.removesuffix("[*]")
    return parse_path(where, "write.results") if where else FieldPath(())
