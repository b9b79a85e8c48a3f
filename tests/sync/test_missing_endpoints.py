"""Derived deletes between real databases, files and nested lists; and reads that cannot know of any."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path
from random import Random
from typing import Any

import pytest
from aiohttp import web
from tests.cli.conftest import SPEC
from tests.connectors.conftest import Serve, serve

from speclab.connectors.api import RuntimeContext
from speclab.connectors.secrets.references import References
from speclab.core.clock import SystemClock
from speclab.runlog import RunLog, RunRow
from speclab.sync.prepare import prepare
from speclab.sync.run import RunOptions, run

__all__ = ["serve"]

Run = Callable[..., Awaitable[RunRow]]


@pytest.fixture
def endpoints(tmp_path: Path) -> Callable[[str, str], Run]:
    """Return a function that runs a spec between two systems; the guard allows 60% deletes."""

    def between(source: str, target: str) -> Run:
        text = SPEC.format(source=source, step="Direct", auth="type: none")
        text = text.replace("connector: file\npath: out.jsonl\nkey: id", target)
        volume = "\n## Data Flow\n\n### Volume\n\n```yaml\nguard: {deletes: 60%}\n```\n\n## Field Mapping"
        (tmp_path / "people.md").write_text(text.replace("\n## Field Mapping", volume))

        async def run_once(*, full: bool = False) -> RunRow:
            with RunLog.open(tmp_path / ".speclab" / "runlog.db") as log:
                context = RuntimeContext(SystemClock(), Random(0))
                prepared = prepare(tmp_path / "people.md")
                return (await run(prepared, log, References({}, tmp_path), context, RunOptions(full=full))).row

        return run_once

    return between


def execute(path: Path, *statements: str) -> list[Any]:
    with closing(sqlite3.connect(path)) as db, db:
        return [row for statement in statements for row in db.execute(statement)]


SQL_SOURCE = "connector: sql\nurl: sqlite:///from.db\nkey: id\nread: {table: people, missing: delete%s}"
SQL_TARGET = "connector: sql\nurl: sqlite:///to.db\nkey: id\nwrite: {upsert: people, create_table: true}"


async def test_missing_rows_are_deleted_from_another_database(
    tmp_path: Path, endpoints: Callable[[str, str], Run]
) -> None:
    execute(tmp_path / "from.db", "CREATE TABLE people (id INTEGER PRIMARY KEY, name TEXT)")
    execute(tmp_path / "from.db", *(f"INSERT INTO people VALUES ({number}, 'Ada')" for number in range(6)))
    run_once = endpoints(SQL_SOURCE % ", size: 2", SQL_TARGET)
    await run_once()
    execute(tmp_path / "from.db", "DELETE FROM people WHERE id IN (1, 4, 5)")
    row = await run_once()
    assert execute(tmp_path / "to.db", "SELECT id FROM people") == [(0,), (2,), (3,)]
    assert (row.read, row.unchanged, row.written, row.deleted) == (6, 3, 3, 3)


async def test_read_of_changes_deletes_nothing_and_a_full_read_all_missing_rows(
    tmp_path: Path, endpoints: Callable[[str, str], Run]
) -> None:
    execute(tmp_path / "from.db", "CREATE TABLE people (id INTEGER PRIMARY KEY, name TEXT, at TEXT)")
    rows = (f"INSERT INTO people VALUES ({number}, 'Ada', '2026-01-0{number + 1}')" for number in range(5))
    execute(tmp_path / "from.db", *rows)
    run_once = endpoints(SQL_SOURCE % ", since: {field: at}", SQL_TARGET)
    await run_once()
    execute(tmp_path / "from.db", "DELETE FROM people WHERE id IN (1, 3)")
    assert (await run_once()).deleted == 0
    assert (await run_once(full=True)).deleted == 2
    assert execute(tmp_path / "to.db", "SELECT id FROM people") == [(0,), (2,), (4,)]


async def test_first_read_from_a_start_does_not_delete_older_rows(
    tmp_path: Path, endpoints: Callable[[str, str], Run]
) -> None:
    execute(tmp_path / "from.db", "CREATE TABLE people (id INTEGER PRIMARY KEY, name TEXT, at TEXT)")
    rows = (f"INSERT INTO people VALUES ({number}, 'Ada', '2026-01-0{number + 1}')" for number in range(4))
    execute(tmp_path / "from.db", *rows)
    await endpoints(SQL_SOURCE % "", SQL_TARGET)()
    run_once = endpoints(SQL_SOURCE % ", since: {field: at, start: 2026-01-03}", SQL_TARGET)
    assert (await run_once()).deleted == 0
    execute(tmp_path / "from.db", "DELETE FROM people WHERE id = 0")
    assert (await run_once(full=True)).deleted == 1


async def test_missing_records_are_deleted_from_another_file(
    tmp_path: Path, endpoints: Callable[[str, str], Run]
) -> None:
    def people(*keys: int) -> None:
        lines = [json.dumps({"id": key, "name": "Ada"}) + "\n" for key in keys]
        (tmp_path / "in.jsonl").write_text("".join(lines))

    people(1, 2, 3, 4)
    run_once = endpoints(
        "connector: file\npath: in.jsonl\nkey: id\nmissing: delete", "connector: file\npath: out.jsonl\nkey: id"
    )
    await run_once()
    people(4, 1)
    assert (await run_once()).deleted == 2
    kept = [json.loads(line)["id"] for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert sorted(kept) == [1, 4]


async def test_all_records_of_a_missing_parent_are_deleted_by_their_target_identity(
    serve: Serve, endpoints: Callable[[str, str], Run]
) -> None:
    accounts = {"x": ["1", "2"], "y": ["1", "3"]}
    there: set[str] = set()
    rejected = False

    async def systems(request: web.Request) -> web.Response:
        path = request.path.split("/")
        if request.method == "PUT":
            there.add(request.path)
        elif request.method == "DELETE":
            there.remove(request.path)
        elif request.path == "/accounts":
            return web.json_response([{"id": key, "region": "EU"} for key in accounts])
        elif rejected and path[2] == "y":
            return web.json_response({}, status=403)
        else:
            return web.json_response([{"id": key, "name": "Ada"} for key in accounts[path[2]]])
        return web.json_response({})

    url = await serve(systems)
    run_once = endpoints(
        f"connector: http\nbase_url: {url}\nkey: [account.id, id]\n"
        'read: {path: "/accounts/{account.id}/people", missing: delete, for_each: {path: /accounts, as: account}}',
        f"connector: http\nbase_url: {url}\nkey: id\n"
        'write: {upsert: "PUT /{source.account.region}/{source.account.id}/{id}", '
        'delete: "DELETE /{source.account.region}/{source.account.id}/{id}"}',
    )
    await run_once()
    assert there == {"/EU/x/1", "/EU/x/2", "/EU/y/1", "/EU/y/3"}
    rejected = True
    accounts["x"] = ["2"]
    assert (await run_once()).deleted == 0  # one account cannot be read
    rejected = False
    del accounts["y"]
    row = await run_once()
    assert (row.deleted, there) == (0, {"/EU/x/1", "/EU/x/2", "/EU/y/1", "/EU/y/3"})  # three of four: the guard
    accounts["x"] = ["1", "2"]
    assert (await run_once()).deleted == 2
    assert there == {"/EU/x/1", "/EU/x/2"}
