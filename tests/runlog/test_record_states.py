"""Record states: found in the table and in pages, with one hash per record."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest
from tests.runlog.conftest import page

from speclab.runlog import UNKNOWN_HASH, RunLog, RunLogReader, TargetState

MANY = 21_000


def rows(reader: RunLogReader) -> tuple[int, int]:
    """Return the number of states in the table, and of pages that are not merged."""
    ((table,),) = reader.query("SELECT count(*) FROM record_state")
    ((pages,),) = reader.query("SELECT count(*) FROM record_state_page")
    return table, pages


def test_newest_hash_of_a_key_wins(log: RunLog, reader: RunLogReader) -> None:
    for number in range(3):
        run = log.start_run("crm", "abc", "manual")
        for half in (b"x", b"y"):
            hash_ = half * 15 + bytes([number])
            log.commit_page(run, page(written=["a", "b"], hash_=hash_))
            assert log.get_hashes("crm", ["a", "b", "c"]) == {"a": hash_, "b": hash_}
        log.finish_run(run)
        assert log.get_hashes("crm", ["a", "c"]) == {"a": hash_}
    assert rows(reader) == (2, 0)
    assert log.get_hashes("erp", ["a"]) == {}


def test_many_pages_are_merged_into_the_table(log: RunLog, reader: RunLogReader) -> None:
    run = log.start_run("crm", "abc", "manual")
    keys = [f"c_{number}" for number in range(MANY)]
    for start in range(0, MANY, 3000):
        log.commit_page(run, page(written=keys[start : start + 3000]))
    assert rows(reader) == (MANY, 0)
    log.commit_page(run, page(written=keys[:5], hash_=b"n" * 16))
    assert rows(reader) == (MANY, 1)
    assert set(log.get_hashes("crm", keys).values()) == {b"h" * 16, b"n" * 16}


def test_unmerged_pages_of_a_killed_run_are_read_by_others_and_merged_by_the_next_run(
    log: RunLog, path: Path, reader: RunLogReader
) -> None:
    log.commit_page(log.start_run("crm", "abc", "manual"), page(written=["a", "b"]))
    with RunLog.open(path) as other:
        assert other.get_hashes("crm", ["a"]) == {"a": b"h" * 16}
        other.start_run("crm", "abc", "manual")
        assert rows(reader) == (2, 0)
        assert other.get_hashes("crm", ["b"]) == {"b": b"h" * 16}


def test_target_ids_and_versions_are_kept_per_record(log: RunLog, reader: RunLogReader) -> None:
    run = log.start_run("crm", "abc", "manual")
    targets = {"a": TargetState("t-1", '"v1"'), "é\udc80": TargetState("t-\udc80")}
    log.commit_page(run, replace(page(written=["a", "b", "é\udc80"]), targets=targets))
    for merged in (False, True):
        if merged:
            log.finish_run(run)
        assert reader.get_target("crm", "a") == TargetState("t-1", '"v1"')
        assert reader.get_target("crm", "b") == reader.get_target("erp", "a") == TargetState()
        assert reader.get_target("crm", "é\udc80") == TargetState("t-\\udc80")
        assert log.get_hashes("crm", ["a"]) == {"a": b"h" * 16}
    assert rows(reader) == (3, 0)


@pytest.mark.parametrize("merged", [False, True])
def test_write_without_a_version_makes_it_unknown_and_keeps_the_id(
    log: RunLog, reader: RunLogReader, *, merged: bool
) -> None:
    run = log.start_run("crm", "abc", "manual")
    log.commit_page(run, replace(page(written=["a", "b"]), targets=dict.fromkeys("ab", TargetState("t", "v1"))))
    if merged:
        log.finish_run(run)
        run = log.start_run("crm", "abc", "manual")
    log.set_hashes("crm", {"a": UNKNOWN_HASH})
    assert reader.get_target("crm", "a") == TargetState("t")
    log.commit_page(run, replace(page(written=["a"]), targets={"a": TargetState(version="v2")}))
    assert reader.get_target("crm", "a") == TargetState("t", "v2")
    log.commit_page(run, page(written=["a"]))
    log.finish_run(run)
    assert reader.get_target("crm", "a") == TargetState("t")
    assert reader.get_target("crm", "b") == TargetState("t", "v1")
    log.set_hashes("crm", {"a": None})
    assert reader.get_target("crm", "a") == TargetState()


def test_page_that_is_rolled_back_leaves_no_hash(log: RunLog) -> None:
    run = log.start_run("crm", "abc", "manual")
    log.commit_page(run, page(written=["a"]))
    log._db.execute("CREATE TRIGGER full BEFORE INSERT ON log_event BEGIN SELECT RAISE(ABORT, 'no room'); END")
    with pytest.raises(sqlite3.IntegrityError, match="no room"):
        log.commit_page(run, page(written=["a", "b"], hash_=b"n" * 16))
    log._db.execute("DROP TRIGGER full")
    assert log.get_hashes("crm", ["a", "b"]) == {"a": b"h" * 16}


def lookups_of(log: RunLog, keys: list[str]) -> tuple[dict[str, bytes], int]:
    """Return the hashes of `keys`, and how many keys were looked up in the table."""
    statements: list[str] = []
    log._db.set_trace_callback(statements.append)
    found = log.get_hashes("crm", keys)
    log._db.set_trace_callback(None)
    lookups = [sql for sql in statements if "FROM record_state WHERE" in sql]
    return found, sum(sql.count('"') // 2 for sql in lookups)  # keys are in a JSON list


def test_first_run_looks_up_only_keys_it_may_have_written(log: RunLog) -> None:
    run = log.start_run("crm", "abc", "manual")
    keys = [f"c_{number}" for number in range(MANY)]
    for start in range(0, MANY, 3000):
        page_of = keys[start : start + 3000]
        found, statements = lookups_of(log, page_of)
        assert (found, statements < 50) == ({}, True)  # some share a slot of the filter with another
        log.commit_page(run, page(written=page_of))
        assert lookups_of(log, page_of) == (dict.fromkeys(page_of, b"h" * 16), 3000)
    log.finish_run(run)
    log.start_run("crm", "abc", "manual")
    assert lookups_of(log, [*keys[:3], "new"]) == (dict.fromkeys(keys[:3], b"h" * 16), 4)


def test_states_written_by_another_process_between_two_runs_are_found(log: RunLog, path: Path) -> None:
    log.finish_run(log.start_run("crm", "abc", "manual"))
    with RunLog.open(path) as other:
        run = other.start_run("crm", "abc", "manual")
        other.commit_page(run, page(written=["a"]))
        other.finish_run(run)
    assert log.get_hashes("crm", ["a"]) == {"a": b"h" * 16}
    log.start_run("crm", "abc", "manual")
    assert log.get_hashes("crm", ["a"]) == {"a": b"h" * 16}


def test_run_that_fails_to_start_does_not_assume_new_keys(log: RunLog, path: Path) -> None:
    log.start_run("erp", "abc", "manual")
    log._db.execute("CREATE TRIGGER full BEFORE INSERT ON log_event BEGIN SELECT RAISE(ABORT, 'no room'); END")
    with pytest.raises(sqlite3.IntegrityError, match="no room"):
        log.start_run("crm", "abc", "manual")
    log._db.execute("DROP TRIGGER full")
    with RunLog.open(path) as other:
        other.commit_page(other.start_run("crm", "abc", "manual"), page(written=["a"]))
    assert log.get_hashes("crm", ["a"]) == {"a": b"h" * 16}
