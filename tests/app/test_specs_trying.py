"""Credentials are tried from the Specs place: what happened is told line by line, and no secret is shown."""

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
Trying = Running

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
    """A server that answers everything with `handler`, while it is used as a context."""
    app = web.Application()

    async def handle(request: web.Request) -> web.StreamResponse:
        return await handler(request)

    app.router.add_route("*", "/{path:.*}", handle)
    return TestServer(app)


@pytest.fixture
async def issuer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> AsyncIterator[Issuer]:
    """An authorization server and the list behind it; where it is and its secrets are in the environment."""
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


def told(pilot: Pilot[None]) -> str:
    """What the guide says, on one line."""
    (text,) = view(pilot).query_one(GuideView).query(Static)
    return " ".join(str(text.content).split())


async def tells(pilot: Pilot[None], until: Until, *texts: str) -> None:
    """Wait until the guide says all of `texts`."""
    try:
        await until(pilot, lambda: all(text in told(pilot) for text in texts))
    except TimeoutError:
        raise AssertionError(f"not all of {texts} in: {told(pilot)}") from None


async def take_in_hand(pilot: Pilot[None], until: Until, address: str) -> SpecsView:
    await until(pilot, lambda: view(pilot).opened is not None)
    view(pilot).go_to(address)
    await pilot.pause()
    return view(pilot)


@pytest.fixture
def trying(tmp_path: Path, running: Running, until: Until) -> Trying:
    """Tries what `auth` says from the section at `address`: `async with trying(oauth("device_code")) as pilot`."""

    @asynccontextmanager
    async def start(auth: str = BEARER, address: str = SOURCE) -> AsyncIterator[Pilot[None]]:
        write(tmp_path, auth)
        async with running(tmp_path, size=(160, 45)) as pilot:
            await take_in_hand(pilot, until, address)
            await pilot.press("t")
            yield pilot

    return start


async def test_what_was_found_asked_and_answered_is_told(
    tmp_path: Path, issuer: Issuer, running: Running, until: Until, screen: Callable[[Pilot[None]], str]
) -> None:
    write(tmp_path)
    async with running(tmp_path, size=(160, 45)) as pilot:
        await take_in_hand(pilot, until, SOURCE)
        await tells(pilot, until, "t tests the credentials")
        await pilot.press("t")
        await tells(pilot, until, "source: http, bearer ✔ found env:CRM_URL, env:CRM_TOKEN")
        await tells(pilot, until, f"✔ GET {issuer.url}/people: 1 record ✔ connected t tests the credentials")
        assert "t0p-s3cret" not in screen(pilot)
        assert (issuer.read, issuer.written) == (1, [])


async def test_a_refusal_is_told_with_request_answer_and_what_to_do_but_no_secret(
    issuer: Issuer, trying: Trying, until: Until, screen: Callable[[Pilot[None]], str]
) -> None:
    issuer.revoke()
    async with trying() as pilot:
        await tells(pilot, until, "✖ ", "401 Unauthorized", "no good: Bearer ***", "request GET")
        assert 0 < told(pilot).find("Check the Auth section") < told(pilot).find("request GET")
        assert "t0p-s3cret" not in screen(pilot)
        assert "connected" not in screen(pilot)


async def test_a_reference_that_names_nothing_is_told_with_the_one_that_is_probably_meant(
    issuer: Issuer, trying: Trying, until: Until
) -> None:
    async with trying(BEARER.replace("CRM_TOKEN", "CRM_TOKN")) as pilot:
        await tells(
            pilot, until, "◌ names env:CRM_URL, env:CRM_TOKN", "CRM_TOKN is not set", "'CRM_TOKEN'?", "Set CRM_TOKN"
        )
    assert issuer.refused == 0


@pytest.mark.usefixtures("issuer")
async def test_what_is_not_saved_yet_is_tried_and_told_of_no_longer_once_it_is_changed(
    trying: Trying, until: Until
) -> None:
    async with trying("type: bearer") as pilot:
        specs = view(pilot)
        await tells(pilot, until, "the source is not valid")
        assert specs.opened is not None
        section = specs.opened.document.section(SOURCE)
        specs.change("auth", lambda document: document.with_body(section, f"```yaml\n{BEARER}\n```"))
        await until(pilot, lambda: "is not valid" not in told(pilot))
        await pilot.press("t")
        await tells(pilot, until, "✔ connected")
        await pilot.press("u")
        await until(pilot, lambda: "connected" not in told(pilot))


