"""The reader and the tail: a run log that does not exist yet or is replaced, and only new events at each poll."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.clocks import HeldClock
from tests.runlog.conftest import failure, page

from speclab.core.errors import RunLogError
from speclab.core.outcome import FailureState, Level
from speclab.runlog import RunLog, RunLogReader, failure_json, run_json
from speclab.runlog.connection import create_if_missing
from speclab.runlog.reader import Tail


def write_event(log: RunLog, *messages: str) -> None:
    for message in messages:
        log.log_event("crm", None, Level.INFO, "log", message)


def test_reader_of_a_missing_run_log_returns_nothing(path: Path) -> None:
    with RunLogReader.open(path) as reader:
        lists = (reader.integrations(), reader.runs(), reader.failures(), reader.groups(), reader.events())
        assert not any([reader.present, reader.run("x"), reader.failure("x"), *lists])
        assert not path.parent.exists()
        tail = Tail.open(reader)
        with RunLog.open(path) as log:
            write_event(log, "hello")
            assert reader.present
            news = tail.poll()
            assert news.replaced
            assert [event.message for event in news.events] == ["hello"]


def test_database_without_tables_reads_as_empty(path: Path) -> None:
    path.parent.mkdir()
    create_if_missing(path)
    with RunLogReader.open(path) as reader:
        assert not reader.present
        assert reader.runs() == []


def test_tail_returns_only_new_events(log: RunLog, reader: RunLogReader) -> None:
    write_event(log, "before")
    tail = Tail.open(reader)
    assert not tail.poll().changed
    write_event(log, "one", "two")
    news = tail.poll()
    assert (news.changed, news.replaced, news.skipped) == (True, False, 0)
    assert [event.message for event in news.events] == ["one", "two"]
    assert not tail.poll().changed
    log.register("crm", title="CRM", path="", status="", schedule="")
    news = tail.poll()
    assert (news.changed, news.events) == (True, [])


def test_tail_that_fell_behind_counts_skipped_events(log: RunLog, reader: RunLogReader) -> None:
    tail = Tail.open(reader)
    write_event(log, *map(str, range(1250)))
    news = tail.poll()
    assert news.skipped == 250
    assert [event.message for event in news.events] == [str(number) for number in range(250, 1250)]


def test_replaced_run_log_is_noticed(log: RunLog, reader: RunLogReader, path: Path, tmp_path: Path) -> None:
    write_event(log, "old")
    tail = Tail.open(reader)
    with RunLog.open(tmp_path / "new.db") as other:
        write_event(other, "new")
    (tmp_path / "new.db").replace(path)
    for wal in path.parent.glob("*-*"):
        wal.unlink()
    news = tail.poll()
    assert (news.changed, news.replaced) == (True, True)
    assert [event.message for event in news.events] == ["new"]
    path.unlink()
    assert (tail.poll().replaced, reader.present) == (True, False)


def test_events_are_read_from_either_end_and_of_one_run(log: RunLog, reader: RunLogReader) -> None:
    run = log.start_run("crm", "abc", "manual")
    log.log_event("crm", run, Level.INFO, "log", "of the run")
    write_event(log, "a", "b", "c")
    log.log_event("erp", None, Level.ERROR, "log", "elsewhere")

    def messages(events: object) -> list[str]:
        return [event.message for event in events]  # type: ignore[attr-defined]

    assert messages(reader.events(limit=2)) == ["started by manual", "of the run"]
    assert messages(reader.events(2, spec_id="crm")) == ["a", "b", "c"]
    assert messages(reader.latest_events(2)) == ["c", "elsewhere"]
    assert messages(reader.latest_events(2, spec_id="crm")) == ["b", "c"]
    assert messages(reader.latest_events(2, before=4)) == ["of the run", "a"]
    assert (
        messages(reader.events(run=run))
        == messages(reader.latest_events(run=run))
        == ["started by manual", "of the run"]
    )


def test_snapshot_reads_one_moment(log: RunLog, reader: RunLogReader) -> None:
    with reader.snapshot():
        assert reader.runs() == []
        log.start_run("crm", "abc", "manual")
        assert reader.runs() == []
    assert len(reader.runs()) == 1


def test_reader_cannot_write(reader: RunLogReader) -> None:
    with pytest.raises(RunLogError, match="attempt to write a readonly database"):
        reader.query("DELETE FROM run")


def test_json_rows_have_the_fields_of_the_reference(log: RunLog, reader: RunLogReader, clock: HeldClock) -> None:
    run = log.start_run("crm", "abc", "manual")
    log.commit_page(run, page(failure("c_1", FailureState.DEAD, row="email", column=3), cursor="x"))
    clock.turn(1)
    row = run_json(log.finish_run(run))
    assert (
        list(row)
        == (
            "run spec_id spec_hash trigger state started_at ended_at read written created updated deleted unchanged "
            "filtered waiting dead unknown bytes_in bytes_out cursor error"
        ).split()
    )
    assert (row["state"], row["cursor"], row["dead"], row["error"]) == ("partial", "x", 1, None)
    (found,) = reader.failures(full=True)
    short = failure_json(found)
    assert (
        list(short)
        == (
            "id run spec_id key state stage class status message row column file line attempts first_at last_at "
            "next_attempt_at"
        ).split()
    )
    assert (short["class"], short["row"], short["next_attempt_at"]) == ("server", "email", None)
    full = failure_json(found, full=True)
    assert list(full) == [*short, "source", "payload", "request", "response"]
    assert full["source"] == {"id": "c_1"}
