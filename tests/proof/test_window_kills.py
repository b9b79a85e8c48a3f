"""A read in windows of time, killed again and again at moments of chance, while records change and come."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import sys
from collections.abc import AsyncIterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import pytest
from aiohttp import web

from speclab.outcome import Outcome, RunState
from speclab.runlog import RunLogReader

SPEC = """\
---
spec_id: contacts
type: integration
status: in-progress
---

# Spec: Contacts of years

## Integration Overview

### Source System

```yaml
connector: http
base_url: ${env:CRM}
key: id
limits: {concurrency: 3}
read:
  path: /contacts
  records: data
  pagination: {by: cursor, next: next, param: cursor}
  since: {param: since, until: until, window: 2d, field: at, start: "${env:START}"}
```

### Target System

```yaml
connector: sql
url: sqlite:///target.db
key: id
write: {upsert: contacts, create_table: true}
```

## Field Mapping

| Source Field | Target Field | Transformation | Notes |
|--------------|--------------|----------------|-------|
| source.id | target.id | Direct | |
| source.name | target.name | Direct | |

## Authentication

### Source System Auth

```yaml
type: none
```
"""
START = datetime.now(UTC).replace(microsecond=0) - timedelta(days=60)


def written(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"


class Crm:
    """Contacts that changed within sixty days, many of them at the boundary of a window; some change at each request.

    Neither end of what is asked for is in.
    """

    def __init__(self, random: Random) -> None:
        self.random = random
        self.rows: dict[int, dict[str, Any]] = {}
        for key in range(300):
            age = self.random.choice([self.random.randrange(1, 60 * 86_400), 2 * 86_400 * self.random.randrange(1, 30)])
            self.rows[key] = {"id": key, "name": f"{key} as it was", "at": written(START + timedelta(seconds=age))}
        self.at_once = self.most_at_once = 0
        self.changing = True
        self.answered = self.enough = 0
        self.was_enough = asyncio.Event()

    def change(self) -> None:
        """Let one contact change, or come."""
        key = self.random.randrange(len(self.rows) + 1)
        self.rows[key] = {"id": key, "name": f"{key} {self.answered}", "at": written(datetime.now(UTC))}

    def expected(self) -> list[tuple[int, str]]:
        """The rows of the target."""
        return sorted((row["id"], row["name"]) for row in self.rows.values())

    async def __call__(self, request: web.Request) -> web.Response:
        self.answered += 1
        if self.answered == self.enough:
            self.was_enough.set()
        if self.changing:
            self.change()
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await asyncio.sleep(0.005)
        self.at_once -= 1
        since, until = request.query.get("since", ""), request.query.get("until", "9")
        after = request.query.get("cursor", "")
        found = sorted(
            (row for row in self.rows.values() if since < row["at"] < until and place(row) > after), key=place
        )
        return web.json_response({"data": found[:4], "next": place(found[3]) if len(found) > 4 else None})


def place(row: dict[str, Any]) -> str:
    return f"{row['at']} {row['id']:06d}"


@pytest.fixture
async def served() -> AsyncIterator[tuple[Crm, str]]:
    crm = Crm(Random(20261124))
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", crm.__call__)
    runner = web.AppRunner(app, shutdown_timeout=0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield crm, "http://{}:{}".format(*runner.addresses[0][:2])
    await runner.cleanup()


async def started(directory: Path, url: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "speclab",
        "run",
        "contacts.md",
        cwd=directory,
        env={**os.environ, "CRM": url, "START": written(START)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )


async def test_killed_reads_in_windows_lose_nothing_while_records_change(
    tmp_path: Path, served: tuple[Crm, str]
) -> None:
    crm, url = served
    (tmp_path / "contacts.md").write_text(SPEC)
    killed = 0
    for _ in range(5):
        crm.enough = crm.answered + crm.random.randrange(5, 35)
        crm.was_enough.clear()
        run = await started(tmp_path, url)
        ends: list[asyncio.Task[Any]] = [asyncio.create_task(run.wait()), asyncio.create_task(crm.was_enough.wait())]
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        ends[1].cancel()
        if run.returncode is None:
            run.send_signal(signal.SIGKILL)
            killed += 1
        await run.communicate()
    whole = await started(tmp_path, url)
    told, _ = await whole.communicate()
    crm.changing = False
    last = await started(tmp_path, url)
    told_last, _ = await last.communicate()
    assert (whole.returncode, last.returncode) == (0, 0), (told + told_last).decode()
    assert killed == 5
    assert 2 <= crm.most_at_once <= 3
    with closing(sqlite3.connect(tmp_path / "target.db")) as db:
        assert sorted(db.execute("SELECT id, name FROM contacts")) == crm.expected()
    with RunLogReader.open(tmp_path / ".speclab" / "runlog.db") as log:
        runs = log.runs(limit=100)
    assert all(run.state in (RunState.SUCCEEDED, RunState.INTERRUPTED) for run in runs)
    for row in runs:
        if row.state is RunState.SUCCEEDED:
            assert row.read == sum(getattr(row, outcome) for outcome in Outcome)
