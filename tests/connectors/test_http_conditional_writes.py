from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from aiohttp import web
from tests.connectors.conftest import Serve, item

from speclab.connectors.api import MappedRecord, RuntimeContext, Writer, WriteResult
from speclab.connectors.http.settings import HttpSystem
from speclab.connectors.registry import open_writer
from speclab.connectors.secrets.references import References
from speclab.core.json import Json
from speclab.core.outcome import Effect, ErrorClass
from speclab.spec.auth import NoAuth

Open = Callable[..., Writer]


class Versioned:
    """A target whose records have ETags, and which rejects writes for another version (RFC 9110 section 13)."""

    def __init__(self) -> None:
        self.rows: dict[str, Json] = {}
        self.versions: dict[str, int] = {}
        self.requests: list[str] = []
        self.matches: list[str | None] = []
        self.meddlers = 0  # writes by others between a lookup and the request after it
        self.weak = False

    async def __call__(self, request: web.Request) -> web.Response:
        self.requests.append(f"{request.method} {request.path}")
        key = request.path.rpartition("/")[2]
        if request.method == "GET":
            return self._looked_up(request, key)
        self.matches.append(request.headers.get("If-Match"))
        if request.method == "POST":
            body = await request.json()
            self.put(body["id"], body)
            return web.json_response(body, status=201)
        if request.headers.get("If-Match", self._etag(key)) != self._etag(key):
            return web.json_response({"message": "changed by another"}, status=412)
        if request.method == "DELETE":
            del self.rows[key]
            return web.Response(status=204)
        created = key not in self.rows
        self.put(key, await request.json())
        return web.Response(status=201 if created else 200)

    def put(self, key: str, row: Json) -> None:
        self.rows[key] = row
        self.versions[key] = self.versions.get(key, 0) + 1

    def _looked_up(self, request: web.Request, key: str) -> web.Response:
        if key not in self.rows:
            return web.Response(status=404)
        packed = "gzip" in request.headers["Accept-Encoding"]
        etag = f"W/{self._etag(key)}" if packed or self.weak else self._etag(key)
        answer = web.json_response(self.rows[key], headers={"ETag": etag, "X-Version": str(self.versions[key])})
        if self.meddlers:
            self.meddlers -= 1
            self.put(key, {"id": key, "by": "another"})
        return answer

    def _etag(self, key: str) -> str:
        return f'"v{self.versions.get(key)}"'


@pytest.fixture
def target(references: References, context: RuntimeContext) -> Open:
    def opened(url: str, **write: Json) -> Writer:
        settings = {"headers": {"If-Match": "{lookup.etag}"}, "lookup": "GET /c/{id}", **write}
        system = HttpSystem.model_validate({"connector": "http", "base_url": url, "key": "id", "write": settings})
        return open_writer(system, NoAuth(), references, context)

    return opened


async def write(writer: Writer, *items: MappedRecord) -> list[WriteResult]:
    try:
        return list(await writer.write(items))
    finally:
        await writer.close()


CREATE_OR_UPDATE: dict[str, Json] = {"create": "POST /c", "update": "PATCH /c/{found.id}"}


async def test_record_is_updated_on_the_version_found_and_created_without_a_condition(
    serve: Serve, target: Open
) -> None:
    versioned = Versioned()
    versioned.put("a", {"id": "a"})
    writer = target(await serve(versioned), **CREATE_OR_UPDATE)
    results = await write(writer, item("a", name="Ada"))
    results += await write(writer, item("b", name="Bo"))
    assert [result.effect for result in results] == [Effect.UPDATED, Effect.CREATED]
    assert versioned.matches == ['"v1"', None]
    assert versioned.requests == ["GET /c/a", "PATCH /c/a", "GET /c/b", "POST /c"]


async def test_conditional_upsert_looks_the_record_up_first(serve: Serve, target: Open) -> None:
    versioned = Versioned()
    versioned.put("a", {"id": "a"})
    url = await serve(versioned)
    first, second = await write(target(url, upsert="PUT /c/{id}"), item("a", name="Ada"), item("b", name="Bo"))
    assert (first.effect, second.effect) == (Effect.UPDATED, Effect.CREATED)
    assert sorted(versioned.matches, key=str) == ['"v1"', None]
    versioned.requests.clear()
    await write(target(url, upsert="PUT /c/{id}", headers={}), item("a"))
    assert versioned.requests == ["PUT /c/a"]


