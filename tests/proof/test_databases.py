"""PostgreSQL, MariaDB and SQLite as source and target: values, rejected rows, and no duplicates after kills."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import PORTS, service
from tests.proof.conftest import BY_CURSOR, TO_FILE, Job, Store, Systems, database, expected_rows, make_people

from speclab.core.errors import BadResponse, Unauthorized, Unreachable
from speclab.core.outcome import ErrorClass, FailureState, RunState

SERVERS = ["postgresql", "mariadb"]
PEOPLE = make_people(300)
DEAD = sum(one["age"] == "old" for one in PEOPLE if not one["test"])


@pytest.fixture(params=[*SERVERS, "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """An empty database on each kind of server."""
    with database(str(request.param), tmp_path) as made:
        yield made


def target(store: Store, write: str) -> str:
    return f"connector: sql\nurl: {store.url}\nkey: id\nwrite: {{{write}}}"


async def test_upsert_writes_all_and_second_run_finds_all_unchanged(job: Job, systems: Systems, store: Store) -> None:
    job.write(BY_CURSOR, target(store, "upsert: people, create_table: true, size: 70"))
    systems(people=PEOPLE, size=100)
    first, second = await job.run(), await job.run()
    assert (first.row.state, first.row.created, first.row.dead) == (RunState.PARTIAL, len(expected_rows(PEOPLE)), DEAD)
    assert second.row.unchanged == len(expected_rows(PEOPLE))
    systems(people=[one | {"name": "Grace"} for one in PEOPLE[:10]])
    third = await job.run()
    assert third.row.updated == len(expected_rows(PEOPLE[:10]))
    assert len(store.people()) == len(expected_rows(PEOPLE))
    assert sum(row["name"] == "GRACE" for row in store.people()) == len(expected_rows(PEOPLE[:10]))


def run_plan(job: Job) -> dict[str, Any]:
    """Return the output of `speclab plan`."""
    command = [sys.executable, "-P", "-m", "speclab", "plan", str(job.spec), "--json"]
    environ = {**os.environ, "SYSTEMS": job.systems.url}
    done = subprocess.run(command, cwd=job.directory, env=environ, capture_output=True, text=True, check=False)
    plan: dict[str, Any] = json.loads(done.stdout)
    return plan


async def test_plan_matches_the_run_that_follows(job: Job, systems: Systems, store: Store) -> None:
    store.do("CREATE TABLE people (id INT PRIMARY KEY, name VARCHAR(40), age INT)")
    table = {"postgresql": "public.people", "mariadb": "people", "sqlite": "people"}[store.kind]
    job.write(BY_CURSOR, target(store, f"upsert: {table}"))
    people = [one | {"id": str(number), "age": "5"} for number, one in enumerate(make_people(30)) if number != 7]
    systems(people=people[:20])
    await job.run()
    assert len(store.people()) == 20
    systems(people=[*(one | {"age": "6"} for one in people[:5]), *people[5:]])
    plan = run_plan(job)
    result = await job.run()
    did = (result.row.created, result.row.updated, result.row.unchanged)
    assert (plan["create"], plan["update"], plan["unchanged"]) == did == (9, 5, 15), plan


async def test_rejected_row_is_a_dead_letter_with_its_location_and_others_are_written(
    job: Job, systems: Systems, store: Store
) -> None:
    store.do(
        "CREATE TABLE people (id VARCHAR(20) PRIMARY KEY, name VARCHAR(11) NOT NULL CHECK (length(name) < 12), age INT)"
    )
    job.write(BY_CURSOR, target(store, "upsert: people"))
    people = make_people(60)
    people[20]["name"] = "a name that is much too long"
    systems(people=people)
    result = await job.run()
    assert result.row.written == len(expected_rows(people)) - 1
    failure = next(failure for failure in job.failures() if failure.key == "p20")
    assert (failure.state, failure.error_class) == (FailureState.DEAD, ErrorClass.REJECTED)
    assert "\n" not in failure.message
    assert "GRACE" not in failure.message


async def test_conflict_on_a_second_unique_key_rejects_the_record_and_changes_no_row(
    job: Job, systems: Systems, store: Store
) -> None:
    """MySQL's own upsert would overwrite the existing row of that name and report success."""
    store.do("CREATE TABLE people (id VARCHAR(20) PRIMARY KEY, name VARCHAR(40) UNIQUE, age INT)")
    job.write(BY_CURSOR, target(store, "upsert: people"))
    people = make_people(4)
    people[3]["name"] = people[1]["name"]
    systems(people=people)
    result = await job.run()
    assert (result.row.written, result.row.dead) == (3, 1)
    assert store.people() == expected_rows(people[:3])
    (failure,) = job.failures()
    assert failure.key == "p3"
    systems(people=[one | {"age": "7"} for one in people[:3]])
    assert (await job.run()).row.updated == 3
    assert [row["age"] for row in store.people()] == [7, 7, 7]


