"""Test credentials in the Specs view: each step is reported on a line, and no secret is shown."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import cast

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from tests.connectors.issuer import CLIENT_ID, CLIENT_SECRET, Issuer
from textual.pilot import Pilot
from textual.widgets import Static

from speclab.app.actions import offers
from speclab.app.dialogs import ConfirmDialog
from speclab.app.views.specs.panel import GuideView
from speclab.app.views.specs.view import SpecsView

Running = Callable[..., AbstractAsyncContextManager[Pilot[None]]]
See = Callable[..., Awaitable[None]]
Until = Callable[..., Awaitable[None]]
Testing = Running

SOURCE = "Authentication > Source System Auth"
TARGET = "Integration Overview > Target System"

TEXT = """---
spec_id: crm
type: integration
status: draft
---

# Spec: CRM

## Integration Overview

### Source System

```yaml
connector: http
base_url: ${{env:CRM_URL}}
key: id
read: {{path: /people, records: data, pagination: {{by: none}}}}
```

### Target System

```yaml
connector: sql
url: sqlite:///out.db
key: id
write: {{upsert: people, create_table: true}}
```

## Authentication

### Source System Auth

```yaml
{auth}
```
"""
BEARER = "type: bearer\ntoken: ${env:CRM_TOKEN}"
OAUTH = "type: oauth2\nflow: {flow}\ntoken_url: ${{env:CRM_URL}}/oauth/token\n{page}\nclient_id: {client}\n{secret}"


def serving(handler: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> TestServer:
    """Run a server that responds with `handler` within the block."""
    app = web.Application()

    async def handle(request: web.Request) -> web.StreamResponse:
        return await handler(request)

    app.router.add_route("*", "/{path:.*}", handle)
    return TestServer(app)


@pytest.fixture
async def issuer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> AsyncIterator[Issuer]:
    """An authorization server and the list behind it; the environment has its URL and secrets."""
    issuer = Issuer(interval=0.05)
    issuer.good.add("t0p-s3cret")
    async with serving(issuer) as server:
        issuer.url = str(server.make_url("")).rstrip("/")
        for name, value in {"CRM_URL": issuer.url, "CRM_TOKEN": "t0p-s3cret", "CRM_SECRET": CLIENT_SECRET}.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
        for name in ("DISPLAY", "WAYLAND_DISPLAY"):
            monkeypatch.delenv(name, raising=False)
        yield issuer


def write(directory: Path, auth: str = BEARER) -> Path:
    path = directory / "crm.md"
    path.write_text(TEXT.format(auth=auth), "utf-8")
    return path


def oauth(flow: str) -> str:
    url = {"device_code": "device_url: ${env:CRM_URL}/oauth/device", "client_credentials": ""}
    page = url.get(flow, "authorize_url: ${env:CRM_URL}/oauth/authorize")
    return OAUTH.format(flow=flow, page=page, client=f'"{CLIENT_ID}"', secret="client_secret: ${env:CRM_SECRET}")


def view(pilot: Pilot[None]) -> SpecsView:
    return cast("SpecsView", pilot.app.main.view)  # type: ignore[attr-defined]  # the app is ours


def guide_text(pilot: Pilot[None]) -> str:
    """Return the text of the guide on one line."""
    (text,) = view(pilot).query_one(GuideView).query(Static)
    return " ".join(str(text.content).split())


async def wait_for_guide(pilot: Pilot[None], until: Until, *texts: str) -> None:
    """Wait until the guide shows all of `texts`."""
    try:
        await until(pilot, lambda: all(text in guide_text(pilot) for text in texts))
    except TimeoutError:
        raise AssertionError(f"not all of {texts} in: {guide_text(pilot)}") from None


async def open_section(pilot: Pilot[None], until: Until, address: str) -> SpecsView:
    await until(pilot, lambda: view(pilot).opened is not None)
    view(pilot).go_to(address)
    await pilot.pause()
    return view(pilot)


@pytest.fixture
def testing(tmp_path: Path, running: Running, until: Until) -> Testing:
    """Test the credentials `auth` in the section at `address`: `async with testing(oauth("device_code")) as pilot`."""

    @asynccontextmanager
    async def start(auth: str = BEARER, address: str = SOURCE) -> AsyncIterator[Pilot[None]]:
        write(tmp_path, auth)
        async with running(tmp_path, size=(160, 45)) as pilot:
            await open_section(pilot, until, address)
            await pilot.press("t")
            yield pilot

    return start


async def test_references_request_and_result_are_reported(
    tmp_path: Path, issuer: Issuer, running: Running, until: Until, screen: Callable[[Pilot[None]], str]
) -> None:
    write(tmp_path)
    async with running(tmp_path, size=(160, 45)) as pilot:
        await open_section(pilot, until, SOURCE)
        await wait_for_guide(pilot, until, "t tests the credentials")
        await pilot.press("t")
        await wait_for_guide(pilot, until, "source: http, bearer ✔ found env:CRM_URL, env:CRM_TOKEN")
        await wait_for_guide(pilot, until, f"✔ GET {issuer.url}/people: 1 record ✔ connected t tests the credentials")
        assert "t0p-s3cret" not in screen(pilot)
        assert (issuer.read, issuer.written) == (1, [])


async def test_rejected_credentials_are_reported_with_request_response_and_hint_but_no_secret(
    issuer: Issuer, testing: Testing, until: Until, screen: Callable[[Pilot[None]], str]
) -> None:
    issuer.revoke()
    async with testing() as pilot:
        await wait_for_guide(pilot, until, "✖ ", "401 Unauthorized", "no good: Bearer ***", "request GET")
        assert 0 < guide_text(pilot).find("Check the Auth section") < guide_text(pilot).find("request GET")
        assert "t0p-s3cret" not in screen(pilot)
        assert "connected" not in screen(pilot)


async def test_unresolved_reference_is_reported_with_a_suggestion(
    issuer: Issuer, testing: Testing, until: Until
) -> None:
    async with testing(BEARER.replace("CRM_TOKEN", "CRM_TOKN")) as pilot:
        await wait_for_guide(
            pilot, until, "◌ names env:CRM_URL, env:CRM_TOKN", "CRM_TOKN is not set", "'CRM_TOKEN'?", "Set CRM_TOKN"
        )
    assert issuer.rejected == 0


@pytest.mark.usefixtures("issuer")
async def test_unsaved_text_is_tested_and_its_result_removed_after_a_change(testing: Testing, until: Until) -> None:
    async with testing("type: bearer") as pilot:
        specs = view(pilot)
        await wait_for_guide(pilot, until, "the source is not valid")
        assert specs.opened is not None
        section = specs.opened.document.section(SOURCE)
        specs.document.change("auth", lambda document: document.with_body(section, f"```yaml\n{BEARER}\n```"))
        await until(pilot, lambda: "is not valid" not in guide_text(pilot))
        await pilot.press("t")
        await wait_for_guide(pilot, until, "✔ connected")
        await pilot.press("u")
        await until(pilot, lambda: "connected" not in guide_text(pilot))


async def test_target_is_only_read_and_nothing_is_written(tmp_path: Path, testing: Testing, until: Until) -> None:
    async with testing(address=TARGET) as pilot:
        await wait_for_guide(
            pilot, until, "target: sql, none ✔ sqlite:///out.db: not there yet; a run makes it ✔ connected"
        )
    assert not (tmp_path / "out.db").exists()


async def test_only_endpoint_and_auth_sections_can_be_tested(
    tmp_path: Path, running: Running, see: See, until: Until
) -> None:
    write(tmp_path)
    async with running(tmp_path) as pilot:
        await open_section(pilot, until, "Integration Overview")
        await pilot.press("t")
        await see(pilot, "Not now: test credentials", "System and their Auth")


async def test_token_is_requested_where_one_is_needed(issuer: Issuer, testing: Testing, until: Until) -> None:
    async with testing(oauth("client_credentials")) as pilot:
        await wait_for_guide(pilot, until, "oauth2 client_credentials", "✔ a new token, valid until", "✔ connected")
        await pilot.press("t")
        await wait_for_guide(pilot, until, "✔ the kept token")
    assert issuer.count("client_credentials") == 1


async def test_device_login_shows_the_page_and_the_code_until_it_is_done(
    issuer: Issuer, testing: Testing, see: See, until: Until
) -> None:
    issuer.pending = ["authorization_pending"] * 1000
    async with testing(oauth("device_code")) as pilot:
        await see(pilot, "log in at the source", f"{issuer.url}/activate", "WDJB-MJHT", "within 1m")
        await pilot.press("o")
        await see(pilot, "no browser on this machine")
        issuer.pending.clear()
        await wait_for_guide(pilot, until, "✔ a new token", "✔ connected")
        assert len(pilot.app.screen_stack) == 1


@pytest.mark.usefixtures("issuer")
async def test_browser_login_continues_when_the_browser_returns(testing: Testing, see: See, until: Until) -> None:
    async with testing(oauth("authorization_code")) as pilot:
        await see(pilot, "log in at the source", "so use one here.")
        await pilot.press("y")
        await see(pilot, "The address is in the clipboard.")
        async with aiohttp.ClientSession() as browser, browser.get(pilot.app.clipboard) as page:
            assert page.status == 200
        await wait_for_guide(pilot, until, "✔ a new token", "✔ connected")
        assert len(pilot.app.screen_stack) == 1


async def test_abandoned_login_ends_the_test(issuer: Issuer, testing: Testing, see: See, until: Until) -> None:
    issuer.pending = ["authorization_pending"] * 1000
    async with testing(oauth("device_code")) as pilot:
        await see(pilot, "WDJB-MJHT")
        await pilot.press("escape")
        await wait_for_guide(pilot, until, "◌ stopped t tests the credentials")


async def test_login_dialog_below_a_question_is_closed_when_the_login_is_done(
    issuer: Issuer, testing: Testing, see: See, until: Until
) -> None:
    issuer.pending = ["authorization_pending"] * 1000
    async with testing(oauth("device_code")) as pilot:
        await see(pilot, "WDJB-MJHT")
        pilot.app.push_screen(ConfirmDialog("quit", "Is something lost?", yes="quit"))
        issuer.pending.clear()
        await wait_for_guide(pilot, until, "✔ connected")
        await pilot.press("n")
        await until(pilot, lambda: len(pilot.app.screen_stack) == 1)


async def test_hanging_test_can_be_stopped(
    tmp_path: Path,
    running: Running,
    see: See,
    until: Until,
    monkeypatch: pytest.MonkeyPatch,
    screen: Callable[[Pilot[None]], str],
) -> None:
    requested, gone = asyncio.Event(), asyncio.Event()

    async def never(_request: web.Request) -> web.StreamResponse:
        requested.set()
        await gone.wait()
        return web.Response()

    write(tmp_path)
    monkeypatch.setenv("CRM_TOKEN", "t0p-s3cret")
    async with serving(never) as server, running(tmp_path, size=(80, 24)) as pilot:
        monkeypatch.setenv("CRM_URL", str(server.make_url("")).rstrip("/"))
        await open_section(pilot, until, SOURCE)
        assert "guide" not in screen(pilot)
        assert "stop the test" not in {offer.action.title for offer in offers(pilot.app.focused or pilot.app.screen)}
        await pilot.press("t")
        await see(pilot, "guide", "● asking the system …", "esc stops it")
        assert "stop the test" in {offer.action.title for offer in offers(pilot.app.focused or pilot.app.screen)}
        await requested.wait()
        await pilot.press("t")
        await see(pilot, "a test is running; esc stops it")
        await pilot.press("escape")
        await see(pilot, "◌ stopped")
        gone.set()
