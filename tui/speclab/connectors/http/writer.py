"""The HTTP writer: upserts, creates and updates, deletes, and lookups of records."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Final

from speclab.connectors.api import MappedRecord, RuntimeContext, WriteError, WriteResult
from speclab.connectors.http.batch import BatchWriter
from speclab.connectors.http.client import Client, Exchange, RequestFailed
from speclab.connectors.http.request_builder import (
    SCOPE,
    EndpointTemplate,
    HeaderTemplates,
    MissingValue,
    build_lookup_scope,
)
from speclab.connectors.http.response import (
    UnreadableBody,
    describe_kind,
    fill_shape,
    find_message,
    find_record_steps,
    get_body_shape,
    get_value,
    parse_path,
    read_stored_record,
)
from speclab.connectors.http.response_check import ResponseCheck, find_failure_sign
from speclab.connectors.http.settings import HttpSystem
from speclab.connectors.http.write_errors import (
    ErrorLocator,
    WriteErrors,
    convert_failed_request,
    mark_not_sent,
    reject_missing_value,
)
from speclab.connectors.http.write_settings import HttpWrite
from speclab.connectors.secrets.references import References
from speclab.core.errors import SpecError
from speclab.core.json import Json, Record, decode, encode
from speclab.core.outcome import Effect, ErrorClass, Level
from speclab.core.paths import FieldPath
from speclab.spec.auth import Auth
from speclab.spec.settings import RetrySettings

_UNPACKED: Final = (b"Accept-Encoding", b"identity")


@dataclass(frozen=True, slots=True)
class LookupMatch:
    """The record that a lookup found, or None if there is none, and the response."""

    record: Record | None
    response: Exchange


class TargetLookup:
    """Looks records up at one target."""

    def __init__(
        self, request: str, found: str | None, client: Client, write_errors: WriteErrors, *, for_etag: bool
    ) -> None:
        """Create a lookup with `request`, whose response has the record at `found`. Raises `SpecError`.

        With `for_etag`, ask for an uncompressed response: the ETag of a compressed one is different or weak (RFC 9110
        section 8.8.3), and If-Match does not match it.
        """
        self._endpoint = EndpointTemplate.parse(request, where="write.lookup", names=SCOPE)
        self._found = None if found is None else parse_path(found, "write.found")
        self._client = client
        self._write_errors = write_errors
        self._headers = [_UNPACKED] if for_etag else []

    async def find(self, record: MappedRecord) -> LookupMatch | WriteError:
        """Return the target's record for `record`, or an error if the target does not say."""
        try:
            url = self._client.base + self._endpoint.target.render(record.payload, {"source": record.source})
        except MissingValue as error:
            return reject_missing_value(error, self._endpoint.text)
        try:
            exchange = await self._client.send(self._endpoint.method, url, headers=self._headers)
        except RequestFailed as error:
            error.sent = False  # only the lookup was sent, nothing was written
            return convert_failed_request(error)
        if exchange.status in (404, 410):
            return LookupMatch(None, exchange)
        if exchange.status >= 300:
            return mark_not_sent(self._write_errors.from_response(exchange))
        return self._found_in(exchange)

    def _found_in(self, exchange: Exchange) -> LookupMatch | WriteError:
        try:
            found = self._at(exchange)
        except UnreadableBody as error:
            return mark_not_sent(self._write_errors.bad_response(exchange, f"the response to the lookup {error}"))
        if isinstance(found, list):
            if len(found) > 1:
                message = f"the lookup found {len(found)} records, expected one; set `found` or narrow the lookup"
                return mark_not_sent(self._write_errors.bad_response(exchange, message))
            found = found[0] if found else None
        if found is None or isinstance(found, dict):
            return LookupMatch(found, exchange)
        return mark_not_sent(
            self._write_errors.bad_response(exchange, f"the lookup found {describe_kind(found)}, not an object")
        )

    def _at(self, exchange: Exchange) -> Json:
        """Return the value at `found`, or None only if there certainly is none: otherwise a record is created twice.

        The end of a list, null and an empty body are certain. A missing name may be misspelled; another shape, invalid
        JSON and an error prove nothing. Raises `UnreadableBody` for those.
        """
        if not exchange.body.strip():
            return None
        try:
            value = body = decode(exchange.body)
        except ValueError:
            raise UnreadableBody("is not JSON") from None
        for part in self._found.parts if self._found is not None else ():
            if not value:
                value = None
                break
            step = FieldPath((part,))
            if not (isinstance(value, list) if isinstance(part, int) else isinstance(value, dict) and part in value):
                raise UnreadableBody(
                    f"has no `{step}`, but {describe_kind(value)}; expected the record at `{self._found}`"
                )
            value = get_value(value, step)
        if not value and find_failure_sign(body):
            raise UnreadableBody(f"is an error: {find_message(body) or 'no message'}")
        return value