async def test_keys_that_differ_only_in_case_are_two_records(job: Job, systems: Systems, store: Store) -> None:
    job.write(BY_CURSOR, target(store, "upsert: people, create_table: true"))
    systems(people=[PEOPLE[1] | {"id": "abc"}, PEOPLE[2] | {"id": "ABC"}])
    assert (await job.run()).row.created == 2
    assert len(store.people()) == 2


async def test_key_equal_to_another_under_the_collation_is_rejected_and_overwrites_nothing(
    job: Job, systems: Systems, store: Store
) -> None:
    """Under MySQL's collations `abc` equals `ABC` and `abc` with a trailing blank."""
    store.do("CREATE TABLE people (id VARCHAR(20) PRIMARY KEY, name VARCHAR(40), age INT)")
    job.write(BY_CURSOR, target(store, "upsert: people"))
    people = [PEOPLE[n] | {"id": key} for n, key in ((1, "abc"), (2, "ABC"), (3, "abc "), (4, "xyz"))]
    systems(people=people)
    result = await job.run()
    assert result.row.written == len(store.people())
    assert result.row.written + result.row.dead == len(people)
    for failure in job.failures():
        assert failure.error_class is ErrorClass.REJECTED
        assert "as equal to another existing key" in failure.message
        assert failure.row == "id"
    assert len(job.failures()) == (2 if store.kind == "mariadb" else 0)
    assert [row["name"] for row in store.people() if row["id"] == "abc"] == ["ADA 1 É"]


async def test_rows_are_read_by_key_without_gaps(job: Job, store: Store) -> None:
    values = ", ".join(f"('p{n:03d}', ' ada {n}% ', {n}, '2026-03-01 10:00:00')" for n in range(250))
    store.do(
        "CREATE TABLE contacts (id VARCHAR(20) PRIMARY KEY, name VARCHAR(40), age INT, updated TIMESTAMP)",
        f"INSERT INTO contacts VALUES {values}",
    )
    query = "SELECT * FROM contacts WHERE name LIKE '%ada%'"
    read = f'{{query: "{query}", size: 40, since: {{field: updated}}}}'
    source = f"connector: sql\nurl: {store.url}\nkey: id\nread: {read}"
    job.write(source, TO_FILE, edit=lambda spec: spec.replace("filter: source.test != true\n", ""))
    result = await job.run()
    assert (result.row.state, result.row.written) == (RunState.SUCCEEDED, 250), result
    assert (await job.run()).row.read == 0
    store.do(
        "UPDATE contacts SET name = 'adam', updated = '2026-03-01 10:00:01' WHERE id = 'p100'",
        "INSERT INTO contacts VALUES ('p999', 'nadal', 9, '2026-03-01 10:00:00')",
    )
    third = await job.run()
    assert (third.row.read, third.row.written) == (2, 2)
    lines = (job.directory / "out.jsonl").read_text().splitlines()
    assert len(lines) == 251


async def test_column_values_are_read_as_json(job: Job, store: Store) -> None:
    kind = {"postgresql": "JSONB", "mariadb": "JSON", "sqlite": "TEXT"}[store.kind]
    store.do(
        f"CREATE TABLE contacts (id VARCHAR(9) PRIMARY KEY, name TEXT, age NUMERIC(8, 2), born DATE, more {kind})",
        """INSERT INTO contacts VALUES ('a', 'Ada', 36.5, '1815-12-10', '{"tags"\\:["x",1]}')""",
    )
    source = f"connector: sql\nurl: {store.url}\nkey: id\nread: {{table: contacts}}"
    rows = "| source.born | target.born | Direct | |\n| source.more | target.more | Direct | |\n"
    job.write(
        source,
        TO_FILE,
        edit=lambda spec: spec.replace("filter: source.test != true\n", "").replace(
            "| source.age | target.age | Integer | |\n", f"| source.age | target.age | Decimal(2) | |\n{rows}"
        ),
    )
    result = await job.run()
    assert result.row.written == 1, job.failures()
    line = (job.directory / "out.jsonl").read_text()
    assert '"born":"1815-12-10"' in line
    assert "36.5" in line
    assert '"tags"' in line.replace("\\", "")
    assert "'tags'" not in line


