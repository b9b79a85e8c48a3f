"""A read of a list for each parent, killed again and again at moments of chance, while parents come and go."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import sys
from collections.abc import AsyncIterator
from contextlib import closing
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

# Spec: Contacts of accounts

## Integration Overview

### Source System

```yaml
connector: http
base_url: ${env:CRM}
key: [account.id, id]
read:
  path: /accounts/{account.id}/contacts
  records: data
  pagination: {by: cursor, next: next, param: cursor}
  since: {param: since, field: at}
  for_each: {path: /accounts, records: data, pagination: {by: page, param: page, pages: pages}, as: account}
```

### Target System

```yaml
connector: sql
url: sqlite:///target.db
key: [account, id]
write: {upsert: contacts, create_table: true}
```

## Field Mapping

| Source Field | Target Field | Transformation | Notes |
|--------------|--------------|----------------|-------|
| source.account.id | target.account | Direct | |
| source.id | target.id | Direct | |
| source.name | target.name | Direct | |

## Authentication

### Source System Auth

```yaml
type: none
```
"""


class Crm:
    """Accounts and their contacts; what changes, changes at the second that `now` says."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.now = 0
        self.accounts: list[str] = []
        self.contacts: dict[str, dict[int, dict[str, Any]]] = {}
        self.answered = self.enough = 0
        self.was_enough = asyncio.Event()

    def change(self) -> None:
        """Let accounts come and change places, and contacts come and change."""
        for _ in range(3):
            account = f"k{len(self.contacts)}"
            self.accounts.insert(self.random.randrange(len(self.accounts) + 1), account)
            self.contacts[account] = {}
        for account in self.random.sample(self.accounts, min(8, len(self.accounts))):
            for _ in range(self.random.randrange(8)):
                self.now += 1
                known = self.contacts[account]
                key = self.random.randrange(len(known) + 1)
                at = f"2026-01-01T{self.now // 3600:02d}:{self.now // 60 % 60:02d}:{self.now % 60:02d}Z"
                known[key] = {"id": key, "name": f"{account} {key} {self.now}", "at": at}

    def expected(self) -> list[tuple[str, int, str]]:
        """The rows of the target."""
        return sorted((name, row["id"], row["name"]) for name, rows in self.contacts.items() for row in rows.values())

    async def __call__(self, request: web.Request) -> web.Response:
        self.answered += 1
        if self.answered == self.enough:
            self.was_enough.set()
        await asyncio.sleep(0.002)
        if request.path == "/accounts":
            page = int(request.query["page"])
            found: list[Any] = [{"id": key} for key in self.accounts[(page - 1) * 5 : page * 5]]
            return web.json_response({"data": found, "pages": -(-len(self.accounts) // 5)})
        rows = self.contacts[request.path.split("/")[2]].values()
        found = [row for row in rows if row["at"] >= request.query.get("since", "")]
        at = int(request.query.get("cursor", "0"))
        return web.json_response({"data": found[at : at + 3], "next": at + 3 if at + 3 < len(found) else None})


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
        env={**os.environ, "CRM": url},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )


async def test_killed_rounds_lose_nothing_while_parents_come_and_change_places(
    tmp_path: Path, served: tuple[Crm, str]
) -> None:
    crm, url = served
    (tmp_path / "contacts.md").write_text(SPEC)
    for _ in range(4):
        crm.change()
    killed = 0
    for _ in range(5):
        crm.enough = crm.answered + crm.random.randrange(5, 25)
        crm.was_enough.clear()
        run = await started(tmp_path, url)
        ends: list[asyncio.Task[Any]] = [asyncio.create_task(run.wait()), asyncio.create_task(crm.was_enough.wait())]
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        ends[1].cancel()
        if run.returncode is None:
            run.send_signal(signal.SIGKILL)
            killed += 1
        await run.communicate()
        crm.change()
    whole = await started(tmp_path, url)  # it ends the round that was broken off; the next one reads what changed since
    told, _ = await whole.communicate()
    last = await started(tmp_path, url)
    told_last, _ = await last.communicate()
    assert (whole.returncode, last.returncode) == (0, 0), (told + told_last).decode()
    assert killed >= 4
    with closing(sqlite3.connect(tmp_path / "target.db")) as db:
        assert sorted(db.execute("SELECT account, id, name FROM contacts")) == crm.expected()
    with RunLogReader.open(tmp_path / ".speclab" / "runlog.db") as log:
        runs = log.runs(limit=100)
    assert all(run.state in (RunState.SUCCEEDED, RunState.INTERRUPTED) for run in runs)
    for row in runs:
        if row.state is RunState.SUCCEEDED:
            assert row.read == sum(getattr(row, outcome) for outcome in Outcome)