async def test_conflicting_change_is_looked_up_and_written_again(serve: Serve, target: Open) -> None:
    versioned = Versioned()
    versioned.put("a", {"id": "a"})
    versioned.meddlers = 2
    (answer,) = await write(target(await serve(versioned), **CREATE_OR_UPDATE), item("a", name="Ada"))
    assert answer.effect is Effect.UPDATED
    assert versioned.requests == ["GET /c/a", "PATCH /c/a"] * 3
    assert versioned.matches == ['"v1"', '"v2"', '"v3"']
    assert versioned.rows["a"] == {"id": "a", "name": "Ada"}
    assert answer.bytes_out == 3 * len(b'{"id":"a","name":"Ada"}')


async def test_repeated_conflict_is_reported_as_a_conflict(serve: Serve, target: Open) -> None:
    versioned = Versioned()
    versioned.put("a", {"id": "a"})
    versioned.meddlers = 9
    (answer,) = await write(target(await serve(versioned), **CREATE_OR_UPDATE), item("a", name="Ada"))
    write_error = answer.error
    assert write_error is not None
    assert (write_error.error_class, write_error.status) == (ErrorClass.CONFLICT, 412)
    assert write_error.message == (
        "412 Precondition Failed: changed by another: looked up and sent 3 times, and it changed in between each time"
    )
    assert '\nIf-Match: "v3"\n' in write_error.request
    assert len(versioned.requests) == 6
    assert versioned.rows["a"] == {"id": "a", "by": "another"}


async def test_versions_of_one_record_are_sent_one_after_the_other(serve: Serve, target: Open) -> None:
    versioned = Versioned()
    versioned.put("a", {"id": "a"})
    versioned.meddlers = 1
    results = await write(target(await serve(versioned), **CREATE_OR_UPDATE), item("a", v=1), item("a", v=2))
    assert [result.effect for result in results] == [Effect.UPDATED] * 2
    assert versioned.rows["a"] == {"id": "a", "v": 2}
    assert versioned.matches == ['"v1"', '"v2"', '"v3"']


async def test_delete_has_the_condition_too(serve: Serve, target: Open) -> None:
    versioned = Versioned()
    versioned.put("a", {"id": "a"})
    versioned.meddlers = 1
    writer = target(await serve(versioned), **CREATE_OR_UPDATE, delete="DELETE /c/{id}")
    results = await write(writer, item("a", delete=True), item("b", delete=True))
    assert [result.effect for result in results] == [Effect.DELETED] * 2
    assert versioned.matches == ['"v1"', '"v2"']
    assert versioned.rows == {}


async def test_missing_etag_fails_the_record_and_nothing_is_sent(serve: Serve, target: Open) -> None:
    requests: list[str] = []

    async def plain(request: web.Request) -> web.Response:
        requests.append(request.method)
        return web.json_response({"id": "a"})

    url = await serve(plain)
    (answer,) = await write(target(url, **CREATE_OR_UPDATE), item("a"))
    write_error = answer.error
    assert write_error is not None
    assert requests == ["GET"]
    assert (write_error.error_class, write_error.sent) == (ErrorClass.BAD_ANSWER, False)
    assert write_error.message == "not sent: PATCH /c/{found.id}: {lookup.etag} is not in the response to the lookup"
    assert write_error.request.startswith(f"GET {url}/c/a\n")
    assert write_error.response.startswith("200 OK")


async def test_weak_etag_is_reported(serve: Serve, target: Open) -> None:
    versioned = Versioned()
    versioned.put("a", {"id": "a"})
    versioned.weak = True
    (answer,) = await write(target(await serve(versioned), upsert="PUT /c/{id}"), item("a"))
    assert answer.error is not None
    assert answer.error.message.endswith(
        "; its ETag is weak (W/), so If-Match never matches it (RFC 9110 section 13.1.1)"
    )


