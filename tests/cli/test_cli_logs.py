"""`speclab logs` and `speclab doctor`: what happened, as it happens, and what is wrong."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pytest
from click.testing import CliRunner
from tests.cli.conftest import Api, Shell

from speclab.cli.diagnose import doctor, logs
from speclab.core.outcome import Level
from speclab.runlog import RunLog


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RunLog]:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".speclab").mkdir()
    with RunLog.open(tmp_path / ".speclab" / "runlog.db") as log:
        yield log


def print_logs(*args: str) -> list[str]:
    done = CliRunner().invoke(logs, args, catch_exceptions=False)
    assert done.exit_code == 0
    return done.stdout.splitlines()


def test_events_are_printed_oldest_first_from_a_level_on(log: RunLog) -> None:
    run = log.start_run("crm", "abc", "manual")
    log.log_event("erp", None, Level.WARNING, "log", "two\nlines\x1b[2J")
    log.log_event("crm", run, Level.ERROR, "log", "it broke")
    lines = [line[20:] for line in print_logs()]
    assert lines == [
        "info    crm: started by manual",
        r"warning erp: two\nlines\x1b[2J",
        "error   crm: it broke",
    ]
    assert [line[20:] for line in print_logs("--level", "warning")] == lines[1:]
    assert [line[20:] for line in print_logs("crm", "--level", "warning")] == lines[2:]
    assert [line[20:] for line in print_logs("--run", run)] == [lines[0], lines[2]]
    assert [line[20:] for line in print_logs("-n", "1", "--since", "1h")] == lines[2:]
    assert print_logs("--since", "0s") == []
    (row,) = map(json.loads, print_logs("erp", "--json"))
    assert (row["spec_id"], row["level"], row["message"]) == ("erp", "warning", "two\nlines\x1b[2J")


@contextmanager
def following(log: RunLog, *args: str) -> Iterator[tuple[subprocess.Popen[str], IO[str]]]:
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "speclab", "logs", "-f", *args],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=log.path.parents[1],
    )
    assert process.stdout is not None
    try:
        with process:
            yield process, process.stdout
    finally:
        process.kill()


def test_new_events_are_followed_through_a_pipe_until_ctrl_c(log: RunLog) -> None:
    log.log_event("crm", None, Level.INFO, "log", "before")
    with following(log, "crm") as (process, output):
        assert output.readline().endswith("crm: before\n")
        log.log_event("erp", None, Level.INFO, "log", "of another")
        for number in range(2500):  # more than a tail shows at once
            log.log_event("crm", None, Level.INFO, "log", f"number {number}")
        numbers = [output.readline().rpartition(" ")[2].strip() for _ in range(2500)]
        assert numbers == [str(number) for number in range(2500)]
        process.send_signal(signal.SIGINT)
        rest, errors = process.communicate(timeout=20)
        assert (process.returncode, rest, errors) == (130, "", "")


def test_following_ends_when_the_reader_of_the_pipe_is_gone(log: RunLog) -> None:
    log.log_event("crm", None, Level.INFO, "log", "before")
    with following(log) as (process, output):
        output.readline()
        output.close()
        assert process.wait(timeout=20) == 0
        assert process.stderr is not None
        assert process.stderr.read() == ""


def test_the_doctor_exits_4_for_a_system_that_is_down_and_0_when_it_is_up(
    shell: Shell, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    shell.spec(api.source())
    monkeypatch.chdir(shell.directory)
    monkeypatch.setenv("XDG_STATE_HOME", str(shell.directory / "state"))

    def examine(*args: str) -> tuple[int, dict[str, str]]:
        done = CliRunner().invoke(doctor, [*args, "--json"], catch_exceptions=False)
        rows = [json.loads(line) for line in done.stdout.splitlines()]
        return done.exit_code, {row["check"]: row["state"] for row in rows}

    code, found = examine()
    assert (code, found["people source"], found["people target"], found["scheduler"]) == (0, "ok", "ok", "attention")
    api.status = 403
    assert examine("people")[0] == 4
    assert examine("people", "--offline")[0] == 0
    shell.spec("connector: fax\nkey: id")
    code, found = examine("--offline")
    assert (code, found["people"]) == (1, "failing")


def test_the_doctor_says_what_to_do(shell: Shell) -> None:
    shell.spec()
    done = shell("doctor", exit_code=None)
    assert (
        "attention  scheduler: not running, and 1 spec in progress\n           -> Start it: speclab up" in done.stdout
    )
    assert done.stderr.endswith("failing\n")
