"""Health: the figures of an integration, exact to the minute and to the record."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.monitor.conftest import START, World

from speclab.core.clock import format_timestamp
from speclab.core.outcome import ErrorClass, Level, Outcome, RunState
from speclab.monitor.health import Condition, get_duration_p95, get_figures, get_health, get_overview
from speclab.runlog import RetryResult, RunLog, RunLogReader
from speclab.runlog.retention import split_window

HOUR = 3600.0
DAY = 86400.0


def test_success_rate_is_the_share_of_successful_records(world: World) -> None:
    run = world.start()
    world.page(run, written=90, dead=4, waiting=3, unknown=2)
    found = get_figures(world.reader, "crm", HOUR, world.now)
    assert found.success_rate == 90 / 99
    assert (found.read, found.outcomes[Outcome.WRITTEN], found.outcomes[Outcome.WAITING]) == (99, 90, 3)
    assert (found.bytes_in, found.bytes_out) == (9900, 900)
    assert get_figures(world.reader, "erp", HOUR, world.now).success_rate is None


def test_record_that_its_run_retries_counts_once_with_its_final_outcome(world: World) -> None:
    run = world.start()
    world.page(run, written=9, waiting=1)
    world.wait(minutes=30)
    (failure,) = world.reader.failures()
    world.log.commit_retries(run, [RetryResult(failure.id, Outcome.WRITTEN)])
    assert get_figures(world.reader, "crm", HOUR, world.now).success_rate == 1.0
    late = get_figures(world.reader, "crm", 600, world.now)
    assert (late.read, late.outcomes[Outcome.WRITTEN]) == (0, 0)  # it counts in the minute in which it was read


def test_record_that_a_later_run_retries_counts_as_read_again(world: World) -> None:
    world.run(written=9, waiting=1)
    (failure,) = world.reader.failures()
    world.log.commit_retries(world.start(), [RetryResult(failure.id, Outcome.WRITTEN)])
    found = get_figures(world.reader, "crm", HOUR, world.now)
    assert (found.read, found.success_rate) == (11, 10 / 11)


def test_errors_are_failed_attempts_by_class_and_failed_runs(world: World) -> None:
    run = world.start()
    world.page(run, dead=2, error_class=ErrorClass.REJECTED)
    world.page(run, waiting=3, error_class=ErrorClass.TIMEOUT)
    world.log.finish_run(run, "out of reach", error_class=ErrorClass.TIMEOUT)
    world.run(error="out of reach")
    found = get_figures(world.reader, "crm", HOUR, world.now)
    assert found.errors == 7
    assert found.errors_by_class == {ErrorClass.REJECTED: 2, ErrorClass.TIMEOUT: 4}


def test_window_of_any_length_is_exact_to_the_minute(world: World) -> None:
    moments = [START + timedelta(minutes=minutes) for minutes in range(0, 3 * 1440, 97)]
    run = world.start()
    for moment in moments:
        world.clock.time = moment
        world.page(run, written=1)
    for window in (60.0, 599.0, HOUR, 5 * HOUR, DAY, 1.3 * DAY, 2.9 * DAY, 400 * DAY):
        since = (world.now - timedelta(seconds=window)).replace(second=0, microsecond=0)
        assert get_figures(world.reader, "crm", window, world.now).read == sum(moment >= since for moment in moments)


@given(st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1)), st.integers(-720, 720))  # noqa: DTZ001
def test_window_is_covered_by_few_rollup_rows_without_gaps(moment: datetime, offset: int) -> None:
    since = moment.replace(tzinfo=timezone(timedelta(minutes=offset)))
    minutes, hours, days = split_window(since)
    assert minutes.start == format_timestamp(since.replace(second=0, microsecond=0))
    assert (minutes.end, hours.end, days.end) == (hours.start, days.start, "9999")
    assert minutes.end.endswith(":00:00.000Z")
    assert hours.end.endswith("T00:00:00.000Z")
    start, hour, day = (datetime.fromisoformat(stretch.start) for stretch in (minutes, hours, days))
    assert timedelta(0) <= hour - start < timedelta(hours=1)
    assert timedelta(0) <= day - hour < timedelta(days=1)


@pytest.mark.parametrize(
    ("durations", "expected"),
    [([], None), ([7], 7.0), ([1, 9], 9.0), (range(1, 21), 19.0), (range(1, 101), 95.0), ([5] * 19 + [99], 5.0)],
)
def test_95th_percentile_is_the_duration_of_a_run(world: World, durations: list[float], expected: float | None) -> None:
    for seconds in durations:
        world.run(seconds=seconds)
    world.run(seconds=1000, error="it broke")
    world.run(seconds=2000, state=RunState.CANCELLED)
    assert get_duration_p95(world.reader, "crm", DAY, world.now) == expected


def test_buckets_are_equal_parts_of_the_window_that_end_now(world: World) -> None:
    for minutes in (0, 70, 10, 60, 125):
        world.wait(minutes=minutes)
        world.run(written=9, dead=1, seconds=0)
    found = get_health(world.reader, "crm", DAY, world.now)
    assert found is not None
    assert len(found.buckets) == 24
    assert [bucket.read for bucket in found.buckets[-6:]] == [10, 10, 10, 10, 0, 10]
    assert {bucket.success_rate for bucket in found.buckets[-6:]} == {0.9, None}
    assert sum(bucket.read for bucket in found.buckets) == found.figures.read == 50


@pytest.mark.parametrize(("window", "parts"), [(HOUR, 12), (2 * HOUR, 24), (DAY, 24), (7 * DAY, 28), (30 * DAY, 30)])
def test_window_has_few_enough_buckets_to_draw(world: World, window: float, parts: int) -> None:
    world.run(written=1)
    found = get_health(world.reader, "crm", window, world.now)
    assert found is not None
    assert len(found.buckets) == parts
    assert found.buckets[-1].read == 1


def test_overview_has_the_depth_and_age_of_the_retry_queue(world: World) -> None:
    world.run(waiting=2, dead=1, seconds=60)
    world.run(waiting=1, unknown=1)
    found = get_health(world.reader, "crm", HOUR, world.now)
    assert found is not None
    row = found.integration
    assert (row.waiting, row.dead, row.unknown) == (3, 1, 1)
    assert (row.oldest_waiting, row.next_attempt_at) == (format_timestamp(START), "2027-01-01T00:00:00.000Z")


def test_running_integration_has_a_rate(world: World) -> None:
    world.wait(seconds=-7)
    run = world.start()
    world.page(run, written=300)
    world.wait(seconds=30)
    assert rate(world) == 10.0
    world.wait(minutes=2)
    world.page(run, written=900)
    world.wait(seconds=15)
    assert rate(world) == 900 / (60 + 45)  # this minute and the previous one
    world.log.finish_run(run)
    assert rate(world) == 0.0


def rate(world: World) -> float:
    found = get_health(world.reader, "crm", HOUR, world.now)
    assert found is not None
    return found.rate


def test_condition_of_an_integration(world: World) -> None:
    def condition() -> Condition:
        found = get_health(world.reader, "crm", HOUR, world.now)
        assert found is not None
        return found.condition

    world.log.register("crm", title="CRM", path="", status="", schedule="")
    assert condition() is Condition.OK
    world.log.pause("crm", "ada")
    assert condition() is Condition.PAUSED
    world.log.resume("crm", "ada")
    run = world.start()
    found = get_health(world.reader, "crm", HOUR, world.now)
    assert found is not None
    assert (found.running, found.condition) == (True, Condition.OK)
    world.log.finish_run(run)
    assert condition() is Condition.OK
    world.run(waiting=1)
    assert condition() is Condition.OK  # recovers with the next run
    world.run(dead=1)
    assert condition() is Condition.ATTENTION
    world.run(error="gone")
    assert condition() is Condition.FAILING
    world.run(written=1)
    assert condition() is Condition.ATTENTION
    world.log.pause("crm", "ada")
    assert condition() is Condition.ATTENTION  # a pause does not resolve dead letters
    world.log.discard([row.id for row in world.reader.failures()], "test")
    assert condition() is Condition.PAUSED
    world.log.resume("crm", "ada")
    assert condition() is Condition.OK


def test_cancelled_run_does_not_hide_the_failed_ones_before_it(world: World) -> None:
    def condition() -> Condition:
        found = get_health(world.reader, "crm", HOUR, world.now)
        assert found is not None
        return found.condition

    world.run(state=RunState.CANCELLED)
    assert condition() is Condition.OK
    for _ in range(3):
        world.run(error="gone")
    world.run(state=RunState.CANCELLED)
    assert condition() is Condition.FAILING
    world.run(written=1)
    world.run(state=RunState.CANCELLED)
    assert condition() is Condition.OK


def test_draining_the_retry_queue_does_not_hide_that_the_source_could_not_be_read(world: World) -> None:
    world.run(error="gone")
    world.log.finish_run(world.log.start_run("crm", "abc", "retry", pid=None))
    found = get_health(world.reader, "crm", HOUR, world.now)
    assert found is not None
    assert found.condition is Condition.FAILING


def test_integration_is_parked_until_the_pause_of_its_endpoint_ends(world: World) -> None:
    run = world.start()
    until = format_timestamp(world.now + timedelta(hours=1))
    world.log.log_event("crm", run, Level.INFO, "parked", "", {"until": until, "end": "source"})
    world.log.finish_run(run, "parked", RunState.PARTIAL)
    found = get_health(world.reader, "crm", HOUR, world.now)
    assert found is not None
    assert (found.condition, found.parked) == (Condition.PARKED, {"source": until})
    world.wait(hours=2)
    found = get_health(world.reader, "crm", HOUR, world.now)
    assert found is not None
    assert found.condition is Condition.OK


def test_last_run_and_last_successful_runs_are_known(world: World) -> None:
    succeeded = world.run(written=1)
    arrived = world.run(dead=1)
    last = world.run(error="gone")
    found = get_health(world.reader, "crm", HOUR, world.now)
    assert found is not None
    assert found.last_run == last
    assert found.integration.succeeded_at == succeeded.ended_at
    assert found.integration.arrived_at == arrived.started_at


def test_overview_adds_up_all_integrations(world: World) -> None:
    world.run("crm", written=80, dead=20)
    world.run("erp", written=100, waiting=2)
    world.start("hr")
    world.log.register("idle", title="", path="", status="", schedule="")
    whole = get_overview(world.reader, HOUR, world.now)
    assert [found.integration.spec_id for found in whole.integrations] == ["crm", "erp", "hr", "idle"]
    assert (whole.figures.read, whole.figures.success_rate) == (202, 180 / 202)
    assert (whole.waiting, whole.dead, whole.unknown, whole.running) == (2, 20, 0, 1)
    assert whole.oldest_waiting == "2026-11-24T10:42:17.000Z"
    assert whole.figures.errors_by_class == {ErrorClass.SERVER: 22}
    assert sum(bucket.read for bucket in whole.buckets) == 202


def test_overview_without_a_run_log_is_empty(tmp_path: object) -> None:
    with RunLogReader.open(f"{tmp_path}/runlog.db") as reader:
        whole = get_overview(reader, HOUR, datetime.now(UTC))
        assert (whole.integrations, whole.figures.success_rate, whole.running) == ([], None, 0)
        with RunLog.open(f"{tmp_path}/runlog.db"):
            assert get_overview(reader, HOUR, datetime.now(UTC)).integrations == []


def test_running_run_does_not_hide_the_failed_one_before_it(world: World) -> None:
    world.run(error="gone")
    world.start()
    found = get_health(world.reader, "crm", HOUR, world.now)
    assert found is not None
    assert (found.running, found.condition) == (True, Condition.FAILING)
