"""Runs killed twice: the next run continues, and in the end nothing is missing or duplicated."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from speclab.core.json import Record
from speclab.core.outcome import Outcome, RunState
from speclab.runlog import RunLogReader, RunRow

PAGES, SIZE = 40, 50

SPEC = """---
spec_id: people
type: integration
status: in-progress
---

# Spec: People

## Integration Overview

### Source System

```yaml
connector: http
base_url: ${{env:SOURCE}}
key: id
read: {{path: /people, records: data, pagination: {{by: cursor, next: next, param: cursor}}}}
```

### Target System

```yaml
connector: sql
url: sqlite:///target.db
key: id
write: {{upsert: people, size: 20, create_table: true}}
```

## Field Mapping

| Source Field | Target Field | Transformation | Notes |
|--------------|--------------|----------------|-------|
| source.id | target.id | Direct | |
| source.name | target.name | Trim, Uppercase | |
| source.age | target.age | Integer | |

```yaml
filter: source.test != true
```

## Authentication

### Source System Auth

```yaml
type: none
```
"""

DRIVER = """
import asyncio, os, sys
from pathlib import Path
from random import Random
from speclab.core.clock import SystemClock
from speclab.connectors.secrets.references import References
from speclab.connectors.api import RuntimeContext
from speclab.core.errors import SpeclabError
from speclab.runlog import RunLog
from speclab.sync.prepare import prepare
from speclab.sync.run import run
from speclab.sync.run_control import cancelled_by_signals

async def main():
    spec = Path(sys.argv[1])
    with RunLog.open(spec.parent / ".speclab" / "runlog.db") as log, cancelled_by_signals() as cancelled:
        references = References(os.environ, spec.parent)
        await run(prepare(spec), log, references, RuntimeContext(SystemClock(), Random()), cancelled=cancelled)

try:
    asyncio.run(main())
except SpeclabError as error:
    sys.exit(error.message)
