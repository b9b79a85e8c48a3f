"""Flows: cursor, record states, failures and counts of one integration are separate for each flow."""

from __future__ import annotations

from tests.clocks import HeldClock
from tests.runlog.conftest import failure, page

from speclab.core.outcome import FailureState
from speclab.runlog import RunLog, RunLogReader

BACK = "target -> source"


def test_each_flow_has_its_own_cursor_states_and_failures(log: RunLog, reader: RunLogReader) -> None:
    forth = log.start_run("crm", "abc", "manual")
    log.commit_page(forth, page(failure("b", FailureState.UNKNOWN), written=["a"], cursor="forth", hash_=b"f" * 16))
    back = log.start_run("crm", "abc", "manual", flow=BACK)
    log.commit_page(back, page(failure("b"), failure("c"), written=["a"], cursor="back", hash_=b"b" * 16))
    assert (log.get_cursor("crm"), log.get_cursor("crm", BACK)) == ("forth", "back")
    assert log.get_hashes("crm", ["a"]) == {"a": b"f" * 16}
    assert log.get_hashes("crm", ["a"], BACK) == {"a": b"b" * 16}
    open_failures = {(row.key, row.state) for row in reader.failures("crm")}
    assert open_failures == {
        ("b", FailureState.UNKNOWN),
        ("b", FailureState.WAITING),
        ("c", FailureState.WAITING),
    }
    assert [row.key for row in log.get_unknown_failures("crm", ["b", "c"])] == ["b"]
    assert log.get_unknown_failures("crm", ["b", "c"], BACK) == []
    later = "2026-11-25T00:00:00.000Z"
    assert log.get_due_failures("crm", later) == []
    assert [row.key for row in log.get_due_failures("crm", later, flow=BACK)] == ["b", "c"]
    log.commit_page(forth, page(written=["b"]))  # supersedes only the failure of its flow
    assert [row.state for row in reader.failures("crm")] == [FailureState.WAITING] * 2


def test_counts_are_kept_per_flow_and_add_up_per_integration(log: RunLog, reader: RunLogReader) -> None:
    log.commit_page(log.start_run("crm", "abc", "manual"), page(written=["a"]))
    log.commit_page(log.start_run("crm", "abc", "manual", flow=BACK), page(failure("b"), written=["a"]))
    counts = reader.query("SELECT flow, read, waiting FROM rollup WHERE span = 'hour' ORDER BY flow")
    assert counts == [("source -> target", 1, 0), (BACK, 2, 1)]
    assert reader.query("SELECT flow, read FROM run ORDER BY id") == [("source -> target", 1), (BACK, 2)]
    (row,) = reader.integrations("crm")
    assert row.waiting == 1


def test_decision_about_a_failure_changes_the_record_state_of_its_flow(log: RunLog, reader: RunLogReader) -> None:
    log.set_hashes("crm", {"a": b"f" * 16})
    log.set_hashes("crm", {"a": b"b" * 16}, BACK)
    back = log.start_run("crm", "abc", "manual", flow=BACK)
    log.commit_page(back, page(failure("a", FailureState.UNKNOWN)))
    log.requeue([reader.failures("crm")[0].id])
    assert log.get_hashes("crm", ["a"]) == {"a": b"f" * 16}
    assert log.get_hashes("crm", ["a"], BACK) == {"a": bytes(16)}


def test_spec_of_a_run_is_kept_once_and_pruned_with_its_last_run(
    log: RunLog, reader: RunLogReader, clock: HeldClock
) -> None:
    for _ in range(2):
        log.save_spec_version("abc", "---\nspec_id: crm\n---\n")
    run = log.finish_run(log.start_run("crm", "abc", "manual"))
    assert reader.get_spec_version(run.spec_hash) == log.get_spec_version("abc") == "---\nspec_id: crm\n---\n"
    assert reader.query("SELECT count(*) FROM spec_version") == [(1,)]
    clock.turn(60)
    log.prune("crm", retention=1, failures=1)  # the last run stays, and its spec with it
    assert reader.get_spec_version("abc") is not None
    log.save_spec_version("def", "")
    log.finish_run(log.start_run("crm", "def", "manual"))
    log.prune("crm", retention=1, failures=1)
    assert (reader.get_spec_version("abc"), reader.get_spec_version("def")) == (None, "")
