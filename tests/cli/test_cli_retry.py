"""`speclab retry` and `speclab discard`: decisions about failed records."""

from __future__ import annotations

import json

import pytest
from tests.cli.conftest import Shell

from speclab.core.locks import hold_spec
from speclab.core.outcome import ErrorClass, FailureState, Outcome, Stage
from speclab.runlog import FailureRow, NewFailure, PageResult, RunLog, RunLogReader


@pytest.fixture
def failed(shell: Shell) -> Shell:
    """A workspace where two of four people are dead letters, because their name or all their fields are missing."""
    shell.spec(step="Required, Trim")
    people = [{"id": 1, "name": "Ada"}, {"id": 2, "name": None}, {"id": 3}, {"id": 4, "name": "Alan"}]
    shell.write("in.jsonl", "".join(json.dumps(one) + "\n" for one in people))
    shell("run", "people", exit_code=1)
    return shell


def fix_mapping(shell: Shell) -> None:
    spec = shell.directory / "specs/people.md"
    spec.write_text(spec.read_text().replace("Required, Trim", 'Default("nobody")'))


def ids(shell: Shell) -> dict[str, str]:
    """Return the ids of the open failures by key."""
    return {failure.key: failure.id for failure in failures(shell)}


def failures(shell: Shell) -> list[FailureRow]:
    """Return the open failures."""
    with RunLogReader.open(shell.directory / ".speclab/runlog.db") as log:
        return log.failures()


def written(shell: Shell) -> dict[int, str]:
    rows = [json.loads(line) for line in (shell.directory / "out.jsonl").read_text().splitlines()]
    return {row["id"]: row["name"] for row in rows}


def test_retry_all_maps_with_the_current_spec_and_sends(failed: Shell) -> None:
    fix_mapping(failed)
    done = failed("retry", "people", "--all")
    assert sorted(done.stdout.splitlines()) == ["written    2", "written    3"]
    assert "people: 2 written" in done.stderr
    assert written(failed) == {1: "Ada", 2: "nobody", 3: "nobody", 4: "Alan"}
    assert failures(failed) == []
    with RunLogReader.open(failed.directory / ".speclab/runlog.db") as log:
        assert [run.trigger for run in log.runs()] == ["retry", "manual"]
    assert "nothing to retry" in failed("retry", "--all").stderr


def test_retry_by_id_sends_only_that_record(failed: Shell) -> None:
    fix_mapping(failed)
    (row,) = failed.rows("retry", ids(failed)["3"])
    assert (row["key"], row["state"], row["became"]) == ("3", "resolved", "written")
    assert list(ids(failed)) == ["2"]
    assert written(failed) == {1: "Ada", 3: "nobody", 4: "Alan"}


def test_record_that_fails_again_is_printed_with_its_location_and_stays(failed: Shell) -> None:
    before = ids(failed)
    done = failed("retry", "people", "--row", "name", exit_code=1)
    assert "specs/people.md:46:33: name: " in done.stdout
    assert done.stdout.count("dead ") == 2
    assert ids(failed) == before
    assert {failure.attempts for failure in failures(failed)} == {2}


def test_retry_selects_by_class_and_by_row(failed: Shell) -> None:
    assert "nothing to retry" in failed("retry", "--class", "network").stderr
    assert "nothing to retry" in failed("retry", "--row", "id").stderr
    fix_mapping(failed)
    assert len(failed.rows("retry", "--class", "mapping")) == 2


def test_retry_of_a_spec_that_cannot_run_changes_nothing(failed: Shell) -> None:
    spec = failed.directory / "specs/people.md"
    spec.write_text(spec.read_text().replace("Required, Trim", "Trimm"))
    assert "M101" in failed("retry", "--all", exit_code=3).stderr
    assert {failure.state for failure in failures(failed)} == {FailureState.DEAD}


def test_retry_of_other_specs_continues_if_one_cannot_run(failed: Shell) -> None:
    others = (failed.directory / "specs/people.md").read_text().replace("spec_id: people", "spec_id: others")
    failed.write("specs/others.md", others.replace("out.jsonl", "others.jsonl"))
    failed("run", "others", exit_code=1)
    fix_mapping(failed)
    failed("set", "others", "Field Mapping[target.name].Transformation", "Trimm")
    done = failed("retry", "--all", exit_code=3)
    assert "M101 unknown step 'Trimm'" in done.stderr
    assert "people: 2 written" in done.stderr


def test_retry_needs_a_valid_selection(failed: Shell) -> None:
    assert "no records selected" in failed("retry", "people", exit_code=2).stderr
    unknown = failed("retry", "nobody", "--all", exit_code=2).stderr
    assert "no spec 'nobody' here, and no integration in the run log" in unknown
    nowhere = "01932f00-0000-7000-8000-000000000000"
    assert f"no failure '{nowhere}'" in failed("retry", nowhere, exit_code=2).stderr
    assert "expected one spec" in failed("retry", "people", "orders", "--all", exit_code=2).stderr


def test_discarded_record_is_kept_with_its_reason_and_not_retried(failed: Shell) -> None:
    two = ids(failed)["2"]
    assert "1 discarded" in failed("discard", two, "--reason", "left the company").stderr
    assert list(ids(failed)) == ["3"]
    assert [row["key"] for row in failed.rows("failures", "--state", "discarded")] == ["2"]
    assert f"{two} is already discarded" in failed("retry", two).stderr
    fix_mapping(failed)
    assert [row["key"] for row in failed.rows("retry", "--all")] == ["3"]


def test_discard_needs_a_reason(failed: Shell) -> None:
    two = ids(failed)["2"]
    assert "--reason" in failed("discard", two, exit_code=2).stderr
    assert "--reason is empty" in failed("discard", two, "--reason", " ", exit_code=2).stderr


def test_retry_during_a_run_puts_records_first_in_its_queue(failed: Shell) -> None:
    with hold_spec(failed.directory, "people"):
        message = failed("retry", "--all", exit_code=1).stderr
    assert "people is being run by process" in message
    assert "that run retries these 2" in message
    assert {failure.state for failure in failures(failed)} == {FailureState.WAITING}


def test_records_with_unknown_outcome_are_retried_only_by_id(failed: Shell) -> None:
    fix_mapping(failed)
    failure = NewFailure(
        key="9",
        state=FailureState.UNKNOWN,
        stage=Stage.WRITE,
        error_class=ErrorClass.TIMEOUT,
        message="no answer",
        file="specs/people.md",
        line=1,
        source={"id": 9, "name": "Edsger"},
    )
    with RunLog.open(failed.directory / ".speclab/runlog.db") as log:
        run = log.start_run("people", "", "manual")
        log.commit_page(run, PageResult(1, {Outcome.UNKNOWN: 1}, {}, 0, 0, None, [failure], keep_cursor=True))
        log.finish_run(run)
    assert "1 with unknown outcome skipped" in failed("retry", "--all").stderr
    assert list(ids(failed)) == ["9"]
    assert "written    9" in failed("retry", ids(failed)["9"]).stdout
