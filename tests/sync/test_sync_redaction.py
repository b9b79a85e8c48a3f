"""Runs that fail in every way between systems that echo each request: no secret is written anywhere."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Final
from urllib.parse import quote

import orjson
import pytest
from aiohttp import web

from speclab.cli.output import print_error
from speclab.connectors.api import RuntimeContext
from speclab.connectors.secrets.references import References
from speclab.core.clock import SystemClock
from speclab.core.outcome import Level, RunState
from speclab.runlog import RunLog, RunLogReader, failure_json, run_json
from speclab.sync.prepare import prepare
from speclab.sync.run import RunOptions, run

MARKER: Final = "m4rker"
SECRETS: Final = {
    "CLIENT_SECRET": f'{MARKER}-client/+ "é:',
    "EXTRA": f"{MARKER}-extra/+=",
    "TARGET_PASSWORD": f"{MARKER}-password",
}
SPEC: Final = """---
spec_id: people
type: integration
status: in-progress
---

# Spec: People

## Integration Overview

### Source System

```yaml
connector: http
base_url: ${env:SOURCE_URL}
key: id
headers: {X-Extra: "${env:EXTRA}"}
read:
  path: /people
  params: {word: "${file:secrets/word}"}
  records: data
limits: {timeout: 500ms, response: 100KB}
```

### Target System

```yaml
connector: http
base_url: http://ada:${env:TARGET_PASSWORD}@${env:TARGET_HOST}
key: id
write: {upsert: "PUT /people/{id}", headers: {X-Extra: "${env:EXTRA}"}}
limits: {timeout: 500ms}
```

## Data Flow

### Frequency

Hourly

## Field Mapping

| Source Field | Target Field | Transformation | Notes |
|--------------|--------------|----------------|-------|
| source.id | target.id | Direct | |
| source.name | target.name | Trim | |

## Authentication

### Source System Auth

```yaml
type: oauth2
flow: client_credentials
token_url: ${env:SOURCE_URL}/token
client_id: me
client_secret: ${env:CLIENT_SECRET}
```

### Target System Auth

```yaml
type: api_key
param: api_key
key: ${env:TARGET_KEY}
```

## Error Handling & Retry Strategy

### Retry Logic

