from __future__ import annotations

import pytest
from aiohttp import web
from tests.connectors.conftest import Serve, ServeRaw, read_all, records_of

from speclab.connectors.api import RuntimeContext
from speclab.connectors.http.settings import HttpSystem
from speclab.connectors.registry import open_reader
from speclab.connectors.secrets.references import References
from speclab.core.errors import Unreachable
from speclab.spec.auth import NoAuth
from speclab.spec.settings import RetrySettings


def system(base_url: str) -> HttpSystem:
    return HttpSystem.model_validate(
        {"connector": "http", "base_url": base_url, "key": "id", "read": {"path": "/people"}}
    )


@pytest.fixture
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    return monkeypatch


async def test_requests_go_through_the_proxy_the_environment_names(
    clean_environment: pytest.MonkeyPatch, serve: Serve, references: References, context: RuntimeContext
) -> None:
    requested: list[str] = []

    async def proxy(request: web.Request) -> web.Response:
        requested.append(str(request.url))
        return web.json_response([{"id": 1}])

    url = await serve(proxy)
    clean_environment.setenv("HTTP_PROXY", url)
    found = await read_all(open_reader(system("http://crm.invalid:8080"), NoAuth(), references, context))
    assert len(records_of(found)) == 1
    assert requested == ["http://crm.invalid:8080/people"]


async def test_loopback_and_hosts_the_environment_excludes_are_asked_directly(
    clean_environment: pytest.MonkeyPatch, serve: Serve, references: References, context: RuntimeContext
) -> None:
    async def people(_: web.Request) -> web.Response:
        return web.json_response([{"id": 1}])

    clean_environment.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    clean_environment.setenv("NO_PROXY", ".invalid")
    assert records_of(await read_all(open_reader(system(await serve(people)), NoAuth(), references, context)))
    with pytest.raises(Unreachable, match=r"crm\.invalid/people: cannot connect"):
        await read_all(
            open_reader(system("http://crm.invalid"), NoAuth(), references, context, RetrySettings(attempts=1))
        )


async def test_rejecting_proxy_is_named_and_nothing_is_sent(
    clean_environment: pytest.MonkeyPatch, serve_raw: ServeRaw, references: References, context: RuntimeContext
) -> None:
    answer = b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n"
    clean_environment.setenv("HTTPS_PROXY", await serve_raw(answer))
    with pytest.raises(Unreachable, match="cannot connect: the proxy responded with 407"):
        await read_all(
            open_reader(system("https://crm.invalid"), NoAuth(), references, context, RetrySettings(attempts=1))
        )
