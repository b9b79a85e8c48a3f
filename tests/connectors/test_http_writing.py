from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

import pytest
from aiohttp import web
from tests.clocks import HeldClock
from tests.connectors.conftest import Reports, Serve, ServeRaw, item

from speclab.connectors.api import MappedRecord, RuntimeContext, Writer, WriteResult
from speclab.connectors.http.settings import HttpSystem
from speclab.connectors.registry import open_writer
from speclab.connectors.secrets.references import References
from speclab.core.errors import SpecError
from speclab.core.json import Json
from speclab.core.outcome import Effect, ErrorClass
from speclab.spec.auth import NoAuth

Open = Callable[..., Writer]


class Customers:
    """A target that keeps all records and requests."""

    def __init__(self) -> None:
        self.rows: dict[str, Json] = {}
        self.requests: list[str] = []
        self.headers: list[dict[str, str]] = []

    async def __call__(self, request: web.Request) -> web.Response:
        self.requests.append(f"{request.method} {request.raw_path}")
        self.headers.append(dict(request.headers))
        key = request.path.rpartition("/")[2]
        if request.method == "DELETE":
            return web.Response(status=204 if self.rows.pop(key, None) is not None else 404)
        if request.method == "GET":
            found = [{"number": name} for name in self.rows if name == request.query["id"]]
            return web.json_response({"data": found})
        body = await request.json()
        if request.method == "PATCH" and key not in self.rows:
            return web.Response(status=404)
        created = request.method == "POST" or key not in self.rows
        self.rows[body["id"] if request.method == "POST" else key] = body
        return web.json_response(body, status=201 if created else 200)


@pytest.fixture
def target(references: References, context: RuntimeContext) -> Open:
    def opened(base_url: str, *, concurrency: int = 4, timeout: str = "5s", **write: Json) -> Writer:
        system = HttpSystem.model_validate(
            {
                "connector": "http",
                "base_url": base_url,
                "key": "id",
                "limits": {"concurrency": concurrency, "timeout": timeout},
                "write": write,
            }
        )
        return open_writer(system, NoAuth(), references, context)

    return opened


async def write(writer: Writer, *items: MappedRecord) -> list[WriteResult]:
    try:
        return list(await writer.write(items))
    finally:
        await writer.close()


def effects(results: list[WriteResult]) -> list[Effect | ErrorClass]:
    return [result.effect or (result.error and result.error.error_class) or Effect.WRITTEN for result in results]


async def test_upsert_reports_created_and_updated_and_counts_bytes(serve: Serve, target: Open) -> None:
    customers = Customers()
    writer = target(await serve(customers), upsert="PUT /customers/{id}", idempotency="Idempotency-Key")
    assert (writer.idempotent, writer.keyed, writer.deletes) == (True, True, False)
    results = await write(writer, item("a", name="Ada"), item("b", name="Bo"), item("a", name="Ada L"))
    assert effects(results) == [Effect.CREATED, Effect.CREATED, Effect.UPDATED]
    assert customers.rows == {"a": {"id": "a", "name": "Ada L"}, "b": {"id": "b", "name": "Bo"}}
    assert results[1].bytes_out == len(b'{"id":"b","name":"Bo"}')
    assert {headers["Idempotency-Key"] for headers in customers.headers} == {"idempotency-of-a", "idempotency-of-b"}
    assert customers.headers[0]["Content-Type"] == "application/json"


async def test_path_values_are_encoded_and_cannot_change_the_path(serve: Serve, target: Open) -> None:
    customers = Customers()
    writer = target(await serve(customers), upsert="PUT /t/{source.team}/customers/{id}")
    keys = ["a/b c", "é%2F?#", "..", ".", "", "x"]
    results = await write(writer, *(item(key, source={"team": "r&d"}) for key in keys))
    assert sorted(customers.requests) == [
        "PUT /t/r%26d/customers/%C3%A9%252F%3F%23",
        "PUT /t/r%26d/customers/a%2Fb%20c",
        "PUT /t/r%26d/customers/x",
    ]
    rejected = [result.error for result in results[2:5]]
    assert [write_error is not None and (write_error.sent, write_error.field) for write_error in rejected] == [
        (False, "id")
    ] * 3
    assert rejected[0] is not None
    assert rejected[0].message == ("PUT /t/{source.team}/customers/{id}: {id} is '..', which would change the path")


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        ({}, "{email} is not in the record"),
        ({"email": None}, "{email} is null, which a URL cannot contain"),
        ({"email": ["a"]}, "{email} is a list, which a URL cannot contain"),
        ({"email": ""}, "{email} is empty"),
    ],
)
async def test_missing_value_is_a_failure_of_that_record_and_is_never_sent(
    payload: dict[str, Json], message: str, serve: Serve, target: Open
) -> None:
    customers = Customers()
    writer = target(await serve(customers), upsert="PUT /customers/{email}")
    lacking = MappedRecord("a", payload, {}, "")
    bad, good = await write(writer, lacking, item("b", email="b@example.org"))
    assert bad.error is not None
    assert (bad.error.sent, bad.error.error_class, bad.error.field) == (
        False,
        ErrorClass.REJECTED,
        "email",
    )
    assert bad.error.message.endswith(message)
    assert good.effect is Effect.CREATED
    assert customers.requests == ["PUT /customers/b%40example.org"]


