"""Connection checks: references, token, request; which steps passed, and why the next did not."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from aiohttp import web
from tests.clocks import HeldClock
from tests.connectors.conftest import Serve
from tests.connectors.issuer import CLIENT_SECRET, Issuer

from speclab.connectors.api import RuntimeContext
from speclab.connectors.auth.login import LoginPrompt
from speclab.connectors.check import check_connection
from speclab.connectors.file.settings import FileSystem
from speclab.connectors.http.settings import HttpSystem
from speclab.connectors.secrets.references import References
from speclab.connectors.sql.settings import SqlSystem
from speclab.core.errors import BadResponse, SpeclabError, Unauthorized, Unreachable, UnresolvedReference
from speclab.core.json import Json
from speclab.spec.auth import BearerAuth, NoAuth
from speclab.spec.integration import Endpoint


@pytest.fixture
async def issuer(serve: Serve) -> Issuer:
    issuer = Issuer()
    issuer.url = await serve(issuer)
    return issuer


@pytest.fixture
def context(context: RuntimeContext, tmp_path: Path) -> RuntimeContext:
    return replace(context, tokens=tmp_path / "tokens")


@pytest.fixture
def references(tmp_path: Path) -> References:
    return References({"CLIENT_SECRET": CLIENT_SECRET}, tmp_path)


async def test_check_of_a_source_reports_references_token_and_request(
    issuer: Issuer, references: References, context: RuntimeContext, clock: HeldClock
) -> None:
    end = Endpoint("source", issuer.system(), issuer.auth(client_secret="${env:CLIENT_SECRET}"))
    access = await check_connection(end, references, context)
    assert access.granted
    assert access.references == ("env:CLIENT_SECRET",)
    assert access.request == f"GET {issuer.url}/people: 1 record"
    assert access.token is not None
    assert access.token.expires_at == clock.now().timestamp() + 3600
    assert access.is_new
    await clock.sleep(10)
    again = await check_connection(end, references, context)
    assert (again.is_new, again.token, len(issuer.requested)) == (False, access.token, 1)
    renewed = await check_connection(end, references, context, renew=True)
    assert (renewed.is_new, len(issuer.requested)) == (True, 2)


async def test_login_is_requested_once_and_stored(
    issuer: Issuer, references: References, context: RuntimeContext, clock: HeldClock
) -> None:
    shown: list[LoginPrompt] = []
    end = Endpoint("source", issuer.system(), issuer.auth("device_code"))
    missing_login = await check_connection(end, references, context)
    assert isinstance(missing_login.error, Unauthorized)
    assert "is not there yet" in missing_login.error.message
    for expected in (1, 1, 2):
        access = await check_connection(end, references, context, show=shown.append, renew=expected == 2)
        assert access.granted
        assert len(shown) == expected
        await clock.sleep(10)
    for slept in (10, 3600):  # the access token is rejected; the login ends when it must be renewed
        issuer.revoke()
        issuer.refresh.clear()
        await clock.sleep(slept)
        assert (await check_connection(end, references, context, show=shown.append)).granted
    assert len(shown) == 4


async def test_unresolved_reference_ends_the_check_before_any_request(
    issuer: Issuer, references: References, context: RuntimeContext
) -> None:
    access = await check_connection(
        Endpoint("source", issuer.system(), issuer.auth(client_secret="${env:X}")), references, context
    )
    assert isinstance(access.error, UnresolvedReference)
    assert access.references == ("env:X",)
    assert (access.token, issuer.requested) == (None, [])


def target(url: str, **write: Json) -> HttpSystem:
    return HttpSystem.model_validate(
        {
            "connector": "http",
            "base_url": url,
            "key": "id",
            "write": write or {"upsert": "PUT /customers/{external_id}?region={source.region}"},
        }
    )


@pytest.mark.parametrize(
    ("write", "requested"),
    [
        ({}, "/customers/0?region=0"),
        ({"create": "POST /customers"}, "/customers"),
        ({"batch": "POST /customers/batch"}, "/customers/batch"),
        (
            {"create": "POST /c", "lookup": "GET /c?email={email}", "update": "PATCH /c/{found.id}"},
            "/c?email=0",
        ),
    ],
)
async def test_check_of_a_target_requests_the_write_path(
    write: dict[str, Json], requested: str, serve: Serve, references: References, context: RuntimeContext
) -> None:
    seen: list[str] = []

    async def locked(request: web.Request) -> web.Response:
        seen.append(f"{request.method} {request.path_qs} {request.headers['Authorization']}")
        return web.json_response({"message": "no such customer"}, status=404)

    end = Endpoint("target", target(await serve(locked), **write), BearerAuth(type="bearer", token="t0p-s3cret"))
    access = await check_connection(end, references, context)
    assert seen == [f"GET {requested} Bearer t0p-s3cret"]
    assert access.request.endswith(f"{requested}: 404 Not Found, so the credentials were accepted")


@pytest.mark.parametrize(
    ("status", "kind", "message"),
    [
        (401, Unauthorized, "401 Unauthorized: no, not ***"),
        (403, Unauthorized, "403 Forbidden: no, not ***"),
        (302, BadResponse, "302 Found: no, not ***"),
        (503, Unreachable, "503 Service Unavailable: no, not ***"),
    ],
)
async def test_rejected_target_check_shows_the_response(
    status: int, kind: type[SpeclabError], message: str, serve: Serve, references: References, context: RuntimeContext
) -> None:
    async def locked(request: web.Request) -> web.Response:
        return web.json_response({"message": f"no, not {request.headers['Authorization'][7:]}"}, status=status)

    end = Endpoint("target", target(await serve(locked)), BearerAuth(type="bearer", token="t0p-s3cret"))
    access = await check_connection(end, references, context)
    assert isinstance(access.error, kind)
    assert message in access.error.message
    assert not access.granted
    assert "t0p-s3cret" not in str(vars(access.error))


async def test_missing_target_is_unreachable(references: References, context: RuntimeContext) -> None:
    access = await check_connection(Endpoint("target", target("http://127.0.0.1:9"), NoAuth()), references, context)
    assert isinstance(access.error, Unreachable)


async def test_failed_login_at_a_target_shows_the_response(
    issuer: Issuer, references: References, context: RuntimeContext
) -> None:
    access = await check_connection(
        Endpoint("target", issuer.system(), issuer.auth(client_secret="wrong")), references, context
    )
    assert isinstance(access.error, Unauthorized)
    assert "invalid_client" in access.error.message


async def test_file_needs_no_credentials(references: References, context: RuntimeContext, tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text('{"id": 1}\n')
    source = await check_connection(
        Endpoint("source", FileSystem(connector="file", path="in.jsonl", key="id"), NoAuth()), references, context
    )
    assert source.granted
    assert "1 record" in source.request
    system = FileSystem(connector="file", path="out.jsonl", key="id")
    assert (await check_connection(Endpoint("target", system, NoAuth()), references, context)).granted
    assert not (tmp_path / "out.jsonl").exists()


async def test_database_check_connects_and_creates_nothing(
    references: References, context: RuntimeContext, tmp_path: Path
) -> None:
    system = SqlSystem.model_validate(
        {"connector": "sql", "url": "sqlite:///out.db", "key": "id", "write": {"upsert": "people"}}
    )
    access = await check_connection(Endpoint("target", system, NoAuth()), references, context)
    assert access.request == "sqlite:///out.db: not there yet; a run makes it"
    assert not (tmp_path / "out.db").exists()
    with closing(sqlite3.connect(tmp_path / "out.db")) as database:
        database.execute("CREATE TABLE people (id)")
    access = await check_connection(Endpoint("target", system, NoAuth()), references, context)
    assert access.request == "sqlite:///out.db: connected"
    (tmp_path / "out.db").unlink()
    (tmp_path / "out.db").mkdir()
    access = await check_connection(Endpoint("target", system, NoAuth()), references, context)
    assert isinstance(access.error, Unreachable)
