"""A run in the run log, from its start to its end with matching counts."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from tests.clocks import HeldClock
from tests.runlog.conftest import failure, page

from speclab.core.errors import UsageError
from speclab.core.outcome import Effect, FailureState, Level, Outcome, RunState
from speclab.runlog import PageResult, RunLog, RunLogReader


def test_run_adds_up_its_pages(log: RunLog, reader: RunLogReader, clock: HeldClock) -> None:
    run = log.start_run("crm", "abc", "manual")
    assert reader.run(run) == log_row(reader, state=RunState.RUNNING, ended_at=None, read=0, cursor=None)
    log.commit_page(run, page(failure("c_1"), failure("c_2", FailureState.DEAD), written=["c_3", "c_4"], filtered=2))
    log.commit_page(
        run,
        PageResult(
            read=3,
            outcomes={Outcome.WRITTEN: 2, Outcome.UNCHANGED: 1},
            effects={Effect.CREATED: 1, Effect.UPDATED: 1},
            bytes_in=10,
            bytes_out=20,
            cursor={"page": 2},
            total=9,
        ),
    )
    clock.turn(12.5)
    row = log.finish_run(run)
    assert row == reader.run(run) == reader.runs()[0]
    assert (row.read, row.written, row.unchanged, row.filtered, row.waiting, row.dead) == (9, 4, 1, 2, 1, 1)
    assert (row.created, row.updated, row.deleted) == (1, 1, 0)
    assert (row.bytes_in, row.bytes_out, row.cursor, row.total) == (1010, 520, {"page": 2}, 9)
    assert (row.started_at, row.ended_at) == ("2026-11-24T10:42:07.123Z", "2026-11-24T10:42:19.623Z")


def log_row(reader: RunLogReader, **expected: object) -> object:
    row = reader.runs()[0]
    assert {name: getattr(row, name) for name in expected} == expected
    return row


@pytest.mark.parametrize(
    ("books", "error", "state"),
    [
        (page(written=["a"], unchanged=1, filtered=1), None, RunState.SUCCEEDED),
        (page(failure("a", FailureState.WAITING)), None, RunState.PARTIAL),
        (page(failure("a", FailureState.DEAD), written=["b"]), None, RunState.PARTIAL),
        (page(failure("a", FailureState.UNKNOWN)), None, RunState.PARTIAL),
        (page(written=["a"]), "the source is gone", RunState.FAILED),
        (page(), None, RunState.SUCCEEDED),
    ],
)
def test_state_of_a_run_follows_from_its_counts(
    log: RunLog, books: PageResult, error: str | None, state: RunState
) -> None:
    run = log.start_run("crm", "abc", "manual")
    log.commit_page(run, books)
    row = log.finish_run(run, error)
    assert (row.state, row.error) == (state, error)


def test_run_whose_counts_do_not_match_is_failed_in_any_case(log: RunLog) -> None:
    run = log.start_run("crm", "abc", "manual")
    log.commit_page(run, PageResult(10, {Outcome.WRITTEN: 9}, {}, bytes_in=0, bytes_out=0, cursor=None))
    row = log.finish_run(run, state=RunState.CANCELLED)
    assert (row.state, row.error) == (RunState.FAILED, "counts do not match: read 10, outcomes 9")


def test_error_of_a_run_is_kept_if_its_counts_do_not_match(log: RunLog) -> None:
    run = log.start_run("crm", "abc", "manual")
    log.commit_page(run, PageResult(1, {}, {}, bytes_in=0, bytes_out=0, cursor=None))
    assert log.finish_run(run, "the disk is full").error == (
        "the disk is full; counts do not match: read 1, outcomes 0"
    )


def test_page_that_counts_a_failure_it_does_not_have_is_rejected(log: RunLog, reader: RunLogReader) -> None:
    run = log.start_run("crm", "abc", "manual")
    with pytest.raises(ValueError, match="page counts 1 dead, but has 0 such failures"):
        log.commit_page(run, PageResult(1, {Outcome.DEAD: 1}, {}, bytes_in=0, bytes_out=0, cursor=None))
    with pytest.raises(ValueError, match="page has two failures of one key"):
        log.commit_page(run, page(failure("a"), failure("a")))
    assert reader.failures() == []


def test_run_that_ended_accepts_no_pages(log: RunLog) -> None:
    run = log.start_run("crm", "abc", "manual")
    log.finish_run(run)
    with pytest.raises(UsageError, match=f"run {run} does not exist or has ended"):
        log.commit_page(run, page(written=["a"]))
    with pytest.raises(UsageError, match="does not exist or has ended"):
        log.finish_run(run)


def test_cursor_moves_with_the_page_and_the_next_run_starts_from_it(log: RunLog, reader: RunLogReader) -> None:
    assert log.get_cursor("crm") is None
    run = log.start_run("crm", "abc", "manual")
    log.commit_page(run, page(written=["a"], cursor="after a"))
    assert log.get_cursor("crm") == "after a"
    kept = PageResult(0, {}, {}, bytes_in=0, bytes_out=0, cursor="no", keep_cursor=True)
    log.commit_page(run, kept)
    assert log.get_cursor("crm") == "after a"
    log.finish_run(run)
    log.start_run("crm", "abc", "manual")
    assert reader.runs()[0].cursor == "after a"
    log.clear_checkpoint("crm")
    assert log.get_cursor("crm") is None


def test_ids_of_runs_sort_by_time_even_when_the_clock_stands_still_or_goes_back(log: RunLog, clock: HeldClock) -> None:
    ids = []
    for seconds in (0, 0, 0, 1, -5, -5, 60):
        clock.turn(seconds)
        ids.append(log.start_run("crm", "abc", "manual"))
    assert ids == sorted(ids)
    assert len(set(ids)) == len(ids)
    assert all(len(one) == 36 and one[14] == "7" and one[19] in "89ab" for one in ids)


def test_events_cover_a_run_from_start_to_end(log: RunLog, reader: RunLogReader) -> None:
    run = log.start_run("crm", "abc", "schedule")
    log.commit_page(run, page(written=["a"], message="page 1, 1 read"))
    log.commit_page(run, page(failure("b"), message="page 2, 1 read"))
    log.log_event("crm", run, Level.WARNING, "rate_limit", "18 left", {"left": 18})
    log.commit_page(run, page(written=["c"], message=""))
    log.finish_run(run)
    events = [(event.level.value, event.kind, event.message, dict(event.fields)) for event in reader.events()]
    assert events == [
        ("info", "state", "started by schedule", {"state": "running"}),
        ("info", "page", "page 1, 1 read", {"read": 1, "written": 1}),
        ("warning", "page", "page 2, 1 read", {"read": 1, "waiting": 1}),
        ("warning", "rate_limit", "18 left", {"left": 18}),
        ("warning", "state", "partial", {"state": "partial"}),
    ]


def test_run_whose_process_is_gone_is_interrupted(log: RunLog, reader: RunLogReader) -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    theirs = log.start_run("crm", "abc", "manual", pid=child.pid)
    mine = log.start_run("erp", "abc", "manual")
    reported = log.start_run("nightly", "", "script", pid=None)
    log.commit_page(theirs, page(written=["a"]))
    assert log.mark_interrupted() == []
    child.communicate(b"\n")
    (row,) = log.mark_interrupted()
    assert row == reader.run(theirs)
    assert (row.state, row.read) == (RunState.INTERRUPTED, 1)
    assert row.error is not None
    assert f"process {child.pid} on " in row.error
    assert reader.latest_events(1)[0].message.startswith("interrupted: process")
    assert {run.run for run in reader.runs(state=RunState.RUNNING)} == {mine, reported}
    assert log.mark_interrupted() == []


def test_run_has_no_negative_duration_if_the_clock_was_set_back(
    log: RunLog, reader: RunLogReader, clock: HeldClock
) -> None:
    run = log.start_run("crm", "abc", "manual")
    clock.turn(-3600)
    log.finish_run(run)
    assert reader.query("SELECT duration FROM run") == [(0.0,)]


def test_another_process_with_the_same_pid_does_not_keep_the_run_alive(log: RunLog) -> None:
    log.start_run("crm", "abc", "manual", pid=os.getpid())
    log._db.execute("UPDATE run SET process_started = 'an earlier one'")
    assert len(log.mark_interrupted()) == 1


def test_run_of_another_host_is_not_marked_as_interrupted(log: RunLog) -> None:
    log.start_run("crm", "abc", "manual")
    log._db.execute("UPDATE run SET host = 'elsewhere', pid = 1, process_started = ''")
    assert log.mark_interrupted() == []


def test_registering_saves_title_path_status_and_schedule(log: RunLog, reader: RunLogReader) -> None:
    log.start_run("crm", "abc", "manual")
    (row,) = reader.integrations()
    assert (row.title, row.path, row.status) == ("crm", "", "")
    log.register("crm", title="Contacts", path="specs/crm.md", status="in-progress", schedule="Hourly")
    (changed,) = reader.integrations("crm")
    assert (changed.title, changed.path, changed.status, changed.schedule) == (
        "Contacts", "specs/crm.md", "in-progress", "Hourly",
    )  # fmt: skip
    assert changed.revision > row.revision
    assert reader.integrations("erp") == []
