"""Failures: superseded by newer records, retried, discarded or requeued by a person, filtered and grouped."""

from __future__ import annotations

import pytest
from tests.clocks import HeldClock
from tests.runlog.conftest import failure, page

from speclab.core.errors import UsageError
from speclab.core.outcome import Effect, ErrorClass, FailureState, Outcome, RunState, Stage
from speclab.runlog import RetryResult, RunLog, RunLogReader, RunRow

LATER = "2026-11-24T11:00:00.000Z"


def open_counts(reader: RunLogReader) -> tuple[int, int, int]:
    row = reader.integrations("crm")[0]
    return row.waiting, row.dead, row.unknown


def counts(row: RunRow | None) -> dict[str, int]:
    assert row is not None
    names = ("read", "written", "unchanged", "filtered", "waiting", "dead", "unknown")
    return {name: getattr(row, name) for name in names if getattr(row, name)}


def test_failure_keeps_records_request_and_response(log: RunLog, reader: RunLogReader) -> None:
    run = log.start_run("crm", "abc", "manual")
    log.commit_page(
        run,
        page(
            failure(
                "c_1", FailureState.DEAD, stage=Stage.MAP, error_class=ErrorClass.MAPPING, message='not a date: "x"',
                row="birth_date", column=14, source={"id": "c_1", "born": "x"}, payload={"a": [1, None]}, status=422,
                request="PUT /a", response="no", idempotency_key="k", attempts=3,
            )
        ),
    )  # fmt: skip
    (row,) = reader.failures(full=True)
    assert reader.failure(row.id) == row
    assert (row.run, row.spec_id, row.spec_hash, row.key, row.state) == (run, "crm", "abc", "c_1", FailureState.DEAD)
    assert (row.stage, row.error_class, row.row, row.column) == (Stage.MAP, ErrorClass.MAPPING, "birth_date", 14)
    assert (row.file, row.line, row.message, row.status) == ("specs/crm.md", 41, 'not a date: "x"', 422)
    assert (row.source, row.payload) == ({"id": "c_1", "born": "x"}, {"a": [1, None]})
    assert (row.request, row.response, row.idempotency_key, row.attempts) == ("PUT /a", "no", "k", 3)
    assert row.first_at == row.last_at == "2026-11-24T10:42:07.123Z"
    (summary,) = reader.failures()
    assert (summary.source, summary.request) == (None, None)


@pytest.mark.parametrize("odd", ["\ud800", "a\x00b", "\U0001f4a9 ☃", "'; DROP TABLE run; --", "x" * 100_000])
def test_any_text_of_a_source_is_stored(log: RunLog, reader: RunLogReader, odd: str) -> None:
    run = log.start_run("crm", "abc", "manual")
    log.commit_page(run, page(failure(f"k{odd}", message=odd, source={odd: odd}), written=[odd], message=odd))
    (row,) = reader.failures(full=True)
    assert row.source == {odd: odd}
    assert log.get_hashes("crm", [odd, "other"]) == {odd: b"h" * 16}
    log.commit_page(run, page(written=[f"k{odd}"]))
    assert reader.failures() == []


def test_newer_record_supersedes_the_failure_of_its_key_with_any_outcome(log: RunLog, reader: RunLogReader) -> None:
    first = log.start_run("crm", "abc", "manual")
    log.commit_page(
        first, page(failure("a"), failure("b", FailureState.DEAD), failure("c", FailureState.UNKNOWN), failure("d"))
    )
    log.finish_run(first)
    second = log.start_run("crm", "abc", "manual")
    log.commit_page(second, page(failure("b", FailureState.DEAD), written=["a", "c"]))
    states = [(row.key, row.state.value) for row in reversed(reader.failures(closed=True))]
    assert states == [("a", "superseded"), ("b", "superseded"), ("c", "superseded"), ("d", "waiting"), ("b", "dead")]
    assert open_counts(reader) == (1, 1, 0)
    assert counts(reader.run(first)) == {"read": 4, "waiting": 2, "dead": 1, "unknown": 1}
    assert counts(log.finish_run(second)) == {"read": 3, "written": 2, "dead": 1}


