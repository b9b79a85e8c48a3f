"""Writing over HTTP, a request a record and many at once: upsert, create, update and delete."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from typing import Final

from speclab.connectors.base import Answer, Item, Refusal, Seams
from speclab.connectors.http.answers import Blame, WrongBody, kind, look, parsed, path
from speclab.connectors.http.batch import Batches
from speclab.connectors.http.client import Client, Exchange, RequestFailed
from speclab.connectors.http.refusals import Refusals, held_back, no_answer, unsendable
from speclab.connectors.http.successes import Successes
from speclab.connectors.http.templates import Endpoint, MissingValue
from speclab.connectors.jsontext import encode
from speclab.connectors.references import References
from speclab.errors import SpecError
from speclab.jsonvalue import Json, Record
from speclab.outcome import Effect, ErrorClass
from speclab.spec.auth import Auth
from speclab.spec.settings import RetrySettings
from speclab.spec.systems.http import HttpSystem, HttpWrite

_ROUNDS: Final = 25
"""Requests a connection may make in one call of `write`: enough that the slowest does not keep the others waiting."""
_SCOPE: Final = frozenset({"source", "found"})
_HALTING: Final = frozenset({ErrorClass.NETWORK, ErrorClass.TIMEOUT, ErrorClass.RATE_LIMIT, ErrorClass.UNAUTHORIZED})
"""What keeps a request from being sent that will keep the next one, too."""


class HttpWriter:
    """Writes records as `write` of an HTTP system says."""

    def __init__(
        self, system: HttpSystem, auth: Auth, references: References, seams: Seams, retry: RetrySettings
    ) -> None:
        """A writer for settings as the spec has them. Raises `SpecError` for those that cannot work."""
        system = references.resolve_settings(system)
        if system.write is None:
            raise SpecError('an http target needs `write`, such as `write: {upsert: "PUT /customers/{id}"}`')
        write = system.write
        self._client = Client(system, references.resolve_settings(auth), references, seams, patience=retry.cap)
        self._refusals = Refusals(self._client, Blame(write.errors, write.envelope))
        self._upsert = _endpoint(write.upsert, "upsert")
        self._create = _endpoint(write.create, "create")
        self._update = _endpoint(write.update, "update")
        self._lookup = _endpoint(write.lookup, "lookup")
        self._delete = _endpoint(write.delete, "delete")
        self._found = None if write.found is None else path(write.found, "write.found")
        self._batches = None if write.batch is None else Batches(write, self._client, self._refusals)
        self._successes = Successes(write)
        self._envelope = write.envelope
        self._exists = frozenset(write.exists)
        self._headers = self._client.encoded({"Content-Type": "application/json", **write.headers})
        self._key_header = write.idempotency.encode("ascii") if write.idempotency else None
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
        found = await self._look_up(self._lookup, item, {"source": item.source})
        if isinstance(found, Answer):
            return found.refusal
        return found if isinstance(found, dict) else None

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def _one(self, item: Item) -> Answer:
        scope: dict[str, Json] = {"source": item.source}
        if item.delete:
            return await self._remove(item, scope)
        if self._upsert is not None:
            return await self._send(self._upsert, item, scope, Effect.WRITTEN)
        if self._batches is not None:
            return (await self._batches.write([item]))[0]
        return await self._create_or_update(item, scope)

    async def _create_or_update(self, item: Item, scope: dict[str, Json]) -> Answer:
        """Look first, where the spec says how; create what is not there."""
        assert self._create is not None  # noqa: S101 - held by the settings
        if self._lookup is not None:
            found = await self._look_up(self._lookup, item, scope)
            if isinstance(found, Answer):
                return found
            if found is not None:
                if self._update is None:
                    return Answer(effect=Effect.WRITTEN)
                return await self._send(self._update, item, {**scope, "found": found}, Effect.UPDATED)
        return await self._send(self._create, item, scope, Effect.CREATED)

    async def _remove(self, item: Item, scope: dict[str, Json]) -> Answer:
        if self._delete is None:
            message = "the record was deleted at the source, and the target has no `delete`"
            return Answer(refusal=Refusal(ErrorClass.REJECTED, message, request="", sent=False))
        if self._lookup is not None:
            found = await self._look_up(self._lookup, item, scope)
            if isinstance(found, Answer):
                return found
            if found is None:
                return Answer(effect=Effect.DELETED)
            scope = {**scope, "found": found}
        answer = await self._send(self._delete, item, scope, Effect.DELETED)
        if answer.refusal is not None and answer.refusal.status in (404, 410):  # gone is what was wanted
            return Answer(effect=Effect.DELETED)
        return answer

    async def _look_up(self, endpoint: Endpoint, item: Item, scope: dict[str, Json]) -> Json | Answer:
        """What the target has of `item`; None where it has nothing; an answer where that cannot be told."""
        try:
            url = self._client.base + endpoint.target.render(item.payload, scope)
        except MissingValue as error:
            return Answer(refusal=unsendable(error, endpoint.text))
        try:
            exchange = await self._client.send(endpoint.method, url)
        except RequestFailed as error:
            error.sent = False  # only the question was: nothing was written
            return Answer(refusal=no_answer(error))
        if exchange.status in (404, 410):
            return None
        if exchange.status >= 300:
            refusal = self._refusals.of_answer(exchange)
            return Answer(refusal=held_back(refusal))
        return self._found_in(exchange)

    def _found_in(self, exchange: Exchange) -> Json | Answer:
        body = parsed(exchange)
        found = look(body, self._found) if self._found is not None else body
        if isinstance(found, list):
            if len(found) > 1:
                message = f"the lookup found {len(found)} records where one was expected; set `found` or ask for less"
                return Answer(refusal=held_back(self._refusals.bad(exchange, message)))
            found = found[0] if found else None
        if found is None or isinstance(found, dict):
            return found
        return Answer(refusal=held_back(self._refusals.bad(exchange, f"the lookup found {kind(found)}, not an object")))

    async def _send(self, endpoint: Endpoint, item: Item, scope: dict[str, Json], effect: Effect) -> Answer:
        try:
            url = self._client.base + endpoint.target.render(item.payload, scope)
        except MissingValue as error:
            return Answer(refusal=unsendable(error, endpoint.text))
        content = b""
        if effect is not Effect.DELETED:
            content = encode({self._envelope: item.payload} if self._envelope else item.payload)
        headers = self._headers
        if self._key_header is not None:
            headers = [*headers, (self._key_header, item.idempotency_key.encode("ascii"))]
        try:
            exchange = await self._client.send(endpoint.method, url, content=content, headers=headers)
        except RequestFailed as error:
            return Answer(refusal=no_answer(error), bytes_out=len(content))
        if exchange.status in self._exists:
            return Answer(effect=Effect.WRITTEN, bytes_out=len(content))
        if 200 <= exchange.status < 300:
            try:
                denied = None if effect is Effect.DELETED else self._successes.denied(exchange, item.payload)
            except WrongBody as error:
                return Answer(refusal=self._refusals.bad(exchange, str(error)), bytes_out=len(content))
            if denied is not None:
                return Answer(refusal=self._refusals.denied(exchange, denied), bytes_out=len(content))
            return Answer(effect=_told(exchange.status, endpoint.method, effect), bytes_out=len(content))
        return Answer(refusal=self._refusals.of_answer(exchange), bytes_out=len(content))


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
    return None if text is None else Endpoint.parse(text, where=f"write.{name}", names=_SCOPE)


def _idempotent(write: HttpWrite) -> bool:
    """Whether to write an item again does no harm.

    A batch is sent again in other company, so that a key of its own would not be the same.
    """
    if write.batch is not None:
        return write.item is not None and write.item.method == "PUT"
    return write.upsert is not None or write.idempotency is not None or write.lookup is not None
