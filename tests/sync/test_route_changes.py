"""A cursor belongs to one source and one target: after a change of either, the source is read from its start."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from random import Random

import pytest
from tests.cli.conftest import SPEC
from tests.sync.conftest import World, person

from speclab.connectors.api import RuntimeContext
from speclab.connectors.secrets.references import References
from speclab.core.clock import SystemClock
from speclab.runlog import RunLog, RunRow
from speclab.sync.plan import Plan, PlanOptions, build_plan
from speclab.sync.prepare import prepare
from speclab.sync.run import RunOptions, run

PAGES = [[person(1)], [person(2)]]
ELSEWHERE = "differs from the one of the previous runs; reading from the start"


@pytest.mark.parametrize(
    ("old", "new", "end"),
    [
        ("https://target.example", "https://production.example", "target"),
        ("https://source.example", "https://other.example", "source"),
        ("path: /people", "path: /staff", "source"),
    ],
)
async def test_changed_endpoint_restarts_the_read(world: World, old: str, new: str, end: str) -> None:
    await world.run(PAGES)
    world.edit(old, new)
    done = await world.run()
    assert done.row.read == 2
    assert f"warning: the {end} {ELSEWHERE}" in world.reported
    assert f"the {end} {ELSEWHERE}" in world.events("log")
    assert (await world.run()).row.read == 0


async def test_other_changes_of_a_spec_keep_the_cursor(world: World) -> None:
    await world.run(PAGES)
    world.edit("read: {path: /people,", "limits: {rate: 5/s}\nread: {path: /people, params: {per_page: 50},")
    assert (await world.run()).row.read == 0
    assert not any(ELSEWHERE in reported for reported in world.reported)


async def test_dry_run_with_a_changed_endpoint_moves_nothing(world: World) -> None:
    await world.run(PAGES)
    world.edit("https://target.example", "https://production.example")
    assert (await world.run(options=RunOptions(dry_run=True))).row.read == 2
    assert (await world.run()).row.read == 2


async def test_cursor_without_a_route_is_continued(world: World) -> None:
    await world.run(PAGES)
    with closing(sqlite3.connect(world.log.path)) as db, db:
        db.execute("UPDATE checkpoint SET route = NULL")
    world.edit("https://target.example", "https://production.example")
    assert (await world.run()).row.read == 0


class TableWorkspace:
    """A spec that copies changed rows of a table in from.db to a file, and its run log."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        with closing(sqlite3.connect(directory / "from.db")) as db, db:
            for name, rows in (("people", 3), ("staff", 2)):
                db.execute(f"CREATE TABLE {name} (id INTEGER PRIMARY KEY, name TEXT, at TEXT)")
                db.executemany(f"INSERT INTO {name} VALUES (?, 'Ada', '2026-01-01')", [(row,) for row in range(rows)])

    def read(self, what: str) -> None:
        source = f"connector: sql\nurl: sqlite:///from.db\nkey: id\nread: {{{what}, since: {{field: at}}}}"
        (self.directory / "people.md").write_text(SPEC.format(source=source, step="Trim", auth="type: none"))

    async def run(self) -> RunRow:
        with RunLog.open(self.directory / ".speclab/runlog.db") as log:
            prepared, context = prepare(self.directory / "people.md"), RuntimeContext(SystemClock(), Random(0))
            return (await run(prepared, log, References({}, self.directory), context, RunOptions())).row

    async def plan(self) -> Plan:
        prepared, context = prepare(self.directory / "people.md"), RuntimeContext(SystemClock(), Random(0))
        log = self.directory / ".speclab/runlog.db"
        return await build_plan(prepared, log, References({}, self.directory), context, PlanOptions())


@pytest.mark.parametrize("other", ["table: staff", "query: SELECT * FROM staff"])
async def test_changed_table_is_planned_and_read_from_its_start(tmp_path: Path, other: str) -> None:
    tables = TableWorkspace(tmp_path)
    tables.read("table: people")
    assert (await tables.run()).read == 3
    tables.read(other)
    planned = await tables.plan()
    assert (planned.read, planned.resumed) == (2, False)
    assert (await tables.run()).read == 2
