"""Reads of one list per parent, killed at random moments while parents are added and moved."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from aiohttp import web
from tests.connectors.conftest import Serve, serve
from tests.proof.killing import Killing, Systems

__all__ = ["serve"]

SOURCE = """\
connector: http
base_url: "%s"
key: [account.id, id]
read:
  path: /accounts/{account.id}/contacts
  records: data
  pagination: {by: cursor, next: next, param: cursor}
  since: {param: since, field: at}
  for_each: {path: /accounts, records: data, pagination: {by: page, param: page, pages: pages}, as: account}"""
TARGET = """\
connector: sql
url: sqlite:///target.db
key: [account, id]
write: {upsert: contacts, create_table: true}"""
ROWS = """\
| source.account.id | target.account | Direct | |
| source.id | target.id | Direct | |
| source.name | target.name | Direct | |"""


class Crm(Systems):
    """Accounts and their contacts; a change has the time `now`."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0
        self.accounts: list[str] = []
        self.contacts: dict[str, dict[int, dict[str, Any]]] = {}

    def change(self) -> None:
        """Add and move accounts; add and change contacts."""
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
        """Return the rows expected at the target."""
        return sorted((name, row["id"], row["name"]) for name, rows in self.contacts.items() for row in rows.values())

    async def answer(self, request: web.Request) -> web.Response:
        if request.path == "/accounts":
            page = int(request.query["page"])
            found: list[Any] = [{"id": key} for key in self.accounts[(page - 1) * 5 : page * 5]]
            return web.json_response({"data": found, "pages": -(-len(self.accounts) // 5)})
        rows = self.contacts[request.path.split("/")[2]].values()
        found = [row for row in rows if row["at"] >= request.query.get("since", "")]
        at = int(request.query.get("cursor", "0"))
        return web.json_response({"data": found[at : at + 3], "next": at + 3 if at + 3 < len(found) else None})


async def test_killed_rounds_lose_nothing_while_parents_are_added_and_moved(tmp_path: Path, serve: Serve) -> None:
    crm = Crm()
    killing = Killing(tmp_path, crm)
    killing.write(SOURCE % await serve(crm), TARGET, ROWS)
    for _ in range(4):
        crm.change()
    for _ in range(5):
        await killing.run_and_kill(crm.random.randrange(5, 25))
        crm.change()
    await killing.run_to_end()  # ends the interrupted round; the next run reads the changes since
    await killing.run_to_end()
    assert killing.kills >= 4
    with closing(sqlite3.connect(tmp_path / "target.db")) as db:
        assert sorted(db.execute("SELECT account, id, name FROM contacts")) == crm.expected()
    killing.check_runs()
