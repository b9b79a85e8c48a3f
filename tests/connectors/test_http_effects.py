from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

import pytest
from aiohttp import web
from tests.connectors.conftest import Serve, item

from speclab.connectors.api import MappedRecord, RuntimeContext, WriteResult
from speclab.connectors.http.settings import HttpSystem
from speclab.connectors.registry import open_writer
from speclab.connectors.secrets.references import References
from speclab.core.json import Json
from speclab.core.outcome import Effect, ErrorClass
from speclab.spec.auth import NoAuth

Send = Callable[..., Awaitable[list[WriteResult]]]


@pytest.fixture
def requests() -> list[str]:
    """The requests received, with their idempotency keys."""
    return []


@pytest.fixture
def send(serve: Serve, references: References, context: RuntimeContext, requests: list[str]) -> Send:
    """Send items to a target that responds to each method with its status and body."""

    async def sent(
        replies: Mapping[str, tuple[int, Json]], *keys: str, leaves: bool = False, **write: Json
    ) -> list[WriteResult]:
        async def answer(request: web.Request) -> web.Response:
            key = request.headers.get("Idempotency-Key")
            requests.append(f"{request.method} {request.path}" + (f" {key}" if key else ""))
            status, body = replies[request.method]
            return web.json_response(body, status=status)

        settings: Json = {
            "connector": "http",
            "base_url": await serve(answer),
            "key": "id",
            "limits": {"concurrency": 1},
            "write": write,
        }
        writer = open_writer(HttpSystem.model_validate(settings), NoAuth(), references, context)
        found = list(await writer.write([item(key, delete=leaves) for key in keys]))
        await writer.close()
        return found

    return sent


def effect(results: list[WriteResult]) -> Effect | ErrorClass | None:
    (answer,) = results
    return answer.error.error_class if answer.error else answer.effect


@pytest.mark.parametrize(
    ("method", "status", "expected"),
    [
        ("PUT", 200, Effect.UPDATED),
        ("PUT", 201, Effect.CREATED),
        ("PUT", 202, Effect.WRITTEN),
        ("PUT", 204, Effect.UPDATED),
        ("PATCH", 200, Effect.UPDATED),
        ("PATCH", 201, Effect.CREATED),
        ("POST", 200, Effect.WRITTEN),
        ("POST", 201, Effect.CREATED),
    ],
)
async def test_upsert_effect_follows_method_and_status(
    method: str, status: int, expected: Effect, send: Send, requests: list[str]
) -> None:
    assert effect(await send({method: (status, {})}, "a", upsert=f"{method} /c/{{id}}")) is expected
    assert requests == [f"{method} /c/a"]


NO_ERROR: Json = {"error": {"code": 0, "message": "", "details": []}}
LOOKS: dict[str, Json] = {"create": "POST /c", "lookup": "GET /c/{id}", "delete": "DELETE /c/{found.n}"}


async def test_delete_uses_the_record_that_the_lookup_found(send: Send, requests: list[str]) -> None:
    replies: dict[str, tuple[int, Json]] = {"GET": (200, {"n": 7}), "DELETE": (204, None)}
    found = await send(replies, "a", leaves=True, idempotency="Idempotency-Key", **LOOKS)
    assert effect(found) is Effect.DELETED
    assert requests == ["GET /c/a", "DELETE /c/7 idempotency-of-a"]


async def test_record_that_the_lookup_does_not_find_counts_as_deleted(send: Send, requests: list[str]) -> None:
    assert effect(await send({"GET": (404, None)}, "a", leaves=True, **LOOKS)) is Effect.DELETED
    assert requests == ["GET /c/a"]


async def test_exists_status_does_not_apply_to_deletes(send: Send) -> None:
    """`exists` applies to records that should exist."""
    replies: dict[str, tuple[int, Json]] = {"DELETE": (409, {"message": "has invoices"})}
    found = await send(replies, "a", leaves=True, upsert="PUT /c/{id}", delete="DELETE /c/{id}", exists=[409])
    assert effect(found) is ErrorClass.CONFLICT


async def test_existing_record_is_unchanged_without_an_update(send: Send, requests: list[str]) -> None:
    found = await send({"GET": (200, {"n": 7})}, "a", create="POST /c", lookup="GET /c/{id}")
    assert effect(found) is Effect.WRITTEN
    assert requests == ["GET /c/a"]