@pytest.mark.parametrize(
    ("headers", "sent"),
    [
        ({"X-Was": "{lookup.header.X-Version}"}, {"X-Was": "1"}),
        ({"X-Was": "v{found.version}", "X-Key": "{id}-{source.n}"}, {"X-Was": "v7", "X-Key": "a-3"}),
        ({"If-None-Match": "*"}, {"If-None-Match": "*"}),
        ({"content-type": "application/merge-patch+json"}, {"Content-Type": "application/merge-patch+json"}),
    ],
)
async def test_headers_use_values_of_the_record_and_the_lookup(
    headers: dict[str, Json], sent: dict[str, str], serve: Serve, target: Open
) -> None:
    got: list[web.Request] = []

    async def keep(request: web.Request) -> web.Response:
        got.append(request)
        return web.json_response({"id": "a", "version": 7}, headers={"X-Version": "1"})

    settings = {**CREATE_OR_UPDATE, "headers": headers}
    (answer,) = await write(target(await serve(keep), **settings), item("a", source={"n": 3}))
    assert answer.effect is Effect.UPDATED
    assert {name: got[-1].headers.getall(name) for name in sent} == {name: [value] for name, value in sent.items()}


async def test_value_cannot_inject_a_header(serve: Serve, target: Open) -> None:
    async def never(_: web.Request) -> web.Response:
        pytest.fail("nothing must be sent")

    writer = target(await serve(never), upsert="PUT /c/{id}", headers={"X-Name": "{name}"})
    (answer,) = await write(writer, item("a", name="Ada\r\nX-Admin: yes"))
    assert answer.error is not None
    assert answer.error.sent is False
    assert answer.error.field == "name"
    assert answer.error.message.endswith("{name} contains characters that a header such as X-Name cannot contain")


async def test_secret_is_not_parsed_as_a_template(serve: Serve, references: References, target: Open) -> None:
    got: list[str] = []

    async def keep(request: web.Request) -> web.Response:
        got.append(request.headers["X-Token"])
        return web.Response(status=400)

    references.base.joinpath("token").write_text("s3cret{id}")
    url = await serve(keep)
    for text in ("${file:token}", "${file:token} {id}"):
        (answer,) = await write(target(url, upsert="PUT /c/{id}", headers={"X-Token": text}), item("a"))
        assert answer.error is not None
        assert "s3cret" not in answer.error.request
    assert got == ["s3cret{id}", "s3cret{id} a"]


async def test_write_header_replaces_the_system_header(
    serve: Serve, references: References, context: RuntimeContext
) -> None:
    got: list[list[tuple[str, str]]] = []

    async def keep(request: web.Request) -> web.Response:
        got.append([(name.lower(), value) for name, value in request.headers.items()])
        return web.json_response({"id": "a"}, headers={"ETag": '"1"'})

    system: Json = {
        "connector": "http",
        "base_url": await serve(keep),
        "key": "id",
        "headers": {
            "content-type": "application/vnd.api+json",
            "Accept": "application/vnd.api+json",
            "X-Tenant": "all",
        },
        "write": {
            "upsert": "PUT /c/{id}",
            "lookup": "GET /c/{id}",
            "headers": {"If-Match": "{lookup.etag}", "x-tenant": "{source.tenant}"},
        },
    }
    writer = open_writer(HttpSystem.model_validate(system), NoAuth(), references, context)
    await write(writer, item("a", source={"tenant": "t7"}))
    looked_up, written = got
    assert {("accept-encoding", "identity"), ("x-tenant", "all")} <= set(looked_up)
    assert len(dict(written)) == len(written)
    assert {("content-type", "application/vnd.api+json"), ("x-tenant", "t7"), ("if-match", '"1"')} <= set(written)


async def test_delete_without_a_body_has_no_content_type(serve: Serve, target: Open) -> None:
    got: list[str | None] = []

    async def keep(request: web.Request) -> web.Response:
        got.append(request.headers.get("Content-Type"))
        return web.Response(status=204)

    settings: dict[str, Json] = {"upsert": "PUT /c/{id}", "delete": "DELETE /c/{id}", "lookup": None, "headers": {}}
    await write(target(await serve(keep), **settings), item("a", delete=True))
    assert got == [None]


async def test_each_record_is_sent_with_its_etag(serve: Serve, target: Open) -> None:
    versioned = Versioned()
    keys = [f"k{number}" for number in range(20)]
    for number, key in enumerate(keys):
        versioned.put(key, {"id": key})
        versioned.versions[key] = number
    async with asyncio.timeout(10):
        results = await write(target(await serve(versioned), **CREATE_OR_UPDATE), *map(item, keys))
    assert [result.effect for result in results] == [Effect.UPDATED] * 20
    assert sorted(versioned.matches, key=str) == sorted(f'"v{number}"' for number in range(20))
