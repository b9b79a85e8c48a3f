"""Writing over HTTP, many records a request: the list, its envelope, and one result a record in the answer."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Final

from speclab.connectors.base import Answer, Item
from speclab.connectors.http.answers import WrongBody, kind, look, parsed, path
from speclab.connectors.http.client import Client, Exchange, RequestFailed
from speclab.connectors.http.headers import Headers
from speclab.connectors.http.refusals import Refusals, no_answer, unsendable
from speclab.connectors.http.shape import filled, shape_of
from speclab.connectors.http.successes import Successes
from speclab.connectors.http.templates import Endpoint, MissingValue, Template
from speclab.connectors.jsontext import encode
from speclab.jsonvalue import Json
from speclab.outcome import Effect
from speclab.paths import FieldPath
from speclab.spec.systems.http_write import BatchItem, HttpWrite

_NAMES: Final = frozenset({"source"})


class Batches:
    """Sends batches as `write.batch` says."""

    def __init__(self, write: HttpWrite, client: Client, refusals: Refusals, headers: Headers) -> None:
        """Batches over `client`. Raises `SpecError`."""
        self._client = client
        self._refusals = refusals
        self._line = write.batch or ""
        self._method, target = Endpoint.fixed(self._line, where="write.batch")
        self._url = client.base + target
        self._shape = shape_of(write)
        self._item = None if write.item is None else _ItemTemplate(write.item)
        self._results = None if write.results is None else _list_at(write.results)
        self._successes = Successes(write)
        self._exists = frozenset(write.exists)
        self._headers = headers

    async def write(self, items: Sequence[Item]) -> list[Answer]:
        """One answer an item, in order; a batch that is refused whole is answered with one refusal for all."""
        entries: list[Json] = []
        answers: list[Answer | None] = []
        sent: list[Item] = []
        for item in items:
            try:
                entries.append(self._item.render(item) if self._item else item.payload)
            except MissingValue as error:
                answers.append(Answer(refusal=unsendable(error, self._line)))
            else:
                answers.append(None)
                sent.append(item)
        given = iter(await self._send(sent, entries) if sent else [])
        return [answer or next(given) for answer in answers]

    async def _send(self, items: Sequence[Item], entries: list[Json]) -> list[Answer]:
        content = encode(filled(self._shape, entries))
        share = len(content) // len(items)
        keys = ",".join(item.idempotency_key for item in items)
        headers = [*self._headers.fixed, *self._headers.keyed(str(uuid.uuid5(uuid.NAMESPACE_OID, keys)))]
        try:
            exchange = await self._client.send(self._method, self._url, content=content, headers=headers)
        except RequestFailed as error:
            return [Answer(refusal=no_answer(error), bytes_out=share)] * len(items)
        if exchange.status in self._exists and len(items) == 1:  # of several, one may be there and the others not
            return [Answer(effect=Effect.WRITTEN, bytes_out=share)]
        if exchange.status >= 300:
            return [Answer(refusal=self._refusals.of_answer(exchange), bytes_out=share)] * len(items)
        if self._results is None:
            return [self._as_one(exchange, entries, share)] * len(items)
        return self._judged(exchange, self._results, len(items), share)

    def _as_one(self, exchange: Exchange, entries: list[Json], share: int) -> Answer:
        """The answer for a whole batch that has no results."""
        try:
            denied = self._successes.denied(exchange, entries)
        except WrongBody as error:
            return Answer(refusal=self._refusals.bad(exchange, str(error)), bytes_out=share)
        if denied is None:
            return Answer(effect=Effect.WRITTEN, bytes_out=share)
        if denied.whole:
            return Answer(refusal=self._refusals.denied(exchange, denied.message), bytes_out=share)
        message = f"{denied.message}; the others may be written: say with `results` where each has its own"
        return Answer(refusal=self._refusals.bad(exchange, message), bytes_out=share)

    def _judged(self, exchange: Exchange, where: FieldPath, count: int, share: int) -> list[Answer]:
        """One answer a result; a list that does not match what was sent leaves all of it in doubt."""
        results = look(parsed(exchange), where)
        if not isinstance(results, list) or len(results) != count:
            found = f"{len(results)} results" if isinstance(results, list) else kind(results)
            message = f"expected {count} results at `{where if where.parts else '[*]'}`, found {found}"
            return [Answer(refusal=self._refusals.bad(exchange, message), bytes_out=share)] * count
        return [self._judge(exchange, entry, share) for entry in results]

    def _judge(self, exchange: Exchange, entry: Json, share: int) -> Answer:
        if look(entry, self._successes.status) is None:
            entry = self._successes.unwrapped(entry)
        try:
            ok = self._successes.takes(entry)
        except WrongBody as error:
            return Answer(refusal=self._refusals.bad(exchange, str(error)), bytes_out=share)
        status = self._successes.status_of(entry)
        if ok or status in self._exists:
            return Answer(effect=Effect.CREATED if status == 201 else Effect.WRITTEN, bytes_out=share)
        said = self._successes.of_entry(entry)
        return Answer(refusal=self._refusals.of_entry(exchange, entry, status, said), bytes_out=share)


class _ItemTemplate:
    """What stands in the list for a record."""

    def __init__(self, item: BatchItem) -> None:
        self._fixed: dict[str, Json] = {"method": item.method} if item.method else {}
        self._path = None if item.path is None else Template.parse(item.path, where="write.item.path", names=_NAMES)
        self._body = item.body

    def render(self, item: Item) -> Json:
        entry = dict(self._fixed)
        if self._path is not None:
            entry["path"] = self._path.render(item.payload, {"source": item.source})
        return {**entry, "body": filled(self._body, item.payload)}


def _list_at(text: str) -> FieldPath:
    where = text.removesuffix("[*]")
    return path(where, "write.results") if where else FieldPath(())
