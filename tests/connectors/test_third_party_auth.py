"""Credentials at third-party servers: httpbin, and an OpenID provider built with Authlib."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import aiohttp
import orjson
import pytest

from speclab.connectors.api import RuntimeContext
from speclab.connectors.auth.login import LoginPrompt, log_in
from speclab.connectors.auth.oauth2 import Tokens
from speclab.connectors.check import check_connection
from speclab.connectors.http.client import Client
from speclab.connectors.http.settings import HttpSystem
from speclab.connectors.secrets.references import References
from speclab.core.errors import Unauthorized
from speclab.spec.auth import Auth, BasicAuth, BearerAuth, NoAuth, OAuth2Auth
from speclab.spec.integration import Endpoint

HTTPBIN = "from httpbin import app; app.run(port=0)"
PROVIDER = "from oidc_provider_mock.__main__ import run; run(['--port', '0'])"


@contextmanager
def run_server(code: str) -> Iterator[str]:
    """Run a server in a separate process; yield its URL, which it logs when it is ready."""
    command = [sys.executable, "-W", "ignore", "-c", code]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            yield next(match[0] for line in process.stderr if (match := re.search(r"http://127\.0\.0\.1:\d+", line)))
        finally:
            process.kill()


@pytest.fixture(scope="module")
def httpbin() -> Iterator[str]:
    with run_server(HTTPBIN) as url:
        yield url


@pytest.fixture(scope="module")
def provider() -> Iterator[str]:
    with run_server(PROVIDER) as url:
        yield url


@pytest.mark.parametrize(
    ("path", "good", "bad"),
    [
        (
            "/basic-auth/ada/p%C3%A4ss",
            BasicAuth(type="basic", username="ada", password="päss"),
            BasicAuth(type="basic", username="ada", password="pass"),
        ),
        ("/bearer", BearerAuth(type="bearer", token="any"), NoAuth()),
    ],
)
async def test_httpbin_accepts_valid_and_rejects_invalid_credentials(
    path: str, good: Auth, bad: Auth, httpbin: str, references: References, context: RuntimeContext
) -> None:
    settings = {"connector": "http", "base_url": httpbin, "key": "id", "write": {"upsert": f"PUT {path}"}}
    system = HttpSystem.model_validate(settings)
    assert (await check_connection(Endpoint("target", system, good), references, context)).granted
    rejected = await check_connection(Endpoint("target", system, bad), references, context)
    assert isinstance(rejected.error, Unauthorized)


class Person:
    """Fills in the provider's login page, and follows the redirect back to the start of the login."""

    def __init__(self) -> None:
        self.task: asyncio.Task[str] | None = None

    def show(self, prompt: LoginPrompt) -> None:
        self.task = asyncio.create_task(self._log_in(prompt.url))

    async def _log_in(self, url: str) -> str:
        async with aiohttp.ClientSession() as session, session.post(url, data={"sub": "ada"}) as response:
            return await response.text()


async def test_login_at_an_openid_provider_lasts_until_it_is_revoked(
    provider: str, references: References, context: RuntimeContext, tmp_path: Path
) -> None:
    context = replace(context, tokens=tmp_path / "tokens")
    auth = OAuth2Auth(
        type="oauth2",
        flow="authorization_code",
        token_url=f"{provider}/oauth2/token",
        authorize_url=f"{provider}/oauth2/authorize",
        client_id="speclab",
        client_secret="any secret will do",
        scope="openid email",
    )
    person = Person()
    first = await log_in(auth, references.redactor, context, person.show)
    assert person.task is not None
    assert "You are logged in." in await person.task
    tokens = Tokens(auth, references.redactor, context)
    await tokens.take(first)
    assert (await tokens.renewed()).access != first.access

    system = HttpSystem.model_validate({"connector": "http", "base_url": provider, "key": "sub"})
    client = Client(system, auth, references, context, wait_budget=1)
    found = await client.send("GET", f"{provider}/userinfo")
    assert orjson.loads(found.body) == {"sub": "ada", "email": "ada"}
    await client.send("POST", f"{provider}/users/ada/revoke-tokens")
    await client.close()
    with pytest.raises(Unauthorized, match="refuses to give a token: invalid_grant: invalid refresh token"):
        await tokens.renewed()
