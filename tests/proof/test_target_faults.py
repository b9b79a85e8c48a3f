"""Faults of a target: in the end no record is missing, duplicated or guessed."""

from __future__ import annotations

from collections import Counter

import pytest
from tests.clocks import HeldClock
from tests.proof.conftest import BY_CURSOR, PLAIN, TO_HTTP, Job, Systems, expected_rows, make_people

from speclab.core.errors import Unauthorized
from speclab.core.outcome import ErrorClass, FailureState, RunState
from speclab.sync.run import RunOptions

PEOPLE = [one | {"age": "36", "test": False} for one in make_people(100)]
APPENDING = TO_HTTP.replace('{upsert: "PUT /people/{id}"}', "{create: POST /people, idempotency: Idempotency-Key}")
BLIND = APPENDING.replace(", idempotency: Idempotency-Key", "")


async def until_done(job: Job, clock: HeldClock, most: int = 20) -> int:
    """Run once an hour until all records are written; return the number of runs."""
    for number in range(1, most + 1):
        result = await job.run(PLAIN, clock)
        if result.row.state is RunState.SUCCEEDED:
            return number
        clock.passed += 3600
    raise AssertionError(f"not done after {most} runs: {result.row}")


@pytest.mark.parametrize("fault", ["reset", "hang-up", "lost", "lost-503", "503", "429", "429-silent", "slow"])
async def test_upsert_survives_transient_faults(job: Job, systems: Systems, fault: str) -> None:
    job.write(BY_CURSOR, TO_HTTP)
    systems(people=PEOPLE, size=40, target=[fault] * 3)
    result = await job.run()
    assert (result.row.state, result.row.written) == (RunState.SUCCEEDED, len(PEOPLE))
    assert systems.put() == expected_rows(PEOPLE)


@pytest.mark.parametrize("fault", ["reset", "hang-up", "lost", "lost-503", "503", "429"])
async def test_idempotency_key_makes_any_number_of_attempts_one_record(job: Job, systems: Systems, fault: str) -> None:
    job.write(BY_CURSOR, APPENDING)
    systems(people=PEOPLE, size=40, target=[fault] * 3)
    result = await job.run()
    assert (result.row.state, result.row.written) == (RunState.SUCCEEDED, len(PEOPLE))
    assert sorted((entry["body"] for entry in systems.writes()), key=lambda row: str(row["id"])) == expected_rows(
        PEOPLE
    )


async def test_write_without_a_response_is_never_repeated_without_an_idempotency_key(
    job: Job, systems: Systems
) -> None:
    job.write(BY_CURSOR, BLIND)
    systems(people=PEOPLE, size=40, target=["", "lost", "", "lost"])
    result = await job.run()
    assert (result.row.state, result.row.written, result.row.unknown) == (RunState.PARTIAL, len(PEOPLE) - 2, 2)
    await job.run()
    written = Counter(entry["body"]["id"] for entry in systems.writes())
    assert set(written.values()) == {1}
    assert len(written) == len(PEOPLE)
    assert {failure.state for failure in job.failures()} == {FailureState.UNKNOWN}


@pytest.mark.parametrize("ok", ["", ', ok: "!has(item.error)", message: item.error.message'])
async def test_status_200_with_a_failure_in_the_body_is_not_a_success(job: Job, systems: Systems, ok: str) -> None:
    job.write(BY_CURSOR, TO_HTTP.replace('{id}"}', f'{{id}}"{ok}}}'))
    systems(people=PEOPLE, size=40, target=["", "error-200", "", "error-200"])
    result = await job.run()
    assert (result.row.written, result.row.dead) == (len(PEOPLE) - 2, 2)
    assert len(systems.put()) == len(PEOPLE) - 2
    for failure in job.failures():
        assert ": the quota of the tenant is used up" in failure.message
        assert ("set `ok` to an expression" in failure.message) is (ok == "")


