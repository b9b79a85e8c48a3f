"""`speclab plan`: what a run would do is what it then does; where that cannot be known, it is said."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from tests.cli.conftest import FILE_SOURCE, Api, Shell

FILE_TARGET = "connector: file\npath: out.jsonl\nkey: id"
SQL_TARGET = "connector: sql\nurl: sqlite:///crm.db\nkey: id\nwrite: {upsert: people, create_table: true}"


def people(shell: Shell, *rows: tuple[int, str | None]) -> None:
    shell.write("in.jsonl", "".join(json.dumps({"id": id_, "name": name}) + "\n" for id_, name in rows))


def target(shell: Shell, settings: str) -> None:
    """Give the spec another target."""
    spec = shell.spec(step="Required, Trim")
    spec.write_text(spec.read_text().replace(FILE_TARGET, settings))


def plan(shell: Shell, *args: str, exit_code: int = 0) -> dict[str, Any]:
    (found,) = shell.rows("plan", "people", *args, exit_code=exit_code)
    assert isinstance(found, dict)
    return found


def would(found: dict[str, Any]) -> dict[str, int]:
    names = ("create", "update", "same", "delete", "unknown", "unchanged", "filtered", "fail")
    return {name: found[name] for name in names if found[name]}


def contents(directory: Path) -> dict[str, bytes]:
    """Everything in a directory, but for what SQLite keeps beside a database while it is open."""
    files = (path for path in directory.rglob("*") if path.is_file() and not path.name.endswith(("-wal", "-shm")))
    return {str(path.relative_to(directory)): path.read_bytes() for path in files}


@pytest.mark.parametrize("settings", [FILE_TARGET, SQL_TARGET])
def test_a_plan_counts_what_a_run_then_does_and_writes_nothing(shell: Shell, settings: str) -> None:
    target(shell, settings)
    people(shell, (1, "Ada "), (2, None), (3, "Grace"))
    before = contents(shell.directory)
    assert would(plan(shell, exit_code=1)) == {"create": 2, "fail": 1}
    assert contents(shell.directory) == before
    shell("run", "people", exit_code=1)

    people(shell, (1, "Ada"), (3, "Admiral Grace"), (4, "Alan"))
    before = contents(shell.directory)
    found = plan(shell, "--full")
    assert would(found) == {"unchanged": 1, "update": 1, "create": 1}
    assert found["examples"] == [
        {
            "would": "update",
            "key": "3",
            "changes": [{"field": "name", "was": '"Grace"', "becomes": '"Admiral Grace"'}],
        },
        {
            "would": "create",
            "key": "4",
            "changes": [{"field": "id", "was": "", "becomes": "4"}, {"field": "name", "was": "", "becomes": '"Alan"'}],
        },
    ]
    assert contents(shell.directory) == before
    (row,) = shell.rows("run", "people", "--full")
    assert (row["unchanged"], row["written"]) == (1, 2)


def test_it_looks_at_the_target_where_the_run_log_knows_nothing(shell: Shell) -> None:
    target(shell, SQL_TARGET)
    with closing(sqlite3.connect(shell.directory / "crm.db")) as db, db:
        db.execute("CREATE TABLE people (id INTEGER PRIMARY KEY, name TEXT, age INTEGER)")
        db.executemany("INSERT INTO people VALUES (?, ?, ?)", [(1, "Ada", 36), (2, "grace", None)])
    people(shell, (1, "Ada"), (2, "Grace"), (3, "Alan"))
    found = plan(shell)
    assert would(found) == {"same": 1, "update": 1, "create": 1}
    assert found["examples"][0]["changes"] == [{"field": "name", "was": '"grace"', "becomes": '"Grace"'}]
    text = shell("plan", "people").stdout
    assert "people: what a run would do now, from the start of the source" in text
    assert 'name: "grace" → "Grace"' in text
    assert "  send              1   though the target has them just so" in text


def test_a_table_that_a_run_would_miss_is_said(shell: Shell) -> None:
    target(shell, SQL_TARGET.replace(", create_table: true", ""))
    with closing(sqlite3.connect(shell.directory / "crm.db")) as db, db:
        db.execute("CREATE TABLE peoples (id INTEGER PRIMARY KEY, name TEXT)")
    people(shell, (1, "Ada"))
    found = plan(shell)
    assert would(found) == {"unknown": 1}
    assert "there is no table 'people'. Did you mean 'peoples'?" in found["notes"][0]


def test_a_target_that_cannot_be_asked_is_said_and_the_run_log_tells_what_it_can(shell: Shell, api: Api) -> None:
    target(shell, f'connector: http\nbase_url: {api.url}\nkey: id\nwrite: {{upsert: "PUT /people/{{id}}"}}')
    people(shell, (1, "Ada"))
    found = plan(shell)
    assert would(found) == {"unknown": 1}
    assert found["notes"] == ["the target has nothing to look records up with, so only the run log tells what is there"]
    assert found["target"] == {"calls": 1, "at_least": None}
    assert "write             1   create or update: nothing tells which" in shell("plan", "people").stdout


def test_a_lookup_is_used_as_far_as_it_may_and_calls_are_counted_under_the_limits(shell: Shell, api: Api) -> None:
    target(
        shell,
        f"connector: http\nbase_url: {api.url}\nkey: id\nlimits: {{rate: 2/min}}\n"
        'write: {create: POST /people, update: "PATCH /people/{found.id}", lookup: "GET /people?id={id}", '
        'found: "data[0]"}',
    )
    people(shell, (1, "Ada"), (2, "Grace"), (3, "Alan"))
    found = plan(shell, "--lookups", "1")
    assert would(found) == {"same": 1, "unknown": 2}
    assert found["target"] == {"calls": 6, "at_least": 120.0}
    assert "2m at least, by the rate limit" in shell("plan", "people", "--lookups", "1").stdout


def test_what_the_settings_alone_decide_needs_no_look(shell: Shell) -> None:
    target(shell, "connector: file\npath: out.jsonl\nkey: id\nmode: append")
    people(shell, (1, "Ada"), (1, "Ada Lovelace"))
    assert would(plan(shell)) == {"create": 2}


def test_a_limit_cuts_it_and_says_so(shell: Shell) -> None:
    target(shell, FILE_TARGET)
    people(shell, (1, "Ada"), (2, "Grace"), (3, "Alan"))
    found = plan(shell, "--limit", "2")
    assert (found["read"], found["cut"]) == (2, True)
    assert plan(shell, "--limit", "3")["cut"] is False


def test_a_source_that_cannot_be_reached_exits_with_4(shell: Shell) -> None:
    shell.spec(FILE_SOURCE)
    assert "there is no file in.jsonl" in shell("plan", "people", exit_code=4).stderr
    assert not (shell.directory / ".speclab").exists()
