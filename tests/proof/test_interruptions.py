"""A run told to stop, a disk that is full, a clock set back: what was told is so, and the next run goes on."""

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
    crowd,
    rows_of,
    wanted,
)
from tests.proof.torture import lines_of

from speclab.core.outcome import RunState
from speclab.runlog import RunLogReader
from speclab.sync.run import RunOptions

SINCE = BY_CURSOR.replace(
    "records: data,", "records: data, since: {param: since, field: updated, start: 2026-01-01T00:00:00Z},"
).replace(", total: total", "")


def written(job: Job) -> int:
    """How many records the run log says are at the target."""
    if not job.log.exists():
        return 0
    with RunLogReader.open(job.log) as reader:
        return sum(row.written for row in reader.runs(limit=100))


def test_a_run_that_is_told_to_stop_leaves_nothing_in_doubt(job: Job, systems: Systems) -> None:
    """It finishes the page in hand: what it says is written is just what the target has."""
    people = crowd(200)
    job.write(BY_CURSOR, TO_HTTP)
    systems(people=people, size=20, pause=0.02)
    with job.start() as process:
        while written(job) < 60:
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
    assert systems.put() == wanted(people)
    assert len(systems.writes()) == len(wanted(people))  # not one was sent again


def limited(size: int) -> Any:
    """Lets the process write no file larger than `size`, as on a disk that is full."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    return limit


def test_a_disk_that_is_full_for_the_run_log_is_told_and_nothing_is_lost(job: Job, systems: Systems) -> None:
    people = crowd(600)
    job.write(BY_CURSOR, TO_HTTP)
    systems(people=people, size=20)
    with job.start(preexec_fn=limited(420_000)) as process:
        _, talk = process.communicate()
    assert process.returncode == 1
    assert "Traceback" not in talk
    assert "runlog.db" in talk
    assert 0 < len(systems.writes()) < len(wanted(people))
    with job.start() as process:
        process.communicate()
    first, second = job.runs()
    assert first.state is RunState.INTERRUPTED  # it could not write down how it ended
    assert second.state is RunState.PARTIAL
    for row in (first, second):
        assert_balanced(row)
    assert systems.put() == wanted(people)
    assert first.read + second.read == len(people)


@pytest.mark.parametrize("target", [TO_FILE, TO_SQLITE], ids=["file", "sqlite"])
def test_a_disk_that_is_full_for_the_target_makes_no_dead_letter(job: Job, systems: Systems, target: str) -> None:
    """A disk has no opinion of records: the run stops, and the next one writes the same again."""
    people = [one | {"name": "x" * 9000 + str(number)} for number, one in enumerate(crowd(300))]
    dead = sum(one["age"] == "old" for one in people[:150])
    job.write(BY_CURSOR, target)
    systems(people=people, size=50)
    with job.start(preexec_fn=limited(500_000)) as process:
        _, talk = process.communicate()
    assert process.returncode == 4, talk
    (first,) = job.runs()
    assert (first.state, first.waiting) == (RunState.FAILED, 0)
    assert first.dead <= dead
    assert first.error is not None
    assert "too large" in first.error or "disk" in first.error
    with job.start() as process:
        process.communicate()
    assert job.runs()[-1].state is RunState.PARTIAL
    arrived = lines_of(job) if target is TO_FILE else rows_of(job.directory / "target.db")
    assert arrived == wanted(people)


class ShiftingClock:
    """The machine's own time, and a shift."""

    def __init__(self) -> None:
        self.shift = timedelta(0)

    def now(self) -> datetime:
        return datetime.now(UTC) + self.shift

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        del seconds


async def test_a_clock_that_is_set_back_loses_no_change(job: Job, systems: Systems) -> None:
    clock = ShiftingClock()
    job.write(SINCE)
    now = datetime.now(UTC)
    people: list[dict[str, Any]] = []
    for turn, hours in enumerate((0, -3, 1, -48, -1, 0)):
        clock.shift = timedelta(hours=hours)
        new = crowd(turn * 10 + 10)[turn * 10 :]
        people += [one | {"updated": (now + timedelta(seconds=turn)).strftime("%Y-%m-%dT%H:%M:%SZ")} for one in new]
        systems(people=people, size=7)
        result = await job.run(PLAIN, clock)
        assert result.error is None
        assert rows_of(job.directory / "target.db") == wanted(people)


async def test_what_waits_is_sent_also_after_the_clock_was_set_back(job: Job, systems: Systems) -> None:
    clock = ShiftingClock()
    people = crowd(10)[:5]
    job.write(BY_CURSOR, TO_HTTP, retry="base: 10m\ncap: 10m")  # so that none is due at once, by chance
    systems(people=people, target=["503"] * 5)
    first = await job.run(RunOptions(wait_budget=0), clock)
    assert first.row.waiting == 5
    clock.shift = timedelta(days=-1)
    systems(people=people)
    second = await job.run(PLAIN, clock)  # it reads them again, which is newer than what waits
    assert second.row.written == 5
    assert systems.put() == wanted(people)
    assert job.failures() == []


@pytest.mark.parametrize("hours", [-30, 30])
async def test_a_run_under_a_clock_that_jumps_balances_and_ends(job: Job, systems: Systems, hours: int) -> None:
    clock = ShiftingClock()
    systems(people=crowd(100), size=10)
    job.write(BY_CURSOR, TO_SQLITE)
    original = clock.now

    def jumping() -> datetime:
        clock.shift += timedelta(hours=hours / 50)
        return original()

    clock.now = jumping  # type: ignore[method-assign]
    result = await job.run(PLAIN, clock)
    assert result.row.state is RunState.PARTIAL
    assert result.row.ended_at is not None
    assert rows_of(job.directory / "target.db") == wanted(crowd(100))
