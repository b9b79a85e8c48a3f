"""Trust in the app: a dialog lists what a spec uses before anything is connected, and asks once."""

from __future__ import annotations

from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from tests.app.mapping.conftest import Running, See, Until, view
from tests.app.test_specs_credentials import open_section

SPEC = """\
---
spec_id: people
type: integration
status: in-progress
---

# Spec: People

## Integration Overview

### Source System

```yaml
connector: http
base_url: {url}
read: {{path: /people, pagination: {{by: none}}}}
key: id
```

### Target System

```yaml
connector: file
path: out.jsonl
key: id
```

## Field Mapping

| Source Field | Target Field | Transformation | Notes |
|---|---|---|---|
| source.id | target.id | | |

## Authentication

### Source System Auth

```yaml
type: bearer
token: ${{env:CRM_TOKEN}}
```

### Target System Auth

```yaml
type: none
```
"""


@pytest.fixture
def requested_paths(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[list[str]]:
    """Return the paths requested from the source of the spec in tmp_path/work, for a user without trusted specs."""
    paths: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            paths.append(self.path)
            body = b'[{"id": 1}]'
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as it is called there
            """Log nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.setenv("SPECLAB_TRUST", "")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("CRM_TOKEN", "s3cret")
    spec = tmp_path / "work" / "people.md"
    spec.parent.mkdir()
    spec.write_text(SPEC.format(url=f"http://127.0.0.1:{server.server_port}"))
    yield paths
    server.shutdown()
    server.server_close()
    thread.join()


async def test_live_sample_is_read_after_the_list_was_accepted(
    tmp_path: Path, requested_paths: list[str], running: Running, see: See, until: Until
) -> None:
    async with running(tmp_path / "work", view="mapping") as pilot:
        await until(pilot, lambda: view(pilot).state.sheet is not None)
        await pilot.press("l")
        await see(pilot, "trust people?", "source host: http://127.0.0.1:", "source reference: env:CRM_TOKEN")
        await pilot.press("enter")  # rejects the list
        await see(pilot, "trust people?")
        await pilot.press("escape")
        assert requested_paths == []
        await pilot.press("l")
        await see(pilot, "trust people?")
        await pilot.press("y")
        await see(pilot, "record 1 of 1", "live")
        assert requested_paths == ["/people"]
        await pilot.press("l")
        await until(pilot, lambda: requested_paths == ["/people", "/people"])


async def test_run_is_started_after_the_list_was_accepted(
    tmp_path: Path, requested_paths: list[str], running: Running, see: See, until: Until
) -> None:
    async with running(tmp_path / "work", view="specs") as pilot:
        await open_section(pilot, until, "Field Mapping")
        await pilot.press("f5")
        await see(pilot, "trust people?")
        await pilot.press("n")
        assert requested_paths == []
        assert not (tmp_path / "work" / ".speclab" / "runs").exists()
        await pilot.press("f5")
        await see(pilot, "trust people?")
        await pilot.press("y")
        await until(pilot, lambda: requested_paths == ["/people"])


async def test_credentials_are_tested_after_the_list_was_accepted(
    tmp_path: Path, requested_paths: list[str], running: Running, see: See, until: Until
) -> None:
    async with running(tmp_path / "work", view="specs", size=(160, 45)) as pilot:
        await open_section(pilot, until, "Authentication > Source System Auth")
        await pilot.press("t")
        await see(pilot, "trust people?")
        await pilot.press("escape")
        await see(pilot, "stopped")
        assert requested_paths == []
