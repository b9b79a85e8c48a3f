"""Cancelled runs, full disks and clock changes: the run log stays correct, and the next run continues."""

from __future__ import annotations

import resource
import signal
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tests.proof.conftest import (
    BY_CURSOR,
    PLAIN,
    TO_FILE,
    TO_HTTP,
    TO_SQLITE,
    Job,
    Systems,
    assert_balanced,
    expected_rows,
    make_people,
    rows_of,
)
from tests.proof.torture import read_file

from speclab.core.outcome import RunState
from speclab.runlog import RunLogReader
from speclab.sync.run import RunOptions

SINCE = BY_CURSOR.replace(
    "records: data,", "records: data, since: {param: since, field: updated, start: 2026-01-01T00:00:00Z},"
).replace(", total: total", "")


def count_written(job: Job) -> int:
    """Return how many records are at the target according to the run log."""
    if not job.log.exists():
        return 0
    with RunLogReader.open(job.log) as reader:
        return sum(row.written for row in reader.runs(limit=100))


def test_cancelled_run_leaves_no_unknown_outcome(job: Job, systems: Systems) -> None:
    """The run finishes its current page: the counts equal the rows at the target."""
    people = make_people(200)
    job.write(BY_CURSOR, TO_HTTP)
    systems(people=people, size=20, pause=0.02)
    with job.start() as process:
        while count_written(job) < 60:
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        process.communicate()
    assert process.returncode == 130
    (first,) = job.runs()
    assert first.state is RunState.CANCELLED
    assert first.written == len(systems.writes())
    assert first.waiting == first.unknown == 0
    with job.start() as process:
        process.communicate()
    assert systems.put() == expected_rows(people)
    assert len(systems.writes()) == len(expected_rows(people))  # nothing was sent again


def limit_file_size(size: int) -> Any:
    """Limit files of the process to `size` bytes, as on a full disk."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    return limit


def test_full_disk_for_the_run_log_is_reported_and_loses_nothing(job: Job, systems: Systems) -> None:
    people = make_people(600)
    job.write(BY_CURSOR, TO_HTTP)
    systems(people=people, size=20)
    with job.start(preexec_fn=limit_file_size(420_000)) as process:
        _, output = process.communicate()
    assert process.returncode == 1
    assert "Traceback" not in output
    assert "runlog.db" in output
    assert 0 < len(systems.writes()) < len(expected_rows(people))
    with job.start() as process:
        process.communicate()
    first, second = job.runs()
    assert first.state is RunState.INTERRUPTED  # it could not store its end
    assert second.state is RunState.PARTIAL
    for row in (first, second):
        assert_balanced(row)
    assert systems.put() == expected_rows(people)
    assert first.read + second.read == len(people)


@pytest.mark.parametrize("target", [TO_FILE, TO_SQLITE], ids=["file", "sqlite"])
def test_full_disk_for_the_target_makes_no_dead_letter(job: Job, systems: Systems, target: str) -> None:
    """A full disk is not an error of a record: the run stops, and the next run writes the same records again."""
    people = [one | {"name": "x" * 9000 + str(number)} for number, one in enumerate(make_people(300))]
    dead = sum(one["age"] == "old" for one in people[:150])
    job.write(BY_CURSOR, target)
    systems(people=people, size=50)
    with job.start(preexec_fn=limit_file_size(500_000)) as process:
        _, output = process.communicate()
    assert process.returncode == 4, output
    (first,) = job.runs()
    assert (first.state, first.waiting) == (RunState.FAILED, 0)
    assert first.dead <= dead
    assert first.error is not None
    assert "too large" in first.error or "disk" in first.error
    with job.start() as process:
        process.communicate()
    assert job.runs()[-1].state is RunState.PARTIAL
    arrived = read_file(job) if target is TO_FILE else rows_of(job.directory / "target.db")
    assert arrived == expected_rows(people)


class ShiftingClock:
    """The system clock plus an adjustable shift."""

    def __init__(self) -> None:
        self.shift = timedelta(0)

    def now(self) -> datetime:
        return datetime.now(UTC) + self.shift

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        del seconds


async def test_clock_set_back_loses_no_change(job: Job, systems: Systems) -> None:
    clock = ShiftingClock()
    job.write(SINCE)
    now = datetime.now(UTC)
    people: list[dict[str, Any]] = []
    for turn, hours in enumerate((0, -3, 1, -48, -1, 0)):
        clock.shift = timedelta(hours=hours)
        new = make_people(turn * 10 + 10)[turn * 10 :]
        people += [one | {"updated": (now + timedelta(seconds=turn)).strftime("%Y-%m-%dT%H:%M:%SZ")} for one in new]
        systems(people=people, size=7)
        result = await job.run(PLAIN, clock)
        assert result.error is None
        assert rows_of(job.directory / "target.db") == expected_rows(people)


async def test_retries_are_sent_after_the_clock_was_set_back(job: Job, systems: Systems) -> None:
    clock = ShiftingClock()
    people = make_people(10)[:5]
    job.write(BY_CURSOR, TO_HTTP, retry="base: 10m\ncap: 10m")  # with jitter, none is due at once
    systems(people=people, target=["503"] * 5)
    first = await job.run(RunOptions(wait_budget=0), clock)
    assert first.row.waiting == 5
    clock.shift = timedelta(days=-1)
    systems(people=people)
    second = await job.run(PLAIN, clock)  # reads them again: newer than the waiting version
    assert second.row.written == 5
    assert systems.put() == expected_rows(people)
    assert job.failures() == []


@pytest.mark.parametrize("hours", [-30, 30])
async def test_run_with_a_jumping_clock_ends_and_its_counts_match(job: Job, systems: Systems, hours: int) -> None:
    clock = ShiftingClock()
    systems(people=make_people(100), size=10)
    job.write(BY_CURSOR, TO_SQLITE)
    original = clock.now

    def jumping() -> datetime:
        clock.shift += timedelta(hours=hours / 50)
        return original()

    clock.now = jumping  # type: ignore[method-assign]
    result = await job.run(PLAIN, clock)
    assert result.row.state is RunState.PARTIAL
    assert result.row.ended_at is not None
    assert rows_of(job.directory / "target.db") == expected_rows(make_people(100))
