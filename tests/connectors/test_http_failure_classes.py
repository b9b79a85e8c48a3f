from __future__ import annotations

import asyncio

import pytest
from aiohttp import web
from tests.clocks import HeldClock
from tests.connectors.conftest import Serve, ServeRaw, read_to_failure

from speclab.connectors.api import RuntimeContext
from speclab.connectors.http.client import Client
from speclab.connectors.http.request_builder import PageRequest
from speclab.connectors.http.retries import send_with_retries
from speclab.connectors.http.settings import HttpSystem
from speclab.connectors.registry import open_reader
from speclab.connectors.secrets.references import References
from speclab.core.errors import EndpointError
from speclab.core.outcome import ErrorClass
from speclab.spec.auth import NoAuth
from speclab.spec.settings import RetrySettings


async def failure(url: str, references: References, context: RuntimeContext) -> EndpointError:
    system = HttpSystem.model_validate(
        {"connector": "http", "base_url": url, "key": "id", "limits": {"timeout": "100ms"}, "read": {"path": "/c"}}
    )
    retry = RetrySettings.model_validate({"attempts": 2, "cap": "1m"})
    _, failed = await read_to_failure(open_reader(system, NoAuth(), references, context, retry))
    return failed


@pytest.mark.parametrize(
    ("status", "error_class"),
    [
        (503, ErrorClass.SERVER),
        (429, ErrorClass.RATE_LIMIT),
        (401, ErrorClass.UNAUTHORIZED),
        (404, ErrorClass.BAD_ANSWER),
    ],
)
async def test_failed_read_has_the_class_of_its_last_response(
    status: int, error_class: ErrorClass, serve: Serve, references: References, context: RuntimeContext
) -> None:
    async def reject(_: web.Request) -> web.Response:
        return web.Response(status=status)

    assert (await failure(await serve(reject), references, context)).error_class is error_class


async def test_wait_that_is_too_long_is_a_rate_limit(
    serve: Serve, references: References, context: RuntimeContext
) -> None:
    async def later(_: web.Request) -> web.Response:
        return web.Response(status=429, headers={"Retry-After": "7200"})

    assert (await failure(await serve(later), references, context)).error_class is ErrorClass.RATE_LIMIT


async def test_timeout_of_response_and_connection_are_distinguished(
    serve_raw: ServeRaw, references: References, context: RuntimeContext
) -> None:
    assert (await failure(await serve_raw(None), references, context)).error_class is ErrorClass.TIMEOUT
    assert (await failure(await serve_raw(b""), references, context)).error_class is ErrorClass.NETWORK


@pytest.mark.parametrize("status", [429, 503])
async def test_requested_wait_applies_to_all_requests(
    status: int, serve: Serve, references: References, context: RuntimeContext, clock: HeldClock
) -> None:
    came: list[float] = []

    async def busy_at_first(_: web.Request) -> web.Response:
        came.append(clock.monotonic())
        return web.Response(status=200 if len(came) > 1 else status, headers={"Retry-After": "7"})

    url = await serve(busy_at_first)
    limits = {"concurrency": 1}
    system = HttpSystem.model_validate({"connector": "http", "base_url": url, "key": "id", "limits": limits})
    client = Client(system, NoAuth(), references, context, wait_budget=60)
    retry = RetrySettings.model_validate({})
    questions = [PageRequest("GET", f"{url}/{name}") for name in "ab"]
    await asyncio.gather(*(send_with_retries(client, question, retry, context.random) for question in questions))
    await client.close()
    assert came[0] == 0
    assert len(came) == 3
    assert min(came[1:]) >= 7
