"""Retries: transient failures are retried in time, with the current spec, and never over newer data."""

from __future__ import annotations

from datetime import datetime

import pytest
from tests.sync.conftest import Behaviour, World, counts, error_result, person

from speclab.connectors.api import MappedRecord, WriteResult
from speclab.core.json import Record
from speclab.core.outcome import ErrorClass, FailureState, RunState
from speclab.sync.run import RunOptions

IMPATIENT = RunOptions(wait_budget=0)


def fail_first(times: int, answer: WriteResult | None = None) -> Behaviour:
    """Return a behaviour that rejects each record `times` times."""
    return lambda _, nth: (answer or error_result(ErrorClass.SERVER, 503)) if nth <= times else None


async def test_transient_failure_is_written_by_the_same_run(world: World) -> None:
    result = await world.run([[person("a"), person("b")]], fail_first(2))
    assert (result.row.state, counts(result.row)) == (RunState.SUCCEEDED, {"written": 2})
    assert world.target.tries == {"a": 3, "b": 3}
    assert world.failures() == {"a": "resolved", "b": "resolved"}
    assert any(text.startswith("retried ") for text in world.events("retry"))


async def test_retries_that_change_nothing_share_one_event(world: World) -> None:
    world.edit("attempts: 3\nbase: 2s\ncap: 1m", "attempts: 20\nbase: 1s\ncap: 1s")
    result = await world.run([[person("a"), person("b")]], fail_first(15))
    assert counts(result.row) == {"written": 2}
    tries = sum(world.target.tries.values()) - 2
    reported = [text for text in world.events("retry") if text.startswith("retried ")]
    assert sum(int(text.removeprefix("retried ").partition(":")[0]) for text in reported) == tries == 30
    assert len(reported) <= 4
    assert reported[-1].endswith(" written")


async def test_every_attempt_has_the_same_idempotency_key(world: World) -> None:
    await world.run([[person("a")]], fail_first(2))
    assert len(world.target.keys["a"]) == 3
    assert len(set(world.target.keys["a"])) == 1


async def test_record_is_a_dead_letter_after_all_attempts(world: World) -> None:
    result = await world.run([[person("a")]], fail_first(99))
    assert (result.row.state, counts(result.row)) == (RunState.PARTIAL, {"dead": 1})
    assert world.target.tries == {"a": 3}
    with world.reader as reader:
        (failure,) = reader.failures()
    assert (failure.state, failure.attempts, failure.next_attempt_at) == (FailureState.DEAD, 3, None)


async def test_waits_between_attempts_grow_with_full_jitter(world: World) -> None:
    await world.run([[person("a")]], fail_first(2))
    first, second = world.clock.naps
    assert 0.25 <= first <= 2.1
    assert 0.25 <= second <= 4.1


async def test_retry_after_is_respected(world: World) -> None:
    await world.run([[person("a")]], fail_first(1, error_result(ErrorClass.SERVER, 503, retry_after=17)))
    assert sum(world.clock.naps) >= 17


async def test_retry_that_is_not_due_in_time_stays_for_the_next_run(world: World) -> None:
    first = await world.run(
        [[person("a"), person("b")]], fail_first(1, error_result(ErrorClass.SERVER, 503, retry_after=90))
    )
    assert (first.row.state, counts(first.row)) == (RunState.PARTIAL, {"waiting": 2})
    assert world.log.get_cursor("people") == 1
    assert world.clock.naps == []
    await world.run()
    assert world.failures() == {"a": "waiting", "b": "waiting"}
    world.clock.passed += 91
    third = await world.run()
    assert (third.row.state, counts(third.row)) == (RunState.SUCCEEDED, {"written": 2})
    assert world.failures() == {"a": "resolved", "b": "resolved"}
    assert sorted(world.target.content) == ["a", "b"]


async def test_due_retries_are_sent_between_pages(world: World) -> None:
    pages = [[person("a")], [person("b")], [person("c")]]

    def slow(item: MappedRecord, nth: int) -> WriteResult | None:
        world.clock.passed += 5
        return error_result(ErrorClass.SERVER, 503) if item.key == "a" and nth == 1 else None

    await world.run(pages, slow)
    assert world.target.calls == [["a"], ["b"], ["a"], ["c"]] or world.target.calls == [["a"], ["a"], ["b"], ["c"]]


