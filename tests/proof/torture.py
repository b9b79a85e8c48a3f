"""`make torture`: runs killed with `kill -9` at random moments, hundreds of times, between faulty systems.

After every few kills a run may finish. Then the target must equal the mapped source row by row, the counts of every
run must match, nothing may be duplicated where duplicates are detectable, and the run log must show which runs were
interrupted. `KILLS=200 SEED=7 make torture` sets the number of kills and the seed.
"""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any, Final

import pytest
from tests.proof.conftest import (
    BY_CURSOR,
    TO_FILE,
    TO_HTTP,
    TO_SQLITE,
    Job,
    database,
    expected_rows,
    rows_of,
    run_systems,
)
from tests.proof.faulty import FATAL, TRANSIENT, WRITE_FAULTS, person
from tests.proof.killing import check_runs

from speclab.core.outcome import RunState
from speclab.runlog import RunLogReader

People = list[dict[str, Any]]

FAULTS: Final = {
    "source_chance": 0.08,
    "source_faults": [*TRANSIENT * 4, *FATAL],
    "target_chance": 0.04,
    "target_faults": list(WRITE_FAULTS),
    "pause": 0.004,
}
KILLS_A_ROUND: Final = 10
_TRIES: Final = 60

FROM_SQLITE: Final = """\
connector: sql
url: sqlite:///source.db
key: id
read: {table: people, size: 10}"""


@dataclass(frozen=True)
class Route:
    """A pair of source and target settings, with functions that fill the source and read the target.

    `seconds` is the approximate duration of a run, within which it is killed; `server` is the kind of its database.
    """

    name: str
    source: str
    target: str
    fill: Callable[[Job, People], None]
    arrived: Callable[[Job], People]
    appends: bool = False
    seconds: float = 0.8
    server: str = ""


def fill_http(job: Job, people: People) -> None:
    """Set the people of the faulty HTTP source."""
    job.systems(people=people, size=20, **FAULTS)


def fill_sqlite(job: Job, people: People) -> None:
    """Insert `people` into `source.db`."""
    with closing(sqlite3.connect(job.directory / "source.db")) as db, db:
        db.execute("CREATE TABLE IF NOT EXISTS people (id TEXT PRIMARY KEY, name, age, test, updated)")
        db.executemany("INSERT OR REPLACE INTO people VALUES (:id, :name, :age, :test, :updated)", people)


def read_appended(job: Job) -> People:
    """Return all appended records, including duplicates."""
    return sorted((entry["body"] for entry in job.systems.writes()), key=lambda row: str(row["id"]))


def read_file(job: Job) -> People:
    """Return the rows of the file, sorted by key."""
    lines = (job.directory / "out.jsonl").read_text("utf-8").splitlines()
    return sorted(map(json.loads, lines), key=lambda row: str(row["id"]))


def read_inserted(job: Job) -> People:
    """Return all rows of the database, including duplicates."""
    assert job.store is not None
    return job.store.people()


ROUTES: Final = (
    Route("http to sqlite", BY_CURSOR, TO_SQLITE, fill_http, lambda job: rows_of(job.directory / "target.db")),
    Route("http to http, PUT", BY_CURSOR, TO_HTTP, fill_http, lambda job: job.systems.put()),
    Route(
        "http to http, POST once",
        BY_CURSOR,
        TO_HTTP.replace('upsert: "PUT /people/{id}"', "create: POST /people, idempotency: Idempotency-Key"),
        fill_http,
        read_appended,
        appends=True,
    ),
    Route("sqlite to file", FROM_SQLITE, TO_FILE, fill_sqlite, read_file, seconds=0.1),
)
INSERT: Final = """\
connector: sql
url: ${env:DATABASE}
key: id
write: {insert: people, size: 8}"""
SERVED: Final = tuple(
    Route(f"http to {server}, INSERT", BY_CURSOR, INSERT, fill_http, read_inserted, appends=True, server=server)
    for server in ("postgresql", "mariadb")
)
"""Equal rows are not detectable there: a record sent twice would be there twice."""


@dataclass
class Totals:
    """The results of one route."""

    route: str
    seed: int
    kills: int = 0
    rounds: int = 0
    runs: Counter[str] = field(default_factory=Counter)
    read: int = 0
    rows: int = 0


