"""The command line as users run it: a real process in a new directory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

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
{source}
```

### Target System

```yaml
connector: file
path: out.jsonl
key: id
```

### Integration Type

Batch sync

## Data Flow

### Direction

One-way

### Frequency

Hourly

## Field Mapping

| Source Field | Target Field | Transformation | Notes |
|--------------|--------------|----------------|-------|
| source.id    | target.id    | Direct         |       |
| source.name  | target.name  | {step}         |       |

## Authentication

### Source System Auth

```yaml
{auth}
```

### Target System Auth

```yaml
type: none
```

## Error Handling & Retry Strategy

### Retry Logic

```yaml
attempts: 2
base: 10ms
cap: 20ms
```
"""

FILE_SOURCE = "connector: file\npath: in.jsonl\nkey: id"


@dataclass(frozen=True)
class Shell:
    """Runs `speclab` in `directory` with `env` added to the environment."""

    directory: Path
    env: dict[str, str] = field(default_factory=dict)

    def __call__(self, *args: str, stdin: str = "", exit_code: int | None = 0) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "speclab", *args],
            cwd=self.directory,
            env=os.environ | self.env,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert "Traceback" not in done.stderr, done.stderr
        if exit_code is not None:
            assert done.returncode == exit_code, done.stdout + done.stderr
        return done

    def rows(self, *args: str, exit_code: int | None = 0) -> list[Any]:
        """Return the rows that `--json` prints."""
        return [json.loads(line) for line in self(*args, "--json", exit_code=exit_code).stdout.splitlines()]

    def write(self, name: str, text: str) -> Path:
        path = self.directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def spec(self, source: str = FILE_SOURCE, *, step: str = "Trim", auth: str = "type: none") -> Path:
        """Write specs/people.md, which copies people from `source` to out.jsonl."""
        return self.write("specs/people.md", SPEC.format(source=source, step=step, auth=auth))


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


@pytest.fixture
def people(shell: Shell) -> Shell:
    """A workspace whose spec copies three people, one of them without a name, from a file to a file."""
    shell.spec(step="Required, Trim")
    people: Sequence[dict[str, object]] = (
        {"id": 1, "name": " Ada "},
        {"id": 2, "name": None},
        {"id": 3, "name": "Grace"},
    )
    shell.write("in.jsonl", "".join(json.dumps(one) + "\n" for one in people))
    return shell


@dataclass
class Api:
    """A loopback HTTP server that returns the same response to every request."""

    url: str
    status: int = 200
    body: str = '{"data": [{"id": 1, "name": "Ada"}]}'
    retry_after: int | None = None
    requested: list[str] = field(default_factory=list)

    def source(self, records: str = "data") -> str:
        """Return the settings of a Source System section that reads it."""
        return (
            f"connector: http\nbase_url: {self.url}\nkey: id\n"
            f"read: {{path: /people, records: {records}, pagination: {{by: none}}}}\nlimits: {{timeout: 2s}}"
        )


@pytest.fixture
def api() -> Iterator[Api]:
    answer = Api("")

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer.requested.append(self.path)
            body = answer.body.encode()
            self.send_response(answer.status)
            self.send_header("Content-Length", str(len(body)))
            if answer.retry_after is not None:
                self.send_header("Retry-After", str(answer.retry_after))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as it is called there
            """Log nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    answer.url = f"http://127.0.0.1:{server.server_port}"
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield answer
    server.shutdown()
    server.server_close()
    thread.join()