async def test_record_older_than_the_limit_is_a_dead_letter(world: World) -> None:
    await world.run([[person("a")]], fail_first(99), IMPATIENT)
    world.clock.passed += 3601
    await world.run(options=IMPATIENT)
    assert world.target.tries == {"a": 2}
    assert world.failures() == {"a": "dead"}


async def test_retry_uses_the_current_spec(world: World) -> None:
    await world.run([[person("a", name="Ada ")]], fail_first(1), IMPATIENT)
    world.edit("target.name | Trim", "target.name | Trim, Uppercase")
    world.clock.passed += 60
    await world.run()
    assert world.target.content["a"]["name"] == "ADA"


@pytest.mark.parametrize(
    ("old", "new", "outcome", "state"),
    [
        ("source.test != true", 'source.id != "a"', "filtered", "resolved"),
        ("target.name | Trim", "target.name | Integer", "dead", "dead"),
        ("minimum: 0", "minimum: 50", "dead", "dead"),
    ],
)
async def test_retry_of_a_record_that_is_filtered_now_sends_nothing(
    world: World, old: str, new: str, outcome: str, state: str
) -> None:
    await world.run([[person("a")]], fail_first(1), IMPATIENT)
    world.edit(old, new)
    world.clock.passed += 60
    result = await world.run()
    assert counts(result.row) == {outcome: 1}
    assert world.failures() == {"a": state}
    assert world.target.tries == {"a": 1}


async def test_retry_of_a_record_that_is_already_at_the_target_sends_nothing(world: World) -> None:
    await world.run([[person("a")]])
    await world.run([[person("a", name="Bea")]], fail_first(2), RunOptions(full=True, wait_budget=0))
    world.edit("target.name | Trim", 'target.name | Constant("Ada")')
    world.edit("source.name | target", "| target")
    world.clock.passed += 60
    result = await world.run([])
    assert counts(result.row) == {"unchanged": 1}
    assert world.failures() == {"a": "resolved"}


async def test_newer_record_replaces_a_waiting_one(world: World) -> None:
    await world.run([[person("a", age="1"), person("b", age="1")]], fail_first(1), IMPATIENT)
    result = await world.run([[person("a", age="2")]], options=RunOptions(full=True, wait_budget=0))
    assert counts(result.row) == {"written": 1}
    assert world.failures() == {"a": "superseded", "b": "waiting"}
    world.clock.passed += 60
    await world.run()
    assert world.target.content["a"]["age"] == 2
    assert world.failures() == {"a": "superseded", "b": "resolved"}


async def test_newer_record_replaces_a_waiting_one_within_one_run_and_the_counts_match(world: World) -> None:
    pages = [[person("a", age="1")], [person("a", age="2"), person("a", age="3")]]
    ages = {1: 99, 2: 99}
    tried: dict[int, int] = {}

    def by_age(item: MappedRecord, _: int) -> WriteResult | None:
        age = int(str(item.payload["age"]))
        tried[age] = tried.get(age, 0) + 1
        return error_result(ErrorClass.SERVER, 503) if ages.get(age, 0) >= tried[age] else None

    result = await world.run(pages, by_age)
    assert (result.row.state, counts(result.row)) == (RunState.SUCCEEDED, {"written": 1, "filtered": 2})
    assert world.target.content["a"]["age"] == 3
    assert tried == {1: 1, 2: 1, 3: 1}


async def test_record_that_returns_to_the_target_version_is_not_overwritten_by_a_retry(world: World) -> None:
    await world.run([[person("a", age="1")]])
    await world.run([[person("a", age="2")]], fail_first(2), RunOptions(full=True, wait_budget=0))
    result = await world.run([[person("a", age="1")]], options=RunOptions(full=True, wait_budget=0))
    assert counts(result.row) == {"unchanged": 1}
    world.clock.passed += 60
    await world.run()
    assert world.target.content["a"]["age"] == 1
    assert world.failures() == {"a": "superseded"}


