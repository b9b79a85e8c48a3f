"""A failed run is counted once, under the class of the error that ended it."""

from __future__ import annotations

import pytest
from tests.sync.conftest import MemorySource, World, error_result, person

from speclab.core.errors import BadResponse, EndpointError, Unauthorized, Unreachable
from speclab.core.outcome import ErrorClass, RunState
from speclab.monitor.health import get_figures


def errors(world: World) -> tuple[int, dict[ErrorClass, int]]:
    """Return the counts of the rollup, in total and by class."""
    with world.reader as reader:
        found = get_figures(reader, "people", 3600.0, world.clock.now())
    return found.errors, dict(found.errors_by_class)


@pytest.mark.parametrize(
    ("error", "error_class"),
    [
        (Unreachable("cannot connect"), ErrorClass.NETWORK),
        (Unreachable("no response in time (30s)", error_class=ErrorClass.TIMEOUT), ErrorClass.TIMEOUT),
        (Unreachable("503 (tried 3 times)", error_class=ErrorClass.SERVER), ErrorClass.SERVER),
        (Unauthorized("401 Unauthorized"), ErrorClass.UNAUTHORIZED),
        (BadResponse("no JSON"), ErrorClass.BAD_ANSWER),
    ],
)
async def test_failed_source_counts_under_its_class(
    error: EndpointError, error_class: ErrorClass, world: World
) -> None:
    world.source = MemorySource([[person("a")]], fails_at=0, error=error)
    result = await world.run()
    assert result.row.state is RunState.FAILED
    assert errors(world) == (1, {error_class: 1})
    with world.reader as reader:
        ended = [event for event in reader.events() if event.kind == "state"][-1]
    assert ended.fields == {"state": "failed", "class": error_class.value}


async def test_target_that_rejects_the_credentials_counts_as_unauthorized(world: World) -> None:
    result = await world.run([[person("a")]], lambda *_: error_result(ErrorClass.UNAUTHORIZED, 401))
    assert result.row.state is RunState.FAILED
    assert errors(world) == (1, {ErrorClass.UNAUTHORIZED: 1})


async def test_stop_by_a_rule_of_the_spec_counts_under_the_class_of_the_response(world: World) -> None:
    result = await world.run([[person("a")]], lambda *_: error_result(ErrorClass.REJECTED, 402))
    assert result.row.state is RunState.FAILED
    assert errors(world) == (1, {ErrorClass.REJECTED: 1})


async def test_failing_target_counts_its_failures_and_the_run_that_it_ended(world: World) -> None:
    world.target.batch = 1
    people = [person(f"p{number}") for number in range(300)]
    result = await world.run([people], lambda *_: error_result(ErrorClass.SERVER, 500))
    assert result.row.state is RunState.FAILED
    assert result.row.waiting > 0
    assert errors(world) == (result.row.waiting + 1, {ErrorClass.SERVER: result.row.waiting + 1})


async def test_parked_run_is_not_a_failure(world: World) -> None:
    result = await world.run([[person("a")]], lambda *_: error_result(ErrorClass.RATE_LIMIT, 429, retry_after=7200))
    assert result.row.state is RunState.PARTIAL
    assert errors(world) == (0, {})


async def test_source_that_requests_too_long_a_wait_parks_the_run(world: World) -> None:
    error = Unreachable("429; it asks to wait 1h", error_class=ErrorClass.RATE_LIMIT)
    world.source = MemorySource([[person("a")], [person("b")]], fails_at=1, error=error)
    result = await world.run()
    assert result.row.state is RunState.PARTIAL
    assert str(result.row.error).endswith(": parked: 429; it asks to wait 1h")
    assert result.row.read == 1
    assert errors(world) == (0, {})


def parked(world: World) -> list[object]:
    with world.reader as reader:
        return [event.fields for event in reader.events() if event.kind == "parked"]


async def test_parked_run_logs_when_the_system_may_be_called_again(world: World) -> None:
    await world.run([[person("a")]], lambda *_: error_result(ErrorClass.RATE_LIMIT, 429, retry_after=7200))
    assert parked(world) == [{"until": "2026-11-24T12:00:00.000Z", "end": "target"}]
    error = Unreachable("503; it asks to wait 1h", error_class=ErrorClass.SERVER, retry_after=3600)
    world.source = MemorySource([[person("a")]], fails_at=0, error=error)
    await world.run()
    assert parked(world)[-1] == {"until": "2026-11-24T11:00:00.000Z", "end": "source"}
    await world.run([[person("a")]], lambda *_: None)
    assert len(parked(world)) == 2
