"""Reads in time windows, killed at random moments while records are added and changed."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from aiohttp import web
from tests.connectors.conftest import Serve, serve
from tests.proof.killing import Killing, Systems

__all__ = ["serve"]

SOURCE = """\
connector: http
base_url: "%s"
key: id
limits: {concurrency: 3}
read:
  path: /contacts
  records: data
  pagination: {by: cursor, next: next, param: cursor}
  since: {param: since, until: until, window: 2d, field: at, start: "%s"}"""
TARGET = """\
connector: sql
url: sqlite:///target.db
key: id
write: {upsert: contacts, create_table: true}"""
ROWS = """\
| source.id | target.id | Direct | |
| source.name | target.name | Direct | |"""
START = datetime.now(UTC).replace(microsecond=0) - timedelta(days=60)


def format_time(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"


class Crm(Systems):
    """Contacts changed within sixty days, many at the boundary of a window; some change at each request.

    Both bounds of a requested range are exclusive.
    """

    seconds = 0.005

    def __init__(self) -> None:
        super().__init__()
        self.rows: dict[int, dict[str, Any]] = {}
        for key in range(300):
            age = self.random.choice([self.random.randrange(1, 60 * 86_400), 2 * 86_400 * self.random.randrange(1, 30)])
            self.rows[key] = {"id": key, "name": f"{key} as it was", "at": format_time(START + timedelta(seconds=age))}
        self.at_once = self.most_at_once = 0
        self.changing = True

    def change(self) -> None:
        """Change or add one contact."""
        key = self.random.randrange(len(self.rows) + 1)
        self.rows[key] = {"id": key, "name": f"{key} {self.requests}", "at": format_time(datetime.now(UTC))}

    def expected(self) -> list[tuple[int, str]]:
        """Return the rows expected at the target."""
        return sorted((row["id"], row["name"]) for row in self.rows.values())

    async def __call__(self, request: web.Request) -> web.Response:
        if self.changing:
            self.change()
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            return await super().__call__(request)
        finally:
            self.at_once -= 1

    async def answer(self, request: web.Request) -> web.Response:
        since, until = request.query.get("since", ""), request.query.get("until", "9")
        after = request.query.get("cursor", "")
        found = sorted(
            (row for row in self.rows.values() if since < row["at"] < until and location(row) > after), key=location
        )
        return web.json_response({"data": found[:4], "next": location(found[3]) if len(found) > 4 else None})


def location(row: dict[str, Any]) -> str:
    return f"{row['at']} {row['id']:06d}"


async def test_killed_reads_in_windows_lose_nothing_while_records_change(tmp_path: Path, serve: Serve) -> None:
    crm = Crm()
    killing = Killing(tmp_path, crm)
    killing.write(SOURCE % (await serve(crm), format_time(START)), TARGET, ROWS)
    for _ in range(5):
        await killing.run_and_kill(crm.random.randrange(5, 35))
    await killing.run_to_end()
    crm.changing = False
    await killing.run_to_end()
    assert killing.kills == 5
    assert 2 <= crm.most_at_once <= 3
    with closing(sqlite3.connect(tmp_path / "target.db")) as db:
        assert sorted(db.execute("SELECT id, name FROM contacts")) == crm.expected()
    killing.check_runs()
