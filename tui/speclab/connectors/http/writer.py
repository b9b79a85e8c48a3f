"""The HTTP target: upsert, create or update, deletes, and looking records up."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Final

from speclab.connectors.api import MappedRecord, RuntimeContext, WriteError, WriteResult
from speclab.connectors.http.batch import BatchWriter
from speclab.connectors.http.client import Client, Exchange, RequestFailed
from speclab.connectors.http.error_locations import ErrorLocator
from speclab.connectors.http.request_builder import SCOPE, EndpointTemplate, HeaderTemplates, MissingValue, of_lookup
from speclab.connectors.http.response import (
    UnreadableBody,
    filled,
    kind,
    look,
    message_in,
    path,
    shape_of,
    steps_to_record,
)
from speclab.connectors.http.response_check import ResponseCheck, failure_sign
from speclab.connectors.http.settings import HttpSystem
from speclab.connectors.http.write_errors import WriteErrors, held_back, no_answer, unsendable
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
    """What a lookup came to: the record, or None where the target has none, and the answer that says so."""

    record: Record | None
    answer: Exchange


class TargetLookup:
    """Asks one target."""

    def __init__(
        self, request: str, found: str | None, client: Client, refusals: WriteErrors, *, for_etag: bool
    ) -> None:
        """A lookup by `request`, whose answer has the record at `found`. Raises `SpecError`.

        With `for_etag` the answer is asked for unpacked: a server that packs it gives it another ETag or a weak one
        (RFC 9110 section 8.8.3), which an If-Match does not match.
        """
        self._endpoint = EndpointTemplate.parse(request, where="write.lookup", names=SCOPE)
        self._found = None if found is None else path(found, "write.found")
        self._client = client
        self._write_errors = refusals
        self._headers = [_UNPACKED] if for_etag else []

    async def of(self, item: MappedRecord) -> LookupMatch | WriteError:
        """What the target has of `item`; a refusal where that cannot be told."""
        try:
            url = self._client.base + self._endpoint.target.render(item.payload, {"source": item.source})
        except MissingValue as error:
            return unsendable(error, self._endpoint.text)
        try:
            exchange = await self._client.send(self._endpoint.method, url, headers=self._headers)
        except RequestFailed as error:
            error.sent = False  # only the question was: nothing was written
            return no_answer(error)
        if exchange.status in (404, 410):
            return LookupMatch(None, exchange)
        if exchange.status >= 300:
            return held_back(self._write_errors.of_answer(exchange))
        return self._found_in(exchange)

    def _found_in(self, exchange: Exchange) -> LookupMatch | WriteError:
        try:
            found = self._at(exchange)
        except UnreadableBody as error:
            return held_back(self._write_errors.bad(exchange, f"the answer to the lookup {error}"))
        if isinstance(found, list):
            if len(found) > 1:
                message = f"the lookup found {len(found)} records where one was expected; set `found` or ask for less"
                return held_back(self._write_errors.bad(exchange, message))
            found = found[0] if found else None
        if found is None or isinstance(found, dict):
            return LookupMatch(found, exchange)
        return held_back(self._write_errors.bad(exchange, f"the lookup found {kind(found)}, not an object"))

    def _at(self, exchange: Exchange) -> Json:
        """What is at `found`; None where there is nothing, and that is sure, for the record would be created twice.

        An end of a list, null, and nothing at all are sure. A name that is not there may be misspelt, and what is of
        another shape, no JSON, or says that it is an error, tells nothing. Raises `UnreadableBody`.
        """
        if not exchange.body.strip():
            return None
        try:
            value = body = decode(exchange.body)
        except ValueError:
            raise UnreadableBody("is no JSON") from None
        for part in self._found.parts if self._found is not None else ():
            if not value:
                value = None
                break
            step = FieldPath((part,))
            if not (isinstance(value, list) if isinstance(part, int) else isinstance(value, dict) and part in value):
                raise UnreadableBody(f"has no `{step}`, but {kind(value)}; expected the record at `{self._found}`")
            value = look(value, step)
        if not value and failure_sign(body):
            raise UnreadableBody(f"is an error: {message_in(body) or 'it does not say which'}")
        return value


_ROUNDS: Final = 25
"""Requests a connection may make in one call of `write`: enough that the slowest does not keep the others waiting."""
_TRIES: Final = 3
"""Times a record is looked up and sent while it changes at the target in between."""
_HALTING: Final = frozenset({ErrorClass.NETWORK, ErrorClass.TIMEOUT, ErrorClass.RATE_LIMIT, ErrorClass.UNAUTHORIZED})
"""What keeps a request from being sent that will keep the next one, too."""


class HttpWriter:
    """Writes records as `write` of an HTTP system says."""

    def __init__(
        self, system: HttpSystem, auth: Auth, references: References, context: RuntimeContext, retry: RetrySettings
    ) -> None:
        """A writer for settings as the spec has them. Raises `SpecError` for those that cannot work."""
        if system.write is None:
            raise SpecError('an http target needs `write`, such as `write: {upsert: "PUT /customers/{id}"}`')
        templates = system.write
        system = references.resolve_settings(system)
        write = references.resolve_settings(templates)
        self._client = Client(system, references.resolve_settings(auth), references, context, wait_budget=retry.cap)
        self._headers = HeaderTemplates(templates, self._client, references)
        self._conditional = templates.conditional
        self._shape = shape_of(write)
        self._write_errors = WriteErrors(self._client, ErrorLocator(write.errors, steps_to_record(self._shape)))
        self._upsert = _endpoint(write.upsert, "upsert")
        self._create = _endpoint(write.create, "create")
        self._update = _endpoint(write.update, "update")
        self._delete = _endpoint(write.delete, "delete")
        self._lookup = None
        if write.lookup is not None:
            found, client, refusals = write.found, self._client, self._write_errors
            self._lookup = TargetLookup(write.lookup, found, client, refusals, for_etag=self._conditional)
        self._batches = (
            None if write.batch is None else BatchWriter(write, self._client, self._write_errors, self._headers)
        )
        self._successes = ResponseCheck(write)
        self._answered = False
        self._exists = frozenset(write.exists)
        self._at_once = system.limits.concurrency
        self.keyed = write.idempotency is not None
        self.deletes = write.delete is not None
        self.idempotent = _idempotent(write)
        self.batch = write.size if self._batches else self._at_once * (_ROUNDS if self.idempotent else 1)

    async def write(self, items: Sequence[MappedRecord]) -> Sequence[WriteResult]:
        """One answer an item, in order; items of one key are sent one after the other.

        When the target asks to wait, refuses the credentials or cannot be connected to, what was not sent yet is not
        sent; it is answered with one refusal that says so.
        """
        if self._batches is not None and not any(item.delete for item in items):
            return await self._batches.write(items)
        answers: list[WriteResult | None] = [None] * len(items)
        turns = _turns(items)
        halt: WriteResult | None = None

        async def work() -> None:
            nonlocal halt
            for turn in turns:
                for index in turn:
                    if halt is None:
                        answer = await self._one(items[index])
                        answers[index] = answer
                        if answer.error is not None and _halts(answer.error):
                            halt = WriteResult(error=held_back(answer.error))
                    else:
                        answers[index] = halt

        async with asyncio.TaskGroup() as group:
            for _ in range(min(self._at_once, len(items))):
                group.create_task(work())
        return [answer for answer in answers if answer is not None]

    async def find(self, item: MappedRecord) -> Record | WriteError | None:
        """What the target has of `item`, by the `lookup`; nothing, or a refusal where that cannot be told."""
        if self._lookup is None:
            raise ValueError("these settings have no lookup")
        found = await self._lookup.of(item)
        return found if isinstance(found, WriteError) else found.record

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def _one(self, item: MappedRecord) -> WriteResult:
        if self._batches is not None and not item.delete:
            return (await self._batches.write([item]))[0]
        if self._conditional:
            return await self._unless_changed(item)
        return (await self._try(item))[0]

    async def _unless_changed(self, item: MappedRecord) -> WriteResult:
        """The answer for `item`, which is looked up and sent anew if it was changed at the target in between.

        The record in hand is the newest there is, for those of one key take turns; so it may go over what is there now.
        """
        bytes_out = 0
        for _ in range(_TRIES):
            answer, found = await self._try(item)
            bytes_out += answer.bytes_out
            if answer.error is None or answer.error.status != HTTPStatus.PRECONDITION_FAILED:
                return replace(answer, bytes_out=bytes_out)
        assert answer.error is not None  # noqa: S101 - it is the last of `_TRIES`
        return WriteResult(error=_contested(answer.error, found), bytes_out=bytes_out)

    async def _try(self, item: MappedRecord) -> tuple[WriteResult, LookupMatch | None]:
        found: LookupMatch | None = None
        if self._lookup is not None and (self._upsert is None or item.delete or self._conditional):
            looked = await self._lookup.of(item)
            if isinstance(looked, WriteError):
                return WriteResult(error=looked), None
            found = looked
        return await (self._remove(item, found) if item.delete else self._put(item, found)), found

    async def _put(self, item: MappedRecord, found: LookupMatch | None) -> WriteResult:
        if self._upsert is not None:
            return await self._send(self._upsert, item, found, Effect.WRITTEN)
        if found is not None and found.record is not None:
            if self._update is None:
                return WriteResult(effect=Effect.WRITTEN)
            return await self._send(self._update, item, found, Effect.UPDATED)
        assert self._create is not None  # noqa: S101 - held by the settings
        return await self._send(self._create, item, found, Effect.CREATED)

    async def _remove(self, item: MappedRecord, found: LookupMatch | None) -> WriteResult:
        if self._delete is None:
            message = "the record was deleted at the source, and the target has no `delete`"
            return WriteResult(error=WriteError(ErrorClass.REJECTED, message, request="", sent=False))
        if found is not None and found.record is None:
            return WriteResult(effect=Effect.DELETED)
        answer = await self._send(self._delete, item, found, Effect.DELETED)
        if answer.error is not None and answer.error.status in (404, 410):  # gone is what was wanted
            return WriteResult(effect=Effect.DELETED)
        return answer

    async def _send(
        self, endpoint: EndpointTemplate, item: MappedRecord, found: LookupMatch | None, effect: Effect
    ) -> WriteResult:
        scope: dict[str, Json] = {"source": item.source}
        if found is not None and found.record is not None:
            scope |= {"found": found.record, "lookup": of_lookup(found.answer)}
        try:
            url = self._client.base + endpoint.target.render(item.payload, scope)
            headers = self._headers.given(item, scope)
        except MissingValue as error:
            if found is not None and error.name in ("found", "lookup"):
                return WriteResult(
                    error=held_back(self._write_errors.bad(found.answer, f"{endpoint.text}: {error.message}"))
                )
            return WriteResult(error=unsendable(error, endpoint.text))
        content = b"" if effect is Effect.DELETED else encode(filled(self._shape, item.payload))
        try:
            exchange = await self._client.send(endpoint.method, url, content=content, headers=headers)
        except RequestFailed as error:
            return WriteResult(error=no_answer(error), bytes_out=len(content))
        if exchange.status in self._exists and effect is not Effect.DELETED:
            return WriteResult(effect=Effect.WRITTEN, bytes_out=len(content))
        if 200 <= exchange.status < 300:
            silent = effect is Effect.DELETED and not exchange.body  # as most deletes are answered, whatever `ok` is
            try:
                denied = None if silent else self._successes.denied(exchange, item.payload)
            except UnreadableBody as error:
                return WriteResult(error=self._write_errors.bad(exchange, str(error)), bytes_out=len(content))
            if denied is not None:
                return WriteResult(error=self._write_errors.denied(exchange, denied.message), bytes_out=len(content))
            if not silent:
                self._check_first(exchange, item)
            return WriteResult(effect=_told(exchange.status, endpoint.method, effect), bytes_out=len(content))
        return WriteResult(error=self._write_errors.of_answer(exchange), bytes_out=len(content))

    def _check_first(self, exchange: Exchange, item: MappedRecord) -> None:
        """Report once if the first success has a shape of which nothing is known."""
        if self._answered:
            return
        self._answered = True
        if unclear := self._successes.unclear(exchange, item.payload):
            line = self._client.line(exchange.method, exchange.url)
            self._client.report(Level.WARNING, f"{line}: {self._client.message(unclear)}")


def _contested(write_error: WriteError, found: LookupMatch | None) -> WriteError:
    """The conflict of a record that was changed at the target each time between the lookup and the write."""
    message = f"{write_error.message}: it was looked up and sent {_TRIES} times, and was another each time"
    if found is not None and found.answer.headers.get("etag", "").startswith("W/"):
        message += "; its ETag is a weak one (W/), which no If-Match matches (RFC 9110 section 13.1.1)"
    return replace(write_error, message=message)


def _told(status: int, method: str, effect: Effect) -> Effect:
    """The effect a successful answer tells, by status and method (RFC 9110 section 9.3.4); else the one meant."""
    if effect is not Effect.WRITTEN:
        return Effect.WRITTEN if status == 202 and effect is not Effect.DELETED else effect
    if status == 201:
        return Effect.CREATED
    return Effect.UPDATED if method in ("PUT", "PATCH") and status in (200, 204) else Effect.WRITTEN


def _halts(write_error: WriteError) -> bool:
    """Whether what one record was told holds for all: no connection, a rate limit, credentials refused."""
    if write_error.status is not None:
        return write_error.status in (401, 429)
    return not write_error.sent and write_error.error_class in _HALTING


def _turns(items: Sequence[MappedRecord]) -> Iterator[Sequence[int]]:
    """Indexes of items, those of one key together and in order."""
    if len({item.key for item in items}) == len(items):
        return iter([(index,) for index in range(len(items))])
    by_key: dict[str, list[int]] = {}
    for index, item in enumerate(items):
        by_key.setdefault(item.key, []).append(index)
    return iter(by_key.values())


def _endpoint(text: str | None, name: str) -> EndpointTemplate | None:
    return None if text is None else EndpointTemplate.parse(text, where=f"write.{name}", names=SCOPE)


def _idempotent(write: HttpWrite) -> bool:
    """Whether to write an item again does no harm.

    A batch is sent again in other company, so that a key of its own would not be the same.
    """
    if write.batch is not None:
        return write.item is not None and write.item.method == "PUT"
    return write.upsert is not None or write.idempotency is not None or write.lookup is not None


class HttpFinder:
    """Asks `write.lookup` for each record, at the pace the limits allow."""

    per_record = True

    def __init__(self, writer: HttpWriter) -> None:
        self._writer = writer

    async def find(self, items: Sequence[MappedRecord]) -> Sequence[Record | WriteError | None]:
        """What the lookup finds of each item, in order."""
        return await asyncio.gather(*map(self._writer.find, items))

    async def close(self) -> None:
        """Close the connections."""
        await self._writer.close()


def open_lookup(
    system: HttpSystem, auth: Auth, references: References, context: RuntimeContext, retry: RetrySettings
) -> HttpFinder | None:
    """The finder of a target with a `lookup`. Raises `SpecError` for settings that cannot work."""
    if system.write is None or system.write.lookup is None:
        return None
    return HttpFinder(HttpWriter(system, auth, references, context, retry))
