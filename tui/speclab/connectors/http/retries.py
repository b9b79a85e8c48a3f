"""Retries of read requests: after network errors, timeouts, rate limits and server errors."""

from __future__ import annotations

from collections.abc import Collection
from random import Random
from typing import Final

from speclab.connectors.http.client import Client, Exchange, RequestFailed
from speclab.connectors.http.rate_limit_headers import read_retry_after
from speclab.connectors.http.request_builder import PageRequest
from speclab.connectors.http.response import classify, describe_error, parse_body
from speclab.connectors.rate_limiter import compute_delay
from speclab.core.errors import BadResponse, EndpointError, Unauthorized, Unreachable
from speclab.core.outcome import ErrorClass, Level
from speclab.spec.settings import RetrySettings
from speclab.spec.settings_types import format_duration

_TRANSIENT: Final = frozenset({ErrorClass.NETWORK, ErrorClass.TIMEOUT, ErrorClass.RATE_LIMIT, ErrorClass.SERVER})


class Forbidden(Unauthorized):
    """403: the credentials are valid, but do not allow this request."""


async def send_with_retries(
    client: Client, page_request: PageRequest, retry: RetrySettings, random: Random, *, tolerated: Collection[int] = ()
) -> Exchange:
    """Return the successful response to `page_request`, or one whose status is in `tolerated`.

    Waits as long as the server asks, or else with full jitter. Raises `Unauthorized` for 401, `Forbidden` for 403,
    `Unreachable` when all attempts failed or the server asks for a longer wait than `retry.cap`, and `BadResponse` for
    an error that a retry does not fix.
    """
    attempt = 1
    while True:
        try:
            exchange = await client.send(page_request.method, page_request.url, content=page_request.content)
        except RequestFailed as error:
            error_class, wait = error.error_class, error.retry_after
            failure, reason = _convert_failure(error), error.message
        else:
            if 200 <= exchange.status < 300 or exchange.status in tolerated:
                return exchange
            error_class = classify(exchange.status)
            wait = read_retry_after(exchange.headers, client.clock.now())
            failure = _build_error(client, page_request, exchange)
            reason = f"{failure.message}; it asks to wait {format_duration(wait or 0.0)}"
        if error_class not in _TRANSIENT:
            raise failure from None
        if attempt >= retry.attempts:
            raise Unreachable(
                f"{failure.message} (tried {attempt} times)" if attempt > 1 else failure.message,
                request=failure.request,
                response=failure.response,
                hint=failure.hint,
                error_class=error_class,
            ) from None
        if wait is not None and wait > retry.cap:
            raise Unreachable(
                f"{reason}, longer than the {format_duration(retry.cap)} of `cap`",
                request=failure.request,
                response=failure.response,
                hint="The next run continues from the checkpoint.",
                error_class=error_class,
                retry_after=wait,
            ) from None
        for_all = bool(wait) or error_class is ErrorClass.RATE_LIMIT  # also a 503 with Retry-After
        wait = wait or compute_delay(attempt - 1, retry.base, retry.cap, random)
        client.report(Level.WARNING, f"{failure.message}; retrying in {format_duration(wait)}")
        if for_all:
            client.hold(wait)
        with client.activity.waiting(f"retry after: {failure.message}", wait, client.clock):
            await client.clock.sleep(wait)
        attempt += 1


def _convert_failure(error: RequestFailed) -> EndpointError:
    if error.error_class in (ErrorClass.BAD_ANSWER, ErrorClass.REJECTED):  # a URL taken from a response
        return BadResponse(error.message, request=error.request, response=error.response)
    if error.error_class is ErrorClass.UNAUTHORIZED:
        return Unauthorized(error.message, request=error.request, response=error.response, hint=error.hint)
    return Unreachable(error.message, request=error.request, response=error.response, hint=error.hint)


def _build_error(client: Client, page_request: PageRequest, exchange: Exchange) -> EndpointError:
    reason = client.message(describe_error(exchange, parse_body(exchange)))
    message = f"{client.line(page_request.method, page_request.url)}: {reason}"
    request, response = client.request_text(exchange), client.response_text(exchange)
    if exchange.status in (401, 403):
        error_type = Forbidden if exchange.status == 403 else Unauthorized
        hint = "Check the Auth section and the secrets it references."
        return error_type(message, request=request, response=response, hint=hint)
    return BadResponse(message, request=request, response=response)
