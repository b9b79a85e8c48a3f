"""A record whose write has no sure end is known to be no way at the target, and is never unchanged."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tests.sync.conftest import Behaviour, World, counts, mapped, no, person
from tests.sync.test_missing_runs import deleting_what_is_missing

from speclab.connectors.api import MappedRecord, WriteResult
from speclab.core.errors import Unreachable
from speclab.core.outcome import ErrorClass, RunState
from speclab.sync.run import RunOptions

ADA, ADMIRAL = person("p1", "Ada"), person("p1", "Admiral")
OTHER = person("p2")
FULL = RunOptions(full=True)


class Killed(Exception):
    """Stands for the end of the process."""


def taken(*_: object) -> WriteResult | None:
    return None


def lost(world: World, error: Callable[[], WriteResult]) -> Behaviour:
    """A target that does what it is asked to the first person, and does not say so."""

    def behaviour(item: MappedRecord, _: int) -> WriteResult | None:
        if item.key != "p1":
            return None
        if item.delete:
            world.target.content.pop(item.key, None)
        else:
            world.target.content[item.key] = item.payload
        return error()

    return behaviour


def unanswered() -> WriteResult:
    return no(ErrorClass.NETWORK)


def failed() -> WriteResult:
    return no(ErrorClass.SERVER, 500)


def killed() -> WriteResult:
    raise Killed


@pytest.mark.parametrize("error", [unanswered, failed, killed])
@pytest.mark.parametrize("meanwhile", [ADMIRAL, {**ADA, "gone": True}])
async def test_what_comes_back_to_what_was_written_before_is_written_again(
    world: World, error: Callable[[], WriteResult], meanwhile: dict[str, object]
) -> None:
    await world.run([[ADA, OTHER]], taken, FULL)
    try:
        await world.run([[meanwhile, OTHER]], lost(world, error), FULL)  # type: ignore[list-item]  # it is JSON
    except Killed:
        world.log.mark_interrupted(lambda *_: False)
    assert world.target.content.get("p1") != mapped(ADA)
    row = (await world.run([[ADA, OTHER]], taken, FULL)).row
    assert world.target.content == {"p1": mapped(ADA), "p2": mapped(OTHER)}
    assert counts(row) == {"written": 1, "unchanged": 1}
    assert counts((await world.run([[ADA, OTHER]], taken, FULL)).row) == {"unchanged": 2}


async def test_a_retry_in_doubt_is_no_surer(world: World) -> None:
    await world.run([[ADA]], taken, FULL)
    await world.run([[ADMIRAL]], lambda *_: no(status=422), FULL)
    with world.reader as reader:
        (failure,) = reader.failures()
    world.log.requeue([failure.id])
    await world.run([], lost(world, unanswered), RunOptions(retries=True))
    assert world.target.content["p1"] == mapped(ADMIRAL)
    assert counts((await world.run([[ADA]], taken, FULL)).row) == {"written": 1}
    assert world.target.content["p1"] == mapped(ADA)


@pytest.mark.parametrize("write_error", [no(status=422), no(ErrorClass.REJECTED, sent=False)])
async def test_what_was_surely_refused_left_the_target_as_it_was(world: World, write_error: WriteResult) -> None:
    await world.run([[ADA]], taken, FULL)
    assert counts((await world.run([[ADMIRAL]], lambda *_: write_error, FULL)).row) == {"dead": 1}
    assert counts((await world.run([[ADA]], taken, FULL)).row) == {"unchanged": 1}


async def test_a_missing_record_whose_delete_is_in_doubt_is_written_when_it_comes_again(world: World) -> None:
    deleting_what_is_missing(world)
    await world.run([[ADA, OTHER]], taken, FULL)
    await world.run([[OTHER]], lost(world, unanswered), FULL)
    assert "p1" not in world.target.content
    assert counts((await world.run([[ADA, OTHER]], taken, FULL)).row) == {"written": 1, "unchanged": 1}
    assert world.target.content["p1"] == mapped(ADA)


def killed_at(key: str) -> Behaviour:
    """A target that takes the record `key`, and then the run's process is gone."""

    def behaviour(item: MappedRecord, _: int) -> WriteResult | None:
        if item.key == key:
            raise Killed
        return None

    return behaviour


