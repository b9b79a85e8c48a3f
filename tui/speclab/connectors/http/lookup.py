"""What the target has of a record already: the `lookup` of a spec, asked before a write that depends on it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from speclab.connectors.base import Item, Refusal
from speclab.connectors.http.answers import WrongBody, kind, look, message_in, path
from speclab.connectors.http.client import Client, Exchange, RequestFailed
from speclab.connectors.http.failure_signs import failure_sign
from speclab.connectors.http.refusals import Refusals, held_back, no_answer, unsendable
from speclab.connectors.http.templates import SCOPE, Endpoint, MissingValue
from speclab.connectors.jsontext import decode
from speclab.jsonvalue import Json, Record
from speclab.paths import FieldPath

_UNPACKED: Final = (b"Accept-Encoding", b"identity")


@dataclass(frozen=True, slots=True)
class Found:
    """What a lookup came to: the record, or None where the target has none, and the answer that says so."""

    record: Record | None
    answer: Exchange


class Lookup:
    """Asks one target."""

    def __init__(self, request: str, found: str | None, client: Client, refusals: Refusals, *, for_etag: bool) -> None:
        """A lookup by `request`, whose answer has the record at `found`. Raises `SpecError`.

        With `for_etag` the answer is asked for unpacked: a server that packs it gives it another ETag or a weak one
        (RFC 9110 section 8.8.3), which an If-Match does not match.
        """
        self._endpoint = Endpoint.parse(request, where="write.lookup", names=SCOPE)
        self._found = None if found is None else path(found, "write.found")
        self._client = client
        self._refusals = refusals
        self._headers = [_UNPACKED] if for_etag else []

    async def of(self, item: Item) -> Found | Refusal:
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
            return Found(None, exchange)
        if exchange.status >= 300:
            return held_back(self._refusals.of_answer(exchange))
        return self._found_in(exchange)

    def _found_in(self, exchange: Exchange) -> Found | Refusal:
        try:
            found = self._at(exchange)
        except WrongBody as error:
            return held_back(self._refusals.bad(exchange, f"the answer to the lookup {error}"))
        if isinstance(found, list):
            if len(found) > 1:
                message = f"the lookup found {len(found)} records where one was expected; set `found` or ask for less"
                return held_back(self._refusals.bad(exchange, message))
            found = found[0] if found else None
        if found is None or isinstance(found, dict):
            return Found(found, exchange)
        return held_back(self._refusals.bad(exchange, f"the lookup found {kind(found)}, not an object"))

    def _at(self, exchange: Exchange) -> Json:
        """What is at `found`; None where there is nothing, and that is sure, for the record would be created twice.

        An end of a list, null, and nothing at all are sure. A name that is not there may be misspelt, and what is of
        another shape, no JSON, or says that it is an error, tells nothing. Raises `WrongBody`.
        """
        if not exchange.body.strip():
            return None
        try:
            value = body = decode(exchange.body)
        except ValueError:
            raise WrongBody("is no JSON") from None
        for part in self._found.parts if self._found is not None else ():
            if not value:
                value = None
                break
            step = FieldPath((part,))
            if not (isinstance(value, list) if isinstance(part, int) else isinstance(value, dict) and part in value):
                raise WrongBody(f"has no `{step}`, but {kind(value)}; expected the record at `{self._found}`")
            value = look(value, step)
        if not value and failure_sign(body):
            raise WrongBody(f"is an error: {message_in(body) or 'it does not say which'}")
        return value
