"""`speclab status` and `runs` after a run was killed, in this or in another namespace of the machine."""

from __future__ import annotations

import subprocess
import sys

import pytest
from tests.cli.conftest import Shell

RUN = """
import os, signal, socket, sys
from pathlib import Path
from speclab.runlog import RunLog
from speclab.core.locks import hold_spec
host = sys.argv[1]
if host:
    socket.gethostname = lambda: host
with RunLog.open(".speclab/runlog.db") as log, hold_spec(Path.cwd(), "people"):
    log.start_run("people", "", "schedule")
    if sys.argv[2] == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    print("running", flush=True)
    input()
"""


@pytest.mark.parametrize("host", ["", "container"], ids=["here", "another namespace"])
def test_killed_run_is_shown_as_interrupted(people: Shell, host: str) -> None:
    done = subprocess.run([sys.executable, "-c", RUN, host, "kill"], cwd=people.directory, check=False)
    assert done.returncode == -9
    (row,) = people.rows("status", exit_code=None)
    assert (row["last_run"], row["running"]) != ("running", True)
    assert row["last_run"] == "interrupted"
    (run,) = people.rows("runs")
    assert run["state"] == "interrupted"


@pytest.mark.parametrize("host", ["", "container"], ids=["here", "another namespace"])
def test_live_run_is_shown_as_running(people: Shell, host: str) -> None:
    command = [sys.executable, "-c", RUN, host, "wait"]
    with subprocess.Popen(
        command, cwd=people.directory, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as one:
        assert one.stdout is not None
        assert one.stdout.readline() == "running\n"
        (row,) = people.rows("status", exit_code=None)
        assert row["last_run"] == "running"
        one.kill()