def test_record_superseded_within_its_run_becomes_filtered(log: RunLog, reader: RunLogReader) -> None:
    run = log.start_run("crm", "abc", "manual")
    log.commit_page(run, page(failure("a"), failure("b")))
    log.commit_page(run, page(failure("b"), written=["a"]))
    assert counts(log.finish_run(run)) == {"read": 4, "written": 1, "filtered": 2, "waiting": 1}
    assert open_counts(reader) == (1, 0, 0)


def test_records_without_a_key_do_not_supersede_each_other(log: RunLog, reader: RunLogReader) -> None:
    run = log.start_run("crm", "abc", "manual")
    log.commit_page(run, page(failure("", FailureState.DEAD), failure("", FailureState.DEAD)))
    log.commit_page(run, page(failure("", FailureState.DEAD)))
    assert len(reader.failures()) == 3


def test_long_backlog_is_superseded_like_a_short_one(log: RunLog, reader: RunLogReader) -> None:
    run = log.start_run("crm", "abc", "manual")
    log.commit_page(run, page(*(failure(f"c_{number}") for number in range(50))))
    log.commit_page(run, page(written=["c_7"]))
    log.commit_page(run, page(written=[f"c_{number}" for number in range(8, 100)]))
    assert [row.key for row in reversed(reader.failures())] == [f"c_{number}" for number in range(7)]
    assert open_counts(reader) == (7, 0, 0)


def test_failures_of_one_key_are_separate_per_integration(log: RunLog, reader: RunLogReader) -> None:
    log.commit_page(log.start_run("crm", "abc", "manual"), page(failure("a")))
    log.commit_page(log.start_run("erp", "abc", "manual"), page(written=["a"]))
    assert [row.spec_id for row in reader.failures()] == ["crm"]


def test_due_failures_come_longest_due_first_and_in_full(log: RunLog, clock: HeldClock) -> None:
    run = log.start_run("crm", "abc", "manual")
    log.commit_page(
        run,
        page(
            failure("late", next_attempt_at="2026-11-24T10:42:09.000Z"),
            failure("soon", next_attempt_at="2026-11-24T10:42:08.000Z"),
            failure("next year", next_attempt_at="2027-11-24T10:42:08.000Z"),
            failure("dead", FailureState.DEAD),
        ),
    )
    assert log.get_due_failures("crm", clock.now()) == []
    clock.turn(60)
    rows = log.get_due_failures("crm", clock.now())
    assert [row.key for row in rows] == ["soon", "late"]
    assert rows[0].source == {"id": "soon"}
    assert [row.key for row in log.get_due_failures("crm", "2026-11-24T10:42:08.500Z")] == ["soon"]
    assert len(log.get_due_failures("crm", clock.now(), limit=1)) == 1
    assert (log.count_due_failures("crm", clock.now()), log.count_due_failures("erp", clock.now())) == (2, 0)
    assert log.get_due_failures("erp", clock.now()) == []


def test_retry_in_the_same_run_moves_the_record_from_waiting_to_its_outcome(
    log: RunLog, reader: RunLogReader, clock: HeldClock
) -> None:
    run = log.start_run("crm", "abc", "manual")
    log.commit_page(run, page(*(failure(key) for key in "abcdef")))
    ids = {row.key: row.id for row in reader.failures()}
    clock.turn(30)
    log.commit_retries(
        run,
        [
            RetryResult(ids["a"], Outcome.WRITTEN, Effect.CREATED, state=("a", b"h" * 16), bytes_out=7),
            RetryResult(ids["b"], Outcome.UNCHANGED),
            RetryResult(ids["c"], Outcome.FILTERED),
            RetryResult(ids["d"], Outcome.WAITING, new_failure=failure("d", message="504", next_attempt_at=LATER)),
            RetryResult(
                ids["e"], Outcome.DEAD, new_failure=failure("e", FailureState.DEAD, message="422", stage=Stage.MAP)
            ),
            RetryResult(ids["f"], Outcome.UNKNOWN, new_failure=failure("f", FailureState.UNKNOWN)),
        ],
        "retried 6",
    )
    rows = {row.key: row for row in reader.failures(run=run)}
    assert {key: row.state.value for key, row in rows.items()} == {
        "a": "resolved", "b": "resolved", "c": "resolved", "d": "waiting", "e": "dead", "f": "unknown",
    }  # fmt: skip
    assert {row.attempts for row in rows.values()} == {2}
    assert (rows["d"].message, rows["d"].next_attempt_at) == ("504", LATER)
    assert (rows["e"].message, rows["e"].stage, rows["e"].next_attempt_at) == ("422", Stage.MAP, None)
    assert (rows["d"].first_at, rows["d"].last_at) == ("2026-11-24T10:42:07.123Z", "2026-11-24T10:42:37.123Z")
    assert log.get_hashes("crm", ["a"]) == {"a": b"h" * 16}
    assert open_counts(reader) == (1, 1, 1)
    row = log.finish_run(run)
    assert counts(row) == {
        "read": 6, "written": 1, "unchanged": 1, "filtered": 1, "waiting": 1, "dead": 1, "unknown": 1,
    }  # fmt: skip
    assert (row.created, row.bytes_out, row.state) == (1, 507, RunState.PARTIAL)


