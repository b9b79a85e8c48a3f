"""No secret leaves a connector: all secrets contain markers, and all output is searched for them."""

from __future__ import annotations

import socket
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Final
from urllib.parse import quote

import orjson
import pytest
from aiohttp import web
from tests.connectors.conftest import Reports, Serve, ServeRaw, item, read_all

from speclab.connectors.api import RuntimeContext
from speclab.connectors.http.settings import HttpSystem
from speclab.connectors.registry import open_reader, open_writer
from speclab.connectors.secrets.references import References
from speclab.connectors.sql.settings import SqlSystem
from speclab.core.errors import SpeclabError
from speclab.core.json import Json
from speclab.spec.auth import ApiKeyAuth, Auth, BasicAuth, BearerAuth, NoAuth
from speclab.spec.settings import RetrySettings

MARKER: Final = 'm4rker"/+ é'
FORMS: Final = (MARKER, quote(MARKER, safe=""), quote(MARKER), "m4rker", "bTRya2Vy", "bTRya2")
AUTHS: Final[dict[str, Callable[[], Auth]]] = {
    "header": lambda: ApiKeyAuth(type="api_key", header="X-Key", key="${env:SECRET_ASCII}", prefix="Key "),
    "param": lambda: ApiKeyAuth(type="api_key", param="api_key", key="${env:SECRET}"),
    "basic": lambda: BasicAuth(type="basic", username="ada", password="${env:SECRET}"),
    "bearer": lambda: BearerAuth(type="bearer", token="${env:SECRET_ASCII}"),
}


@pytest.fixture
def references(tmp_path: Path) -> References:
    forms = {"SECRET": MARKER, "SECRET_ASCII": "m4rker/+", "SECRET_IN_A_URL": quote(MARKER, safe="")}
    return References(forms, tmp_path)


async def echo(request: web.Request) -> web.Response:
    """A server that echoes requests, as debugging servers do."""
    echoed = {**dict(request.headers), **dict(request.query), "url": str(request.url), "body": await request.text()}
    status = 200 if "page" in request.query else 422
    following = f"{request.path}?{request.query_string}&page=2"
    body = {
        "message": f"cannot take {echoed}",
        "errors": [{"field": "id", "detail": str(echoed)}],
        "data": [],
        "next": following,
    }
    return web.json_response(body, status=status, headers={"Location": str(request.url)})


def clean(*texts: object) -> None:
    for text in texts:
        for form in FORMS:
            assert form not in str(text)


@pytest.mark.parametrize("kind", AUTHS)
async def test_no_response_error_or_report_shows_a_secret(
    kind: str, serve: Serve, serve_raw: ServeRaw, references: References, context: RuntimeContext, reports: Reports
) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        urls = [
            await serve(echo),
            await serve_raw(b"SSH-2.0 \r\n\r\n"),
            await serve_raw(b""),
            f"http://127.0.0.1:{closed.getsockname()[1]}",
        ]
        for url in urls:
            settings: dict[str, Json] = {
                "connector": "http",
                "base_url": url,
                "key": "id",
                "headers": {"X-Other": "${env:SECRET_ASCII}", "Authorization-Hint": "literal-m4rker"},
                "read": {"path": "/list", "params": {"word": "${env:SECRET}"}},
                "write": {"create": "POST /customers", "headers": {"X-Third": "${env:SECRET_ASCII}"}},
            }
            system = HttpSystem.model_validate(settings)
            writer = open_writer(system, AUTHS[kind](), references, context)
            (answer,) = await writer.write([item("a", note=MARKER)])
            await writer.close()
            assert answer.error is not None
            clean(answer.error)
            reader = open_reader(system, AUTHS[kind](), references, context, RetrySettings(attempts=2))
            with pytest.raises(SpeclabError) as caught:
                await read_all(reader)
            clean(caught.value.message, vars(caught.value), "".join(traceback.format_exception(caught.value)))
    assert reports.lines
    clean(*reports.lines)