async def test_record_with_too_long_url_does_not_stop_others(serve: Serve, target: Open) -> None:
    writer = target(await serve(Customers()), upsert="PUT /customers/{id}")
    results = await write(writer, item("a"), item("x" * 70_000), item("b"))
    assert effects(results) == [Effect.CREATED, ErrorClass.REJECTED, Effect.CREATED]
    write_error = results[1].error
    assert write_error is not None
    assert (write_error.sent, write_error.message.endswith("...: URL too long"), len(write_error.request)) == (
        False,
        True,
        403,
    )


async def test_create_alone_is_idempotent_only_with_a_key_the_target_knows(serve: Serve, target: Open) -> None:
    customers = Customers()
    url = await serve(customers)
    with_key = target(url, create="POST /customers", idempotency="Idempotency-Key")
    without = target(url, create="POST /customers", envelope="customer")
    assert (with_key.idempotent, without.idempotent) == (True, False)
    assert without.batch == 4  # at most as many unknown outcomes after a crash as requests in flight
    await with_key.close()
    await without.close()


async def test_envelope_wraps_the_record(serve: Serve, target: Open) -> None:
    bodies: list[Json] = []

    async def customers(request: web.Request) -> web.Response:
        bodies.append(await request.json())
        return web.Response(status=202)

    results = await write(target(await serve(customers), create="POST /customers", envelope="customer"), item("a", n=1))
    assert bodies == [{"customer": {"id": "a", "n": 1}}]
    assert effects(results) == [Effect.WRITTEN]  # accepted is not created


async def test_lookup_decides_between_update_and_create(serve: Serve, target: Open) -> None:
    customers = Customers()
    customers.rows["b"] = {"id": "b"}
    writer = target(
        await serve(customers),
        concurrency=1,
        create="POST /customers",
        lookup="GET /customers?id={id}",
        found="data[0]",
        update="PATCH /customers/{found.number}",
    )
    assert writer.idempotent
    assert effects(await write(writer, item("a"), item("b"))) == [Effect.CREATED, Effect.UPDATED]
    assert customers.requests == [
        "GET /customers?id=a",
        "POST /customers",
        "GET /customers?id=b",
        "PATCH /customers/b",
    ]


async def test_lookup_with_two_matches_writes_nothing(serve: Serve, target: Open) -> None:
    async def twins(request: web.Request) -> web.Response:
        assert request.method == "GET"
        return web.json_response({"data": [{"id": 1}, {"id": 2}]})

    writer = target(
        await serve(twins),
        create="POST /customers",
        lookup="GET /customers?id={id}",
        found="data",
        update="PATCH /customers/{found.id}",
    )
    (answer,) = await write(writer, item("a"))
    assert answer.error is not None
    assert answer.error.sent is False
    assert "the lookup found 2 records, expected one" in answer.error.message


async def test_deleting_a_missing_record_succeeds_and_needs_a_delete_setting(serve: Serve, target: Open) -> None:
    customers = Customers()
    customers.rows["a"] = {}
    url = await serve(customers)
    writer = target(url, upsert="PUT /customers/{id}", delete="DELETE /customers/{id}")
    assert writer.deletes
    results = await write(writer, item("a", delete=True), item("b", delete=True))
    assert effects(results) == [Effect.DELETED, Effect.DELETED]
    (rejected,) = await write(target(url, upsert="PUT /customers/{id}"), item("a", delete=True))
    assert rejected.error is not None
    assert (rejected.error.sent, "has no `delete`" in rejected.error.message) == (False, True)