def torture(directory: Path, route: Route, kills: int, seed: int, people: int = 400) -> Totals:
    """Kill `kills` runs of `route`, letting one finish after every few; raise if anything is wrong."""
    chance = Random(seed)
    tally = Totals(route.name, seed)
    with ExitStack() as stack:
        job = Job(directory, stack.enter_context(run_systems(directory, seed)))
        if route.server:
            job.store = stack.enter_context(database(route.server, directory))
            job.store.do("CREATE TABLE people (id VARCHAR(20), name VARCHAR(40), age INT)")
            job.environ["DATABASE"] = job.store.url
        job.write(route.source, route.target, edit=lambda text: text.replace("source.test != true", FILTER))
        given: People = []
        expected: People = []
        while tally.kills < kills:
            tally.rounds += 1
            given = [make_version(number, tally.rounds) for number in range(people)]
            route.fill(job, given)
            for _ in range(min(KILLS_A_ROUND, kills - tally.kills)):
                tally.kills += run_and_kill(job, chance.uniform(0, route.seconds))
            run_to_end(job)
            expected = sorted(
                [*(expected if route.appends else []), *expected_rows(given)], key=lambda row: str(row["id"])
            )
            assert sort_as_text(route.arrived(job)) == sort_as_text(expected), (
                f"{route.name}, seed {seed}: target differs from source"
            )
        check_and_count(job, tally)
        tally.rows = len(expected)
    return tally


FILTER: Final = "source.test != true && source.test != 1"
"""SQLite has no booleans and returns 1 for true."""


def make_version(number: int, round_: int) -> dict[str, Any]:
    """Return a person in a round: the name differs in each, so that all are written again."""
    one = person(number)
    return one | {"name": f"{one['name']} {round_}"}


def sort_as_text(rows: People) -> list[str]:
    """Return the rows as sorted text, comparable for any types."""
    return sorted(map(str, rows))


def run_and_kill(job: Job, seconds: float) -> bool:
    """Start a run and kill it `seconds` after it has begun; return whether it was still running."""
    before = count_runs(job)
    with job.start() as process:
        deadline = time.monotonic() + 60
        while process.poll() is None and count_runs(job) == before:
            assert time.monotonic() < deadline, "the run did not start"
            time.sleep(0.01)
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
        process.communicate()
        return process.returncode == -signal.SIGKILL


def run_to_end(job: Job) -> None:
    """Run until a run completes, with the faults still on."""
    reported = ""
    for _ in range(_TRIES):
        with job.start() as process:
            _, reported = process.communicate(timeout=120)
        last = job.runs()[-1]
        if last.state is RunState.SUCCEEDED or (last.state is RunState.PARTIAL and not last.waiting and not last.error):
            return
        assert "Traceback" not in reported, reported
    raise AssertionError(f"no run completed in {_TRIES} attempts: {reported}")


def check_and_count(job: Job, tally: Totals) -> None:
    """Check all runs and add them to the totals."""
    runs = job.runs()
    states = check_runs(runs, tally.kills)
    tally.runs.update({state.value: count for state, count in states.items()})
    tally.read += sum(row.read for row in runs)
    assert all(failure.state.value == "dead" for failure in job.failures())


def count_runs(job: Job) -> int:
    """Return the number of runs in the run log; 0 if there is no log yet."""
    if not job.log.exists():
        return 0
    with RunLogReader.open(job.log) as reader:
        return len(reader.runs(limit=100_000))


def main() -> None:
    """Torture every route and print the totals."""
    os.environ["SPECLAB_TRUST"] = "all"
    kills = int(os.environ.get("KILLS", "200"))
    first = int(os.environ.get("SEED", str(Random().randrange(1_000_000))))
    print(f"{kills} kills, seeds from {first}", flush=True)
    print(f"{'route':26}{'seed':>8}{'kills':>7}{'rounds':>8}{'records read':>14}{'rows':>7}  runs", flush=True)
    routes = [*ROUTES, *SERVED]
    share = -(-kills // len(routes))
    for seed, route in enumerate(routes, first):
        with TemporaryDirectory(prefix="speclab-torture-") as directory:
            try:
                one = torture(Path(directory), route, share, seed)
            except pytest.skip.Exception as absent:
                print(f"{route.name:26}{seed:>8}  skipped: {absent}", flush=True)
                continue
        runs = ", ".join(f"{count} {state}" for state, count in sorted(one.runs.items()) if count)
        print(f"{one.route:26}{seed:>8}{one.kills:>7}{one.rounds:>8}{one.read:>14,}{one.rows:>7}  {runs}", flush=True)
    print("every target equals its mapped source, and the counts of all runs match")


if __name__ == "__main__":
    main()
