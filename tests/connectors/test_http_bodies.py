from __future__ import annotations

from collections.abc import Callable

import pytest
from aiohttp import web
from tests.connectors.conftest import Serve, item

from speclab.connectors.api import RuntimeContext, Writer, WriteResult
from speclab.connectors.http.settings import HttpSystem
from speclab.connectors.registry import open_writer
from speclab.connectors.secrets.references import References
from speclab.core.json import Json
from speclab.core.outcome import Effect
from speclab.spec.auth import NoAuth

Open = Callable[..., Writer]


@pytest.fixture
def target(references: References, context: RuntimeContext) -> Open:
    def opened(base_url: str, **write: Json) -> Writer:
        settings: Json = {"upsert": "PUT /c/{id}", **write}
        system = HttpSystem.model_validate({"connector": "http", "base_url": base_url, "key": "id", "write": settings})
        return open_writer(system, NoAuth(), references, context)

    return opened


async def write(writer: Writer) -> WriteResult:
    try:
        (answer,) = await writer.write([item("a", n=1)])
    finally:
        await writer.close()
    return answer


@pytest.mark.parametrize(
    ("settings", "sent"),
    [
        ({}, {"id": "a", "n": 1}),
        ({"envelope": "customer"}, {"customer": {"id": "a", "n": 1}}),
        ({"body": "$record"}, {"id": "a", "n": 1}),
        ({"body": {"data": "$record"}}, {"data": {"id": "a", "n": 1}}),
        (
            {"body": {"data": {"type": "customers", "attributes": "$record"}, "options": ["strict", None, 2]}},
            {"data": {"type": "customers", "attributes": {"id": "a", "n": 1}}, "options": ["strict", None, 2]},
        ),
        ({"body": [{"op": "put", "row": "$record"}]}, [{"op": "put", "row": {"id": "a", "n": 1}}]),
        ({"body": {"old": "$record", "new": "$record"}}, {"old": {"id": "a", "n": 1}, "new": {"id": "a", "n": 1}}),
    ],
)
async def test_body_wraps_the_record(settings: dict[str, Json], sent: Json, serve: Serve, target: Open) -> None:
    bodies: list[Json] = []

    async def keep(request: web.Request) -> web.Response:
        bodies.append(await request.json())
        return web.Response(status=200)

    answer = await write(target(await serve(keep), **settings))
    assert bodies == [sent]
    assert answer.effect is Effect.UPDATED


async def test_record_that_contains_the_marker_is_sent_unchanged(serve: Serve, target: Open) -> None:
    bodies: list[Json] = []

    async def keep(request: web.Request) -> web.Response:
        bodies.append(await request.json())
        return web.Response(status=200)

    writer = target(await serve(keep), body={"data": "$record"})
    await writer.write([item("a", note="$record")])
    await writer.close()
    assert bodies == [{"data": {"id": "a", "note": "$record"}}]


@pytest.mark.parametrize(
    ("shape", "pointer"),
    [
        ({"data": {"type": "c", "attributes": "$record"}}, "/data/attributes/email"),
        ([{"row": "$record"}], "#/0/row/email"),
        ({"data": {"attributes": "$record"}}, "data.attributes.email"),
        ("$record", "/email"),
    ],
)
async def test_blamed_field_is_relative_to_the_record(shape: Json, pointer: str, serve: Serve, target: Open) -> None:
    async def reject(_: web.Request) -> web.Response:
        errors = [{"source": {"pointer": pointer}, "detail": "is taken"}]
        return web.json_response({"errors": errors}, status=422)

    async def refuse_by_name(_: web.Request) -> web.Response:
        return web.json_response({"errors": [{"field": pointer, "detail": "is taken"}]}, status=422)

    for handler in (reject, refuse_by_name):
        answer = await write(target(await serve(handler), body=shape))
        assert answer.error is not None
        assert answer.error.field == "email"
