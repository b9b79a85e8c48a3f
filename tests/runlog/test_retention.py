"""Retention: old rows are deleted; open failures and the last runs are kept."""

from __future__ import annotations

import pytest
from tests.clocks import HeldClock
from tests.runlog.conftest import failure, page

from speclab.core.outcome import FailureState, Level, Outcome
from speclab.runlog import RetryResult, RunLog, RunLogReader, retention
from speclab.runlog.retention import Pruned

DAY = 86400.0


def run_with(log: RunLog, *failures: object, error: str | None = None) -> str:
    run = log.start_run("crm", "abc", "schedule")
    log.commit_page(run, page(*failures, written=["w"]))  # type: ignore[arg-type]
    log.finish_run(run, error)
    return run


def test_retention_deletes_old_rows_and_keeps_the_last_runs(
    log: RunLog, reader: RunLogReader, clock: HeldClock
) -> None:
    run_with(log)
    succeeded = run_with(log)
    clock.turn(10)
    arrived = run_with(log, failure("a", FailureState.DEAD))
    log.discard([row.id for row in reader.failures()], "test")
    failed = run_with(log, error="gone")
    last = run_with(log, error="gone again")
    log.start_run("erp", "abc", "manual")
    clock.turn(31 * DAY)
    fresh = log.start_run("crm", "abc", "manual")
    log.finish_run(fresh, "still gone")
    before = len(reader.events(spec_id="crm"))
    assert log.prune("crm", retention=30 * DAY, failures=30 * DAY) == Pruned(before - 2, 1, 3, 2)
    assert {row.run for row in reader.runs("crm")} == {succeeded, arrived, fresh}
    assert {failed, last}.isdisjoint(row.run for row in reader.runs())
    assert [event.message for event in reader.events(spec_id="crm")] == ["started by manual", "failed: still gone"]
    assert len(reader.runs("erp")) == len(reader.events(spec_id="erp")) == 1
    assert reader.query("SELECT span, count(*) FROM rollup WHERE spec_id = 'crm' GROUP BY span") == [
        ("day", 2), ("hour", 1), ("minute", 1),
    ]  # fmt: skip
    assert log.prune("crm", retention=30 * DAY, failures=30 * DAY) == Pruned(0, 0, 0, 0)


def test_retention_keeps_open_failures_and_their_runs(log: RunLog, reader: RunLogReader, clock: HeldClock) -> None:
    run = run_with(
        log,
        failure("a"),
        failure("b", FailureState.DEAD),
        failure("c", FailureState.UNKNOWN),
        failure("d"),
        failure("e"),
    )
    ids = {row.key: row.id for row in reader.failures()}
    retrying = log.start_run("crm", "abc", "retry")
    log.commit_retries(retrying, [RetryResult(ids["d"], Outcome.WRITTEN)])
    log.finish_run(retrying)
    for _ in range(3):
        run_with(log)
    clock.turn(1000 * DAY)
    log.discard([ids["e"]], "just now")
    pruned = log.prune("crm", retention=DAY, failures=90 * DAY)
    assert pruned.failures == 1
    assert {row.key for row in reader.failures(closed=True)} == {"a", "b", "c", "e"}
    assert run in {row.run for row in reader.runs()}


def test_retention_keeps_the_rollups_of_a_running_run(log: RunLog, reader: RunLogReader, clock: HeldClock) -> None:
    run = log.start_run("crm", "abc", "manual")
    log.commit_page(run, page(failure("a")))
    clock.turn(7200)
    log.prune("crm", retention=0, failures=0)
    log.commit_retries(run, [RetryResult(reader.failures()[0].id, Outcome.WRITTEN)])
    rows = reader.query("SELECT span, read, written, waiting FROM rollup ORDER BY span")
    assert rows == [("day", 1, 1, 0), ("hour", 1, 1, 0), ("minute", 1, 1, 0)]


def test_retention_deletes_in_small_chunks(
    log: RunLog, reader: RunLogReader, clock: HeldClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = log.start_run("crm", "abc", "manual")
    for _ in range(1100):
        log.commit_page(run, page())
    log.finish_run(run)
    clock.turn(DAY)
    bites = []
    transaction = log._transaction

    def counted() -> object:
        bites.append(1)
        return transaction()

    monkeypatch.setattr(log, "_transaction", counted)
    assert log.prune("crm", retention=60, failures=60).events == 1102
    assert len(bites) >= 1102 / retention._CHUNK + 3
    assert reader.events() == []


def test_events_from_a_clock_that_was_ahead_do_not_keep_others(
    log: RunLog, reader: RunLogReader, clock: HeldClock
) -> None:
    clock.turn(1000 * DAY)
    for _ in range(retention._CHUNK + 1):
        log.log_event("crm", None, Level.INFO, "log", "from a year to come")
    clock.turn(-1000 * DAY)
    for _ in range(2):
        log.log_event("crm", None, Level.INFO, "log", "old")
        clock.turn(2 * DAY)
    log.log_event("crm", None, Level.INFO, "log", "new")
    assert log.prune("crm", retention=DAY, failures=DAY).events == 2
    assert {event.message for event in reader.events()} == {"from a year to come", "new"}
