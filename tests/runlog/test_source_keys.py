"""Source keys: full scans that start, continue after a kill and end, and the records missing afterwards."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.clocks import HeldClock
from tests.runlog.conftest import failure

from speclab.core.json import Record
from speclab.core.outcome import FailureState, Outcome, Stage
from speclab.runlog import MissingRecord, NewFailure, PageResult, RunLog, RunLogReader, ScanCounts, SeenRecords

HASH, DELETED = b"h" * 16, b"d" * 16
SPEC = "crm"


class Reads:
    """Reads of a source, page by page, given by their keys; all records are written unless stated otherwise."""

    def __init__(self, log: RunLog) -> None:
        self.log = log
        self.run = log.start_run(SPEC, "abc", "manual")

    def page(
        self,
        full_scan: int,
        keys: Iterable[str],
        *,
        ends: bool = False,
        keyless: bool = False,
        keep: bool = False,
        unmapped: Sequence[str] = (),
        failures: Sequence[NewFailure] = (),
    ) -> None:
        keys = list(keys)
        failed = {one.key for one in failures}
        written = [key for key in keys if key not in failed]
        identities: dict[str, Record | None] = {key: None if key in unmapped else {"id": key} for key in keys}
        outcomes = {Outcome.WRITTEN: len(written)}
        for one in failures:
            outcomes[Outcome(one.state.value)] = outcomes.get(Outcome(one.state.value), 0) + 1
        self.log.commit_page(
            self.run,
            PageResult(
                read=len(keys),
                outcomes=outcomes,
                effects={},
                bytes_in=0,
                bytes_out=0,
                cursor="next",
                failures=failures,
                keys=keys,
                states=[(key, HASH) for key in written],
                keep_cursor=keep,
                seen=SeenRecords(full_scan, identities, keyless, ends),
            ),
        )

    def missing(self) -> list[str]:
        self.log.count_scan(self.run, DELETED)
        return [one.key for one in self.log.get_missing(SPEC, 1000)]


@pytest.fixture
def reads(log: RunLog) -> Reads:
    log.open_full_scan(SPEC, "there")
    return Reads(log)


def test_record_that_a_full_scan_did_not_see_is_missing(reads: Reads) -> None:
    reads.page(1, "ab")
    reads.page(1, "cd", ends=True)
    assert reads.missing() == []
    reads.page(2, "d")
    reads.page(2, "be", ends=True)
    assert reads.log.count_scan(reads.run, DELETED) == ScanCounts(missing=2, nameless=0, known=5)
    assert reads.log.get_missing(SPEC, 10) == [MissingRecord("a", {"id": "a"}), MissingRecord("c", {"id": "c"})]
    assert reads.log.get_missing(SPEC, 1) == [MissingRecord("a", {"id": "a"})]


def test_no_record_is_missing_before_a_full_scan_is_complete(reads: Reads) -> None:
    reads.page(1, "ab", ends=True)
    reads.page(2, "c")
    assert reads.missing() == []
    reads.page(2, "a", ends=True, keep=True)  # cut short by a limit or a halt: the page is read again
    assert reads.missing() == []
    reads.page(2, "a", ends=True)
    assert reads.missing() == ["b"]


def test_full_scan_continues_only_from_its_own_cursor(reads: Reads) -> None:
    log = reads.log
    reads.page(1, "ab")
    assert (log.open_full_scan(SPEC, "there").latest, log.open_full_scan(SPEC, "there").held) == (1, 1)
    reads.page(2, "c", keep=True)  # another read starts, and ends before its first page is committed
    full_scan = log.open_full_scan(SPEC, "there")
    assert (full_scan.latest, full_scan.held) == (2, 1)
    reads.page(0, "d")
    assert log.open_full_scan(SPEC, "there").held == 0


def test_record_seen_by_an_incremental_read_is_no_longer_missing(reads: Reads) -> None:
    reads.page(1, "abc", ends=True)
    reads.page(2, "a", ends=True)
    reads.page(0, "b")
    assert reads.missing() == ["c"]
    reads.page(0, "d")
    reads.page(3, "abc", ends=True)
    assert reads.missing() == ["d"]


def test_full_scan_with_keyless_records_derives_no_missing_records(reads: Reads) -> None:
    reads.page(1, "abc", ends=True)
    reads.page(2, "a", keyless=True)
    reads.page(2, "b", ends=True)
    assert reads.missing() == []
    reads.page(3, "ab", ends=True)
    assert reads.missing() == ["c"]


def test_record_that_never_reached_the_target_is_not_missing(reads: Reads) -> None:
    never = failure("c", FailureState.DEAD, stage=Stage.MAP)
    tried = failure("d", FailureState.WAITING)
    reads.page(1, "abcd", unmapped="c", failures=[never, tried], ends=True)
    reads.page(2, "a", ends=True)
    assert reads.log.count_scan(reads.run, DELETED) == ScanCounts(missing=2, nameless=0, known=2)
    assert reads.log.get_missing(SPEC, 9) == [
        MissingRecord("b", {"id": "b"}),
        MissingRecord("c", None),
        MissingRecord("d", {"id": "d"}),
    ]


def test_record_filtered_when_last_seen_keeps_its_identity(reads: Reads) -> None:
    reads.page(1, "ab", ends=True)
    reads.page(2, "ab", unmapped="b", ends=True)
    reads.page(3, "a", ends=True)
    assert reads.log.count_scan(reads.run, DELETED) == ScanCounts(missing=1, nameless=0, known=2)


def test_written_records_without_an_identity_are_counted_as_nameless(reads: Reads) -> None:
    reads.page(1, "ab", unmapped="b", ends=True)
    reads.page(2, "a", ends=True)
    assert reads.log.count_scan(reads.run, DELETED) == ScanCounts(missing=0, nameless=1, known=2)


def test_missing_record_is_handled_once_until_it_is_seen_again(reads: Reads) -> None:
    log = reads.log
    reads.page(1, "abcd", ends=True)
    reads.page(2, "a", ends=True)
    assert reads.missing() == ["b", "c", "d"]
    dead = failure("c", FailureState.DEAD)
    outcomes = {Outcome.WRITTEN: 1, Outcome.DEAD: 1}
    log.commit_page(
        reads.run,
        PageResult(
            2, outcomes, {}, 0, 0, None, [dead], "bc", [("b", DELETED)], keep_cursor=True, tombstones=["b", "c"]
        ),
    )
    assert reads.missing() == ["d"]
    assert log.get_tombstones(SPEC, ["b", "c", "d"]) == {"c": {"id": "c"}}
    assert log.get_cursor(SPEC) == "next"
    reads.page(3, "a", ends=True)
    assert reads.missing() == ["d"]
    reads.page(4, "acd", ends=True)
    assert log.get_tombstones(SPEC, ["c"]) == {}
    reads.page(5, "a", ends=True)
    assert reads.missing() == ["c", "d"]


def test_another_target_starts_without_source_keys(reads: Reads) -> None:
    reads.page(1, "ab", ends=True)
    reads.page(2, "a", ends=True)
    assert reads.log.open_full_scan(SPEC, "elsewhere").latest == 0
    assert reads.missing() == []


def test_pages_of_a_killed_process_are_merged_by_the_next_one(reads: Reads, path: Path, clock: HeldClock) -> None:
    reads.page(1, "abc", ends=True)
    reads.page(2, "b")
    with RunLog.open(path, clock) as other:
        assert other.open_full_scan(SPEC, "there").held == 2
        again = Reads(other)
        again.page(2, "c", ends=True)
        assert again.missing() == ["a"]


def test_source_keys_are_separate_per_spec(reads: Reads) -> None:
    reads.page(1, "ab", ends=True)
    reads.page(2, "a", ends=True)
    reads.log.open_full_scan("other", "there")
    other = reads.log.start_run("other", "abc", "manual")
    assert reads.log.count_scan(other, DELETED) == ScanCounts(0, 0, 0)
    assert reads.log.get_tombstones("unheard of", ["a"]) == {}
    assert reads.log.get_missing("unheard of", 9) == []


def test_key_that_sqlite_would_truncate_is_ignored(reads: Reads) -> None:
    reads.page(1, ["a", "a\x00b"], ends=True)
    reads.page(2, [], ends=True)
    assert reads.missing() == ["a"]


def test_many_pages_are_merged_at_once(reads: Reads, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("speclab.runlog.record_state._MERGE_AT", 5)
    counts = []
    for number in range(4):
        reads.page(1, [f"{number}{key}" for key in "ab"])
        with RunLogReader.open(path) as reader:
            counts.append(reader.query("SELECT count(*) FROM source_key")[0][0])
    assert counts == [0, 0, 6, 6]


KEYS = st.sets(st.sampled_from(["a", "b", '"', "\\u0041", "ä", "x y", "\\", "€", "🙂"]), max_size=6)


@settings(max_examples=60, deadline=None)
@given(st.lists(KEYS, min_size=1, max_size=6))
def test_missing_records_match_a_model_after_any_sequence_of_reads(
    tmp_path_factory: pytest.TempPathFactory, sweeps: list[set[str]]
) -> None:
    with RunLog.open(tmp_path_factory.mktemp("log") / "runlog.db") as log:
        log.open_full_scan(SPEC, "there")
        reads = Reads(log)
        for number, keys in enumerate(sweeps, 1):
            ordered = sorted(keys)
            reads.page(number, ordered[:2])
            reads.page(number, ordered[2:], ends=True)
        assert set(reads.missing()) == set().union(*sweeps) - sweeps[-1]
