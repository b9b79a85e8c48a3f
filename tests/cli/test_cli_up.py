"""`speclab up` as a process that runs, is stopped, is killed, and is started again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from tests.cli.conftest import Shell

from speclab.core.clock import format_timestamp
from speclab.service import heartbeat
from speclab.service.heartbeat import Heartbeat


@contextmanager
def up(shell: Shell, *args: str, until: str = ", next at ") -> Iterator[subprocess.Popen[str]]:
    """Run the service in the workspace of `shell`; yield once it has printed `until`."""
    output = shell.directory / "up.txt"
    with (
        output.open("w") as file,
        subprocess.Popen(
            [sys.executable, "-P", "-m", "speclab", "up", *args], cwd=shell.directory, stderr=file, text=True
        ) as process,
    ):
        try:
            wait_for(output.read_text, until, process)
            yield process
        finally:
            process.kill()


def wait_for(text: Callable[[], str], part: str, process: subprocess.Popen[str]) -> None:
    """Wait until `text()` contains `part`."""
    end = time.monotonic() + 60
    while part not in text():
        assert time.monotonic() < end, text()
        assert process.poll() is None, text()
        time.sleep(0.05)


@pytest.fixture
def workspace(people: Shell) -> Shell:
    """A workspace whose spec runs every second."""
    spec = people.directory / "specs/people.md"
    spec.write_text(spec.read_text().replace("Hourly", "Every 1 second"))
    return people


def test_up_waits_when_no_spec_is_in_progress(people: Shell) -> None:
    text = (people.directory / "specs/people.md").read_text()
    people.write("specs/people.md", text.replace("status: in-progress", "status: draft"))
    with up(people, until="so none is run") as process:
        people.write("specs/people.md", text)
        wait_for((people.directory / "up.txt").read_text, "people: Hourly, next at ", process)


def test_up_runs_until_stopped_and_a_second_one_names_the_first(workspace: Shell) -> None:
    with up(workspace) as process:
        message = workspace("up", exit_code=1).stderr
        assert f"are run on their schedules already, by process {process.pid} of " in message
        assert f"Scheduler is running (1 spec): process {process.pid} of" in workspace("status", exit_code=None).stderr
        wait_for((workspace.directory / "up.txt").read_text, "people: partial, 3 read, 2 written", process)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    assert "Scheduler is not running" in workspace("status", exit_code=None).stderr
    assert {row["trigger"] for row in workspace.rows("runs")} == {"schedule"}
    beat = json.loads((workspace.directory / ".speclab/up.json").read_bytes())
    assert (beat["pid"], beat["specs"]["people"]["running"]) == (process.pid, False)
    assert beat["stopped"] is not None


def test_up_skips_a_paused_spec_until_it_is_resumed(workspace: Shell) -> None:
    text = (workspace.directory / "specs/people.md").read_text()
    ticking = text.replace("spec_id: people", "spec_id: ticking").replace("out.jsonl", "ticked.jsonl")
    workspace.write("specs/ticking.md", ticking)
    with up(workspace) as process:
        printed = (workspace.directory / "up.txt").read_text
        wait_for(printed, "people: partial", process)
        message = workspace("pause", "people", "--reason", "the ledger is closed").stderr
        assert message == "people is paused. Resume it with 'speclab resume people'.\n"
        wait_for(printed, "people: paused by", process)
        ticked = printed().count("ticking: partial")
        wait_for(lambda: f"{printed().count('ticking: partial') - ticked} times", "2 times", process)  # it was started
        wait_for(lambda: str({row["state"] for row in workspace.rows("runs", "people")}), "{'partial'}", process)
        ran = len(workspace.rows("runs", "people"))
        ticked = printed().count("ticking: partial")
        wait_for(lambda: f"{printed().count('ticking: partial') - ticked} times", "2 times", process)
        assert len(workspace.rows("runs", "people")) == ran
        workspace("resume", "specs/people.md")
        wait_for(lambda: printed().rpartition("people: resumed")[2], "people: partial", process)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0


def test_status_shows_that_the_scheduler_is_stopping(workspace: Shell) -> None:
    now = datetime.now(UTC)
    (workspace.directory / ".speclab").mkdir()
    heartbeat.write_heartbeat(workspace.directory, replace(Heartbeat.start(now), stopping=format_timestamp(now)))
    assert f"process {os.getpid()} of " in workspace("status").stderr
    assert "; stopping after the pages in progress\n" in workspace("status").stderr


def test_up_takes_over_from_a_killed_one(workspace: Shell) -> None:
    with up(workspace) as first:
        first.send_signal(signal.SIGKILL)
        first.wait(60)
    with up(workspace) as second:
        printed = (workspace.directory / "up.txt").read_text()
        assert f"the previous service, process {first.pid}, died" in printed
        second.send_signal(signal.SIGINT)
        assert second.wait(60) == 0


def test_up_runs_the_specs_of_another_directory_there(workspace: Shell) -> None:
    elsewhere = Shell(workspace.directory / "elsewhere")
    elsewhere.directory.mkdir()
    with (
        subprocess.Popen(
            [sys.executable, "-P", "-m", "speclab", "up", str(workspace.directory)],
            cwd=elsewhere.directory,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"TZ": "Asia/Kathmandu"},
        ) as process,
    ):
        assert process.stderr is not None
        for line in process.stderr:
            if "people: partial" in line:
                process.send_signal(signal.SIGTERM)
    assert process.returncode == 0
    assert not (elsewhere.directory / ".speclab").exists()
    assert workspace.rows("runs")


def test_up_rejects_an_unknown_time_zone(workspace: Shell) -> None:
    error = Shell(workspace.directory, {"TZ": "Nowhere/Land"})("up", exit_code=2).stderr
    assert "TZ in the environment: unknown time zone 'Nowhere/Land'" in error
