from __future__ import annotations

from collections.abc import Callable

import pytest
from aiohttp import web
from tests.connectors.conftest import Serve, ServeRaw, item

from speclab.connectors.api import MappedRecord, RuntimeContext, Writer, WriteResult
from speclab.connectors.http.settings import HttpSystem
from speclab.connectors.registry import open_writer
from speclab.connectors.secrets.references import References
from speclab.core.errors import SpecError
from speclab.core.json import Json
from speclab.core.outcome import Effect, ErrorClass
from speclab.spec.auth import NoAuth

Open = Callable[..., Writer]


@pytest.fixture
def target(references: References, context: RuntimeContext) -> Open:
    def opened(base_url: str, **write: Json) -> Writer:
        system = HttpSystem.model_validate(
            {"connector": "http", "base_url": base_url, "key": "id", "write": {"batch": "POST /batch", **write}}
        )
        return open_writer(system, NoAuth(), references, context)

    return opened


async def write(writer: Writer, *items: MappedRecord) -> list[WriteResult]:
    try:
        return list(await writer.write(items))
    finally:
        await writer.close()


async def test_batch_is_one_request_with_a_result_per_record(serve: Serve, target: Open) -> None:
    bodies: list[Json] = []
    keys: list[str] = []

    async def batch(request: web.Request) -> web.Response:
        bodies.append(await request.json())
        keys.append(request.headers["Idempotency-Key"])
        return web.Response(status=202)

    url = await serve(batch)
    for _ in range(2):
        writer = target(url, envelope="data", size=50, idempotency="Idempotency-Key")
        assert (writer.batch, writer.idempotent) == (50, False)
        write_results = await write(writer, item("a"), item("b"))
        assert [result.effect for result in write_results] == [Effect.WRITTEN] * 2
    assert bodies == [{"data": [{"id": "a"}, {"id": "b"}]}] * 2
    assert len(set(keys)) == 1


async def test_batch_items_follow_the_spec(serve: Serve, target: Open) -> None:
    bodies: list[Json] = []

    async def batch(request: web.Request) -> web.Response:
        bodies.append(await request.json())
        return web.json_response({"responses": [{"status": 201}]})

    template: Json = {"method": "PUT", "path": "/customers/{id}", "body": {"record": "$record", "v": 2}}
    writer = target(await serve(batch), item=template, results="responses")
    assert writer.idempotent  # a PUT by key may be repeated
    good, bad = await write(writer, item("a/1", n=1), item(""))
    assert bodies == [
        [{"method": "PUT", "path": "/customers/a%2F1", "body": {"record": {"id": "a/1", "n": 1}, "v": 2}}]
    ]
    assert good.effect is Effect.CREATED
    assert bad.error is not None
    assert (bad.error.field, bad.error.sent) == ("id", False)


async def test_each_result_is_checked_and_explained(serve: Serve, target: Open) -> None:
    async def batch(_: web.Request) -> web.Response:
        results = [
            {"status": 200},
            {"status": 422, "error": {"detail": "no such country", "field": "country"}},
            {"status": 409},
            {"status": 503, "error": {"detail": "busy"}},
        ]
        return web.json_response({"responses": results}, status=207)

    writer = target(
        await serve(batch), results="responses", ok="item.status < 300", message="item.error.detail", exists=[409]
    )
    fine, rejected, there, busy = await write(writer, *map(item, "abcd"))
    assert (fine.effect, there.effect) == (Effect.WRITTEN, Effect.WRITTEN)
    assert rejected.error is not None
    assert (rejected.error.error_class, rejected.error.status) == (ErrorClass.REJECTED, 422)
    assert (rejected.error.message, rejected.error.field) == ("no such country", "country")
    assert busy.error is not None
    assert (busy.error.error_class, busy.error.message) == (ErrorClass.SERVER, "busy")


async def test_without_ok_a_result_with_an_error_is_a_failure(serve: Serve, target: Open) -> None:
    async def batch(_: web.Request) -> web.Response:
        return web.json_response({"results": [{"id": 1}, {"error": "taken"}, None]})

    fine, rejected, odd = await write(target(await serve(batch), results="results"), *map(item, "abc"))
    assert fine.effect is Effect.WRITTEN
    assert rejected.error is not None
    assert rejected.error.message == "taken"
    assert odd.effect is Effect.WRITTEN


@pytest.mark.parametrize(
    ("body", "found"),
    [({"results": [{}]}, "1 results"), ({"results": "ok"}, "a text"), ({}, "null"), ([], "null")],
)
async def test_wrong_number_of_results_leaves_all_outcomes_unknown(
    body: Json, found: str, serve: Serve, target: Open
) -> None:
    async def batch(_: web.Request) -> web.Response:
        return web.json_response(body)

    write_results = await write(target(await serve(batch), results="results"), *map(item, "ab"))
    assert len({id(result.error) for result in write_results}) == 1
    write_error = write_results[0].error
    assert write_error is not None
    assert (write_error.error_class, write_error.sent) == (ErrorClass.BAD_ANSWER, True)
    assert write_error.message == f"expected 2 results at `results`, found {found}"


async def test_rejected_batch_shares_one_error(serve: Serve, target: Open) -> None:
    async def batch(_: web.Request) -> web.Response:
        return web.json_response({"message": "too much"}, status=413)

    write_results = await write(target(await serve(batch)), *map(item, "abc"))
    assert len({id(result.error) for result in write_results}) == 1
    assert write_results[0].error is not None
    assert write_results[0].error.message == "413 Request Entity Too Large: too much"


async def test_batch_without_a_response_has_unknown_outcome(serve_raw: ServeRaw, target: Open) -> None:
    write_results = await write(target(await serve_raw(b"")), *map(item, "ab"))
    assert len({id(result.error) for result in write_results}) == 1
    assert write_results[0].error is not None
    assert (write_results[0].error.error_class, write_results[0].error.sent) == (ErrorClass.NETWORK, True)


async def test_deletes_are_sent_one_by_one(serve: Serve, target: Open) -> None:
    requests: list[str] = []

    async def batch(request: web.Request) -> web.Response:
        requests.append(f"{request.method} {request.path}")
        return web.Response(status=200)

    writer = target(await serve(batch), delete="DELETE /customers/{id}")
    write_results = await write(writer, item("a"), item("b", delete=True))
    assert [result.effect for result in write_results] == [Effect.WRITTEN, Effect.DELETED]
    assert sorted(requests) == ["DELETE /customers/b", "POST /batch"]


async def test_invalid_expression_is_an_error_of_the_spec(target: Open) -> None:
    with pytest.raises(SpecError, match=r"write\.ok: "):
        target("http://127.0.0.1:1", results="results", ok="item.status <")
    with pytest.raises(SpecError, match=r"write\.message: expected a path that starts with `item\.`"):
        target("http://127.0.0.1:1", results="results", message="error.detail")


async def test_result_that_ok_cannot_evaluate_has_unknown_outcome(serve: Serve, target: Open) -> None:
    async def batch(_: web.Request) -> web.Response:
        return web.json_response({"results": [{"status": "fine"}]})

    (answer,) = await write(target(await serve(batch), results="results", ok="item.status < 300"), item("a"))
    assert answer.error is not None
    assert answer.error.error_class is ErrorClass.BAD_ANSWER
    assert answer.error.message.startswith("write.ok: ")