async def test_creates_and_updates_carry_the_key_and_lookups_do_not(send: Send, requests: list[str]) -> None:
    settings: dict[str, Json] = {**LOOKS, "update": "PATCH /c/{found.n}", "idempotency": "Idempotency-Key"}
    await send({"GET": (200, {"n": 7}), "PATCH": (200, {})}, "a", **settings)
    await send({"GET": (404, None), "POST": (201, {})}, "b", **settings)
    assert requests == ["GET /c/a", "PATCH /c/7 idempotency-of-a", "GET /c/b", "POST /c idempotency-of-b"]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"status": "error", "message": "no such plan"}, "no such plan"),
        ({"status": 422, "detail": "no such plan"}, "no such plan"),
        ({"success": False}, "the target reports a failure without a message"),
        ({"success": 0, "message": "no such plan"}, "no such plan"),
    ],
)
async def test_status_200_with_a_failure_sign_is_a_failure(body: Json, message: str, send: Send) -> None:
    (answer,) = await send({"PUT": (200, body)}, "a", upsert="PUT /c/{id}")
    assert answer.error is not None
    assert (
        answer.error.message == f"200 OK: {message} (if this is not an error, set `ok` to an "
        "expression that is true of a success)"
    )


@pytest.mark.parametrize(
    "body", [{"status": "active"}, {"status": 200}, {"id": "error"}, {"errors": []}, {"success": 1}, NO_ERROR]
)
async def test_any_other_200_is_a_success(body: Json, send: Send) -> None:
    assert effect(await send({"PUT": (200, body)}, "a", upsert="PUT /c/{id}")) is Effect.UPDATED


async def test_status_200_with_a_failure_sign_is_not_a_delete(send: Send) -> None:
    replies: dict[str, tuple[int, Json]] = {"DELETE": (200, {"success": False, "message": "has invoices"})}
    assert effect(await send(replies, "a", leaves=True, upsert="PUT /c/{id}", delete="DELETE /c/{id}")) is (
        ErrorClass.REJECTED
    )


@pytest.mark.parametrize("write", [{"upsert": "PUT /c/{id}"}, {"create": "POST /c"}, {"batch": "POST /c"}])
async def test_web_page_is_not_a_success(
    write: dict[str, Json], serve: Serve, references: References, context: RuntimeContext
) -> None:
    async def log_in_first(_: web.Request) -> web.Response:
        return web.Response(text="\n<!DOCTYPE html><title>Please log in</title>", content_type="text/html")

    settings = {"connector": "http", "base_url": await serve(log_in_first), "key": "id", "write": write}
    writer = open_writer(HttpSystem.model_validate(settings), NoAuth(), references, context)
    (answer,) = await writer.write([item("a")])
    await writer.close()
    assert answer.error is not None
    assert (answer.error.error_class, answer.error.sent) == (ErrorClass.BAD_ANSWER, True)
    assert answer.error.message.startswith("200 OK: the response is a web page; check `base_url`")


@pytest.mark.parametrize(
    ("body", "headers", "expected"),
    [
        ({"id": 7}, {}, ("7", None, None)),
        (
            {"id": "a", "email": "x", "plan": "free"},
            {"ETag": '"3"'},
            ("a", '"3"', {"id": "a", "email": "x", "plan": "free"}),
        ),
        ({"data": {"id": "a", "email": "x"}}, {}, ("a", None, {"id": "a", "email": "x"})),
        (None, {"Location": "/c/a%2Fb"}, ("a/b", None, None)),
        (None, {}, (None, None, None)),
    ],
)
async def test_result_has_the_id_version_and_record_that_the_target_returns(
    body: Json,
    headers: Mapping[str, str],
    expected: tuple[str | None, str | None, Json],
    serve: Serve,
    references: References,
    context: RuntimeContext,
) -> None:
    async def answer(request: web.Request) -> web.Response:
        del request
        if body is None:
            return web.Response(status=201, headers=headers)
        return web.json_response(body, status=201, headers=headers)

    settings: Json = {"connector": "http", "base_url": await serve(answer), "key": "id", "write": {"create": "POST /c"}}
    writer = open_writer(HttpSystem.model_validate(settings), NoAuth(), references, context)
    (result,) = await writer.write([MappedRecord("a", {"id": "a", "email": "x"}, {}, "")])
    await writer.close()
    assert (result.target_id, result.version, result.stored) == expected
