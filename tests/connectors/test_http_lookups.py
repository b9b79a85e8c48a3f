from __future__ import annotations

import pytest
from aiohttp import web
from tests.connectors.conftest import Serve, item

from speclab.connectors.api import RuntimeContext, WriteResult
from speclab.connectors.http.settings import HttpSystem
from speclab.connectors.registry import open_writer
from speclab.connectors.secrets.references import References
from speclab.core.json import Json
from speclab.core.outcome import Effect, ErrorClass
from speclab.spec.auth import NoAuth


async def ask(
    serve: Serve, references: References, context: RuntimeContext, body: str, found: str | None, status: int = 200
) -> tuple[WriteResult, list[str]]:
    """Return the outcome of a record after a lookup with the response `body`, and the methods of all requests."""
    requests: list[str] = []

    async def target(request: web.Request) -> web.Response:
        requests.append(request.method)
        if request.method == "GET":
            return web.Response(text=body, status=status)
        return web.Response(status=201 if request.method == "POST" else 200)

    write: Json = {"create": "POST /c", "update": "PUT /c/{found.n}", "lookup": "GET /c?id={id}", "found": found}
    system = HttpSystem.model_validate(
        {"connector": "http", "base_url": await serve(target), "key": "id", "write": write}
    )
    writer = open_writer(system, NoAuth(), references, context)
    (answer,) = await writer.write([item("a")])
    await writer.close()
    return answer, requests


@pytest.mark.parametrize(
    ("body", "found"),
    [
        ('{"data": []}', "data[0]"),
        ('{"data": []}', "data"),
        ('{"data": {"customer": null}}', "data.customer"),
        ('{"data": null}', "data.customer"),
        ("[]", None),
        ("null", None),
        ("", "data[0]"),
        ("{}", "data[0]"),
        ('{"data": {}}', "data.customer"),
        ('{"data": false}', "data[0]"),
    ],
)
async def test_record_that_certainly_does_not_exist_is_created(
    body: str, found: str | None, serve: Serve, references: References, context: RuntimeContext
) -> None:
    answer, requests = await ask(serve, references, context, body, found)
    assert answer.effect is Effect.CREATED
    assert requests == ["GET", "POST"]


@pytest.mark.parametrize(
    ("body", "found", "message"),
    [
        ('{"data": []}', "dat[0]", "has no `dat`, but an object with `data`; expected the record at `dat[0]`"),
        ('{"data": [{"n": 1}]}', "data[0].row", "has no `row`, but an object with `n`; expected the record at"),
        ('{"data": {"n": 1}}', "data[0]", "has no `[0]`, but an object with `n`; expected the record at `data[0]`"),
        ('{"data": [{"customer": {"n": 1}}]}', "data.customer", "has no `customer`, but a list; expected the record"),
        ('{"data": "please wait"}', "data.customer", "has no `customer`, but a text; expected the record at"),
        ("<html>please log in</html>", "data[0]", "is not JSON"),
        ('{"data": null, "errors": [{"message": "timed out"}]}', "data.customer", "is an error: timed out"),
        ('{"success": false, "data": []}', "data[0]", "is an error: no message"),
    ],
)
async def test_uncertain_lookup_creates_nothing(
    body: str, found: str, message: str, serve: Serve, references: References, context: RuntimeContext
) -> None:
    answer, requests = await ask(serve, references, context, body, found)
    assert requests == ["GET"]
    assert answer.error is not None
    assert (answer.error.error_class, answer.error.sent) == (ErrorClass.BAD_ANSWER, False)
    assert f"the response to the lookup {message}" in answer.error.message
    assert answer.error.response.startswith("200 OK")


async def test_found_record_without_its_id_is_reported(
    serve: Serve, references: References, context: RuntimeContext
) -> None:
    answer, requests = await ask(serve, references, context, '{"data": [{"id": 7}]}', "data[0]")
    assert requests == ["GET"]
    write_error = answer.error
    assert write_error is not None
    assert (write_error.error_class, write_error.sent) == (ErrorClass.BAD_ANSWER, False)
    assert write_error.message == "not sent: PUT /c/{found.n}: {found.n} is not in the record that the lookup found"
    assert write_error.response.endswith('{"data": [{"id": 7}]}')


@pytest.mark.parametrize("status", [404, 410])
async def test_record_that_is_not_found_is_created(
    status: int, serve: Serve, references: References, context: RuntimeContext
) -> None:
    answer, requests = await ask(serve, references, context, "gone", "data[0]", status=status)
    assert answer.effect is Effect.CREATED
    assert requests == ["GET", "POST"]


async def test_record_with_a_field_called_errors_is_found(
    serve: Serve, references: References, context: RuntimeContext
) -> None:
    answer, requests = await ask(serve, references, context, '{"n": 7, "errors": ["late"], "ok": false}', None)
    assert answer.effect is Effect.UPDATED
    assert requests == ["GET", "PUT"]
