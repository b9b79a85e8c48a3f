"""Pauses: by whom, since when and why an integration is paused; and run logs of a version without pauses."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from tests.clocks import HeldClock

from speclab.core.errors import RunLogTooOld
from speclab.core.outcome import RunState
from speclab.runlog import RunLog, RunLogReader
from speclab.runlog.schema import APPLICATION_ID

VERSION_1 = Path(__file__).with_name("version-1.sql")
"""A run log of the version without pauses, in the form of SQLite's `.dump`."""


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A run log of version 1, with a run of three records."""
    path = tmp_path / "old.db"
    with sqlite3.connect(path) as db:
        db.executescript(VERSION_1.read_text("utf-8"))
        db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        db.execute("PRAGMA user_version = 1")
    db.close()
    return path


def test_pause_records_who_when_and_why_until_it_ends(log: RunLog, reader: RunLogReader, clock: HeldClock) -> None:
    log.register("crm", title="CRM", path="crm.md", status="in-progress", schedule="Hourly")
    assert log.pause("crm", "ada", "the ledger is closed")
    (row,) = reader.integrations()
    assert (row.paused_at, row.paused_by, row.paused_reason) == (
        "2026-11-24T10:42:07.123Z",
        "ada",
        "the ledger is closed",
    )
    clock.turn(60)
    assert log.resume("crm", "grace")
    (after,) = reader.integrations()
    assert (after.paused_at, after.paused_by, after.paused_reason) == (None, None, None)
    assert after.revision > row.revision
    events = [(event.kind, event.message) for event in reader.events()]
    assert events == [("pause", "paused by ada: the ledger is closed"), ("pause", "resumed by grace")]


def test_second_pause_or_resume_changes_nothing(log: RunLog, reader: RunLogReader, clock: HeldClock) -> None:
    assert not log.resume("crm", "ada")
    assert log.pause("crm", "ada")
    before = reader.integrations(), reader.events()
    clock.turn(60)
    assert not log.pause("crm", "grace", "me too")
    assert (reader.integrations(), reader.events()) == before


def test_integration_that_never_ran_can_be_paused(log: RunLog, reader: RunLogReader) -> None:
    log.pause("crm", "ada")
    log.register("crm", title="CRM", path="crm.md", status="in-progress", schedule="Hourly")
    log.finish_run(log.start_run("crm", "abc", "manual"))
    (row,) = reader.integrations()
    assert (row.title, row.paused_by, row.paused_reason) == ("CRM", "ada", None)


def test_version_1_run_log_is_migrated_by_the_first_writer(old: Path) -> None:
    with RunLog.open(old) as log, RunLogReader.open(old) as reader:
        assert log.get_cursor("crm") == "after c_3"
        assert log.get_hashes("crm", ["c_1"]) == {"c_1": b"h" * 16}
        assert [(run.state, run.read) for run in reader.runs()] == [(RunState.PARTIAL, 3)]
        assert [failure.key for failure in reader.failures()] == ["c_3", "c_2"]
        assert log.pause("crm", "ada")
        (row,) = reader.integrations()
        assert (row.schedule, row.waiting, row.dead, row.paused_by) == ("Hourly", 1, 1, "ada")
        assert log.finish_run(log.start_run("crm", "abc", "manual")).state is RunState.SUCCEEDED
    with RunLog.open(old) as log:
        assert not log.pause("crm", "grace")


def test_reader_does_not_change_a_version_1_run_log(old: Path) -> None:
    before = old.read_bytes()
    with pytest.raises(
        RunLogTooOld, match=r"old\.db: the run log was written by an older speclab \(schema 1;"
    ) as caught:
        RunLogReader.open(old)
    assert "`speclab status`" in caught.value.hint
    assert old.read_bytes() == before


def test_reader_with_write_access_migrates_a_version_1_run_log_first(old: Path) -> None:
    for _ in range(2):
        with RunLog.reader(old) as reader:
            assert [row.paused_at for row in reader.integrations()] == [None]
