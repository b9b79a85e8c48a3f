"""`speclab cancel` and ctrl+c stop a run that waits for a slow system."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from tests.cli.conftest import Api, Shell


@pytest.fixture
def busy(shell: Shell, api: Api) -> Shell:
    """A workspace whose source asks every reader to wait for two minutes, which the spec accepts."""
    api.status, api.retry_after = 429, 120
    path = shell.spec(api.source())
    path.write_text(path.read_text().replace("cap: 20ms", "cap: 1h"))
    return shell


@contextmanager
def running(shell: Shell, *args: str) -> Iterator[subprocess.Popen[str]]:
    """Start a run of `people` in a separate process; yield when the run log shows that it waits."""
    with subprocess.Popen(
        [sys.executable, "-P", "-m", "speclab", *(args or ("run", "people"))],
        cwd=shell.directory, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    ) as process:  # fmt: skip
        try:
            wait_for(lambda: bool(shell.rows("runs", exit_code=None)))
            yield process
        finally:
            process.kill()


def wait_for(there: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not there():
        assert time.monotonic() < end
        time.sleep(0.1)


def test_cancel_stops_a_waiting_run_which_ends_as_cancelled(busy: Shell) -> None:
    with running(busy) as process:
        assert "people was asked to stop after the page in progress. Cancel again" in busy("cancel", "people").stderr
        output, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "asked to cancel: the run stops after the page in progress" in output
    (run,) = busy.rows("runs")
    assert (run["state"], run["error"]) == ("cancelled", "cancelled; the next run continues from the checkpoint")
    assert "people is not running" in busy("cancel", "people", exit_code=1).stderr


def test_cancel_now_stops_a_run_that_the_service_started(busy: Shell) -> None:
    path = busy.directory / "specs/people.md"
    path.write_text(path.read_text().replace("Hourly", "Every 1 second"))
    with running(busy, "up") as process:
        assert "people was asked to stop now" in busy("cancel", "people", "--now").stderr
        wait_for(lambda: busy.rows("runs")[-1]["state"] != "running")
        run = busy.rows("runs")[-1]
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
    assert run["state"] == "cancelled"
    assert run["error"].startswith("stopped in the middle of a page")


def test_cancel_marks_a_run_whose_process_is_gone(busy: Shell) -> None:
    with running(busy) as process:
        process.kill()
        process.wait()
        done = busy("cancel", "people", exit_code=1)
    assert "died before finishing the run; the run is marked as interrupted" in done.stderr
    assert busy.rows("runs")[0]["state"] == "interrupted"


def test_run_on_a_terminal_shows_its_progress_and_is_cancelled_by_ctrl_c(busy: Shell) -> None:
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(busy.directory)
        os.execvpe(
            sys.executable, [sys.executable, "-P", "-m", "speclab", "run", "people"], os.environ | {"TERM": "xterm"}
        )
    output = b""

    def heard(part: bytes) -> bool:
        nonlocal output
        output += os.read(terminal, 4096)
        return part in output

    try:
        os.set_blocking(terminal, True)
        wait_for(lambda: heard(b"people: 0 read, page 1: reading, 1 request, waits "))
        os.write(terminal, b"\x03")
        wait_for(lambda: heard(b"Press ctrl+c again to stop now"))
        with pytest.raises(OSError, match="Input/output error"):
            wait_for(lambda: heard(b"never"))
    finally:
        os.close(terminal)
        _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 130
    assert re.search(rb"waits \d+ s: retry after: .*429", output)
    assert b"\r\x1b[KStopping after the page in progress" in output
    assert busy.rows("runs")[0]["state"] == "cancelled"