async def test_what_a_killed_run_had_sent_to_a_target_that_minds_is_sent_no_second_time(world: World) -> None:
    world.target.idempotent, world.target.batch = False, 2
    everyone = [person(key) for key in "abcdefg"]
    with pytest.raises(Killed):
        await world.run([everyone], killed_at("d"))
    world.log.mark_interrupted(lambda *_: False)
    assert world.target.tries == dict.fromkeys("abcd", 1)
    row = (await world.run([everyone], taken, FULL)).row
    assert counts(row) == {"written": 3, "unchanged": 2, "unknown": 2}
    assert world.target.tries == dict.fromkeys("abcdefg", 1)
    assert world.failures() == {"c": "unknown", "d": "unknown"}
    assert counts((await world.run([everyone], taken, FULL)).row) == {"unchanged": 5, "unknown": 2}
    with world.reader as reader:
        world.log.requeue([failure.id for failure in reader.failures()])
    assert counts((await world.run([], taken, RunOptions(retries=True))).row) == {"written": 2}
    assert counts((await world.run([everyone], taken, FULL)).row) == {"unchanged": 7}


async def test_a_retry_that_is_killed_leaves_the_record_unknown_too(world: World) -> None:
    world.target.idempotent = False
    await world.run([[ADA]], lambda *_: no(status=422), FULL)
    with world.reader as reader:
        world.log.requeue([failure.id for failure in reader.failures()])
    with pytest.raises(Killed):
        await world.run([], killed_at("p1"), RunOptions(retries=True))
    world.log.mark_interrupted(lambda *_: False)
    assert counts((await world.run([], taken, RunOptions(retries=True))).row) == {"unknown": 1}
    assert world.target.tries == {"p1": 2}


async def test_what_a_target_that_minds_refused_or_was_never_asked_is_sent_again(world: World) -> None:
    world.target.idempotent = False
    assert counts((await world.run([[ADA]], lambda *_: no(status=422), FULL)).row) == {"dead": 1}
    assert counts((await world.run([[ADA]], taken, FULL)).row) == {"written": 1}

    def gone(*_: object) -> WriteResult | None:
        raise Unreachable("no such table")

    await world.run([[ADMIRAL]], gone, FULL)
    assert counts((await world.run([[ADMIRAL]], taken, FULL)).row) == {"written": 1}
    assert world.target.content["p1"] == mapped(ADMIRAL)


def refused(*_: object) -> WriteResult | None:
    return no(status=409)


def unreachable(*_: object) -> WriteResult | None:
    raise Unreachable("no such host")


@pytest.mark.parametrize("behaviour", [refused, unreachable])
@pytest.mark.parametrize("before", [ADA, {**ADA, "gone": True}])
async def test_what_nothing_is_known_of_is_deleted_though_it_was_refused_before(
    world: World, behaviour: Behaviour, before: dict[str, object]
) -> None:
    world.target.idempotent = False
    await world.run([[before, OTHER]], behaviour, FULL)  # type: ignore[list-item]  # it is JSON
    assert counts((await world.run([[{**ADA, "gone": True}]], taken, FULL)).row) == {"written": 1}


async def test_what_is_in_doubt_and_given_up_is_sent_again_only_once_it_changes(world: World) -> None:
    world.target.idempotent = False
    assert counts((await world.run([[ADA, OTHER]], lost(world, unanswered), FULL)).row) == {"written": 1, "unknown": 1}
    with world.reader as reader:
        world.log.discard([failure.id for failure in reader.failures()], "it is there")
    assert counts((await world.run([[ADA, OTHER]], taken, FULL)).row) == {"unchanged": 2}
    assert world.target.tries == {"p1": 1, "p2": 1}
    assert counts((await world.run([[ADMIRAL, OTHER]], taken, FULL)).row) == {"written": 1, "unchanged": 1}


async def test_a_server_error_after_the_write_was_applied_never_writes_the_record_twice(world: World) -> None:
    world.target.idempotent = False
    row = (await world.run([[ADA, OTHER]], lost(world, failed), FULL)).row
    assert (row.state, counts(row)) == (RunState.PARTIAL, {"written": 1, "unknown": 1})
    assert counts((await world.run([[ADA, OTHER]], taken, FULL)).row) == {"unchanged": 1, "unknown": 1}
    assert world.target.tries == {"p1": 1, "p2": 1}
    assert world.failures() == {"p1": "unknown"}