async def test_status_200_with_a_failure_for_the_whole_batch_is_not_a_success(job: Job, systems: Systems) -> None:
    job.write(BY_CURSOR, TO_HTTP.replace('{upsert: "PUT /people/{id}"}', "{batch: POST /people, size: 50}"))
    systems(people=PEOPLE, size=100, target=["", *["error-200"] * 200])
    result = await job.run()
    assert result.row.written == 50
    assert result.row.dead == 50
    assert {failure.error_class for failure in job.failures()} == {ErrorClass.REJECTED}


async def test_credentials_rejected_by_the_target_stop_the_run_before_any_dead_letter(
    job: Job, systems: Systems
) -> None:
    job.write(BY_CURSOR, TO_HTTP)
    systems(people=PEOPLE, size=40, target=[*[""] * 50, *["401"] * 50])
    result = await job.run()
    assert type(result.error) is Unauthorized
    assert (result.row.state, result.row.dead, result.row.waiting) == (RunState.FAILED, 0, 0)
    systems(people=PEOPLE, size=40)
    assert (await job.run()).row.state is RunState.SUCCEEDED
    assert systems.put() == expected_rows(PEOPLE)


@pytest.mark.parametrize("share", [0.3, 0.5, 0.7, 1.0])
async def test_storm_of_503_with_default_settings_makes_no_dead_letter(
    job: Job, systems: Systems, share: float
) -> None:
    """However many writes fail, for however many runs within a day: the retry queue is written when the faults end."""
    clock = HeldClock()
    job.write(BY_CURSOR, TO_HTTP, retry="attempts: 5")
    systems(people=PEOPLE, size=40, target_chance=share, target_faults=["503"])
    for _ in range(7):
        result = await job.run(PLAIN, clock)
        assert result.row.dead == 0
        clock.passed += 3600
    systems(people=PEOPLE, size=40)
    await until_done(job, clock)
    assert systems.put() == expected_rows(PEOPLE)
    assert job.failures() == []


async def test_record_that_always_fails_is_dead_lettered_and_others_are_written(job: Job, systems: Systems) -> None:
    systems(people=PEOPLE, size=40, failing_id="p7")
    job.write(BY_CURSOR, TO_HTTP)
    result = await job.run(RunOptions(wait_budget=20))
    assert (result.row.written, result.row.dead) == (len(PEOPLE) - 1, 1)
    (failure,) = job.failures()
    assert (failure.key, failure.state, failure.attempts) == ("p7", FailureState.DEAD, 6)


async def test_retry_never_overwrites_a_newer_version(job: Job, systems: Systems) -> None:
    """The first version of p7 waits for a retry; the second is written; the first must never be sent again."""
    clock = HeldClock()
    job.write(BY_CURSOR, TO_HTTP)
    newer = PEOPLE[7] | {"name": "Grace"}
    systems(people=[PEOPLE[7], newer], size=1, target=["503"])
    first = await job.run(PLAIN, clock)
    assert (first.row.state, first.row.written, first.row.filtered) == (RunState.SUCCEEDED, 1, 1)
    for _ in range(3):
        clock.passed += 3600
        await job.run(RunOptions(retries=True), clock)
    assert [entry["body"]["name"] for entry in systems.writes()] == ["GRACE"]
    assert job.failures() == []


async def test_newer_waiting_version_is_the_one_written(job: Job, systems: Systems) -> None:
    clock = HeldClock()
    job.write(BY_CURSOR, TO_HTTP)
    systems(people=PEOPLE[7:8], target=["503"] * 100)
    await job.run(RunOptions(wait_budget=0), clock)
    systems(people=[PEOPLE[7] | {"name": "Grace"}], target=["503"] * 100)
    await job.run(RunOptions(wait_budget=0), clock)
    (waiting,) = job.failures()
    assert waiting.state is FailureState.WAITING
    systems(people=[PEOPLE[7] | {"name": "Grace"}])
    clock.passed += 3600
    await until_done(job, clock)
    assert {entry["body"]["name"] for entry in systems.writes()} == {"GRACE"}
