"""Writing over HTTP, a request a record and many at once: upsert, create, update and delete."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import replace
from http import HTTPStatus
from typing import Final

from speclab.connectors.base import Answer, Item, Refusal, Seams
from speclab.connectors.http.answers import WrongBody
from speclab.connectors.http.batch import Batches
from speclab.connectors.http.client import Client, Exchange, RequestFailed
from speclab.connectors.http.error_locations import ErrorLocator
from speclab.connectors.http.headers import Headers, of_lookup
from speclab.connectors.http.lookup import Found, Lookup
from speclab.connectors.http.refusals import Refusals, held_back, no_answer, unsendable
from speclab.connectors.http.shape import filled, shape_of, steps_to_record
from speclab.connectors.http.successes import Successes
from speclab.connectors.http.templates import SCOPE, Endpoint, MissingValue
from speclab.connectors.jsontext import encode
from speclab.connectors.references import References
from speclab.errors import SpecError
from speclab.jsonvalue import Json, Record
from speclab.outcome import Effect, ErrorClass, Level
from speclab.spec.auth import Auth
from speclab.spec.settings import RetrySettings
from speclab.spec.systems.http import HttpSystem
from speclab.spec.systems.http_write import HttpWrite

_ROUNDS: Final = 25
"""Requests a connection may make in one call of `write`: enough that the slowest does not keep the others waiting."""
_TRIES: Final = 3
"""Times a record is looked up and sent while it changes at the target in between."""
_HALTING: Final = frozenset({ErrorClass.NETWORK, ErrorClass.TIMEOUT, ErrorClass.RATE_LIMIT, ErrorClass.UNAUTHORIZED})
"""What keeps a request from being sent that will keep the next one, too."""


class HttpWriter:
    """Writes records as `write` of an HTTP system says."""

    def __init__(
        self, system: HttpSystem, auth: Auth, references: References, seams: Seams, retry: RetrySettings
    ) -> None:
        """A writer for settings as the spec has them. Raises `SpecError` for those that cannot work."""
        if system.write is None:
            raise SpecError('an http target needs `write`, such as `write: {upsert: "PUT /customers/{id}"}`')
        templates = system.write
        system = references.resolve_settings(system)
        write = references.resolve_settings(templates)
        self._client = Client(system, references.resolve_settings(auth), references, seams, patience=retry.cap)
        self._headers = Headers(templates, self._client, references)
        self._conditional = templates.conditional
        self._shape = shape_of(write)
        self._refusals = Refusals(self._client, ErrorLocator(write.errors, steps_to_record(self._shape)))
        self._upsert = _endpoint(write.upsert, "upsert")
        self._create = _endpoint(write.create, "create")
        self._update = _endpoint(write.update, "update")
        self._delete = _endpoint(write.delete, "delete")
        self._lookup = None
        if write.lookup is not None:
            found, client, refusals = write.found, self._client, self._refusals
            self._lookup = Lookup(write.lookup, found, client, refusals, for_etag=self._conditional)
        self._batches = None if write.batch is None else Batches(write, self._client, self._refusals, self._headers)
        self._successes = Successes(write)
        self._answered = False
        self._exists = frozenset(write.exists)
        self._at_once = system.limits.concurrency
        self.keyed = write.idempotency is not None
        self.deletes = write.delete is not None
        self.idempotent = _idempotent(write)
        self.batch = write.size if self._batches else self._at_once * (_ROUNDS if self.idempotent else 1)

    async def write(self, items: Sequence[Item]) -> Sequence[Answer]:
        """One answer an item, in order; items of one key are sent one after the other.

        When the target asks to wait, refuses the credentials or cannot be connected to, what was not sent yet is not
        sent; it is answered with one refusal that says so.
        """
        if self._batches is not None and not any(item.delete for item in items):
            return await self._batches.write(items)
        answers: list[Answer | None] = [None] * len(items)
        turns = _turns(items)
        halt: Answer | None = None

        async def work() -> None:
            nonlocal halt
            for turn in turns:
                for index in turn:
                    if halt is None:
                        answer = await self._one(items[index])
                        answers[index] = answer
                        if answer.refusal is not None and _halts(answer.refusal):
                            halt = Answer(refusal=held_back(answer.refusal))
                    else:
                        answers[index] = halt

        async with asyncio.TaskGroup() as group:
            for _ in range(min(self._at_once, len(items))):
                group.create_task(work())
        return [answer for answer in answers if answer is not None]

    async def find(self, item: Item) -> Record | Refusal | None:
        """What the target has of `item`, by the `lookup`; nothing, or a refusal where that cannot be told."""
        if self._lookup is None:
            raise ValueError("these settings have no lookup")
        found = await self._lookup.of(item)
        return found if isinstance(found, Refusal) else found.record

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def _one(self, item: Item) -> Answer:
        if self._batches is not None and not item.delete:
            return (await self._batches.write([item]))[0]
        if self._conditional:
            return await self._unless_changed(item)
        return (await self._try(item))[0]

    async def _unless_changed(self, item: Item) -> Answer:
        """The answer for `item`, which is looked up and sent anew if it was changed at the target in between.

        The record in hand is the newest there is, for those of one key take turns; so it may go over what is there now.
        """
        bytes_out = 0
        for _ in range(_TRIES):
            answer, found = await self._try(item)
            bytes_out += answer.bytes_out
            if answer.refusal is None or answer.refusal.status != HTTPStatus.PRECONDITION_FAILED:
                return replace(answer, bytes_out=bytes_out)
        assert answer.refusal is not None  # noqa: S101 - it is the last of `_TRIES`
        return Answer(refusal=_contested(answer.refusal, found), bytes_out=bytes_out)

    async def _try(self, item: Item) -> tuple[Answer, Found | None]:
        found: Found | None = None
        if self._lookup is not None and (self._upsert is None or item.delete or self._conditional):
            looked = await self._lookup.of(item)
            if isinstance(looked, Refusal):
                return Answer(refusal=looked), None
            found = looked
        return await (self._remove(item, found) if item.delete else self._put(item, found)), found

    async def _put(self, item: Item, found: Found | None) -> Answer:
        if self._upsert is not None:
            return await self._send(self._upsert, item, found, Effect.WRITTEN)
        if found is not None and found.record is not None:
            if self._update is None:
                return Answer(effect=Effect.WRITTEN)
            return await self._send(self._update, item, found, Effect.UPDATED)
        assert self._create is not None  # noqa: S101 - held by the settings
        return await self._send(self._create, item, found, Effect.CREATED)

    async def _remove(self, item: Item, found: Found | None) -> Answer:
        if self._delete is None:
            message = "the record was deleted at the source, and the target has no `delete`"
            return Answer(refusal=Refusal(ErrorClass.REJECTED, message, request="", sent=False))
        if found is not None and found.record is None:
            return Answer(effect=Effect.DELETED)
        answer = await self._send(self._delete, item, found, Effect.DELETED)
        if answer.refusal is not None and answer.refusal.status in (404, 410):  # gone is what was wanted
            return Answer(effect=Effect.DELETED)
        return answer

    async def _send(self, endpoint: Endpoint, item: Item, found: Found | None, effect: Effect) -> Answer:
        scope: dict[str, Json] = {"source": item.source}
        if found is not None and found.record is not None:
            scope |= {"found": found.record, "lookup": of_lookup(found.answer)}
        try:
            url = self._client.base + endpoint.target.render(item.payload, scope)
            headers = self._headers.given(item, scope)
        except MissingValue as error:
            if found is not None and error.name in ("found", "lookup"):
                return Answer(refusal=held_back(self._refusals.bad(found.answer, f"{endpoint.text}: {error.message}")))
            return Answer(refusal=unsendable(error, endpoint.text))
        content = b"" if effect is Effect.DELETED else encode(filled(self._shape, item.payload))
        try:
            exchange = await self._client.send(endpoint.method, url, content=content, headers=headers)
        except RequestFailed as error:
            return Answer(refusal=no_answer(error), bytes_out=len(content))
        if exchange.status in self._exists and effect is not Effect.DELETED:
            return Answer(effect=Effect.WRITTEN, bytes_out=len(content))
        if 200 <= exchange.status < 300:
            silent = effect is Effect.DELETED and not exchange.body  # as most deletes are answered, whatever `ok` is
            try:
                denied = None if silent else self._successes.denied(exchange, item.payload)
            except WrongBody as error:
                return Answer(refusal=self._refusals.bad(exchange, str(error)), bytes_out=len(content))
            if denied is not None:
                return Answer(refusal=self._refusals.denied(exchange, denied.message), bytes_out=len(content))
            if not silent:
                self._check_first(exchange, item)
            return Answer(effect=_told(exchange.status, endpoint.method, effect), bytes_out=len(content))
        return Answer(refusal=self._refusals.of_answer(exchange), bytes_out=len(content))

    def _check_first(self, exchange: Exchange, item: Item) -> None:
        """Report once if the first success has a shape of which nothing is known."""
        if self._answered:
            return
        self._answered = True
        if unclear := self._successes.unclear(exchange, item.payload):
            line = self._client.line(exchange.method, exchange.url)
            self._client.report(Level.WARNING, f"{line}: {self._client.message(unclear)}")


def _contested(refusal: Refusal, found: Found | None) -> Refusal:
    """The conflict of a record that was changed at the target each time between the lookup and the write."""
    message = f"{refusal.message}: it was looked up and sent {_TRIES} times, and was another each time"
    if found is not None and found.answer.headers.get("etag", "").startswith("W/"):
        message += "; its ETag is a weak one (W/), which no If-Match matches (RFC 9110 section 13.1.1)"
    return replace(refusal, message=message)


def _told(status: int, method: str, effect: Effect) -> Effect:
    """The effect a successful answer tells, by status and method (RFC 9110 section 9.3.4); else the one meant."""
    if effect is not Effect.WRITTEN:
        return Effect.WRITTEN if status == 202 and effect is not Effect.DELETED else effect
    if status == 201:
        return Effect.CREATED
    return Effect.UPDATED if method in ("PUT", "PATCH") and status in (200, 204) else Effect.WRITTEN


def _halts(refusal: Refusal) -> bool:
    """Whether what one record was told holds for all: no connection, a rate limit, credentials refused."""
    if refusal.status is not None:
        return refusal.status in (401, 429)
    return not refusal.sent and refusal.error_class in _HALTING


def _turns(items: Sequence[Item]) -> Iterator[Sequence[int]]:
    """Indexes of items, those of one key together and in order."""
    if len({item.key for item in items}) == len(items):
        return iter([(index,) for index in range(len(items))])
    by_key: dict[str, list[int]] = {}
    for index, item in enumerate(items):
        by_key.setdefault(item.key, []).append(index)
    return iter(by_key.values())


def _endpoint(text: str | None, name: str) -> Endpoint | None:
    return None if text is None else Endpoint.parse(text, where=f"write.{name}", names=SCOPE)


def _idempotent(write: HttpWrite) -> bool:
    """Whether to write an item again does no harm.

    A batch is sent again in other company, so that a key of its own would not be the same.
    """
    if write.batch is not None:
        return write.item is not None and write.item.method == "PUT"
    return write.upsert is not None or write.idempotency is not None or write.lookup is not None
