"""Migrations: run logs of older versions keep their data and end with the schema of a new run log."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from tests.clocks import HeldClock
from tests.runlog.conftest import failure, page

from speclab.core.outcome import FailureState, RunState
from speclab.runlog import FullScan, RunLog, RunLogReader, TargetState
from speclab.runlog.schema import APPLICATION_ID, VERSION

DUMPS = {version: Path(__file__).with_name(f"version-{version}.sql") for version in (1, 6, 7)}
"""Run logs with data, as the version of the schema wrote them, in the form of SQLite's `.dump`."""


def restore(version: int, path: Path) -> Path:
    with closing(sqlite3.connect(path)) as db:
        db.executescript(DUMPS[version].read_text("utf-8"))
        db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        db.execute(f"PRAGMA user_version = {version}")
        db.commit()
    return path


def describe_schema(path: Path) -> dict[str, object]:
    """Columns of each table by name, and the text of each index and view without differences in white space."""
    with closing(sqlite3.connect(path)) as db:
        found: dict[str, object] = {}
        for kind, name, sql in db.execute("SELECT type, name, sql FROM sqlite_master WHERE name NOT LIKE '%sqlite_%'"):
            if kind == "table":
                columns = f"SELECT name, type, \"notnull\", dflt_value, pk FROM pragma_table_info('{name}')"
                found[name] = {column: rest for column, *rest in db.execute(columns)}
            else:
                found[name] = re.sub(r"\s+", " ", re.sub(r"--.*", "", sql)).replace('"', "").strip()
        return found


@pytest.mark.parametrize("version", DUMPS)
def test_old_run_log_ends_with_the_schema_of_a_new_one(version: int, tmp_path: Path) -> None:
    RunLog.open(tmp_path / "new.db").close()
    old = restore(version, tmp_path / "old.db")
    RunLog.open(old).close()
    assert describe_schema(old) == describe_schema(tmp_path / "new.db")
    with RunLogReader.open(old) as reader:
        assert reader.query("PRAGMA user_version") == [(VERSION,)]
        assert reader.query("PRAGMA foreign_key_check") == reader.query("PRAGMA foreign_key_list(event)") == []


def test_version_1_run_log_keeps_its_data(tmp_path: Path, clock: HeldClock) -> None:
    with RunLog.open(restore(1, tmp_path / "old.db"), clock) as log, RunLogReader.open(log.path) as reader:
        (run,) = reader.runs("crm")
        assert (run.state, run.read, run.written, run.waiting, run.dead) == (RunState.PARTIAL, 3, 1, 1, 1)
        assert len(reader.failures("crm")) == 2
        assert len(reader.events()) == 3
        assert reader.query("SELECT flow, read FROM rollup WHERE span = 'day'") == [("source -> target", 3)]


def test_version_6_run_log_keeps_its_data(tmp_path: Path, clock: HeldClock) -> None:
    with RunLog.open(restore(6, tmp_path / "old.db"), clock) as log, RunLogReader.open(log.path) as reader:
        assert (log.get_cursor("crm"), log.get_route("crm")) == ("after c_1", "a-b")
        assert log.get_field_profile("crm") == {"fields": ["id"]}
        assert log.get_hashes("crm", ["c_1", "c_5", "c_6", "x"]) == {
            "c_1": b"fedcba9876543210",
            "c_5": b"0123456789abcdef",
            "c_6": b"\x01" * 16,
        }
        assert log.get_hashes("erp", ["x"]) == {"x": b"h" * 16}
        assert log.open_full_scan("crm", "target-1") == FullScan(latest=2, held=0)
        assert [row.key for row in reader.failures("crm")] == ["c_4", "c_3", "c_2"]
        assert [row.key for row in log.get_unknown_failures("crm", ["c_3", "c_4"])] == ["c_4"]
        assert len(reader.events()) == 10
        assert [row.paused_by for row in reader.integrations()] == [None, "ada"]
        assert [row.name for row in reader.alerts()] == ["slow"]


def test_version_7_run_log_keeps_its_record_states(tmp_path: Path, clock: HeldClock) -> None:
    with RunLog.open(restore(7, tmp_path / "old.db"), clock) as log, RunLogReader.open(log.path) as reader:
        assert log.get_hashes("crm", ["c_1", "c_6"]) == {"c_1": b"fedcba9876543210", "c_6": b"\x01" * 16}
        assert log.get_spec_version("abd") == "---\nspec_id: crm\n---\n"
        run = log.start_run("crm", "abd", "manual")
        log.commit_page(run, replace(page(written=["c_6"]), targets={"c_6": TargetState("t-6", "v1")}))
        log.finish_run(run)
        assert reader.get_target("crm", "c_6") == TargetState("t-6", "v1")
        assert reader.get_target("crm", "c_1") == TargetState()


def test_migrated_run_log_continues_from_its_checkpoint(tmp_path: Path, clock: HeldClock) -> None:
    with RunLog.open(restore(6, tmp_path / "old.db"), clock) as log, RunLogReader.open(log.path) as reader:
        last = reader.events()[-1].id
        run = log.start_run("crm", "abe", "manual")
        deleted = b"\xff" * 16
        assert log.count_scan(run, deleted).missing == 1
        assert [row.key for row in log.get_missing("crm", 10)] == ["c_5"]
        log.commit_page(run, page(failure("c_3", FailureState.DEAD), written=["c_1", "c_2"]))
        assert log.finish_run(run).state is RunState.PARTIAL
        assert {row.key: row.state for row in reader.failures("crm")} == {
            "c_3": FailureState.DEAD,
            "c_4": FailureState.UNKNOWN,
        }
        assert reader.events(last)[0].id == last + 1
        assert reader.query("SELECT id, message FROM event") == reader.query("SELECT id, message FROM log_event")
