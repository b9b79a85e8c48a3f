"""The run queue: due runs, missed runs, and pauses of the retry queue."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from speclab.core.outcome import Trigger
from speclab.service.run_queue import LONGEST_PAUSE, SHORTEST_PAUSE, QueuedRun, RunQueue, compute_jitter
from speclab.spec.integration import Schedule

HOURLY = Schedule("hourly", "Hourly")
DAILY = Schedule("daily", "Daily at 02:00", at="02:00")
REAL_TIME = Schedule("real_time", "Real-time")
ON_DEMAND = Schedule("on_demand", "")


def at(text: str) -> datetime:
    return datetime.fromisoformat(f"2026-11-24 {text}").replace(tzinfo=UTC)


def seconds(count: float) -> timedelta:
    return timedelta(seconds=count)


@pytest.fixture
def run_queue() -> RunQueue:
    return RunQueue(UTC)


def triggers(run_queue: RunQueue, now: datetime) -> list[tuple[str, Trigger]]:
    return [(job.spec_id, job.trigger) for job in run_queue.get_due(now)]


def run(run_queue: RunQueue, now: datetime, *, has_changes: bool = True, lasting: float = 5) -> None:
    """Run the one job that is due."""
    (job,) = run_queue.get_due(now)
    run_queue.begin(job, now)
    run_queue.end(job, now + seconds(lasting), has_changes=has_changes)


def test_spec_is_due_at_its_time_plus_jitter_and_then_at_the_next_time(run_queue: RunQueue) -> None:
    run_queue.put("crm", HOURLY, at("10:20"))
    start = at("11:00") + seconds(compute_jitter("crm", 3600))
    assert run_queue.get_next("crm") == start
    assert run_queue.get_due(start - seconds(0.1)) == []
    assert run_queue.get_due(start) == [QueuedRun("crm", Trigger.SCHEDULE, start)]
    run(run_queue, start)
    assert run_queue.get_due(start + seconds(10)) == []
    assert run_queue.get_next("crm") == start + seconds(3600)


def test_several_missed_times_are_one_run(run_queue: RunQueue) -> None:
    run_queue.put("crm", HOURLY, at("02:10"))
    assert triggers(run_queue, at("10:20")) == [("crm", Trigger.SCHEDULE)]
    run(run_queue, at("10:20"))
    assert run_queue.get_due(at("10:59")) == []


def test_second_job_waits_for_the_first_and_missed_times_are_one_run(run_queue: RunQueue) -> None:
    run_queue.put("crm", HOURLY, at("10:20"))
    (job,) = run_queue.get_due(at("11:01"))
    run_queue.begin(job, at("11:01"))
    assert run_queue.get_due(at("14:30")) == []
    run_queue.end(job, at("14:30"), has_changes=True)
    assert triggers(run_queue, at("14:30")) == [("crm", Trigger.SCHEDULE)]


def test_manual_run_counts_as_the_scheduled_run(run_queue: RunQueue) -> None:
    run_queue.put("crm", DAILY, at("01:00"))
    run_queue.mark_started("crm", at("02:00:01"))
    assert run_queue.get_due(at("03:00")) == []
    run_queue.mark_started("crm", at("01:30"))  # an older one does not move the time back
    assert run_queue.get_due(at("03:00")) == []


def test_clock_set_back_misses_no_scheduled_time(run_queue: RunQueue) -> None:
    run_queue.put("crm", HOURLY, at("10:20") + timedelta(days=400))
    assert run_queue.get_due(at("10:40")) == []
    assert run_queue.get_next("crm") == at("11:00") + seconds(compute_jitter("crm", 3600))
    run_queue.mark_started("crm", at("11:00:30"))  # from a machine whose clock is slightly ahead
    assert run_queue.get_due(at("11:00:00")) == []
    assert run_queue.get_due(at("11:59")) == []


def test_longest_due_spec_comes_first(run_queue: RunQueue) -> None:
    run_queue.put("orders", HOURLY, at("09:20"))
    run_queue.put("crm", HOURLY, at("08:20"))
    run_queue.put("hr", HOURLY, at("07:20"))
    assert [job.spec_id for job in run_queue.get_due(at("10:30"))] == ["hr", "crm", "orders"]


def test_on_demand_spec_is_never_due_but_its_retries_are(run_queue: RunQueue) -> None:
    run_queue.put("crm", ON_DEMAND, at("00:00"))
    assert run_queue.get_next("crm") is None
    assert run_queue.get_due(at("23:00")) == []
    run_queue.set_retry("crm", at("10:00"))
    assert run_queue.get_due(at("09:59")) == []
    assert triggers(run_queue, at("10:00")) == [("crm", Trigger.RETRY)]


def test_scheduled_run_also_drains_the_retry_queue(run_queue: RunQueue) -> None:
    run_queue.put("crm", HOURLY, at("10:20"))
    run_queue.set_retry("crm", at("10:30"))
    assert triggers(run_queue, at("11:01")) == [("crm", Trigger.SCHEDULE)]


def test_retry_does_not_count_as_a_scheduled_run(run_queue: RunQueue) -> None:
    run_queue.put("crm", HOURLY, at("10:20"))
    run_queue.set_retry("crm", at("10:58"))
    (job,) = run_queue.get_due(at("10:59"))
    run_queue.begin(job, at("10:59"))
    run_queue.set_retry("crm", None)
    run_queue.end(job, at("11:02"), has_changes=True)
    assert triggers(run_queue, at("11:02")) == [("crm", Trigger.SCHEDULE)]


def test_queue_that_could_not_be_drained_is_retried_with_growing_pauses(run_queue: RunQueue) -> None:
    run_queue.put("crm", ON_DEMAND, at("00:00"))
    run_queue.set_retry("crm", at("10:00"))
    now, waits = at("10:00"), []
    for _ in range(8):
        run(run_queue, now, lasting=0)
        waits.append(next(wait for wait in range(1000) if run_queue.get_due(now + seconds(wait))))
        now += seconds(waits[-1])
    assert waits == [10, 20, 40, 80, 160, 320, 600, 600]


def test_drained_queue_is_retried_at_once(run_queue: RunQueue) -> None:
    run_queue.put("crm", ON_DEMAND, at("00:00"))
    run_queue.set_retry("crm", at("10:00"))
    run(run_queue, at("10:00"), lasting=0)  # the target is down
    (job,) = run_queue.get_due(at("10:01"))
    run_queue.begin(job, at("10:01"))
    run_queue.set_retry("crm", None)
    run_queue.end(job, at("10:01"), has_changes=True)  # and up again
    run_queue.set_retry("crm", at("10:02"))
    assert triggers(run_queue, at("10:02")) == [("crm", Trigger.RETRY)]


def test_real_time_spec_runs_after_a_pause_that_is_shorter_while_there_are_changes(run_queue: RunQueue) -> None:
    run_queue.put("crm", REAL_TIME, at("10:00"))
    now, pauses = at("10:00") + seconds(SHORTEST_PAUSE), []
    for has_changes in [True, True, *[False] * 8, True]:
        run(run_queue, now, has_changes=has_changes, lasting=5)
        start = run_queue.get_next("crm")
        assert start is not None
        pauses.append((start - now).total_seconds() - 5)
        now = start
    assert pauses == [1, 1, 2, 4, 8, 16, 32, LONGEST_PAUSE, LONGEST_PAUSE, LONGEST_PAUSE, SHORTEST_PAUSE]


def test_changed_schedule_counts_from_the_change_and_an_equal_one_changes_nothing(run_queue: RunQueue) -> None:
    run_queue.put("crm", HOURLY, at("10:20"))
    run_queue.put("crm", HOURLY, at("10:50"))
    assert run_queue.get_since("crm") == at("10:20")
    run_queue.put("crm", DAILY, at("11:30"))
    assert (run_queue.get_since("crm"), run_queue.get_schedule("crm")) == (at("11:30"), DAILY)
    assert run_queue.get_due(at("23:59")) == []


def test_removed_spec_is_not_due_and_the_end_of_its_last_job_is_ignored(run_queue: RunQueue) -> None:
    run_queue.put("crm", HOURLY, at("10:20"))
    (job,) = run_queue.get_due(at("11:01"))
    run_queue.begin(job, at("11:01"))
    run_queue.remove("crm")
    run_queue.end(job, at("11:02"), has_changes=True)
    assert list(run_queue) == []
    assert run_queue.get_due(at("23:00")) == []


def test_paused_spec_is_not_due_and_its_missed_times_are_one_run(run_queue: RunQueue) -> None:
    run_queue.put("crm", HOURLY, at("02:10"))
    run_queue.set_retry("crm", at("02:20"))
    run_queue.set_paused("crm", paused=True)
    assert run_queue.get_due(at("10:20")) == []
    assert run_queue.get_next("crm") is None
    run_queue.set_paused("crm", paused=False)
    assert triggers(run_queue, at("10:20")) == [("crm", Trigger.SCHEDULE)]
    run_queue.set_retry("crm", None)
    run(run_queue, at("10:20"))
    assert run_queue.get_due(at("10:59")) == []


def test_pause_survives_an_edited_schedule(run_queue: RunQueue) -> None:
    run_queue.put("crm", HOURLY, at("02:10"))
    run_queue.set_paused("crm", paused=True)
    run_queue.put("crm", DAILY, at("01:00"))
    assert run_queue.is_paused("crm")
    assert run_queue.get_due(at("10:20")) == []


def test_retry_due_during_a_pause_is_sent_after_it(run_queue: RunQueue) -> None:
    run_queue.put("crm", ON_DEMAND, at("02:10"))
    run_queue.set_retry("crm", at("02:20"))
    run_queue.set_paused("crm", paused=True)
    assert run_queue.get_due(at("10:20")) == []
    run_queue.set_paused("crm", paused=False)
    assert triggers(run_queue, at("10:20")) == [("crm", Trigger.RETRY)]


def test_nothing_is_due_before_a_system_may_be_called_again(run_queue: RunQueue) -> None:
    run_queue.put("crm", HOURLY, at("10:20"))
    start = run_queue.get_next("crm")
    assert start is not None
    run_queue.set_retry("crm", at("10:30"))
    run_queue.park("crm", source=None, target=at("12:30"))
    assert run_queue.get_next("crm") == at("12:30")
    assert run_queue.get_due(at("12:29")) == []
    assert triggers(run_queue, at("12:30")) == [("crm", Trigger.SCHEDULE)]
    run_queue.park("crm", source=at("12:30"), target=None)
    assert run_queue.get_next("crm") == at("12:30")
    assert triggers(run_queue, at("12:29")) == [("crm", Trigger.RETRY)]  # retries do not call the source
    run_queue.park("crm", source=at("10:40"), target=None)
    assert run_queue.get_next("crm") == start
    run_queue.park("crm", source=None, target=None)
    assert run_queue.get_next("crm") == start