async def test_a_target_is_looked_at_and_nothing_is_written_there(tmp_path: Path, trying: Trying, until: Until) -> None:
    async with trying(address=TARGET) as pilot:
        await tells(pilot, until, "target: sql, none ✔ sqlite:///out.db: not there yet; a run makes it ✔ connected")
    assert not (tmp_path / "out.db").exists()


async def test_only_what_says_how_an_end_is_reached_can_be_tried(
    tmp_path: Path, running: Running, see: See, until: Until
) -> None:
    write(tmp_path)
    async with running(tmp_path) as pilot:
        await take_in_hand(pilot, until, "Integration Overview")
        await pilot.press("t")
        await see(pilot, "Not now: test credentials", "System and their Auth")


async def test_a_token_is_got_where_one_is_needed(issuer: Issuer, trying: Trying, until: Until) -> None:
    async with trying(oauth("client_credentials")) as pilot:
        await tells(pilot, until, "oauth2 client_credentials", "✔ a new token, valid until", "✔ connected")
        await pilot.press("t")
        await tells(pilot, until, "✔ the kept token")
    assert issuer.count("client_credentials") == 1


async def test_a_login_by_code_shows_the_page_and_the_code_until_it_is_done(
    issuer: Issuer, trying: Trying, see: See, until: Until
) -> None:
    issuer.pending = ["authorization_pending"] * 1000
    async with trying(oauth("device_code")) as pilot:
        await see(pilot, "log in at the source", f"{issuer.url}/activate", "WDJB-MJHT", "within 1m")
        await pilot.press("o")
        await see(pilot, "no browser on this machine")
        issuer.pending.clear()
        await tells(pilot, until, "✔ a new token", "✔ connected")
        assert len(pilot.app.screen_stack) == 1


@pytest.mark.usefixtures("issuer")
async def test_a_login_in_the_browser_goes_on_when_the_browser_comes_back(
    trying: Trying, see: See, until: Until
) -> None:
    async with trying(oauth("authorization_code")) as pilot:
        await see(pilot, "log in at the source", "so use one here.")
        await pilot.press("y")
        await see(pilot, "The address is in the clipboard.")
        async with aiohttp.ClientSession() as browser, browser.get(pilot.app.clipboard) as page:
            assert page.status == 200
        await tells(pilot, until, "✔ a new token", "✔ connected")
        assert len(pilot.app.screen_stack) == 1


async def test_a_login_that_is_given_up_ends_the_test(issuer: Issuer, trying: Trying, see: See, until: Until) -> None:
    issuer.pending = ["authorization_pending"] * 1000
    async with trying(oauth("device_code")) as pilot:
        await see(pilot, "WDJB-MJHT")
        await pilot.press("escape")
        await tells(pilot, until, "◌ stopped t tests the credentials")


async def test_a_login_that_is_done_below_a_question_is_closed_with_it(
    issuer: Issuer, trying: Trying, see: See, until: Until
) -> None:
    issuer.pending = ["authorization_pending"] * 1000
    async with trying(oauth("device_code")) as pilot:
        await see(pilot, "WDJB-MJHT")
        pilot.app.push_screen(ConfirmDialog("quit", "Is something lost?", yes="quit"))
        issuer.pending.clear()
        await tells(pilot, until, "✔ connected")
        await pilot.press("n")
        await until(pilot, lambda: len(pilot.app.screen_stack) == 1)


async def test_one_that_does_not_answer_is_waited_for_until_it_is_stopped(
    tmp_path: Path,
    running: Running,
    see: See,
    until: Until,
    monkeypatch: pytest.MonkeyPatch,
    screen: Callable[[Pilot[None]], str],
) -> None:
    asked, gone = asyncio.Event(), asyncio.Event()

    async def never(_request: web.Request) -> web.StreamResponse:
        asked.set()
        await gone.wait()
        return web.Response()

    write(tmp_path)
    monkeypatch.setenv("CRM_TOKEN", "t0p-s3cret")
    async with serving(never) as server, running(tmp_path, size=(80, 24)) as pilot:
        monkeypatch.setenv("CRM_URL", str(server.make_url("")).rstrip("/"))
        await take_in_hand(pilot, until, SOURCE)
        assert "guide" not in screen(pilot)
        assert "stop the test" not in {offer.action.title for offer in offers(pilot.app.focused or pilot.app.screen)}
        await pilot.press("t")
        await see(pilot, "guide", "● asking the system …", "esc stops it")
        assert "stop the test" in {offer.action.title for offer in offers(pilot.app.focused or pilot.app.screen)}
        await asked.wait()
        await pilot.press("t")
        await see(pilot, "a test is running; esc stops it")
        await pilot.press("escape")
        await see(pilot, "◌ stopped")
        gone.set()
