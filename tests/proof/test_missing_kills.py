"""Runs that delete what the source has no more, killed in the middle of reads and of deletes, again and again."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
from aiohttp import web

from speclab.outcome import Outcome, RunState
from speclab.runlog import RunLogReader

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
base_url: ${env:URL}/source
key: id
read:
  path: /people
  records: data
  pagination: {by: cursor, next: next, param: cursor}
  missing: delete
```

### Target System

```yaml
connector: http
base_url: ${env:URL}/target
key: number
limits: {concurrency: 2}
write: {upsert: "PUT /people/{number}", delete: "DELETE /people/{number}"}
```

## Field Mapping

| Source Field | Target Field | Transformation | Notes |
|--------------|--------------|----------------|-------|
| source.id | target.number | = "c-" + string(source.id) | |
| source.name | target.name | Direct | |

## Authentication

### Source System Auth

```yaml
type: none
```

### Target System Auth

```yaml
type: none
```

## Error Handling & Retry Strategy

### Retry Logic

```yaml
base: 10ms
```
"""


class Systems:
    """A source of people, four a page, and a target that keeps them; every tenth delete is answered 503, done or not.

    `wrongs` are deletes of people whom the source had all the while.
    """

    def __init__(self, random: Random) -> None:
        self.random = random
        self.people = dict.fromkeys(range(80), "as it was")
        self.there: dict[str, str] = {}
        self.staying: set[int] = set()
        self.wrongs: list[str] = []
        self.deletes = self.answered = self.enough = 0
        self.was_enough = asyncio.Event()

    def change(self) -> None:
        """Let some people go, and some come or be called otherwise."""
        before = set(self.people)
        for key in self.random.sample(sorted(self.people), 9):
            del self.people[key]
        for _ in range(6):
            self.people[self.random.randrange(100)] = f"{self.random.random()}"
        self.staying = before & set(self.people)

    def expected(self) -> dict[str, str]:
        return {f"c-{key}": name for key, name in self.people.items()}

    async def __call__(self, request: web.Request) -> web.Response:
        self.answered += 1
        if self.answered == self.enough:
            self.was_enough.set()
        await asyncio.sleep(0.004)
        if request.path == "/source/people":
            after = int(request.query.get("cursor", "-1"))
            found = sorted(key for key in self.people if key > after)
            data = [{"id": key, "name": self.people[key]} for key in found[:4]]
            return web.json_response({"data": data, "next": found[3] if len(found) > 4 else None})
        number = request.path.rpartition("/")[2]
        if request.method == "PUT":
            self.there[number] = (await request.json())["name"]
            return web.json_response({})
        self.deletes += 1
        if int(number.removeprefix("c-")) in self.staying:
            self.wrongs.append(number)
        if self.deletes % 10 == 3:
            return web.json_response({}, status=503)
        known = self.there.pop(number, None)
        if self.deletes % 10 == 7:
            return web.json_response({}, status=503)
        return web.json_response({}, status=404 if known is None else 204)


@pytest.fixture
async def served() -> AsyncIterator[tuple[Systems, str]]:
    systems = Systems(Random(20261124))
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", systems.__call__)
    runner = web.AppRunner(app, shutdown_timeout=0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield systems, "http://{}:{}".format(*runner.addresses[0][:2])
    await runner.cleanup()


async def started(directory: Path, url: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "speclab",
        "run",
        "people.md",
        cwd=directory,
        env={**os.environ, "URL": url},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )


async def killed(systems: Systems, directory: Path, url: str, after: int) -> bool:
    """Whether a run was killed after so many requests; False if it was through before."""
    systems.enough = systems.answered + after
    systems.was_enough.clear()
    run = await started(directory, url)
    ends: list[asyncio.Task[Any]] = [asyncio.create_task(run.wait()), asyncio.create_task(systems.was_enough.wait())]
    await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
    ends[1].cancel()
    alive = run.returncode is None
    if alive:
        run.send_signal(signal.SIGKILL)
    await run.communicate()
    return alive


async def whole(systems: Systems, directory: Path, url: str) -> str:
    """A run that is let go on to its end; what it told."""
    systems.enough = 0
    run = await started(directory, url)
    told, _ = await run.communicate()
    assert run.returncode == 0, told.decode()
    return told.decode()


async def test_killed_reads_and_deletes_leave_the_target_what_the_source_is(
    tmp_path: Path, served: tuple[Systems, str]
) -> None:
    systems, url = served
    (tmp_path / "people.md").write_text(SPEC)
    await whole(systems, tmp_path, url)
    assert systems.there == systems.expected()
    kills = 0
    for _ in range(2):
        systems.change()
        kills += await killed(systems, tmp_path, url, systems.random.randrange(3, 20))  # in the middle of the read
        pages = -(-len(systems.people) // 4)
        kills += await killed(systems, tmp_path, url, pages + systems.random.randrange(8))  # and of the deletes
        await whole(systems, tmp_path, url)
        assert systems.there == systems.expected()
    assert kills >= 3
    assert systems.deletes >= 15
    assert systems.wrongs == []
    with RunLogReader.open(tmp_path / ".speclab" / "runlog.db") as log:
        runs = log.runs(limit=100)
    assert all(run.state in (RunState.SUCCEEDED, RunState.INTERRUPTED) for run in runs)
    for row in runs:
        if row.state is RunState.SUCCEEDED:
            assert row.read == sum(getattr(row, outcome) for outcome in Outcome)