_ROUNDS: Final = 25
"""Requests per connection in one call of `write`, so that a slow response does not leave the others idle."""
_ATTEMPTS: Final = 3
"""Number of times a record is looked up and sent while the target's record changes in between."""
_STOPPING: Final = frozenset({ErrorClass.NETWORK, ErrorClass.TIMEOUT, ErrorClass.RATE_LIMIT, ErrorClass.UNAUTHORIZED})
"""Classes of errors without a response that the next request would get as well."""


class HttpWriter:
    """Writes records as `write` of an HTTP system says."""

    def __init__(
        self, system: HttpSystem, auth: Auth, references: References, context: RuntimeContext, retry: RetrySettings
    ) -> None:
        """Create a writer for settings with unresolved references. Raises `SpecError` for settings that cannot work."""
        if system.write is None:
            raise SpecError('an http target needs `write`, such as `write: {upsert: "PUT /customers/{id}"}`')
        templates = system.write
        system = references.resolve_settings(system)
        write = references.resolve_settings(templates)
        self._client = Client(system, references.resolve_settings(auth), references, context, wait_budget=retry.cap)
        self._headers = HeaderTemplates(templates, self._client, references)
        self._conditional = templates.conditional
        self._shape = get_body_shape(write)
        self._steps = find_record_steps(self._shape)
        self._write_errors = WriteErrors(self._client, ErrorLocator(write.errors, self._steps))
        self._upsert = _endpoint(write.upsert, "upsert")
        self._create = _endpoint(write.create, "create")
        self._update = _endpoint(write.update, "update")
        self._delete = _endpoint(write.delete, "delete")
        self._lookup = None
        if write.lookup is not None:
            found, client, write_errors = write.found, self._client, self._write_errors
            self._lookup = TargetLookup(write.lookup, found, client, write_errors, for_etag=self._conditional)
        self._batches = (
            None if write.batch is None else BatchWriter(write, self._client, self._write_errors, self._headers)
        )
        self._check = ResponseCheck(write)
        self._shape_checked = False
        self._exists_statuses = frozenset(write.exists)
        self._concurrency = system.limits.concurrency
        self.keyed = write.idempotency is not None
        self.deletes = write.delete is not None
        self.idempotent = _idempotent(write)
        self.batch = write.size if self._batches else self._concurrency * (_ROUNDS if self.idempotent else 1)

    async def write(self, records: Sequence[MappedRecord]) -> Sequence[WriteResult]:
        """Return one result per record, in order; records with the same key are sent one after the other.

        After a rate limit, rejected credentials or a failed connection, the remaining records are not sent and share
        one error.
        """
        if self._batches is not None and not any(record.delete for record in records):
            return await self._batches.write(records)
        results: list[WriteResult | None] = [None] * len(records)
        turns = _group_by_key(records)
        halt: WriteResult | None = None

        async def work() -> None:
            nonlocal halt
            for turn in turns:
                for index in turn:
                    if halt is None:
                        result = await self._write_one(records[index])
                        results[index] = result
                        if result.error is not None and _stops_call(result.error):
                            halt = WriteResult(error=mark_not_sent(result.error))
                    else:
                        results[index] = halt

        async with asyncio.TaskGroup() as group:
            for _ in range(min(self._concurrency, len(records))):
                group.create_task(work())
        return [result for result in results if result is not None]

    async def find(self, record: MappedRecord) -> Record | WriteError | None:
        """Return the target's record for `record`, None if there is none, or an error if the target does not say."""
        if self._lookup is None:
            raise ValueError("these settings have no lookup")
        found = await self._lookup.find(record)
        return found if isinstance(found, WriteError) else found.record

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def _write_one(self, record: MappedRecord) -> WriteResult:
        if self._batches is not None and not record.delete:
            return (await self._batches.write([record]))[0]
        if self._conditional:
            return await self._write_if_unchanged(record)
        return (await self._write_once(record))[0]

    async def _write_if_unchanged(self, record: MappedRecord) -> WriteResult:
        """Write `record`, and repeat lookup and write if the target's record changed in between.

        `record` is the newest one, because records with the same key are sent in turn, so it may replace the change.
        """
        bytes_out = 0
        for _ in range(_ATTEMPTS):
            result, found = await self._write_once(record)
            bytes_out += result.bytes_out
            if result.error is None or result.error.status != HTTPStatus.PRECONDITION_FAILED:
                return replace(result, bytes_out=bytes_out)
        assert result.error is not None  # noqa: S101 - it is the last of `_ATTEMPTS`
        return WriteResult(error=_explain_conflict(result.error, found), bytes_out=bytes_out)

    async def _write_once(self, record: MappedRecord) -> tuple[WriteResult, LookupMatch | None]:
        found: LookupMatch | None = None
        if self._lookup is not None and (self._upsert is None or record.delete or self._conditional):
            looked = await self._lookup.find(record)
            if isinstance(looked, WriteError):
                return WriteResult(error=looked), None
            found = looked
        return await (self._remove(record, found) if record.delete else self._put(record, found)), found

    async def _put(self, record: MappedRecord, found: LookupMatch | None) -> WriteResult:
        if self._upsert is not None:
            return await self._send(self._upsert, record, found, Effect.WRITTEN)
        if found is not None and found.record is not None:
            if self._update is None:
                return WriteResult(effect=Effect.WRITTEN)
            return await self._send(self._update, record, found, Effect.UPDATED)
        assert self._create is not None  # noqa: S101 - held by the settings
        return await self._send(self._create, record, found, Effect.CREATED)

    async def _remove(self, record: MappedRecord, found: LookupMatch | None) -> WriteResult:
        if self._delete is None:
            message = "the record was deleted at the source, and the target has no `delete`"
            return WriteResult(error=WriteError(ErrorClass.REJECTED, message, request="", sent=False))
        if found is not None and found.record is None:
            return WriteResult(effect=Effect.DELETED)
        result = await self._send(self._delete, record, found, Effect.DELETED)
        if result.error is not None and result.error.status in (404, 410):  # it does not exist, as intended
            return WriteResult(effect=Effect.DELETED)
        return result

    async def _send(
        self, endpoint: EndpointTemplate, record: MappedRecord, found: LookupMatch | None, effect: Effect
    ) -> WriteResult:
        scope: dict[str, Json] = {"source": record.source}
        if found is not None and found.record is not None:
            scope |= {"found": found.record, "lookup": build_lookup_scope(found.response)}
        try:
            url = self._client.base + endpoint.target.render(record.payload, scope)
            headers = self._headers.render(record, scope)
        except MissingValue as error:
            if found is not None and error.name in ("found", "lookup"):
                message = f"{endpoint.text}: {error.message}"
                return WriteResult(error=mark_not_sent(self._write_errors.bad_response(found.response, message)))
            return WriteResult(error=reject_missing_value(error, endpoint.text))
        content = b"" if effect is Effect.DELETED else encode(fill_shape(self._shape, record.payload))
        try:
            exchange = await self._client.send(endpoint.method, url, content=content, headers=headers)
        except RequestFailed as error:
            return WriteResult(error=convert_failed_request(error), bytes_out=len(content))
        if exchange.status in self._exists_statuses and effect is not Effect.DELETED:
            return WriteResult(effect=Effect.WRITTEN, bytes_out=len(content))
        if not 200 <= exchange.status < 300:
            return WriteResult(error=self._write_errors.from_response(exchange), bytes_out=len(content))
        return self._interpret_success(exchange, record, effect, len(content))

    def _interpret_success(self, exchange: Exchange, record: MappedRecord, effect: Effect, size: int) -> WriteResult:
        """Return the result of a response with a success status, whose request body had `size` bytes."""
        if effect is Effect.DELETED and not exchange.body:  # as for most deletes, whatever `ok` is
            return WriteResult(effect=effect, bytes_out=size)
        try:
            rejection = self._check.find_rejection(exchange, record.payload)
        except UnreadableBody as error:
            return WriteResult(error=self._write_errors.bad_response(exchange, str(error)), bytes_out=size)
        if rejection is not None:
            return WriteResult(error=self._write_errors.rejected(exchange, rejection.message), bytes_out=size)
        self._check_first(exchange, record)
        effect = _get_effect(exchange.status, exchange.method, effect)
        if effect is Effect.DELETED:
            return WriteResult(effect=effect, bytes_out=size)
        stored = read_stored_record(exchange, record.payload, self._steps)
        return WriteResult(effect, None, size, stored.target_id, stored.version, stored.record)

    def _check_first(self, exchange: Exchange, record: MappedRecord) -> None:
        """Warn once if nothing in the first successful response says whether the record was written."""
        if self._shape_checked:
            return
        self._shape_checked = True
        if unclear := self._check.describe_unclear(exchange, record.payload):
            line = self._client.line(exchange.method, exchange.url)
            self._client.report(Level.WARNING, f"{line}: {self._client.message(unclear)}")


