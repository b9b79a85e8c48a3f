"""`make torture`: runs killed with `kill -9` at random moments, hundreds of times, between systems that misbehave.

After every few kills a run is let finish, and then all must be as if nothing had happened: the target equals the mapped
source row by row, the books of every run balance, nothing is twice where the target can tell, and the run log says
which runs were interrupted. `KILLS=200 SEED=7 make torture` says how many, and which.
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
    rows_of,
    started,
    wanted,
)
from tests.proof.faulty import HEALING, STOPPING, WRITING, person
from tests.proof.killing import check_runs

from speclab.core.outcome import RunState
from speclab.runlog import RunLogReader

People = list[dict[str, Any]]

FAULTS: Final = {
    "source_chance": 0.08,
    "source_faults": [*HEALING * 4, *STOPPING],
    "target_chance": 0.04,
    "target_faults": list(WRITING),
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
    """A way from a source to a target: the two settings, how people come to the source, and what is at the target.

    `seconds` is about how long a run of it takes, in which it is killed; `server` is the kind of database it needs.
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
    """Let the faulty source have `people`."""
    job.systems(people=people, size=20, **FAULTS)


def fill_sqlite(job: Job, people: People) -> None:
    """Let `source.db` have `people`."""
    with closing(sqlite3.connect(job.directory / "source.db")) as db, db:
        db.execute("CREATE TABLE IF NOT EXISTS people (id TEXT PRIMARY KEY, name, age, test, updated)")
        db.executemany("INSERT OR REPLACE INTO people VALUES (:id, :name, :age, :test, :updated)", people)


def appended(job: Job) -> People:
    """All that was ever appended, each as often as it was."""
    return sorted((entry["body"] for entry in job.systems.writes()), key=lambda row: str(row["id"]))


def lines_of(job: Job) -> People:
    """The rows of the file, in order of their keys."""
    lines = (job.directory / "out.jsonl").read_text("utf-8").splitlines()
    return sorted(map(json.loads, lines), key=lambda row: str(row["id"]))


def inserted(job: Job) -> People:
    """All rows of the database, each as often as it is there."""
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
        appended,
        appends=True,
    ),
    Route("sqlite to file", FROM_SQLITE, TO_FILE, fill_sqlite, lines_of, seconds=0.1),
)
INSERT: Final = """\
connector: sql
url: ${env:DATABASE}
key: id
write: {insert: people, size: 8}"""
SERVED: Final = tuple(
    Route(f"http to {server}, INSERT", BY_CURSOR, INSERT, fill_http, inserted, appends=True, server=server)
    for server in ("postgresql", "mariadb")
)
"""Nothing there tells a row from one just like it: what is sent twice is there twice."""


@dataclass
class Tally:
    """What a torment came to."""

    route: str
    seed: int
    kills: int = 0
    rounds: int = 0
    runs: Counter[str] = field(default_factory=Counter)
    read: int = 0
    rows: int = 0


def torment(directory: Path, route: Route, kills: int, seed: int, people: int = 400) -> Tally:
    """Kill runs of `route` until `kills` were, letting one finish after every few; raises where anything is wrong."""
    chance = Random(seed)
    tally = Tally(route.name, seed)
    with ExitStack() as stack:
        job = Job(directory, stack.enter_context(started(directory, seed)))
        if route.server:
            job.store = stack.enter_context(database(route.server, directory))
            job.store.do("CREATE TABLE people (id VARCHAR(20), name VARCHAR(40), age INT)")
            job.environ["DATABASE"] = job.store.url
        job.write(route.source, route.target, edit=lambda text: text.replace("source.test != true", FILTER))
        given: People = []
        expected: People = []
        while tally.kills < kills:
            tally.rounds += 1
            given = [version(number, tally.rounds) for number in range(people)]
            route.fill(job, given)
            for _ in range(min(KILLS_A_ROUND, kills - tally.kills)):
                tally.kills += killed(job, chance.uniform(0, route.seconds))
            finish(job)
            expected = sorted([*(expected if route.appends else []), *wanted(given)], key=lambda row: str(row["id"]))
            assert by_text(route.arrived(job)) == by_text(expected), f"{route.name}, seed {seed}: not what was read"
        tell(job, tally)
        tally.rows = len(expected)
    return tally


FILTER: Final = "source.test != true && source.test != 1"
"""SQLite has no true, and gives 1 for it."""


def version(number: int, round_: int) -> dict[str, Any]:
    """A person as they are in a round: each has another name, so that all is to be written anew."""
    one = person(number)
    return one | {"name": f"{one['name']} {round_}"}


def by_text(rows: People) -> list[str]:
    """The rows, comparable, whatever they hold."""
    return sorted(map(str, rows))


def killed(job: Job, seconds: float) -> bool:
    """Start a run, and kill it that long after it has begun; whether it still ran."""
    before = count_runs(job)
    with job.start() as process:
        deadline = time.monotonic() + 60
        while process.poll() is None and count_runs(job) == before:
            assert time.monotonic() < deadline, "the run does not begin"
            time.sleep(0.01)
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
        process.communicate()
        return process.returncode == -signal.SIGKILL


def finish(job: Job) -> None:
    """Run until a run comes to the end, with the faults still on."""
    reported = ""
    for _ in range(_TRIES):
        with job.start() as process:
            _, reported = process.communicate(timeout=120)
        last = job.runs()[-1]
        if last.state is RunState.SUCCEEDED or (last.state is RunState.PARTIAL and not last.waiting and not last.error):
            return
        assert "Traceback" not in reported, reported
    raise AssertionError(f"no run came to the end in {_TRIES}: {reported}")


def tell(job: Job, tally: Tally) -> None:
    """Judge all runs, and count them."""
    runs = job.runs()
    states = check_runs(runs, tally.kills)
    tally.runs.update({state.value: count for state, count in states.items()})
    tally.read += sum(row.read for row in runs)
    assert all(failure.state.value == "dead" for failure in job.failures())


def count_runs(job: Job) -> int:
    """How many runs the log knows; none where there is no log yet."""
    if not job.log.exists():
        return 0
    with RunLogReader.open(job.log) as reader:
        return len(reader.runs(limit=100_000))


def main() -> None:
    """Torment every route, and print what came of it."""
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
                one = torment(Path(directory), route, share, seed)
            except pytest.skip.Exception as absent:
                print(f"{route.name:26}{seed:>8}  skipped: {absent}", flush=True)
                continue
        runs = ", ".join(f"{count} {state}" for state, count in sorted(one.runs.items()) if count)
        print(f"{one.route:26}{seed:>8}{one.kills:>7}{one.rounds:>8}{one.read:>14,}{one.rows:>7}  {runs}", flush=True)
    print("every target is as its source is mapped, and all books balance")


if __name__ == "__main__":
    main()
