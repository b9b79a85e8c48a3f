"""A workspace whose specs a real service runs: shared by the tests of the service."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import pytest

from speclab.core.clock import SystemClock
from speclab.core.locks import ProcessIdentity
from speclab.core.outcome import ErrorClass, FailureState, Level, Outcome, RunState, Stage
from speclab.runlog import NewFailure, PageResult, RunLogReader, RunRow
from speclab.service import heartbeat
from speclab.service.heartbeat import Heartbeat, ServedSpec
from speclab.service.scheduler import ServiceOptions, serve
from speclab.sync.run_control import StopRequest

SPEC = """\
---
spec_id: {name}
type: integration
status: {status}
---

# Spec: {name}

## Integration Overview

### Source System

```yaml
{source}
key: id
```

### Target System

```yaml
{target}
key: id
```

## Data Flow

### Frequency

{frequency}

## Field Mapping

| Source Field | Target Field | Transformation | Notes |
|--------------|--------------|----------------|-------|
| source.id    | target.id    | Direct         |       |
| source.name  | target.name  | {step}         |       |

## Authentication

### Source System Auth

```yaml
type: none
```

### Target System Auth

```yaml
type: none
```

## Monitoring & Alerting

### Alerts

| Alert | When | For | Notify |
|-------|------|-----|--------|
| Nothing yet | since_success() >= 0.0 | 0s | |
"""


FILE = "connector: file\npath: in.jsonl"
OUT = "connector: file\npath: out/{name}.jsonl"
LONG_AGO = "2020-01-01T00:00:00.000Z"


class ServiceWorkspace:
    """A workspace and the service that serves it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.runlog = directory / ".speclab" / "runlog.db"
        self.reported: list[str] = []
        self.stop = StopRequest()
        (directory / ".speclab").mkdir()
        self.write("in.jsonl", '{"id": 1, "name": " Ada "}\n{"id": 2, "name": "Grace"}\n')

    def write(self, name: str, text: str) -> Path:
        path = self.directory / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        return path

    def spec(
        self,
        name: str = "people",
        frequency: str = "Every 1 second",
        *,
        status: str = "in-progress",
        step: str = "Trim",
        source: str = FILE,
        target: str = OUT,
    ) -> Path:
        target = target.replace("{name}", name)
        text = SPEC.format(name=name, frequency=frequency, status=status, step=step, source=source, target=target)
        return self.write(f"specs/{name}.md", text)

    def leave_stale_heartbeat(self, frequency: str) -> None:
        """Write the heartbeat of a service that was killed long ago."""
        people = ServedSpec(frequency, LONG_AGO)
        host = ProcessIdentity.of(os.getpid()).host
        left = Heartbeat(1, host, "ada", "", since=LONG_AGO, beat=LONG_AGO, specs={"people": people})
        heartbeat.write_heartbeat(self.directory, left)

    @asynccontextmanager
    async def serving(self, jobs: int = 4) -> AsyncIterator[None]:
        """Serve the workspace within the block."""
        self.stop = StopRequest()
        task = asyncio.create_task(self.serve(jobs))
        await self.wait_until(lambda: task.done() or heartbeat.find_service(self.directory, datetime.now(UTC)))
        try:
            yield
        finally:
            self.stop.graceful.set()
            await asyncio.wait_for(task, 60)

    async def serve(self, jobs: int) -> None:
        serving = ServiceOptions(self.directory, self.directory, self.runlog, jobs)
        await serve(serving, SystemClock(), self._report, self.stop)

    def _report(self, level: Level, message: str) -> None:
        self.reported.append(f"{level}: {message}")

    async def wait_until(self, holds: Callable[[], object]) -> None:
        """Wait until `holds()` is true."""
        async with asyncio.timeout(60):
            while not holds():  # noqa: ASYNC110 - other processes make it true
                await asyncio.sleep(0.05)

    def runs(self, spec_id: str | None = None) -> list[RunRow]:
        """Return all runs, oldest first."""
        with RunLogReader.open(self.runlog) as reader:
            return list(reversed(reader.runs(spec_id, limit=1000)))

    def ended(self, spec_id: str | None = None) -> list[RunRow]:
        return [run for run in self.runs(spec_id) if run.state is not RunState.RUNNING]

    def pids(self) -> list[int]:
        """Return the process ids of the runs in progress."""
        with RunLogReader.open(self.runlog) as reader:
            return [pid for (pid,) in reader.query("SELECT pid FROM run WHERE state = 'running'")]

    def events(self, kind: str) -> list[str]:
        with RunLogReader.open(self.runlog) as reader:
            return [event.message for event in reader.events() if event.kind == kind]

    def alerts(self) -> set[str]:
        """Return the integrations whose alerts were evaluated."""
        with RunLogReader.open(self.runlog) as reader:
            return {alert.spec_id for alert in reader.alerts()}

    def heartbeat(self) -> Heartbeat:
        found = heartbeat.read_heartbeat(self.directory)
        assert found is not None
        return found


@pytest.fixture
def workspace(tmp_path: Path) -> ServiceWorkspace:
    return ServiceWorkspace(tmp_path)


@pytest.fixture
async def hanging_source() -> AsyncIterator[str]:
    """The settings of a source that accepts requests and never responds."""
    gone = asyncio.Event()

    async def silent(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await gone.wait()
        writer.close()

    async with await asyncio.start_server(silent, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        yield f"connector: http\nbase_url: http://127.0.0.1:{port}\nread: {{path: /people}}"
        gone.set()


class SlowTarget:
    """An HTTP target that responds only after `answers` is set."""

    def __init__(self) -> None:
        self.taken: list[str] = []
        self.answers = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError):
            while head := (await reader.readuntil(b"\r\n\r\n")).decode():
                (length,) = re.findall(r"(?i)content-length: (\d+)", head)
                await reader.readexactly(int(length))
                self.taken.append(head.split()[1])
                await self.answers.wait()
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
        writer.close()


def is_overlapping(runs: Sequence[RunRow]) -> bool:
    """Return whether any of `runs`, in order of their start, started before the one before it had ended."""
    return any(one.ended_at is None or other.started_at < one.ended_at for one, other in pairwise(runs))


def waiting_page(key: int, due: str) -> PageResult:
    """Return a page with one record whose write failed and waits for a retry."""
    failure = NewFailure(
        key=str(key),
        state=FailureState.WAITING,
        stage=Stage.WRITE,
        error_class=ErrorClass.SERVER,
        message="503",
        file="specs/people.md",
        line=1,
        source={"id": key, "name": "Edsger"},
        next_attempt_at=due,
    )
    return PageResult(1, {Outcome.WAITING: 1}, {}, 0, 0, cursor=None, failures=[failure])


def dead_pid() -> int:
    """Return the pid of a process that has ended."""
    with subprocess.Popen(["true"]) as process:
        process.wait()
    return process.pid