def _explain_conflict(write_error: WriteError, found: LookupMatch | None) -> WriteError:
    """Return the conflict of a record that changed at the target between every lookup and write."""
    message = f"{write_error.message}: looked up and sent {_ATTEMPTS} times, and it changed in between each time"
    if found is not None and found.response.headers.get("etag", "").startswith("W/"):
        message += "; its ETag is weak (W/), so If-Match never matches it (RFC 9110 section 13.1.1)"
    return replace(write_error, message=message)


def _get_effect(status: int, method: str, effect: Effect) -> Effect:
    """Return the effect that status and method imply (RFC 9110 section 9.3.4), or else the intended one."""
    if effect is not Effect.WRITTEN:
        return Effect.WRITTEN if status == 202 and effect is not Effect.DELETED else effect
    if status == 201:
        return Effect.CREATED
    return Effect.UPDATED if method in ("PUT", "PATCH") and status in (200, 204) else Effect.WRITTEN


def _stops_call(write_error: WriteError) -> bool:
    """Return whether an error applies to all records: no connection, a rate limit, rejected credentials."""
    if write_error.status is not None:
        return write_error.status in (401, 429)
    return not write_error.sent and write_error.error_class in _STOPPING


def _group_by_key(records: Sequence[MappedRecord]) -> Iterator[Sequence[int]]:
    """Return the indexes of records, grouped by key and in order."""
    if len({record.key for record in records}) == len(records):
        return iter([(index,) for index in range(len(records))])
    by_key: dict[str, list[int]] = {}
    for index, record in enumerate(records):
        by_key.setdefault(record.key, []).append(index)
    return iter(by_key.values())


