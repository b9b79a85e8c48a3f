"""Write intents: a record whose write has an unknown outcome is never considered unchanged."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tests.sync.conftest import Behaviour, World, counts, error_result, expected_row, person
from tests.sync.test_missing_runs import enable_deletes

from speclab.connectors.api import MappedRecord, WriteResult
from speclab.core.errors import Unreachable
from speclab.core.outcome import ErrorClass, RunState
from speclab.sync.run import RunOptions

ADA, ADMIRAL = person("p1", "Ada"), person("p1", "Admiral")
OTHER = person("p2")
FULL = RunOptions(full=True)


class Killed(Exception):
    """Stands in for the death of the process."""


def accept(*_: object) -> WriteResult | None:
    return None


def apply_and_lose(world: World, error: Callable[[], WriteResult]) -> Behaviour:
    """Return a behaviour that applies the write of the first person but returns `error`."""

    def behaviour(item: MappedRecord, _: int) -> WriteResult | None:
        if item.key != "p1":
            return None
        if item.delete:
            world.target.content.pop(item.key, None)
        else:
            world.target.content[item.key] = item.payload
        return error()

    return behaviour


def no_response() -> WriteResult:
    return error_result(ErrorClass.NETWORK)


def server_error() -> WriteResult:
    return error_result(ErrorClass.SERVER, 500)


def kill() -> WriteResult:
    raise Killed


@pytest.mark.parametrize("error", [no_response, server_error, kill])
@pytest.mark.parametrize("change", [ADMIRAL, {**ADA, "gone": True}])
async def test_record_that_returns_to_its_last_written_version_is_written_again(
    world: World, error: Callable[[], WriteResult], change: dict[str, object]
) -> None:
    await world.run([[ADA, OTHER]], accept, FULL)
    try:
        await world.run([[change, OTHER]], apply_and_lose(world, error), FULL)  # type: ignore[list-item]  # it is JSON
    except Killed:
        world.log.mark_interrupted(lambda *_: False)
    assert world.target.content.get("p1") != expected_row(ADA)
    row = (await world.run([[ADA, OTHER]], accept, FULL)).row
    assert world.target.content == {"p1": expected_row(ADA), "p2": expected_row(OTHER)}
    assert counts(row) == {"written": 1, "unchanged": 1}
    assert counts((await world.run([[ADA, OTHER]], accept, FULL)).row) == {"unchanged": 2}


async def test_retry_with_an_unknown_outcome_stays_unknown(world: World) -> None:
    await world.run([[ADA]], accept, FULL)
    await world.run([[ADMIRAL]], lambda *_: error_result(status=422), FULL)
    with world.reader as reader:
        (failure,) = reader.failures()
    world.log.requeue([failure.id])
    await world.run([], apply_and_lose(world, no_response), RunOptions(retries=True))
    assert world.target.content["p1"] == expected_row(ADMIRAL)
    assert counts((await world.run([[ADA]], accept, FULL)).row) == {"written": 1}
    assert world.target.content["p1"] == expected_row(ADA)


@pytest.mark.parametrize("write_error", [error_result(status=422), error_result(ErrorClass.REJECTED, sent=False)])
async def test_rejected_write_leaves_the_target_version_known(world: World, write_error: WriteResult) -> None:
    await world.run([[ADA]], accept, FULL)
    assert counts((await world.run([[ADMIRAL]], lambda *_: write_error, FULL)).row) == {"dead": 1}
    assert counts((await world.run([[ADA]], accept, FULL)).row) == {"unchanged": 1}


async def test_missing_record_whose_delete_has_an_unknown_outcome_is_written_when_it_returns(world: World) -> None:
    enable_deletes(world)
    await world.run([[ADA, OTHER]], accept, FULL)
    await world.run([[OTHER]], apply_and_lose(world, no_response), FULL)
    assert "p1" not in world.target.content
    assert counts((await world.run([[ADA, OTHER]], accept, FULL)).row) == {"written": 1, "unchanged": 1}
    assert world.target.content["p1"] == expected_row(ADA)


def kill_at(key: str) -> Behaviour:
    """Return a behaviour that accepts the record `key` and then kills the run."""

    def behaviour(item: MappedRecord, _: int) -> WriteResult | None:
        if item.key == key:
            raise Killed
        return None

    return behaviour


async def test_in_flight_writes_of_a_killed_run_are_not_repeated_at_a_target_that_is_not_idempotent(
    world: World,
) -> None:
    world.target.idempotent, world.target.batch = False, 2
    everyone = [person(key) for key in "abcdefg"]
    with pytest.raises(Killed):
        await world.run([everyone], kill_at("d"))
    world.log.mark_interrupted(lambda *_: False)
    assert world.target.tries == dict.fromkeys("abcd", 1)
    row = (await world.run([everyone], accept, FULL)).row
    assert counts(row) == {"written": 3, "unchanged": 2, "unknown": 2}
    assert world.target.tries == dict.fromkeys("abcdefg", 1)
    assert world.failures() == {"c": "unknown", "d": "unknown"}
    assert counts((await world.run([everyone], accept, FULL)).row) == {"unchanged": 5, "unknown": 2}
    with world.reader as reader:
        world.log.requeue([failure.id for failure in reader.failures()])
    assert counts((await world.run([], accept, RunOptions(retries=True))).row) == {"written": 2}
    assert counts((await world.run([everyone], accept, FULL)).row) == {"unchanged": 7}


async def test_killed_retry_leaves_the_outcome_unknown(world: World) -> None:
    world.target.idempotent = False
    await world.run([[ADA]], lambda *_: error_result(status=422), FULL)
    with world.reader as reader:
        world.log.requeue([failure.id for failure in reader.failures()])
    with pytest.raises(Killed):
        await world.run([], kill_at("p1"), RunOptions(retries=True))
    world.log.mark_interrupted(lambda *_: False)
    assert counts((await world.run([], accept, RunOptions(retries=True))).row) == {"unknown": 1}
    assert world.target.tries == {"p1": 2}


async def test_rejected_and_unsent_records_of_a_killed_run_are_sent_again(world: World) -> None:
    world.target.idempotent = False
    assert counts((await world.run([[ADA]], lambda *_: error_result(status=422), FULL)).row) == {"dead": 1}
    assert counts((await world.run([[ADA]], accept, FULL)).row) == {"written": 1}

    def gone(*_: object) -> WriteResult | None:
        raise Unreachable("no such table")

    await world.run([[ADMIRAL]], gone, FULL)
    assert counts((await world.run([[ADMIRAL]], accept, FULL)).row) == {"written": 1}
    assert world.target.content["p1"] == expected_row(ADMIRAL)


def rejected(*_: object) -> WriteResult | None:
    return error_result(status=409)


def unreachable(*_: object) -> WriteResult | None:
    raise Unreachable("no such host")


@pytest.mark.parametrize("behaviour", [rejected, unreachable])
@pytest.mark.parametrize("before", [ADA, {**ADA, "gone": True}])
async def test_record_with_unknown_outcome_is_deleted_although_it_was_rejected_before(
    world: World, behaviour: Behaviour, before: dict[str, object]
) -> None:
    world.target.idempotent = False
    await world.run([[before, OTHER]], behaviour, FULL)  # type: ignore[list-item]  # it is JSON
    assert counts((await world.run([[{**ADA, "gone": True}]], accept, FULL)).row) == {"written": 1}


async def test_dead_letter_with_unknown_outcome_is_sent_again_only_after_a_change(world: World) -> None:
    world.target.idempotent = False
    assert counts((await world.run([[ADA, OTHER]], apply_and_lose(world, no_response), FULL)).row) == {
        "written": 1,
        "unknown": 1,
    }
    with world.reader as reader:
        world.log.discard([failure.id for failure in reader.failures()], "it is there")
    assert counts((await world.run([[ADA, OTHER]], accept, FULL)).row) == {"unchanged": 2}
    assert world.target.tries == {"p1": 1, "p2": 1}
    assert counts((await world.run([[ADMIRAL, OTHER]], accept, FULL)).row) == {"written": 1, "unchanged": 1}


async def test_server_error_after_an_applied_write_never_writes_the_record_twice(world: World) -> None:
    world.target.idempotent = False
    row = (await world.run([[ADA, OTHER]], apply_and_lose(world, server_error), FULL)).row
    assert (row.state, counts(row)) == (RunState.PARTIAL, {"written": 1, "unknown": 1})
    assert counts((await world.run([[ADA, OTHER]], accept, FULL)).row) == {"unchanged": 1, "unknown": 1}
    assert world.target.tries == {"p1": 1, "p2": 1}
    assert world.failures() == {"p1": "unknown"}