def test_retry_of_an_earlier_run_counts_each_record_as_read_once(log: RunLog, reader: RunLogReader) -> None:
    first = log.start_run("crm", "abc", "manual")
    log.commit_page(first, page(failure("a"), failure("b")))
    log.finish_run(first)
    ids = {row.key: row.id for row in reader.failures()}
    second = log.start_run("crm", "def", "retry")
    for _ in range(3):
        log.commit_retries(
            second, [RetryResult(ids["a"], Outcome.WAITING, new_failure=failure("a", next_attempt_at=LATER))]
        )
    log.commit_retries(second, [RetryResult(ids["a"], Outcome.WRITTEN), RetryResult(ids["b"], Outcome.WRITTEN)])
    assert counts(log.finish_run(second)) == {"read": 2, "written": 2}
    assert counts(reader.run(first)) == {"read": 2, "waiting": 2}
    rows = {row.key: row for row in reader.failures(run=first, full=True)}
    assert (rows["a"].attempts, rows["b"].attempts) == (5, 2)
    assert (rows["a"].spec_hash, rows["b"].spec_hash) == ("def", "abc")


def test_failure_discarded_in_flight_stays_discarded_unless_written(log: RunLog, reader: RunLogReader) -> None:
    run = log.start_run("crm", "abc", "manual")
    log.commit_page(run, page(failure("a"), failure("b")))
    ids = {row.key: row.id for row in reader.failures()}
    log.discard(list(ids.values()), "the customer is gone")
    assert counts(reader.run(run)) == {"read": 2, "dead": 2}
    log.commit_retries(
        run, [RetryResult(ids["a"], Outcome.WAITING, new_failure=failure("a")), RetryResult(ids["b"], Outcome.WRITTEN)]
    )
    states = {row.key: row.state for row in reader.failures(closed=True)}
    assert states == {"a": FailureState.DISCARDED, "b": FailureState.RESOLVED}
    assert counts(log.finish_run(run)) == {"read": 4, "written": 1, "dead": 3}
    assert open_counts(reader) == (0, 0, 0)


def test_invalid_retry_results_are_rejected_with_the_reason(log: RunLog, reader: RunLogReader) -> None:
    run = log.start_run("crm", "abc", "manual")
    log.commit_page(run, page(failure("a")))
    (row,) = reader.failures()
    with pytest.raises(UsageError, match="crm has no failure 123"):
        log.commit_retries(run, [RetryResult("123", Outcome.WRITTEN)])
    with pytest.raises(ValueError, match="a retry with the outcome dead needs a new failure in that state"):
        log.commit_retries(run, [RetryResult(row.id, Outcome.DEAD)])
    with pytest.raises(UsageError, match="erp has no failure"):
        log.commit_retries(log.start_run("erp", "abc", "manual"), [RetryResult(row.id, Outcome.WRITTEN)])
    assert reader.failures() == [row]