def _endpoint(text: str | None, name: str) -> EndpointTemplate | None:
    return None if text is None else EndpointTemplate.parse(text, where=f"write.{name}", names=SCOPE)


def _idempotent(write: HttpWrite) -> bool:
    """Return whether writing a record twice has the effect of writing it once.

    A batch is repeated with other records, so its idempotency key is not the same.
    """
    if write.batch is not None:
        return write.item is not None and write.item.method == "PUT"
    return write.upsert is not None or write.idempotency is not None or write.lookup is not None


class HttpLookup:
    """Sends `write.lookup` for each record, within the rate limits."""

    per_record = True

    def __init__(self, writer: HttpWriter) -> None:
        self._writer = writer

    async def find(self, records: Sequence[MappedRecord]) -> Sequence[Record | WriteError | None]:
        """Return what the lookup finds for each record, in order."""
        return await asyncio.gather(*map(self._writer.find, records))

    async def close(self) -> None:
        """Close the connections."""
        await self._writer.close()


def open_lookup(
    system: HttpSystem, auth: Auth, references: References, context: RuntimeContext, retry: RetrySettings
) -> HttpLookup | None:
    """Return the lookup of a target, if it has one. Raises `SpecError` for settings that cannot work."""
    if system.write is None or system.write.lookup is None:
        return None
    return HttpLookup(HttpWriter(system, auth, references, context, retry))