@pytest.mark.parametrize("store", SERVERS, indirect=True)
async def test_credentials_rejected_by_the_database_are_unauthorized(job: Job, systems: Systems, store: Store) -> None:
    job.environ = {"PASSWORD": "s3cr3t-w0rd"}
    url = store.url.replace("postgres@", "nobody:${env:PASSWORD}@").replace("root@", "nobody:${env:PASSWORD}@")
    job.write(BY_CURSOR, f"connector: sql\nurl: {url}\nkey: id\nwrite: {{upsert: people, create_table: true}}")
    systems(people=PEOPLE)
    result = await job.run()
    assert type(result.error) is Unauthorized, result.error
    assert "s3cr3t-w0rd" not in str(result.error)
    assert result.row.written == result.row.waiting == 0


@pytest.mark.parametrize("store", SERVERS, indirect=True)
async def test_missing_server_is_unreachable(job: Job, systems: Systems, store: Store) -> None:
    url = store.url.replace("127.0.0.1", "127.0.0.1:1")
    job.write(BY_CURSOR, f"connector: sql\nurl: {url}\nkey: id\nwrite: {{upsert: people, create_table: true}}")
    systems(people=PEOPLE)
    assert type((await job.run()).error) is Unreachable


async def test_missing_table_is_reported_with_a_suggestion(job: Job, systems: Systems, store: Store) -> None:
    store.do("CREATE TABLE peoples (id VARCHAR(9) PRIMARY KEY, name VARCHAR(40), age INT)")
    job.write(BY_CURSOR, target(store, "upsert: people"))
    systems(people=PEOPLE)
    result = await job.run()
    assert type(result.error) is BadResponse
    assert "Did you mean 'peoples'?" in str(result.row.error)


KILLED_BETWEEN = """
import os, signal, sys
from speclab.runlog import RunLog

books, calls, last = RunLog.commit_page, [], int(sys.argv.pop(1))

def commit_page(self, run, page):
    calls.append(run)
    if len(calls) == last:
        os.kill(os.getpid(), signal.SIGKILL)
    books(self, run, page)

RunLog.commit_page = commit_page
from speclab.cli import main
main()
"""
"""A run that is killed when the target has a page and its books have not yet: the one moment that is in doubt."""


def kill_between(job: Job, page: int) -> None:
    """Kill a run when page `page` is written to the target but not yet committed to the run log."""
    command = [sys.executable, "-c", KILLED_BETWEEN, str(page), "run", str(job.spec)]
    environ = {**os.environ, "SYSTEMS": job.systems.url}
    done = subprocess.run(command, cwd=job.directory, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr


async def test_rows_inserted_before_a_kill_and_the_commit_are_not_inserted_twice(
    job: Job, systems: Systems, store: Store
) -> None:
    """Rows without a key cannot be told apart, and are still written exactly once."""
    store.do("CREATE TABLE people (id VARCHAR(20), name VARCHAR(40), age INT)")
    job.write(BY_CURSOR, target(store, "insert: people, size: 30"))
    systems(people=PEOPLE, size=100)
    for page in (1, 1, 2):
        kill_between(job, page)
    assert len(store.people()) == len(expected_rows(PEOPLE[:200]))  # the page in flight is there each time
    result = await job.run()
    assert result.error is None
    assert store.people() == expected_rows(PEOPLE)
    states = [row.state for row in job.runs()]
    assert states == [RunState.INTERRUPTED] * 3 + [RunState.PARTIAL]
    # Records delivered again are appended again: the target remembers one page, not all pages.
    systems(people=[one | {"age": "1", "test": False} for one in PEOPLE[:50]])
    await job.run()
    systems(people=PEOPLE[:50])
    await job.run()
    assert len(store.people()) > len(expected_rows(PEOPLE)) + 60
    assert len(store.rows("SELECT * FROM speclab_delivered")) <= 100


def test_missing_service_skips_a_test_or_fails_it_where_required(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(PORTS, "postgresql", 1)
    monkeypatch.delenv("SPECLAB_REQUIRE_SERVICES", raising=False)
    with pytest.raises(pytest.skip.Exception, match="postgresql is not running"):
        service("postgresql")
    monkeypatch.setenv("SPECLAB_REQUIRE_SERVICES", "1")
    with pytest.raises(pytest.fail.Exception, match="postgresql is not running"):
        service("postgresql")
