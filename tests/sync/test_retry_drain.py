"""Runs with the trigger `retry`: they send the retry queue without reading the source."""

from __future__ import annotations

from tests.sync.conftest import World, counts, error_result, person

from speclab.core.outcome import ErrorClass, RunState
from speclab.sync.run import RunOptions

IMPATIENT = RunOptions(wait_budget=0)
DRAIN = RunOptions(retries=True, trigger="retry", wait_budget=0)


async def _two_waiting(world: World) -> None:
    busy = error_result(ErrorClass.SERVER, 503, retry_after=600)
    await world.run([[person("a"), person("b"), person("c")]], lambda i, n: busy if i.key < "c" and n == 1 else None)
    assert world.failures() == {"a": "waiting", "b": "waiting"}


async def test_only_due_retries_are_sent_and_nothing_is_read(world: World) -> None:
    await _two_waiting(world)
    world.clock.passed += 601
    world.source.requests.clear()
    result = await world.run(options=DRAIN)
    assert world.source.requests == []
    assert (result.row.trigger, result.row.state, counts(result.row)) == ("retry", RunState.SUCCEEDED, {"written": 2})
    assert world.failures() == {"a": "resolved", "b": "resolved"}


async def test_retry_that_is_not_due_is_not_sent(world: World) -> None:
    await _two_waiting(world)
    result = await world.run(options=DRAIN)
    assert (result.row.state, result.row.read) == (RunState.SUCCEEDED, 0)
    assert world.failures() == {"a": "waiting", "b": "waiting"}


async def test_cursor_does_not_move(world: World) -> None:
    await _two_waiting(world)
    before = world.log.get_cursor("people")
    world.clock.passed += 601
    await world.run(options=DRAIN)
    assert world.log.get_cursor("people") == before
    world.source.content.append([person("d")])
    assert counts((await world.run()).row) == {"written": 1}
