"""Faults: full disks, locks, files that are not run logs, and other versions."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from sqlite_utils import Database, Migrations
from tests.clocks import HeldClock
from tests.runlog.conftest import page

from speclab.core.errors import RunLogError, RunLogTooNew, RunLogTooOld
from speclab.runlog import RunLog, RunLogReader, connection, schema
from speclab.runlog.reader import Tail


def test_full_disk_loses_only_the_current_page(log: RunLog, reader: RunLogReader) -> None:
    run = log.start_run("crm", "abc", "manual")
    log.commit_page(run, page(written=["a"], cursor="after a"))
    before = reader.run(run), reader.events()
    ((pages,),) = log._db.execute("PRAGMA page_count")
    log._db.execute(f"PRAGMA max_page_count = {pages}")  # like a full disk
    with pytest.raises(RunLogError, match=r"runlog\.db: the run log cannot grow: the disk is full") as caught:
        log.commit_page(run, page(written=[f"key {number}" for number in range(5000)], cursor="too far"))
    assert "Free some space" in caught.value.hint
    assert (reader.run(run), reader.events()) == before
    assert log.get_cursor("crm") == "after a"
    log._db.execute("PRAGMA max_page_count = 1000000")
    log.commit_page(run, page(written=["b"]))
    assert log.finish_run(run).read == 2


@pytest.mark.usefixtures("log")
def test_run_log_that_stays_locked_is_an_error(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "_BUSY_SECONDS", 0.05)
    holder = sqlite3.connect(path, isolation_level=None)
    with RunLog.open(path) as second:
        holder.execute("BEGIN IMMEDIATE")
        with pytest.raises(RunLogError, match="the run log is locked by another process"):
            second.start_run("crm", "abc", "manual")
        holder.execute("ROLLBACK")
        second.start_run("crm", "abc", "manual")
    holder.close()


@pytest.mark.parametrize("opened", [RunLog.open, RunLogReader.open])
def test_file_that_is_not_a_database_is_not_changed(path: Path, opened: Callable[[Path], object]) -> None:
    path.parent.mkdir()
    path.write_text("# Notes\n" * 500)
    with pytest.raises(RunLogError, match="this file is not a SQLite database, so not a run log"):
        opened(path)
    assert path.read_text() == "# Notes\n" * 500


@pytest.mark.parametrize("opened", [RunLog.open, RunLogReader.open])
def test_database_that_is_not_a_run_log_is_not_changed(path: Path, opened: Callable[[Path], object]) -> None:
    path.parent.mkdir()
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE run (id)")
    other.close()
    before = path.read_bytes()
    with pytest.raises(RunLogError, match="this SQLite database is not a run log"):
        opened(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("opened", [RunLog.open, RunLogReader.open])
def test_damaged_run_log_is_an_error(log: RunLog, path: Path, opened: Callable[[Path], object]) -> None:
    run = log.start_run("crm", "abc", "manual")
    log.commit_page(run, page(written=[f"key {number}" for number in range(5000)]))
    log.finish_run(run)
    log.close()
    content = bytearray(path.read_bytes())
    content[4096:] = b"\xff" * (len(content) - 4096)
    path.write_bytes(content)
    with pytest.raises(RunLogError, match="the run log is damaged"):
        opened(path)


@pytest.mark.parametrize("opened", [RunLog.open, RunLogReader.open])
def test_empty_run_log_file_is_an_error(path: Path, opened: Callable[[Path], object]) -> None:
    with RunLog.open(path) as log:
        log.start_run("crm", "abc", "manual")
    path.write_bytes(b"")
    with pytest.raises(RunLogError, match=r"the run log is empty \(0 bytes\)"):
        opened(path)
    assert path.read_bytes() == b""


def test_run_log_deleted_or_replaced_during_a_run_accepts_no_pages(log: RunLog, path: Path) -> None:
    run = log.start_run("crm", "abc", "manual")
    log.commit_page(run, page(written=["1"]))
    path.unlink()
    for what in ("deleted", "replaced by another file"):
        with pytest.raises(RunLogError, match=f"the run log was {what} while this process was writing") as error:
            log.commit_page(run, page(written=["2"]))
        assert "check the target before the next run" in error.value.hint
        with pytest.raises(RunLogError, match=what):
            log.finish_run(run)
        RunLog.open(path).close()


def test_new_run_log_ignores_leftover_files_of_a_deleted_one(path: Path) -> None:
    with RunLog.open(path) as log:
        log.start_run("crm", "abc", "manual")
        path.unlink()
        assert path.with_name("runlog.db-wal").exists()
        with RunLog.open(path) as new, RunLogReader.open(path) as reader:
            assert reader.runs() == []
            new.start_run("crm", "abc", "manual")
            assert len(reader.runs()) == 1
    assert not path.with_name("runlog.db.new").exists()


def test_impossible_path_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RunLogError, match=r"file/runlog\.db: the run log cannot be reached: "):
        RunLog.open(tmp_path / "file" / "runlog.db")
    (tmp_path / "runlog.db").mkdir()
    with pytest.raises(RunLogError, match="the run log cannot be opened"):
        RunLog.open(tmp_path / "runlog.db")


@contextmanager
def as_another_user(directory: Path) -> Iterator[None]:
    """Act as a user who can read in `directory`, but not write."""
    if os.geteuid() == 0:
        os.seteuid(65534)
        try:
            yield
        finally:
            os.seteuid(0)
    else:
        directory.chmod(0o555)
        yield
        directory.chmod(0o755)


def test_user_without_write_access_can_read() -> None:
    with TemporaryDirectory() as name:
        directory = Path(name)
        directory.chmod(0o755)
        path = directory / "runlog.db"
        with RunLog.open(path) as log:
            log.finish_run(log.start_run("crm", "abc", "manual"))
            for shared in directory.iterdir():
                shared.chmod(0o644)
            with as_another_user(directory), RunLogReader.open(path) as reader:
                assert len(reader.runs()) == 1
        with RunLogReader(path) as reader:
            with as_another_user(directory):
                assert len(reader.runs()) == 1
                tail = Tail.open(reader)
                assert not tail.poll().changed
            with RunLog.open(path) as log:
                log.start_run("crm", "abc", "manual")
                with as_another_user(directory):
                    assert tail.poll().changed
                    assert len(reader.runs()) == 2


def tomorrows(version: int) -> Migrations:
    """Return the migrations of a later speclab."""
    steps = today(version)

    @steps()
    def say_who(db: Database) -> None:
        db.execute("ALTER TABLE run ADD COLUMN started_by TEXT NOT NULL DEFAULT ''")

    return steps


today = schema.migrations


def test_older_run_log_is_migrated_and_keeps_its_rows(log: RunLog, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = log.start_run("crm", "abc", "manual")
    log.commit_page(run, page(written=["a"]))
    now = schema.VERSION
    monkeypatch.setattr(schema, "VERSION", now + 1)
    monkeypatch.setattr(schema, "migrations", tomorrows)
    older = rf"the run log was written by an older speclab \(schema {now}; this one reads {now + 1}\)"
    with pytest.raises(RunLogTooOld, match=older):
        RunLogReader.open(path)
    for _ in range(2):
        with RunLog.open(path) as later:
            assert later.get_cursor("crm") == "next"
            assert later.get_hashes("crm", ["a"]) == {"a": b"h" * 16}
    with RunLogReader.open(path) as other:
        assert other.query("SELECT read, started_by FROM run") == [(1, "")]


@pytest.mark.parametrize("opened", [RunLog.open, RunLogReader.open])
def test_newer_run_log_is_rejected_with_a_hint(
    log: RunLog, path: Path, opened: Callable[[Path], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(schema, "VERSION", schema.VERSION + 1)
        patch.setattr(schema, "migrations", tomorrows)
        RunLog.open(path).close()
    now = schema.VERSION
    newer = rf"written by a newer speclab \(schema {now + 1}; this one knows {now}\)"
    with pytest.raises(RunLogTooNew, match=newer) as caught:
        opened(path)
    assert "Upgrade speclab" in caught.value.hint
    assert log.get_cursor("crm") is None  # a run log that is open already can still be read


@pytest.mark.usefixtures("log")
def test_failed_migration_changes_nothing(path: Path, monkeypatch: pytest.MonkeyPatch, clock: HeldClock) -> None:
    def broken(version: int) -> Migrations:
        steps = tomorrows(version)

        @steps()
        def and_then(db: Database) -> None:
            db.execute("ALTER TABLE nowhere ADD COLUMN x")

        return steps

    with monkeypatch.context() as patch:
        patch.setattr(schema, "VERSION", schema.VERSION + 2)
        patch.setattr(schema, "migrations", broken)
        with pytest.raises(RunLogError, match="no such table: nowhere"):
            RunLog.open(path)
    with RunLog.open(path, clock) as still:
        still.finish_run(still.start_run("crm", "abc", "manual"))
    with RunLogReader.open(path) as reader:
        assert ("started_by",) not in reader.query("SELECT name FROM pragma_table_info('run')")
