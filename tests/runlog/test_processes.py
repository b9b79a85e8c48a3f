"""Several processes and one run log: writers take turns, readers never wait, and a killed writer leaves whole pages."""

from __future__ import annotations

import signal
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from speclab.core.outcome import RunState
from speclab.runlog import RunLog, RunLogReader

WRITER = """
import sys
from tests.runlog.conftest import failure, page
from speclab.core.outcome import FailureState
from speclab.runlog import RunLog

path, spec_id, pages = sys.argv[1], sys.argv[2], int(sys.argv[3])
with RunLog.open(path) as log:
    run = log.start_run(spec_id, "abc", "manual")
    for number in range(pages):
        keys = [f"{number}-{place}" for place in range(20)]
        log.commit_page(run, page(failure(f"{number}-f", FailureState.DEAD), failure("always"), written=keys,
                                  cursor=number + 1))
    log.finish_run(run)
"""

KILLED = """
import os, signal, sys
from tests.runlog.conftest import failure, page
from speclab.core.outcome import FailureState
from speclab.runlog import RunLog

path, after = sys.argv[1], int(sys.argv[2])
steps = 0

def step():
    global steps
    steps += 1
    if steps == after:
        os.kill(os.getpid(), signal.SIGKILL)

with RunLog.open(path) as log:
    run = log.start_run("crm", "abc", "manual")
    log._db.set_progress_handler(step, 50)  # after 50 instructions of SQLite, anywhere in a transaction
    number = 0
    while True:
        number += 1
        keys = [f"{number}-{place}" for place in range(20)]
        log.commit_page(run, page(failure(f"{number}-f", FailureState.DEAD), failure("always"), written=keys,
                                  cursor=number))
"""


def start(script: str, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", script, *map(str, arguments)],
        cwd=Path(__file__).parents[2],
        stderr=subprocess.PIPE,
        text=True,
    )


def test_processes_create_and_write_one_run_log_while_a_reader_follows(path: Path) -> None:
    with ExitStack() as stack:
        writers = [stack.enter_context(start(WRITER, path, name, 40)) for name in ("crm", "erp", "hr")]
        reader = stack.enter_context(RunLogReader.open(path))
        while any(one.poll() is None for one in writers):
            for row in reader.runs():
                assert row.read == row.written + row.waiting + row.dead + row.filtered
                assert row.read == 22 * int(str(row.cursor or 0))
        for one in writers:
            _, errors = one.communicate()
            assert (one.returncode, errors) == (0, "")
        rows = reader.runs()
        assert {row.spec_id for row in rows} == {"crm", "erp", "hr"}
        for row in rows:
            assert (row.state, row.read, row.written, row.dead) == (RunState.PARTIAL, 880, 800, 40)
            assert (row.waiting, row.filtered) == (1, 39)
        assert len(reader.failures(limit=1000)) == 3 * 41


@pytest.mark.parametrize("after", [3, 40, 47, 54, 61, 610])
def test_process_killed_anywhere_in_a_transaction_leaves_whole_pages(path: Path, after: int) -> None:
    killed = start(KILLED, path, after)
    _, errors = killed.communicate()
    assert errors == ""
    assert killed.returncode == -signal.SIGKILL
    with RunLog.open(path) as log, RunLogReader.open(path) as reader:
        (row,) = log.mark_interrupted()
        pages = int(str(row.cursor or 0))
        assert pages >= after // 60
        assert (row.state, row.read) == (RunState.INTERRUPTED, 22 * pages)
        assert log.get_cursor("crm") == row.cursor
        assert row.written == 20 * pages
        assert row.dead == pages == len(reader.failures(limit=1000)) - row.waiting
        assert row.read == row.written + row.waiting + row.dead + row.filtered
        assert len(log.get_hashes("crm", [f"{number}-3" for number in range(pages + 5)])) == pages
        assert reader.query("PRAGMA integrity_check") == [("ok",)]
        assert log.finish_run(log.start_run("crm", "abc", "manual")).state is RunState.SUCCEEDED