@pytest.mark.parametrize(
    ("status", "error_class"),
    [
        (408, ErrorClass.TIMEOUT),
        (429, ErrorClass.RATE_LIMIT),
        (401, ErrorClass.UNAUTHORIZED),
        (403, ErrorClass.UNAUTHORIZED),
        (409, ErrorClass.CONFLICT),
        (412, ErrorClass.CONFLICT),
        (422, ErrorClass.REJECTED),
        (500, ErrorClass.SERVER),
        (503, ErrorClass.SERVER),
        (302, ErrorClass.BAD_ANSWER),
    ],
)
async def test_each_status_has_its_class(status: int, error_class: ErrorClass, serve: Serve, target: Open) -> None:
    async def reject(_: web.Request) -> web.Response:
        return web.json_response({"message": "no"}, status=status, headers={"Retry-After": "7"})

    (answer,) = await write(target(await serve(reject), upsert="PUT /c/{id}"), item("a", name="Ada"))
    write_error = answer.error
    assert write_error is not None
    assert (write_error.error_class, write_error.status, write_error.retry_after, write_error.sent) == (
        error_class,
        status,
        7,
        True,
    )
    assert write_error.message.startswith(str(status))
    assert write_error.response.endswith('{"message": "no"}')
    assert write_error.request.startswith("PUT http://127.0.0.1")
    assert write_error.request.endswith('{"id":"a","name":"Ada"}')


async def test_exists_status_is_a_success(serve: Serve, target: Open) -> None:
    async def there(_: web.Request) -> web.Response:
        return web.Response(status=409)

    results = await write(target(await serve(there), create="POST /c", exists=[409]), item("a"))
    assert effects(results) == [Effect.WRITTEN]


async def test_error_names_its_field(serve: Serve, target: Open) -> None:
    async def reject(_: web.Request) -> web.Response:
        problem = {
            "title": "Not valid",
            "errors": [{"pointer": "#/customer/address/city", "detail": "must not be empty"}],
        }
        return web.json_response(problem, status=422, content_type="application/problem+json")

    (answer,) = await write(target(await serve(reject), create="POST /c", envelope="customer"), item("a"))
    assert answer.error is not None
    assert answer.error.field == "address.city"
    assert answer.error.message == "422 Unprocessable Entity: Not valid: must not be empty"


async def test_field_path_of_the_spec_is_used(serve: Serve, target: Open) -> None:
    async def reject(_: web.Request) -> web.Response:
        return web.json_response({"faults": [{"at": {"name": "email"}, "why": "taken"}]}, status=400)

    errors = {"at": "faults[*]", "field": "at.name", "message": "why"}
    (answer,) = await write(target(await serve(reject), create="POST /c", errors=errors), item("a"))
    assert answer.error is not None
    assert (answer.error.field, answer.error.message) == ("email", "400 Bad Request: taken")


async def test_concurrent_requests_are_limited_by_the_spec(serve: Serve, target: Open) -> None:
    now = most = 0

    async def slow(_: web.Request) -> web.Response:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.01)
        now -= 1
        return web.Response(status=204)

    writer = target(await serve(slow), concurrency=5, upsert="PUT /c/{id}")
    results = await write(writer, *(item(str(number)) for number in range(40)))
    assert most == 5
    assert effects(results) == [Effect.UPDATED] * 40


async def test_nothing_is_sent_after_a_rate_limit(serve: Serve, target: Open) -> None:
    requests = 0

    async def limited(_: web.Request) -> web.Response:
        nonlocal requests
        requests += 1
        return web.Response(status=200 if requests <= 2 else 429, headers={"Retry-After": "9"})

    writer = target(await serve(limited), concurrency=1, upsert="PUT /c/{id}")
    results = await write(writer, *(item(str(number)) for number in range(9)))
    assert requests == 3
    assert effects(results) == [Effect.UPDATED] * 2 + [ErrorClass.RATE_LIMIT] * 7
    rejected = [result.error for result in results[2:] if result.error]
    assert [write_error.sent for write_error in rejected] == [True] + [False] * 6
    assert {write_error.retry_after for write_error in rejected} == {9}


async def test_exhausted_quota_holds_the_next_requests(
    serve: Serve, target: Open, clock: HeldClock, reports: Reports
) -> None:
    async def counted(_: web.Request) -> web.Response:
        headers = {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "30"} if not clock.naps else {}
        return web.Response(status=204, headers=headers)

    await write(target(await serve(counted), concurrency=1, upsert="PUT /c/{id}"), item("a"), item("b"))
    assert clock.naps == [30]
    assert reports.lines == ["info: rate limit: 0 left, resets in 30s"]


