"""Asking again where it may heal: a question that changes nothing is tried until it is answered or hope is lost."""

from __future__ import annotations

from collections.abc import Collection
from random import Random
from typing import Final

from speclab.connectors.http.client import Client, Exchange, RequestFailed
from speclab.connectors.http.rate_limit_headers import retry_after
from speclab.connectors.http.request_builder import PageRequest
from speclab.connectors.http.response import classify, explain, parsed
from speclab.connectors.rate_limiter import delay
from speclab.core.errors import BadResponse, EndpointError, Unauthorized, Unreachable
from speclab.core.outcome import ErrorClass, Level
from speclab.spec.settings import RetrySettings
from speclab.spec.units import format_duration

_HEAL: Final = frozenset({ErrorClass.NETWORK, ErrorClass.TIMEOUT, ErrorClass.RATE_LIMIT, ErrorClass.SERVER})


class Forbidden(Unauthorized):
    """403: the credentials are good, but not for what was asked."""


async def answered(
    client: Client, question: PageRequest, retry: RetrySettings, random: Random, *, tolerated: Collection[int] = ()
) -> Exchange:
    """The successful answer to `question`, or one whose status is `tolerated`.

    Waits as long as the system asks (never less) or, where it does not say, with full jitter. Raises `Unauthorized` for
    401, `Forbidden` for 403, `Unreachable` when the tries are used up or the system asks for a longer wait than
    `retry.cap`, and `BadResponse` for what will not heal.
    """
    tries = 1
    while True:
        try:
            exchange = await client.send(question.method, question.url, content=question.content)
        except RequestFailed as error:
            error_class, wait = error.error_class, error.retry_after
            failure, says = _no_answer(error), error.message
        else:
            if 200 <= exchange.status < 300 or exchange.status in tolerated:
                return exchange
            error_class = classify(exchange.status)
            wait = retry_after(exchange.headers, client.clock.now())
            failure = _refused(client, question, exchange)
            says = f"{failure.message}; it asks to wait {format_duration(wait or 0.0)}"
        if error_class not in _HEAL:
            raise failure from None
        if tries >= retry.attempts:
            raise Unreachable(
                f"{failure.message} (tried {tries} times)" if tries > 1 else failure.message,
                request=failure.request,
                response=failure.response,
                hint=failure.hint,
                error_class=error_class,
            ) from None
        if wait is not None and wait > retry.cap:
            raise Unreachable(
                f"{says}, longer than the {format_duration(retry.cap)} of `cap`",
                request=failure.request,
                response=failure.response,
                hint="The next run goes on from the checkpoint.",
                error_class=error_class,
                retry_after=wait,
            ) from None
        for_all = bool(wait) or error_class is ErrorClass.RATE_LIMIT  # also a 503 that says for how long
        wait = wait or delay(tries - 1, retry.base, retry.cap, random)
        client.report(Level.WARNING, f"{failure.message}; next try in {format_duration(wait)}")
        if for_all:
            client.hold(wait)
        with client.activity.waiting(f"retry after: {failure.message}", wait, client.clock):
            await client.clock.sleep(wait)
        tries += 1


def _no_answer(error: RequestFailed) -> EndpointError:
    if error.error_class in (ErrorClass.BAD_ANSWER, ErrorClass.REJECTED):  # a URL that was made of an answer
        return BadResponse(error.message, request=error.request, response=error.response)
    if error.error_class is ErrorClass.UNAUTHORIZED:
        return Unauthorized(error.message, request=error.request, response=error.response, hint=error.hint)
    return Unreachable(error.message, request=error.request, response=error.response, hint=error.hint)


def _refused(client: Client, question: PageRequest, exchange: Exchange) -> EndpointError:
    said = client.message(explain(exchange, parsed(exchange)))
    message = f"{client.line(question.method, question.url)}: {said}"
    request, response = client.request_text(exchange), client.response_text(exchange)
    if exchange.status in (401, 403):
        kind = Forbidden if exchange.status == 403 else Unauthorized
        hint = "Check the Auth section and the secrets it names."
        return kind(message, request=request, response=response, hint=hint)
    return BadResponse(message, request=request, response=response)