def test_only_open_failures_are_discarded_with_a_reason(log: RunLog, reader: RunLogReader) -> None:
    run = log.start_run("crm", "abc", "manual")
    log.commit_page(run, page(failure("a", FailureState.DEAD), failure("b", FailureState.DEAD)))
    log.finish_run(run)
    ids = [row.id for row in reader.failures()]
    assert log.discard([ids[0], "unheard of"], "test data") == 1
    assert log.discard(ids, "all of it") == 1
    assert log.discard(ids, "again") == 0
    assert [event.message for event in reader.latest_events(2)] == ["1 discarded: test data", "1 discarded: all of it"]
    assert open_counts(reader) == (0, 0, 0)
    assert counts(reader.run(run)) == {"read": 2, "dead": 2}


def test_dead_letters_are_put_back_into_the_retry_queue(log: RunLog, reader: RunLogReader, clock: HeldClock) -> None:
    run = log.start_run("crm", "abc", "manual")
    log.commit_page(
        run, page(failure("a", FailureState.DEAD), failure("b", next_attempt_at="2027-01-01T00:00:00.000Z"))
    )
    clock.turn(5)
    assert log.requeue([row.id for row in reader.failures()]) == 2
    assert {row.key for row in log.get_due_failures("crm", clock.now())} == {"a", "b"}
    assert open_counts(reader) == (2, 0, 0)
    assert counts(log.finish_run(run)) == {"read": 2, "waiting": 2}


def test_failures_are_filtered_by_state_stage_class_and_row(log: RunLog, reader: RunLogReader) -> None:
    first = log.start_run("crm", "abc", "manual")
    log.commit_page(
        first,
        page(
            failure("a", FailureState.DEAD, stage=Stage.MAP, error_class=ErrorClass.MAPPING, row="birth_date"),
            failure("b", FailureState.DEAD),
            failure("c"),
        ),
    )
    second = log.start_run("erp", "abc", "manual")
    log.commit_page(second, page(failure("d")))
    log.commit_retries(second, [RetryResult(reader.failures("erp")[0].id, Outcome.WRITTEN)])

    def keys(**filters: object) -> str:
        return "".join(row.key for row in reader.failures(**filters))  # type: ignore[arg-type]

    assert keys() == "cba"
    assert keys(limit=2) == "cb"
    assert keys(closed=True) == "dcba"
    assert keys(spec_id="erp") == ""
    assert keys(spec_id="erp", closed=True) == keys(run=second) == keys(state=FailureState.RESOLVED) == "d"
    assert keys(state=FailureState.DEAD) == "ba"
    assert keys(stage=Stage.MAP) == keys(error_class=ErrorClass.MAPPING) == keys(row="birth_date") == "a"
    assert keys(spec_id="crm", run=first, state=FailureState.WAITING) == "c"


def test_similar_failures_form_a_group(log: RunLog, reader: RunLogReader, clock: HeldClock) -> None:
    run = log.start_run("crm", "abc", "manual")
    unmapped = {"stage": Stage.MAP, "error_class": ErrorClass.MAPPING, "row": "stage", "status": None}
    log.commit_page(
        run,
        page(
            *(failure(f"m{n}", FailureState.DEAD, message=f'no entry for "P{n}"', **unmapped) for n in range(3)),
            failure("w1", status=503),
            failure("w2", status=503, message="503 Service Unavailable after 1.25 s"),
        ),
    )
    clock.turn(60)
    log.commit_page(run, page(failure("m9", FailureState.DEAD, message='no entry for "P9"', **unmapped)))
    log.commit_page(log.start_run("erp", "abc", "manual"), page(failure("x", status=503)))
    groups = sorted(reader.groups("crm"), key=lambda group: (-group.count, group.shape))
    assert [(g.stage.value, g.row, g.status, g.state.value, g.shape, g.count) for g in groups] == [
        ("map", "stage", None, "dead", "no entry for …", 4),
        ("write", None, 503, "waiting", "… Service Unavailable", 1),
        ("write", None, 503, "waiting", "… Service Unavailable after … s", 1),
    ]
    assert (groups[0].message, groups[0].last_at) == ('no entry for "P9"', "2026-11-24T10:43:07.123Z")
    assert sorted(row.key for row in reader.get_group_failures(groups[0])) == ["m0", "m1", "m2", "m9"]
    assert [row.source for row in reader.get_group_failures(groups[0], 1, full=True)] == [{"id": "m9"}]
    assert sum(group.count for group in reader.groups()) == 7