"""


def record(number: int) -> Record:
    """Return a person; some have an invalid age, some are tests."""
    age = "old" if number % 97 == 5 else str(number % 100)
    return {"id": f"p{number}", "name": f" ada {number} ", "age": age, "test": number % 89 == 7}


def expected() -> list[tuple[str, str, int]]:
    """Return the rows of the target, as the spec maps the source."""
    rows = [
        (f"p{number}", f"ADA {number}", number % 100)
        for number in range(PAGES * SIZE)
        if number % 97 != 5 and number % 89 != 7
    ]
    return sorted(rows)


@dataclass
class Source:
    """A CRM on loopback with slow pages, so that a run can be killed during one."""

    url: str
    pause: float = 0.01
    requests: list[int] = field(default_factory=list)


@pytest.fixture
def source() -> Iterator[Source]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            page = int(parse_qs(urlsplit(self.path).query).get("cursor", ["0"])[0])
            made.requests.append(page)
            time.sleep(made.pause)
            data = [record(number) for number in range(page * SIZE, (page + 1) * SIZE)]
            body = json.dumps({"data": data, "next": page + 1 if page + 1 < PAGES else None}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Log nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        made = Source(f"http://127.0.0.1:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield made
        server.shutdown()
        thread.join()


@dataclass
class CrashWorkspace:
    """A spec in a temporary directory, run by child processes."""

    directory: Path
    source: Source

    def start(self) -> subprocess.Popen[str]:
        spec = self.directory / "people.md"
        spec.write_text(SPEC.format())
        command = [sys.executable, "-c", DRIVER, str(spec)]
        return subprocess.Popen(command, env={"SOURCE": self.source.url}, stderr=subprocess.PIPE, text=True)

    @property
    def log(self) -> Path:
        return self.directory / ".speclab" / "runlog.db"

    def wait_for_pages(self, count: int) -> None:
        """Wait until all runs together have committed `count` pages."""
        deadline = time.monotonic() + 60
        with RunLogReader.open(self.log) as reader:
            while sum(event.kind == "page" for event in reader.events()) < count:
                assert time.monotonic() < deadline, "the run does not get on"
                time.sleep(0.01)

    def runs(self) -> list[RunRow]:
        with RunLogReader.open(self.log) as reader:
            return list(reversed(reader.runs()))

    def target(self) -> list[tuple[str, str, int]]:
        with sqlite3.connect(self.directory / "target.db") as db:
            return sorted(db.execute("SELECT id, name, age FROM people"))


@pytest.fixture
def workspace(tmp_path: Path, source: Source) -> CrashWorkspace:
    return CrashWorkspace(tmp_path, source)


def assert_balanced(row: RunRow) -> None:
    assert row.read == sum(getattr(row, outcome) for outcome in Outcome)


def test_run_killed_twice_ends_with_every_record_at_the_target_once(workspace: CrashWorkspace) -> None:
    for pages in (8, 20):  # in total
        with workspace.start() as process:
            workspace.wait_for_pages(pages)
            process.send_signal(signal.SIGKILL)
            assert process.wait() == -signal.SIGKILL
    with workspace.start() as process:
        _, output = process.communicate()
        assert process.returncode == 0, output

    assert workspace.target() == expected()
    runs = workspace.runs()
    assert [row.state for row in runs] == [RunState.INTERRUPTED, RunState.INTERRUPTED, RunState.PARTIAL]
    for row in runs:
        assert_balanced(row)
    bad = sum(number % 97 == 5 for number in range(PAGES * SIZE) if number % 89 != 7)
    with RunLogReader.open(workspace.log) as reader:
        assert len(reader.failures(limit=1000)) == bad
    # The first two runs made progress, and their committed pages were not read again.
    assert all(0 < row.read < PAGES * SIZE for row in runs)
    assert sum(row.read for row in runs) == PAGES * SIZE
    assert len(workspace.source.requests) <= PAGES + 2 * 3


def test_second_run_reports_the_lock_holder(workspace: CrashWorkspace) -> None:
    with workspace.start() as first:
        workspace.wait_for_pages(2)
        with workspace.start() as second:
            _, output = second.communicate()
            assert second.returncode == 1
        assert f"people is being run by process {first.pid} of " in output
        first.kill()
    assert len(workspace.runs()) == 1


def test_first_signal_lets_the_page_finish_and_the_next_run_continues(workspace: CrashWorkspace) -> None:
    with workspace.start() as process:
        workspace.wait_for_pages(3)
        process.send_signal(signal.SIGTERM)
        assert process.wait() == 0
    with workspace.start() as process:
        assert process.wait() == 0
    cancelled, finished = workspace.runs()
    assert (cancelled.state, finished.state) == (RunState.CANCELLED, RunState.PARTIAL)
    assert cancelled.read + finished.read == PAGES * SIZE
    assert workspace.target() == expected()


def test_signal_does_not_wait_for_a_page_that_is_still_being_read(workspace: CrashWorkspace) -> None:
    with workspace.start() as process:
        workspace.wait_for_pages(2)
        workspace.source.pause = 30
        time.sleep(0.3)  # it now waits for a page
        process.send_signal(signal.SIGINT)
        assert process.wait() == 0
    (row,) = workspace.runs()
    assert row.state is RunState.CANCELLED


def test_second_signal_ends_the_process_at_once(workspace: CrashWorkspace) -> None:
    with workspace.start() as process:
        workspace.wait_for_pages(2)
        with sqlite3.connect(workspace.directory / "target.db", isolation_level=None) as db:
            db.execute("BEGIN IMMEDIATE")
            time.sleep(0.5)  # it is now at a page that it cannot finish
            process.send_signal(signal.SIGTERM)
            time.sleep(0.3)
            assert process.poll() is None
            process.send_signal(signal.SIGTERM)
            assert process.wait() == -signal.SIGTERM
            db.execute("ROLLBACK")
    with workspace.start() as process:
        assert process.wait() == 0
    assert [row.state for row in workspace.runs()] == [RunState.INTERRUPTED, RunState.PARTIAL]
    assert workspace.target() == expected()
