"""Logins as a user makes them: in a browser that redirects to this machine, or with a code on another device."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Final
from urllib.parse import parse_qs, urlsplit

import aiohttp
import pytest
from aiohttp import web
from tests.clocks import HeldClock
from tests.connectors.conftest import Serve, read_all
from tests.connectors.issuer import Issuer

from speclab.connectors.api import RuntimeContext
from speclab.connectors.auth.login import LoginPrompt, build_challenge, listen_for_redirect, log_in
from speclab.connectors.auth.oauth2 import Tokens, open_browser
from speclab.connectors.registry import open_reader
from speclab.connectors.secrets.references import References
from speclab.core.errors import SpecError, Unauthorized

FREE: Final = 0


@pytest.fixture
async def issuer(serve: Serve) -> Issuer:
    issuer = Issuer(confidential=False)
    issuer.url = await serve(issuer)
    return issuer


@pytest.fixture
def context(context: RuntimeContext, tmp_path: Path) -> RuntimeContext:
    return replace(context, tokens=tmp_path / "tokens")


class Browser:
    """Opens the page that it is shown, follows redirects, and keeps all pages."""

    def __init__(self) -> None:
        self.prompts: list[LoginPrompt] = []
        self.pages: list[str] = []
        self.before: Callable[[str], list[str]] = lambda _: []
        self._visits: set[asyncio.Task[None]] = set()

    def show(self, prompt: LoginPrompt) -> None:
        self.prompts.append(prompt)
        self._visits.add(asyncio.create_task(self._visit(prompt.url)))

    async def _visit(self, url: str) -> None:
        async with aiohttp.ClientSession() as session:
            for address in [*self.before(url), url]:
                async with session.get(address) as response:
                    self.pages.append(f"{response.status} {await response.text()}")

    async def close(self) -> None:
        for visit in self._visits:
            with suppress(aiohttp.ClientError):
                await visit


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    browser = Browser()
    yield browser
    await browser.close()


def test_challenge_is_that_of_rfc_7636_appendix_b() -> None:
    verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
    assert build_challenge(verifier) == "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"


async def test_browser_returns_the_code_and_the_login_is_kept(
    issuer: Issuer, browser: Browser, references: References, context: RuntimeContext
) -> None:
    auth = issuer.auth("authorization_code", scope="read", params={"prompt": "login"})
    token = await log_in(auth, references.redactor, context, browser.show)
    await Tokens(auth, references.redactor, context).take(token)
    requested = parse_qs(urlsplit(browser.prompts[0].url).query)
    assert requested["scope"] == ["read"]
    assert requested["prompt"] == ["login"]
    assert requested["redirect_uri"][0].startswith("http://127.0.0.1:")
    await read_all(open_reader(issuer.system(), auth, references, context))
    await browser.close()
    assert len(issuer.requested) == 1
    assert browser.pages[0].startswith("200 ")
    assert "You are logged in." in browser.pages[0]


async def test_each_login_has_its_own_verifier_state_and_port(
    issuer: Issuer, browser: Browser, references: References, context: RuntimeContext
) -> None:
    for _ in range(2):
        await log_in(issuer.auth("authorization_code"), references.redactor, context, browser.show)
    first, second = (parse_qs(urlsplit(prompt.url).query) for prompt in browser.prompts)
    assert first["code_challenge_method"] == ["S256"]
    for name in ("state", "code_challenge", "redirect_uri"):
        assert first[name] != second[name]


async def test_redirect_of_another_login_and_other_requests_are_ignored(
    issuer: Issuer, browser: Browser, references: References, context: RuntimeContext
) -> None:
    def before(url: str) -> list[str]:
        redirect = parse_qs(urlsplit(url).query)["redirect_uri"][0]
        root = redirect.removesuffix("/callback")
        return [f"{root}/favicon.ico", f"{redirect}?code=stolen&state=guessed", f"{redirect}?code=stolen", redirect]

    browser.before = before
    await log_in(issuer.auth("authorization_code"), references.redactor, context, browser.show)
    await browser.close()
    assert [page[:3] for page in browser.pages] == ["404", "400", "400", "400", "200"]
    assert [form["code"] for form in issuer.requested] == ["c0de"]


async def test_port_scanners_get_a_response() -> None:
    async with listen_for_redirect(FREE, "state") as redirect:
        for line in (b"GET //[x HTTP/1.1", b"POST /callback?state=state&code=c HTTP/1.1", b"\xff"):
            reader, writer = await asyncio.open_connection("127.0.0.1", int(redirect.uri.split(":")[2].split("/")[0]))
            writer.write(line + b"\r\n\r\n")
            assert (await reader.read()).startswith(b"HTTP/1.1 404 ")
            writer.close()
        assert not redirect.code.done()


async def test_declined_login_is_not_repeated(
    issuer: Issuer, browser: Browser, references: References, context: RuntimeContext
) -> None:
    issuer.declines = True
    with pytest.raises(Unauthorized, match=r"did not let us in: access_denied: the person said no"):
        await log_in(issuer.auth("authorization_code"), references.redactor, context, browser.show)
    await browser.close()
    assert "You are not logged in." in browser.pages[0]
    assert issuer.requested == []


async def test_fixed_port_is_used_and_reported_when_taken(
    issuer: Issuer, browser: Browser, references: References, context: RuntimeContext
) -> None:
    taken = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    port = taken.sockets[0].getsockname()[1]
    auth = issuer.auth("authorization_code", redirect_port=port)
    with pytest.raises(SpecError, match=f"cannot listen on 127.0.0.1:{port} for the login"):
        await log_in(auth, references.redactor, context, browser.show)
    taken.close()
    await log_in(auth, references.redactor, context, browser.show)
    assert f"127.0.0.1%3A{port}%2Fcallback" in browser.prompts[0].url


async def test_code_is_entered_on_another_device(
    issuer: Issuer, references: References, context: RuntimeContext, clock: HeldClock
) -> None:
    issuer.pending = ["authorization_pending", "slow_down", "authorization_pending"]
    shown: list[LoginPrompt] = []
    token = await log_in(issuer.auth("device_code"), references.redactor, context, shown.append)
    assert shown == [
        LoginPrompt(f"{issuer.url}/activate", 60, "WDJB-MJHT", f"{issuer.url}/activate?user_code=WDJB-MJHT"),
    ]
    assert clock.naps == [7, 7, 12, 12]  # five more seconds after each `slow_down`
    assert token.refresh == "refresh-token-1"
    assert references.redactor.redact("the-device-code refresh-token-1") == "*** ***"


async def test_server_that_is_briefly_down_is_polled_less_often(
    issuer: Issuer, references: References, context: RuntimeContext, clock: HeldClock
) -> None:
    issuer.pending = ["503"]
    await log_in(issuer.auth("device_code"), references.redactor, context, lambda _: None)
    assert clock.naps == [7, 14]


@pytest.mark.parametrize(
    ("errors", "message"),
    [
        (["authorization_pending"] * 99, "no login within 1m"),
        (["access_denied"], "refuses to give a token: access_denied"),
        (["expired_token"], "refuses to give a token: expired_token"),
    ],
)
async def test_unused_device_code_expires(
    errors: list[str], message: str, issuer: Issuer, references: References, context: RuntimeContext, clock: HeldClock
) -> None:
    issuer.pending = errors
    with pytest.raises(Unauthorized, match=message):
        await log_in(issuer.auth("device_code"), references.redactor, context, lambda _: None)
    assert clock.monotonic() <= 60


async def test_invalid_device_endpoint_is_reported(
    issuer: Issuer, serve: Serve, references: References, context: RuntimeContext
) -> None:
    async def half(_: web.Request) -> web.Response:
        return web.json_response({"device_code": "x"})

    for url, message in (
        (f"{issuer.url}/people", "/people answered 401 and gave no token"),
        (await serve(half), "gave no device_code, user_code, verification_uri"),
    ):
        auth = issuer.auth("device_code", device_url=url)
        with pytest.raises(Unauthorized, match=message):
            await log_in(auth, references.redactor, context, lambda _: None)


@pytest.mark.parametrize("name", ["verification_uri", "verification_uri_complete"])
@pytest.mark.parametrize(
    "page",
    [
        "file:///etc/passwd",
        "javascript:alert(1)",
        "--new-window",
        "http://",
        "https:///x",
        "https://x/\x1b]0;t",
        "ftp://x/",
    ],
)
async def test_login_url_must_be_a_web_page(
    page: str, name: str, issuer: Issuer, serve: Serve, references: References, context: RuntimeContext
) -> None:
    async def hostile(_: web.Request) -> web.Response:
        pages = {"verification_uri": "https://id.example.com/go", name: page}
        return web.json_response({"device_code": "x-device-code", "user_code": "AB-CD", **pages})

    shown: list[LoginPrompt] = []
    auth = issuer.auth("device_code", device_url=await serve(hostile))
    with pytest.raises(Unauthorized, match=f"gave a {name} that is not an http:// or https:// page"):
        await log_in(auth, references.redactor, context, shown.append)
    assert shown == []
    with pytest.raises(ValueError, match="not an http"):
        open_browser(page)


async def test_authorize_url_with_another_scheme_is_rejected(
    issuer: Issuer, browser: Browser, references: References, context: RuntimeContext
) -> None:
    auth = issuer.auth("authorization_code").model_copy(update={"authorize_url": "file:///etc/passwd"})
    with pytest.raises(SpecError, match="authorize_url must be an http:// or https:// URL"):
        await log_in(auth, references.redactor, context, browser.show)
    assert browser.prompts == []
