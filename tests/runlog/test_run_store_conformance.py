"""Conformance: every `RunStore` records pages, retries, record states and full scans alike.

A new implementation adds its factory to `FACTORIES`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from datetime import timedelta
from inspect import getmembers, isfunction, signature
from pathlib import Path

import pytest
from tests.clocks import HeldClock
from tests.runlog.conftest import START, failure, page

from speclab.core.errors import UsageError
from speclab.core.json import Json, Record
from speclab.core.outcome import ErrorClass, FailureState, Level, Outcome, RunState, Stage
from speclab.runlog import (
    UNKNOWN_HASH,
    DryRunStore,
    FullScan,
    MissingRecord,
    NewFailure,
    PageResult,
    RetryResult,
    RunLog,
    RunStore,
    SeenRecords,
)

DELETED = b"\xff" * 16
LATER = START + timedelta(days=1)


@contextmanager
def sqlite_store(directory: Path, clock: HeldClock) -> Iterator[RunStore]:
    with RunLog.open(directory / "runlog.db", clock) as log:
        yield log


@contextmanager
def dry_run_store(directory: Path, clock: HeldClock) -> Iterator[RunStore]:
    with (
        RunLog.open(directory / "real.db", clock) as real,
        RunLog.open(directory / "scratch.db", clock) as scratch,
    ):
        yield DryRunStore(real, scratch, lambda _failure: None)


Factory = Callable[[Path, HeldClock], AbstractContextManager[RunStore]]
FACTORIES: dict[str, Factory] = {"sqlite": sqlite_store, "dry run": dry_run_store}
DURABLE: dict[str, Factory] = {"sqlite": sqlite_store}
"""Stores that later runs read; a dry run reads earlier runs only."""


@pytest.fixture(params=FACTORIES.values(), ids=list(FACTORIES))
def store(request: pytest.FixtureRequest, tmp_path: Path, clock: HeldClock) -> Iterator[RunStore]:
    with request.param(tmp_path, clock) as store:
        yield store


@pytest.fixture(params=DURABLE.values(), ids=list(DURABLE))
def durable(request: pytest.FixtureRequest, tmp_path: Path, clock: HeldClock) -> Iterator[RunStore]:
    with request.param(tmp_path, clock) as store:
        yield store


@pytest.mark.parametrize("implementation", [RunLog, DryRunStore])
def test_implementation_has_the_parameters_of_the_protocol(implementation: type) -> None:
    for name, call in getmembers(RunStore, isfunction):
        if not name.startswith("_"):
            expected = list(signature(call).parameters)
            assert list(signature(getattr(implementation, name)).parameters)[: len(expected)] == expected, name


def test_run_counts_each_record_once(store: RunStore) -> None:
    store.register("crm", title="CRM", path="specs/crm.md", status="in-progress", schedule="Hourly")
    run = store.start_run("crm", "abc", "manual")
    store.commit_page(run, page(failure("a", FailureState.DEAD), written=["b", "c"], filtered=1))
    store.commit_page(run, page(written=["d"], unchanged=2))
    row = store.finish_run(run)
    assert (row.run, row.state, row.spec_hash) == (run, RunState.PARTIAL, "abc")
    assert (row.read, row.written, row.unchanged, row.filtered, row.dead) == (7, 3, 2, 1, 1)
    assert store.get_last_run_state("crm") is RunState.PARTIAL


def test_run_whose_counts_do_not_match_is_failed(store: RunStore) -> None:
    run = store.start_run("crm", "abc", "manual")
    store.commit_page(run, replace(page(written=["a"]), read=2))
    row = store.finish_run(run)
    assert row.state is RunState.FAILED
    assert "read 2, outcomes 1" in str(row.error)


@pytest.mark.parametrize(
    ("error", "state", "expected"),
    [
        (None, None, RunState.SUCCEEDED),
        ("no route to host", None, RunState.FAILED),
        ("stopped", RunState.CANCELLED, RunState.CANCELLED),
    ],
)
def test_finished_run_has_its_state_and_takes_no_more_pages(
    store: RunStore, error: str | None, state: RunState | None, expected: RunState
) -> None:
    run = store.start_run("crm", "abc", "manual")
    row = store.finish_run(run, error, state, ErrorClass.NETWORK)
    assert (row.state, row.error) == (expected, error)
    with pytest.raises(UsageError):
        store.commit_page(run, page(written=["a"]))


def test_page_that_counts_a_failure_it_does_not_have_changes_nothing(store: RunStore) -> None:
    run = store.start_run("crm", "abc", "manual")
    wrong: list[PageResult] = [
        replace(page(written=["a"]), outcomes={Outcome.DEAD: 1}),
        page(failure("a"), failure("a")),
    ]
    for each in wrong:
        with pytest.raises(ValueError, match="failures"):
            store.commit_page(run, each)
    assert store.finish_run(run).read == 0


def test_next_run_resumes_from_the_cursor_of_the_last_page(durable: RunStore) -> None:
    assert (durable.get_cursor("crm"), durable.get_route("crm")) == (None, None)
    run = durable.start_run("crm", "abc", "manual")
    durable.commit_page(run, replace(page(written=["a"], cursor="after a"), route="a-b"))
    durable.commit_page(run, replace(page(written=["b"], cursor="after b"), keep_cursor=True))
    assert (durable.get_cursor("crm"), durable.get_route("crm")) == ("after a", "a-b")
    assert durable.get_cursor("erp") is None


def test_field_profile_is_the_one_saved_last(durable: RunStore) -> None:
    durable.register("crm", title="CRM", path="", status="", schedule="")
    assert durable.get_field_profile("crm") is None
    profiles: list[Json] = [{"id": 1}, {"id": 2}]
    for profile in profiles:
        durable.save_field_profile("crm", profile)
    assert durable.get_field_profile("crm") == {"id": 2}


def test_batch_reads_the_hashes_and_unknown_failures_of_its_keys(durable: RunStore) -> None:
    keys = ["a", "b", "c", "d", "é\ud800"]
    assert durable.get_hashes("crm", keys) == {}
    run = durable.start_run("crm", "abc", "manual")
    sent = failure("b", FailureState.UNKNOWN, payload={"id": "b"})
    durable.commit_page(run, page(sent, failure("c"), written=["a", "é\ud800"]))
    durable.set_hashes("crm", {"b": UNKNOWN_HASH})
    assert durable.get_hashes("crm", keys) == {"a": b"h" * 16, "b": UNKNOWN_HASH, "é\ud800": b"h" * 16}
    assert [(row.key, row.payload) for row in durable.get_unknown_failures("crm", keys)] == [("b", {"id": "b"})]


def test_hash_set_to_none_is_forgotten(durable: RunStore) -> None:
    durable.set_hashes("crm", {"a": b"1" * 16, "b": b"2" * 16})
    durable.set_hashes("crm", {"a": None, "b": b"3" * 16})
    assert durable.get_hashes("crm", ["a", "b"]) == {"b": b"3" * 16}


def test_due_failures_come_longest_due_first_until_they_are_retried(store: RunStore) -> None:
    run = store.start_run("crm", "abc", "manual")
    soon, sooner = (f"2026-11-24T11:0{minute}:00.000Z" for minute in (2, 1))
    store.commit_page(run, page(failure("a", next_attempt_at=soon), failure("b", next_attempt_at=sooner)))
    assert store.get_due_failures("crm", START) == []
    assert [row.key for row in store.get_due_failures("crm", LATER)] == ["b", "a"]
    assert [row.key for row in store.get_due_failures("crm", LATER, 1)] == ["b"]
    assert store.count_due_failures("crm", LATER) == 2
    first, second = store.get_due_failures("crm", LATER)
    again = failure("a", next_attempt_at="2026-11-26T00:00:00.000Z", stage=Stage.WRITE)
    store.commit_retries(
        run,
        [
            RetryResult(first.id, Outcome.WRITTEN, state=("b", b"h" * 16)),
            RetryResult(second.id, Outcome.WAITING, new_failure=again),
        ],
        "retried 2",
    )
    assert store.get_due_failures("crm", LATER) == []
    row = store.finish_run(run)
    assert (row.read, row.written, row.waiting) == (2, 1, 1)


def test_retry_that_failed_needs_its_new_failure(store: RunStore) -> None:
    run = store.start_run("crm", "abc", "manual")
    store.commit_page(run, page(failure("a")))
    (row,) = store.get_due_failures("crm", LATER)
    with pytest.raises(ValueError, match="retry"):
        store.commit_retries(run, [RetryResult(row.id, Outcome.DEAD)])
    with pytest.raises(UsageError):
        store.commit_retries(run, [RetryResult("no such failure", Outcome.WRITTEN)])


def test_newer_record_supersedes_the_open_failure_of_its_key(store: RunStore) -> None:
    run = store.start_run("crm", "abc", "manual")
    store.commit_page(run, page(failure("a"), failure("b")))
    store.commit_page(run, page(written=["a"]))
    assert [row.key for row in store.get_due_failures("crm", LATER)] == ["b"]
    row = store.finish_run(run)
    assert (row.read, row.written, row.filtered, row.waiting) == (3, 1, 1, 1)


def test_missing_records_of_a_full_scan_are_found_and_become_tombstones(durable: RunStore) -> None:
    identities: dict[str, Record | None] = {key: {"target": {"id": key}} for key in ("a", "b", "c")}
    run = durable.start_run("crm", "abc", "manual")
    assert durable.open_full_scan("crm", "target") == FullScan(0, 0)
    seen = SeenRecords(1, identities, keyless=False, ends=True)
    durable.commit_page(run, replace(page(written=list(identities)), seen=seen))
    seen = SeenRecords(2, {"a": identities["a"]}, keyless=False, ends=True)
    durable.commit_page(run, replace(page(unchanged=1), seen=seen))
    assert durable.open_full_scan("crm", "target") == FullScan(latest=2, held=0)
    counts = durable.count_scan(run, DELETED)
    assert (counts.missing, counts.known, counts.nameless, counts.balanced) == (2, 3, 0, True)
    assert durable.get_missing("crm", 10) == [MissingRecord(key, identities[key]) for key in ("b", "c")]
    assert [row.key for row in durable.get_missing("crm", 10, after="b")] == ["c"]
    waiting = page(failure("b"))
    durable.commit_page(run, replace(waiting, keep_cursor=True, tombstones=["b"]))
    assert durable.get_tombstones("crm", ["a", "b", "c"]) == {"b": identities["b"]}
    assert durable.open_full_scan("crm", "another target") == FullScan(0, 0)
    assert durable.get_missing("crm", 10) == []


def test_progress_is_stored_until_the_run_ends(store: RunStore) -> None:
    run = store.start_run("crm", "abc", "manual")
    row = store.save_progress(run, {"page": 1, "sent": 2})
    assert (row.run, row.progress, row.cancel) == (run, {"page": 1, "sent": 2}, 0)
    assert store.finish_run(run).progress is None


def test_run_whose_process_is_gone_is_marked_as_interrupted(store: RunStore) -> None:
    run = store.start_run("crm", "abc", "manual")
    assert store.mark_interrupted(lambda _spec_id, _process: True) == []
    (row,) = store.mark_interrupted(lambda spec_id, _process: spec_id != "crm")
    assert (row.run, row.state) == (run, RunState.INTERRUPTED)


def test_events_and_spec_versions_are_accepted_at_any_time(store: RunStore) -> None:
    store.log_event("crm", None, Level.INFO, "log", "before the first run", {"n": 1})
    for _ in range(2):
        store.save_spec_version("abc", "text \ud800")


def test_dry_run_reads_earlier_runs_and_changes_nothing_of_them(tmp_path: Path, clock: HeldClock) -> None:
    with (
        RunLog.open(tmp_path / "real.db", clock) as real,
        RunLog.open(tmp_path / "scratch.db", clock) as scratch,
    ):
        run = real.start_run("crm", "abc", "manual")
        real.commit_page(run, replace(page(failure("b"), written=["a"], cursor="after a"), route="a-b"))
        real.save_field_profile("crm", {"id": 1})
        real.finish_run(run)
        before = list(real._db.iterdump())
        reported: list[NewFailure] = []
        dry = DryRunStore(real, scratch, reported.append)
        assert (dry.get_cursor("crm"), dry.get_route("crm"), dry.get_field_profile("crm")) == (
            "after a",
            "a-b",
            {"id": 1},
        )
        assert dry.get_hashes("crm", ["a", "b"]) == {"a": b"h" * 16}
        assert dry.get_due_failures("crm", LATER) == []
        run = dry.start_run("crm", "abd", "manual")
        dry.save_spec_version("abd", "text")
        dry.commit_page(run, page(failure("d", FailureState.DEAD), written=["c"], cursor="after d"))
        dry.set_hashes("crm", {"a": UNKNOWN_HASH})
        assert dry.finish_run(run).state is RunState.PARTIAL
        assert [one.key for one in reported] == ["d"]
        assert list(real._db.iterdump()) == before