async def test_quota_that_resets_too_late_is_a_rate_limit(serve: Serve, target: Open) -> None:
    async def counted(_: web.Request) -> web.Response:
        return web.Response(status=204, headers={"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "7200"})

    writer = target(await serve(counted), concurrency=1, upsert="PUT /c/{id}")
    first, second = await write(writer, item("a"), item("b"))
    assert first.effect is Effect.UPDATED
    assert second.error is not None
    assert (second.error.error_class, second.error.sent) == (ErrorClass.RATE_LIMIT, False)
    assert second.error.retry_after == 7200


async def test_rejected_credentials_stop_the_rest(serve: Serve, target: Open) -> None:
    requests = 0

    async def locked(_: web.Request) -> web.Response:
        nonlocal requests
        requests += 1
        return web.Response(status=401)

    writer = target(await serve(locked), concurrency=1, upsert="PUT /c/{id}")
    results = await write(writer, item("a"), item("b"))
    assert requests == 1
    assert effects(results) == [ErrorClass.UNAUTHORIZED] * 2


async def test_unreachable_target_was_not_sent_anything(target: Open) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        writer = target(f"http://127.0.0.1:{closed.getsockname()[1]}", concurrency=1, upsert="PUT /c/{id}")
        results = await write(writer, item("a"), item("b"))
    assert effects(results) == [ErrorClass.NETWORK] * 2
    assert [result.error.sent for result in results if result.error] == [False, False]


async def test_truncated_response_leaves_outcome_unknown(serve_raw: ServeRaw, target: Open) -> None:
    for answer in (b"", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{"):
        writer = target(await serve_raw(answer), create="POST /c")
        (given,) = await write(writer, item("a"))
        assert given.error is not None
        assert (given.error.error_class, given.error.sent) == (ErrorClass.NETWORK, True)


@pytest.mark.parametrize(
    "phrase", ["Données refusées".encode("latin-1"), "Données refusées".encode(), b"Donn\xe9es refus\xe9es \xff\x80"]
)
async def test_reason_phrase_in_any_encoding_is_shown(phrase: bytes, serve_raw: ServeRaw, target: Open) -> None:
    answer = b"HTTP/1.1 422 " + phrase + b"\r\nX-Note: \xe9\xff\r\nContent-Length: 2\r\n\r\n{}"
    (given,) = await write(target(await serve_raw(answer), create="POST /c"), item("a"))
    assert given.error is not None
    assert given.error.status == 422
    assert given.error.message.startswith("422 Données refusées")
    assert given.error.message.encode()
    assert given.error.response.startswith("422 Données refusées")


@pytest.mark.parametrize(
    "answer",
    [b"HTTP/1.1 4\xe92 No\r\n\r\n", b"HTTP/1.1 200 OK\r\n\xe9\xff bad\r\n\r\n", b"\xff\xfe\xe9\r\n\r\n"],
)
async def test_response_that_is_not_http_has_an_error_message_of_valid_text(
    answer: bytes, serve_raw: ServeRaw, target: Open
) -> None:
    (given,) = await write(target(await serve_raw(answer), create="POST /c"), item("a"))
    assert given.error is not None
    assert given.error.message.encode()


async def test_timeout_leaves_outcome_unknown(serve_raw: ServeRaw, target: Open) -> None:
    (answer,) = await write(target(await serve_raw(None), timeout="50ms", create="POST /c"), item("a"))
    assert answer.error is not None
    assert (answer.error.error_class, answer.error.sent) == (ErrorClass.TIMEOUT, True)


async def test_long_body_is_shortened(serve: Serve, target: Open) -> None:
    async def reject(_: web.Request) -> web.Response:
        return web.json_response({"message": "y" * 10_000}, status=400)

    (answer,) = await write(target(await serve(reject), create="POST /c"), item("a", note="x" * 10_000))
    assert answer.error is not None
    assert answer.error.message == f"400 Bad Request: {'y' * 383}..."
    assert answer.error.response.endswith("... (10,015 bytes)")
    assert len(answer.error.response) < 4200
    assert len(answer.error.request) < 4600


async def test_source_without_write_settings_cannot_be_written(references: References, context: RuntimeContext) -> None:
    system = HttpSystem.model_validate(
        {"connector": "http", "base_url": "http://127.0.0.1:1", "key": "id", "read": {"path": "/x"}}
    )
    with pytest.raises(SpecError, match="an http target needs `write`"):
        open_writer(system, NoAuth(), references, context)
