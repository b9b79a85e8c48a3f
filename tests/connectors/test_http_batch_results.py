from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
from aiohttp import web
from tests.connectors.conftest import Serve

from speclab.connectors.api import MappedRecord, RuntimeContext, WriteResult
from speclab.connectors.http.settings import HttpSystem
from speclab.connectors.registry import open_writer
from speclab.connectors.secrets.references import References
from speclab.core.json import Json
from speclab.core.outcome import Effect, ErrorClass
from speclab.spec.auth import NoAuth

Send = Callable[..., Awaitable[list[WriteResult]]]


@pytest.fixture
def send(serve: Serve, references: References, context: RuntimeContext) -> Send:
    """Send records as one batch to a target that responds with `body`."""

    async def sent(body: Json, *payloads: dict[str, Json], code: int = 200, **write: Json) -> list[WriteResult]:
        async def answer(_: web.Request) -> web.Response:
            return web.json_response(body, status=code)

        system = HttpSystem.model_validate(
            {
                "connector": "http",
                "base_url": await serve(answer),
                "key": "id",
                "write": {"batch": "POST /batch", **write},
            }
        )
        writer = open_writer(system, NoAuth(), references, context)
        items = [MappedRecord(str(number), payload, {}, "") for number, payload in enumerate(payloads)]
        write_results = list(await writer.write(items))
        await writer.close()
        return write_results

    return sent


def classes(write_results: list[WriteResult]) -> list[Effect | ErrorClass | None]:
    return [result.error.error_class if result.error else result.effect for result in write_results]


async def test_status_of_a_result_can_be_at_any_path(send: Send) -> None:
    results: Json = [{"response": {"code": code}} for code in (201, 409, "503 Service Unavailable", 422)]
    write_results = await send(
        {"items": results}, {}, {}, {}, {}, results="items", status="item.response.code", exists=[409]
    )
    assert classes(write_results) == [Effect.CREATED, Effect.WRITTEN, ErrorClass.SERVER, ErrorClass.REJECTED]
    assert [result.error.status for result in write_results if result.error] == [503, 422]
    assert write_results[2].error is not None
    assert write_results[2].error.message == "503 Service Unavailable"


async def test_list_of_results_can_be_the_whole_body(send: Send) -> None:
    write_results = await send([{"status": 200}, {"status": 422, "message": "no"}], {}, {}, results="[*]")
    assert classes(write_results) == [Effect.WRITTEN, ErrorClass.REJECTED]
    (rejected, _) = await send({"status": 200}, {}, {}, results="[*]")
    assert rejected.error is not None
    assert rejected.error.message == "expected 2 results at `[*]`, found an object with `status`"


@pytest.mark.parametrize(
    "result",
    [
        {"error": "taken"},
        {"errors": [{"message": "taken"}]},
        {"success": False},
        {"ok": False},
        {"status": "error"},
        {"status": "Failed"},
        {"status": 422},
        {"status": "422"},
    ],
)
async def test_result_with_a_known_failure_sign_is_a_failure(result: Json, send: Send) -> None:
    write_results = await send({"results": [{"id": 1}, result]}, {}, {}, results="results")
    assert classes(write_results) == [Effect.WRITTEN, ErrorClass.REJECTED]


@pytest.mark.parametrize(
    "result", [{"status": "ok"}, {"status": "active"}, {"success": True, "errors": []}, {"status": None}, {}, 7]
)
async def test_any_other_result_is_a_success(result: Json, send: Send) -> None:
    assert classes(await send({"results": [result]}, {}, results="results")) == [Effect.WRITTEN]


@pytest.mark.parametrize(
    "body",
    [
        {"responses": [{"status": 201}, {"status": 422, "message": "no such plan"}]},
        [{"status": 201}, {"status": 422, "message": "no such plan"}],
        {"created": 1, "errors": [{"row": 2, "message": "no such plan"}]},
    ],
)
async def test_partial_failure_of_a_batch_without_results_is_not_a_success(body: Json, send: Send) -> None:
    """It is not sent again in halves, which would write the written part twice."""
    write_results = await send(body, {}, {}, code=207)
    assert len({id(result.error) for result in write_results}) == 1
    write_error = write_results[0].error
    assert write_error is not None
    assert (write_error.error_class, write_error.sent) == (ErrorClass.BAD_ANSWER, True)
    assert "no such plan" in write_error.message
    assert "set `results` to the list of results" in write_error.message


async def test_fields_of_returned_records_are_not_failure_signs(send: Send) -> None:
    rows: list[dict[str, Json]] = [{"status": "failed", "errors": 3}, {"status": "error", "errors": 0}]
    write_results = await send({"data": rows}, *rows)
    assert classes(write_results) == [Effect.WRITTEN] * 2


async def test_exists_status_of_a_batch_does_not_apply_to_all_records(send: Send) -> None:
    write_results = await send({"message": "b exists"}, {}, {}, code=409, exists=[409])
    assert classes(write_results) == [ErrorClass.CONFLICT] * 2  # sent in halves until the one is isolated
    assert classes(await send({"message": "exists"}, {}, code=409, exists=[409])) == [Effect.WRITTEN]


async def test_error_instead_of_results_applies_to_the_whole_batch(send: Send) -> None:
    write_results = await send({"error": {"message": "quota used up"}}, {}, {})
    assert classes(write_results) == [ErrorClass.REJECTED] * 2


async def test_failure_of_the_whole_batch_rejects_all_records(send: Send) -> None:
    write_results = await send({"state": "NOK", "why": "plan"}, {}, {}, ok='item.state == "OK"', message="item.why")
    assert classes(write_results) == [ErrorClass.REJECTED] * 2
    assert write_results[0].error is not None
    assert write_results[0].error.message == "200 OK: plan"
