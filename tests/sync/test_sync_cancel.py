"""Cancel a run through the run log, and read its progress there."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from tests.sync.conftest import MemoryTarget, World, counts, expected_row, person

from speclab.connectors.api import MappedRecord, WriteResult
from speclab.core.outcome import RunState
from speclab.runlog import RunLog, RunRow
from speclab.runlog.rows import format_progress
from speclab.sync.run import RunResult

PAGES = [[person(number + 10 * page) for number in range(1, 4)] for page in range(3)]


class SlowTarget(MemoryTarget):
    """A target that accepts the first record at once, and the others only after a signal."""

    def __init__(self) -> None:
        super().__init__(batch=1)
        self.stuck = asyncio.Event()
        self.go_on = asyncio.Event()

    async def write(self, items: Sequence[MappedRecord]) -> Sequence[WriteResult]:
        if self.content:
            self.stuck.set()
            await self.go_on.wait()
        return await super().write(items)


@pytest.fixture
def slow(world: World, monkeypatch: pytest.MonkeyPatch) -> SlowTarget:
    """A world with a slow target and frequent checks for a cancel request."""
    monkeypatch.setattr("speclab.sync.run_control.PERIOD", 0.01)
    target = SlowTarget()
    world.target = target
    return target


async def start_run(world: World, slow: SlowTarget) -> asyncio.Task[RunResult]:
    task = asyncio.create_task(world.run(PAGES))
    await asyncio.wait_for(slow.stuck.wait(), 30)
    return task


def cancel(world: World, *, now: bool = False) -> list[RunRow]:
    """Request the cancel as another process would, with a separate connection."""
    with RunLog.open(world.log.path) as log:
        return log.cancel("people", "ada", now=now)


async def test_cancelled_run_finishes_its_page_and_the_next_run_continues(world: World, slow: SlowTarget) -> None:
    running = await start_run(world, slow)
    assert [run.cancel for run in cancel(world)] == [1]
    await asyncio.wait_for(world.cancelled.wait(), 30)
    slow.go_on.set()
    result = await running
    assert (result.row.state, counts(result.row)) == (RunState.CANCELLED, {"written": 3})
    assert result.row.progress is None
    assert world.log.get_cursor("people") == 1
    assert world.events("cancel") == ["ada asked the run to stop after the page in progress"]
    world.cancelled.clear()
    rest = await world.run()
    assert (rest.row.state, counts(rest.row)) == (RunState.SUCCEEDED, {"written": 6})
    assert world.target.content == {
        record["id"] and str(record["id"]): expected_row(record) for page in PAGES for record in page
    }


@pytest.mark.parametrize("twice", [True, False])
async def test_second_cancel_stops_within_the_page_and_the_counts_match(
    world: World, slow: SlowTarget, *, twice: bool
) -> None:
    running = await start_run(world, slow)
    if twice:
        cancel(world)
        await asyncio.wait_for(world.cancelled.wait(), 30)
        assert not running.done()
    assert [run.cancel for run in cancel(world, now=not twice)] == [2]
    result = await asyncio.wait_for(running, 30)
    assert (result.row.state, result.row.read) == (RunState.CANCELLED, 0)
    assert str(result.row.error).startswith("stopped in the middle of a page")
    assert slow.closed
    assert world.log.get_cursor("people") is None
    slow.go_on.set()
    world.cancelled.clear()
    again = await world.run()
    assert (again.row.state, again.row.read) == (RunState.SUCCEEDED, 9)
    assert len(slow.content) == 9


async def test_cancelled_in_flight_writes_of_a_create_only_target_are_unknown(world: World, slow: SlowTarget) -> None:
    slow.idempotent = slow.keyed = False
    running = await start_run(world, slow)
    cancel(world, now=True)
    await asyncio.wait_for(running, 30)
    slow.go_on.set()
    world.cancelled.clear()
    again = await world.run()
    assert again.row.state is RunState.PARTIAL
    assert counts(again.row)["unknown"] >= 1
    assert all(number == 1 for number in slow.tries.values())


async def test_progress_within_a_page_is_in_the_run_log(world: World, slow: SlowTarget) -> None:
    running = await start_run(world, slow)
    for _ in range(500):
        await asyncio.sleep(0.01)
        with world.reader as reader:
            (run,) = reader.runs()
        if run.progress is not None:
            break
    assert run.progress == {"page": 1, "records": 3, "sent": 1, "requests": 0}
    assert format_progress(run, world.clock.now()) == "page 1: 1 of 3 sent"
    slow.go_on.set()
    assert (await running).row.progress is None


def test_cancel_without_a_running_run_changes_nothing(world: World) -> None:
    assert cancel(world) == []
    assert world.events("cancel") == []
