"""`speclab pause` and `speclab resume`, and how `status` and `run` treat a paused spec."""

from __future__ import annotations

import getpass
import json
from datetime import UTC, datetime, timedelta

from tests.cli.conftest import Shell

from speclab.core.clock import format_timestamp
from speclab.core.outcome import Level, RunState
from speclab.runlog import RunLog
from speclab.spec.workspace import runlog_path


def test_status_shows_pauses_and_exits_0(people: Shell) -> None:
    people.spec()  # all its records are written
    people("run", "people")
    people("pause", "people", "--reason", "the ledger is closed")
    done = people("status")
    assert done.stdout.split()[-1] == "paused"
    assert f"people is paused by {getpass.getuser()} since 2" in done.stderr
    assert done.stderr.count(": the ledger is closed\n") == 1
    (row,) = people.rows("status")
    assert (row["condition"], row["paused_by"], row["paused_reason"], row["next"]) == (
        "paused",
        getpass.getuser(),
        "the ledger is closed",
        None,
    )
    assert people("resume", "people").stderr == "people is resumed\n"
    (row,) = people.rows("status")
    assert (row["condition"], row["paused_at"], row["paused_by"]) == ("ok", None, None)


def test_pause_does_not_hide_failures(people: Shell) -> None:
    people("run", "people", exit_code=1)
    people("pause", "people")
    (row,) = people.rows("status", exit_code=1)
    assert (row["condition"], row["dead"]) == ("attention", 1)
    assert row["paused_at"] is not None


def test_second_pause_names_the_first_and_a_resume_without_pause_does_nothing(people: Shell) -> None:
    assert people("resume", "people").stderr == "people was not paused\n"
    people("pause", "specs/people.md")
    message = people("pause", "people", "--reason", "me too").stderr
    assert message.startswith(f"people was already paused by {getpass.getuser()} since 2")
    assert "me too" not in message


def test_manual_run_of_a_paused_spec_runs_with_a_note(people: Shell) -> None:
    people.spec()
    people("pause", "people", "--reason", "the ledger is closed")
    done = people("run", "people", "--json")
    assert json.loads(done.stdout)["state"] == "succeeded"
    assert "people is paused by " in done.stderr
    assert "the ledger is closed; running anyway, as you asked for it" in done.stderr


def test_manual_run_of_a_parked_spec_runs_with_a_note(people: Shell) -> None:
    people.spec()
    until = format_timestamp(datetime.now(UTC) + timedelta(hours=1))
    with RunLog.open(runlog_path(people.directory)) as log:
        run = log.start_run("people", "", "manual")
        log.log_event("people", run, Level.INFO, "parked", "", {"until": until, "end": "source"})
        log.finish_run(run, "parked", RunState.PARTIAL)
    note = f"the source of people asked to wait until {until}; running anyway"
    done = people("run", "people", "--json")
    assert json.loads(done.stdout)["state"] == "succeeded"
    assert note in done.stderr
    assert note not in people("run", "people").stderr  # it did not call the source again


def test_pause_rejects_a_file_that_is_not_a_spec(people: Shell) -> None:
    people.write("notes.md", "# Notes\n")
    assert "not a spec: notes.md" in people("pause", "notes.md", exit_code=2).stderr
    assert "no spec 'poeple' here" in people("pause", "poeple", exit_code=2).stderr


def test_pause_uses_the_given_run_log(people: Shell) -> None:
    people("pause", "people", "--runlog", "other.db")
    assert people("resume", "people").stderr == "people was not paused\n"
    assert people("resume", "people", "--runlog", "other.db").stderr == "people is resumed\n"