```yaml
attempts: 2
base: 1ms
cap: 2ms
```
"""


def forms() -> list[bytes]:
    """Return the forms of a marker that no text may contain: plain, and in base64 at any offset."""
    shifted = (base64.b64encode(b"x" * shift + MARKER.encode()) for shift in range(3))
    in_base64 = [encoded[(shift * 8 + 5) // 6 : -4] for shift, encoded in enumerate(shifted)]
    percent = "".join(f"%25{ord(one):02x}" for one in MARKER)
    others = (MARKER, MARKER.upper(), MARKER.encode().hex(), percent)
    return [*(one.encode() for one in others), *in_base64, *(one.lower() for one in in_base64)]


def encoded_forms(text: str) -> str:
    """Return the forms of `text` in which a server may echo it."""
    shifted = [base64.b64encode(b"x" * shift + text.encode()).decode() for shift in range(3)]
    url_safe = base64.urlsafe_b64encode(b"x" + text.encode()).decode()
    percent = "".join(f"%25{byte:02x}" for byte in text.encode())
    twice = quote(quote(text, safe=""), safe="")
    return " ".join([*shifted, shifted[1].lower(), url_safe, percent, twice.lower(), text.upper(), text.encode().hex()])


@dataclass
class Systems:
    """Source, token endpoint and target with configurable failures; each echoes the requests that it gets."""

    url: str = ""
    elsewhere: str = ""
    token: str = "good"
    source: str = "good"
    target: str = "good"
    followed: list[str] = field(default_factory=list)
    reported: list[str] = field(default_factory=list)
    issued: int = 0
    was_late: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        echo = f"I was told {dict(request.headers)} {request.url} {await request.text()}"
        self.reported.append(echo)
        if request.path == "/token":
            if self.token == "good":
                self.issued += 1
                token = f"{MARKER}-access-{self.issued}"
                body = {"access_token": token, "refresh_token": f"{MARKER}-refresh", "token_type": "Bearer"}
                return web.json_response(body)
            return await self.bad(request, self.token, echo)
        if request.method == "GET":
            if self.source == "good":
                return web.json_response({"data": [{"id": 1, "name": "Ada"}, {"id": 2, "name": "Grace"}]})
            return await self.bad(request, self.source, echo)
        if self.target == "good":
            return web.json_response({}, status=201)
        return await self.bad(request, self.target, echo)

    async def bad(self, request: web.Request, how: str, echo: str) -> web.StreamResponse:
        errors = [{"field": "name", "detail": echo}]
        match how:
            case "encoded":
                return web.json_response({"message": encoded_forms(echo)}, status=422)
            case "broken JSON":
                return web.Response(text=f'{{"data": [{echo}', content_type="application/json")
            case "HTML":
                return web.Response(text=f"<html>{echo}</html>", content_type="text/html")
            case "no list":
                return web.json_response({echo: echo, "access_token": [echo]})
            case "too large":
                return web.Response(text=echo * 1000)
            case "elsewhere":
                location = f"{self.elsewhere}{request.path_qs}&was={request.headers.get('Authorization')}"
                return web.Response(status=307, headers={"Location": location})
            case "late":
                self.was_late.set()
                await asyncio.sleep(1)
                return web.Response()
            case "dropped":
                assert request.transport is not None
                request.transport.abort()
                return web.Response()
            case "a loop":
                return web.json_response({"data": [{"id": 1, "name": "Ada"}], "next": request.path_qs})
        return web.json_response(
            {"error": echo, "error_description": echo, "message": echo, "errors": errors}, status=int(how)
        )


@pytest.fixture
async def systems() -> AsyncIterator[Systems]:
    systems = Systems()

    async def gone(request: web.Request) -> web.Response:
        systems.followed.append(str(request.url))
        return web.Response()

    async def answer(request: web.Request) -> web.StreamResponse:
        return await systems(request)

    runners = []
    for handler in (answer, gone):
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", handler)
        runner = web.AppRunner(app, shutdown_timeout=0)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        runners.append(runner)
    systems.url, systems.elsewhere = ("http://{}:{}".format(*runner.addresses[0][:2]) for runner in runners)
    yield systems
    for runner in runners:
        await runner.cleanup()


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    directory = tmp_path / "workspace"
    (directory / "secrets").mkdir(parents=True)
    (directory / ".speclab").mkdir()
    (directory / "people.md").write_text(SPEC)
    (directory / ".env").write_text(f"TARGET_KEY='{MARKER}-key /+'\n")
    (directory / "secrets" / "word").write_text(f"{MARKER}-word é\n")
    return directory


def environment(systems: Systems) -> dict[str, str]:
    return {**SECRETS, "SOURCE_URL": systems.url, "TARGET_HOST": systems.url.removeprefix("http://")}


def written(workspace: Path) -> bytes:
    """Return everything in the workspace that the test did not write, including the WAL of the run log."""
    own = {workspace / ".env", workspace / "secrets" / "word", workspace / "people.md"}
    return b"\n".join(path.read_bytes() for path in workspace.rglob("*") if path.is_file() and path not in own)


def clean(text: bytes) -> None:
    for form in forms():
        at = text.find(form)
        assert at < 0, text[max(0, at - 200) : at + 100]


WAYS: Final = ["401", "403", "404", "422", "500", "503", "broken JSON", "HTML", "no list", "elsewhere", "late"]
FAILURES: Final = [
    *(("token", how) for how in ("400", "401", "500", "broken JSON", "HTML", "no list", "elsewhere", "dropped")),
    *(("source", how) for how in (*WAYS, "dropped", "too large", "a loop")),
    *((where, "encoded") for where in ("token", "source", "target")),
    *(("target", how) for how in ("401", "403", "409", "422", "500", "elsewhere", "late", "dropped")),
]


@pytest.mark.parametrize(("where", "how"), FAILURES)
async def test_failed_run_shows_no_secret(
    where: str, how: str, systems: Systems, workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    setattr(systems, where, how)
    reports: list[str] = []

    def report(level: Level, message: str) -> None:
        reports.append(f"{level}: {message}")

    context = RuntimeContext(SystemClock(), Random(1), report=report, tokens=workspace.parent / "tokens")
    references = References(environment(systems), workspace)
    options = RunOptions(wait_budget=0.01)
    with RunLog.open(workspace / ".speclab" / "runlog.db") as log:
        result = await run(prepare(workspace / "people.md"), log, references, context, options)
        with RunLogReader.open(log.path) as reader:
            rows = [run_json(row) for row in reader.runs()]
            failures = [failure_json(row, full=True) for row in reader.failures(full=True)]
            events = reader.events()
        clean(written(workspace))  # with the current WAL
    assert result.row.state is not RunState.SUCCEEDED
    assert systems.followed == []
    assert any(form in echo.encode() for echo in systems.reported for form in forms())
    if result.error is not None:
        print_error(result.error)
    reported = capsys.readouterr()
    clean((reported.out + reported.err + "\n".join(reports)).encode())
    clean(orjson.dumps([rows, failures]) + repr([events, result]).encode() + written(workspace))


async def test_bug_with_a_secret_in_its_message_does_not_put_it_into_the_run_log(
    systems: Systems, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError(f"cannot stand {SECRETS['EXTRA']} and {MARKER}-key /+")

    monkeypatch.setattr("speclab.sync.run.open_writer", broken)
    context = RuntimeContext(SystemClock(), Random(1), tokens=workspace.parent / "tokens")
    references = References(environment(systems), workspace)
    spec = prepare(workspace / "people.md")
    references.resolve_settings(spec.integration.target_auth)
    with RunLog.open(workspace / ".speclab" / "runlog.db") as log:
        with pytest.raises(RuntimeError):
            await run(spec, log, references, context)
        with RunLogReader.open(log.path) as reader:
            (row,) = reader.runs()
    assert row.error == "a bug: RuntimeError('cannot stand *** and ***')"
    clean(written(workspace))


async def test_no_command_prints_a_secret_and_a_killed_process_leaves_none(systems: Systems, workspace: Path) -> None:
    systems.target = "422"
    env = os.environ | environment(systems) | {"XDG_STATE_HOME": str(workspace.parent / "state")}

    async def speclab(*args: str) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "speclab", *args),
            cwd=workspace,
            env=env,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )

    for args in (["run", "people"], ["failures", "--full", "--json"], ["auth", "people"], ["auth", "people", "--json"]):
        process = await speclab(*args)
        out, err = await process.communicate()
        assert out
        clean(out + err)
    systems.target = "late"
    process = await speclab("run", "people", "--full")
    await systems.was_late.wait()
    process.kill()
    await process.communicate()
    clean(written(workspace))
    kept = [json.loads(path.read_text()) for path in (workspace.parent / "state").rglob("*.json")]
    assert [token["access_token"].startswith(MARKER) for token in kept] == [True]


def test_search_finds_a_secret_in_every_form() -> None:
    for text in (MARKER.encode(), *(base64.b64encode(b"ada:"[:shift] + MARKER.encode()) for shift in range(4))):
        with pytest.raises(AssertionError):
            clean(b"before " + text + b" after")