async def test_no_cursor_keeps_a_key_from_a_next_page_url(
    serve: Serve, references: References, context: RuntimeContext
) -> None:
    requested: list[list[str]] = []

    async def pages(request: web.Request) -> web.Response:
        requested.append(request.query.getall("api_key"))
        following = f"/list?{request.query_string}&page=2" if "page" not in request.query else None
        return web.json_response({"data": [{"id": len(requested)}], "next": following})

    system = HttpSystem.model_validate(
        {
            "connector": "http",
            "base_url": await serve(pages),
            "key": "id",
            "read": {"path": "/list", "params": {"q": "a b"}, "records": "data"},
        }
    )
    reader = open_reader(system, AUTHS["param"](), references, context)
    found = [page async for page in reader.pages(None, full=False)]
    await reader.close()
    assert requested == [[MARKER], [MARKER]]
    assert isinstance(found[0].cursor, dict)
    assert found[0].cursor["page"] == {"url": "/list?q=a%20b&page=2"}
    clean(*[orjson.dumps(page.cursor).decode() for page in found], *[page.request for page in found])


@pytest.mark.parametrize("following", ["page=2", "{query}&page=2"])
@pytest.mark.parametrize(
    "read",
    [
        {"path": "/list", "params": {"word": "${env:SECRET}", "plain": "x"}},
        {"path": "/list?plain=x&word=${env:SECRET_IN_A_URL}"},
        {"request": "POST /list?word=${env:SECRET_IN_A_URL}", "body": {}},
    ],
)
async def test_no_cursor_keeps_a_secret_parameter_and_every_page_is_requested_with_it(
    read: dict[str, Json], following: str, serve: Serve, references: References, context: RuntimeContext
) -> None:
    requested: list[list[str]] = []

    async def pages(request: web.Request) -> web.Response:
        requested.append(request.query.getall("word"))
        url = f"/list?{following.format(query=request.query_string)}" if "page" not in request.query else None
        return web.json_response({"data": [{"id": len(requested)}], "next": url})

    settings: dict[str, Json] = {"connector": "http", "base_url": await serve(pages), "key": "id"}
    system = HttpSystem.model_validate({**settings, "read": {**read, "records": "data"}})
    found = await read_all(open_reader(system, NoAuth(), references, context))
    assert requested == [[MARKER], [MARKER]]
    clean(*[orjson.dumps(page.cursor).decode() for page in found], *[page.request for page in found])


async def test_password_in_a_url_is_used_and_not_shown(
    serve: Serve, references: References, context: RuntimeContext
) -> None:
    seen: list[str] = []

    async def locked(request: web.Request) -> web.Response:
        seen.append(request.headers["Authorization"])
        return web.json_response({"message": f"no: {request.headers['Authorization']}"}, status=401)

    url = (await serve(locked)).replace("http://", f"http://ada:{quote(MARKER, safe='')}@")
    system = HttpSystem.model_validate({"connector": "http", "base_url": url, "key": "id", "read": {"path": "/list"}})
    with pytest.raises(SpeclabError) as caught:
        await read_all(open_reader(system, NoAuth(), references, context))
    assert seen[0].startswith("Basic ")
    clean(caught.value.message, vars(caught.value))


async def test_password_in_a_database_url_is_not_shown(
    references: References, context: RuntimeContext, tmp_path: Path
) -> None:
    settings = {"connector": "sql", "url": f"sqlite://ada:{quote(MARKER, safe='')}@/x.db", "key": "id"}
    system = SqlSystem.model_validate({**settings, "read": {"table": "people"}})
    assert not (tmp_path / "x.db").exists()
    with pytest.raises(SpeclabError) as caught:
        await read_all(open_reader(system, NoAuth(), references, context))
    clean(caught.value.message, vars(caught.value), "".join(traceback.format_exception(caught.value)))
