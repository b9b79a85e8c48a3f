"""A look at a target over HTTP that changes nothing, to see whether it lets us in."""

from __future__ import annotations

from typing import Final

from speclab.connectors.base import Seams
from speclab.connectors.http.answers import explain, parsed
from speclab.connectors.http.client import Client, Exchange, RequestFailed, status_line
from speclab.connectors.http.templates import Endpoint
from speclab.connectors.references import References
from speclab.errors import BadAnswer, SpecError, SystemFailure, Unauthorized, Unreachable
from speclab.outcome import ErrorClass
from speclab.spec.auth import Auth
from speclab.spec.settings import RetrySettings
from speclab.spec.systems.http import HttpSystem
from speclab.spec.systems.http_write import HttpWrite

_STAND_IN: Final = "0"
"""What stands for a record's values in the path: there is hardly a record by that name, and it may be a number."""


async def probe(system: HttpSystem, auth: Auth, references: References, seams: Seams, retry: RetrySettings) -> str:
    """What the target answers to a GET of what would be written; any answer but a refusal of the credentials is good.

    Raises `Unauthorized`, `Unreachable`, `BadAnswer` and `SpecError`.
    """
    system = references.resolve_settings(system)
    if system.write is None:
        raise SpecError('an http target needs `write`, such as `write: {upsert: "PUT /customers/{id}"}`')
    client = Client(system, references.resolve_settings(auth), references, seams, patience=retry.cap)
    try:
        exchange = await client.send("GET", client.base + _path(system.write))
    except RequestFailed as error:
        raise _failure(error) from None
    finally:
        await client.close()
    line = client.line(exchange.method, exchange.url)
    if exchange.status in (401, 403) or 300 <= exchange.status < 400 or exchange.status >= 500:
        raise _refusal(client, line, exchange)
    return f"{line}: {status_line(exchange)}, so the credentials were not refused"


def _path(write: HttpWrite) -> str:
    """The path of the lookup, or else of what is written."""
    known = (write.lookup, write.update, write.upsert, write.create, write.batch)
    endpoint = Endpoint.parse(next(text for text in known if text), where="write")
    return "".join(part if isinstance(part, str) else _STAND_IN for part in endpoint.target.parts)


def _refusal(client: Client, line: str, exchange: Exchange) -> SystemFailure:
    message = f"{line}: {client.redactor.redact(explain(exchange, parsed(exchange)))}"
    told = client.request_text(exchange), client.response_text(exchange)
    if exchange.status == 401:
        return Unauthorized(
            message, request=told[0], response=told[1], hint="Check the Auth section and the secrets it names."
        )
    if exchange.status == 403:
        hint = "They may still be good for writing; `speclab run --limit 1` tells."
        return Unauthorized(message, request=told[0], response=told[1], hint=hint)
    failure = Unreachable if exchange.status >= 500 else BadAnswer
    return failure(message, request=told[0], response=told[1])


def _failure(error: RequestFailed) -> SystemFailure:
    failure = {ErrorClass.UNAUTHORIZED: Unauthorized, ErrorClass.BAD_ANSWER: BadAnswer}.get(
        error.error_class, Unreachable
    )
    return failure(error.message, request=error.request, response=error.response, hint=error.hint)