@pytest.mark.parametrize("newer", [person("a", test=True), person("a", age="old")])
async def test_newer_record_that_is_not_sent_replaces_a_waiting_one_too(world: World, newer: Record) -> None:
    await world.run([[person("a")]], fail_first(1), IMPATIENT)
    await world.run([[newer]], options=RunOptions(full=True, wait_budget=0))
    world.clock.passed += 60
    await world.run()
    assert world.target.content == {}
    assert "waiting" not in world.failures().values()


async def test_missing_response_without_idempotency_is_an_unknown_outcome(world: World) -> None:
    world.target.idempotent = False
    result = await world.run([[person("a"), person("b")]], fail_first(1, error_result(ErrorClass.TIMEOUT)))
    assert (result.row.state, counts(result.row)) == (RunState.PARTIAL, {"unknown": 2})
    world.clock.passed += 3600
    await world.run()
    assert world.target.tries == {"a": 1, "b": 1}
    assert world.failures() == {"a": "unknown", "b": "unknown"}


async def test_record_that_was_certainly_not_sent_is_retried_at_any_target(world: World) -> None:
    world.target.idempotent = False
    result = await world.run([[person("a")]], fail_first(1, error_result(ErrorClass.NETWORK, sent=False)))
    assert counts(result.row) == {"written": 1}


async def test_target_that_requests_too_long_a_wait_parks_the_run(world: World) -> None:
    world.target.batch = 2
    limited = error_result(ErrorClass.RATE_LIMIT, 429, retry_after=900)
    pages = [[person("a")], [person(key) for key in "bcdef"], [person("g")]]
    result = await world.run(pages, lambda item, nth: limited if item.key == "d" and nth == 1 else None)
    assert (result.row.state, counts(result.row)) == (RunState.PARTIAL, {"written": 4})
    assert result.row.cursor == 1
    assert "parked" in str(result.row.error)
    world.clock.passed += 900
    result = await world.run()
    assert (result.row.state, counts(result.row)) == (RunState.SUCCEEDED, {"written": 3, "unchanged": 3})
    assert sorted(world.target.content) == list("abcdefg")


async def test_failing_target_fails_the_run(world: World) -> None:
    world.target.batch = 50
    pages = [[person(f"{page}-{n}") for n in range(50)] for page in range(10)]
    result = await world.run(pages, fail_first(99))
    assert result.row.state is RunState.FAILED
    assert "too many requests to the target fail" in str(result.row.error)
    assert sum(map(len, world.target.calls)) <= 150
    assert result.row.read == result.row.waiting + result.row.dead
    world.clock.passed += 600
    world.target.calls.clear()
    assert (await world.run()).row.state is RunState.FAILED
    assert [len(call) for call in world.target.calls] == [1] * 10  # it is probed, not overloaded again
    world.clock.passed += 600
    world.target.behaviour = lambda *_: None
    result = await world.run()
    assert result.row.state is RunState.SUCCEEDED
    assert len(world.target.content) == 500


async def test_halt_during_retries_leaves_the_rest_waiting(world: World) -> None:
    await world.run([[person("a"), person("b")]], fail_first(1), IMPATIENT)
    world.clock.passed += 60
    world.target.batch = 1
    world.target.calls.clear()
    rejected = error_result(ErrorClass.UNAUTHORIZED, 401)
    result = await world.run(behaviour=lambda *_: rejected if len(world.target.calls) > 1 else None)
    assert (result.row.state, counts(result.row)) == (RunState.FAILED, {"written": 1})
    assert sorted(world.failures().values()) == ["resolved", "waiting"]


async def test_stop_while_waiting_for_retries_leaves_them_waiting(world: World) -> None:
    def stopping(*_: object) -> WriteResult:
        world.cancelled.set()
        return error_result(ErrorClass.SERVER, 503)

    result = await world.run([[person("a")]], stopping)
    assert (result.row.state, counts(result.row)) == (RunState.CANCELLED, {"waiting": 1})
    with world.reader as reader:
        (failure,) = reader.failures()
    assert failure.next_attempt_at is not None
    assert datetime.fromisoformat(failure.next_attempt_at) > world.clock.start
