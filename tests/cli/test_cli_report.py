"""`speclab log` and `speclab wrap`: runs that scripts and cron jobs report."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from speclab.cli.group import speclab
from speclab.core.outcome import FailureState, Level, RunState
from speclab.runlog import RunLog, RunLogReader
from speclab.runlog.rows import RunRow


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "runlog.db"


def report(path: Path, *args: str, run: str = "") -> Result:
    done = CliRunner().invoke(speclab, args, env={"SPECLAB_RUNLOG": str(path), "SPECLAB_RUN": run})
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done


def start(path: Path, *args: str) -> str:
    return report(path, "log", "start", "nightly-export", *args).output.strip()


def get_run(path: Path) -> RunRow:
    with RunLogReader.open(path) as reader:
        (row,) = reader.runs(limit=1)
    return row


def test_shell_script_reports_a_run_step_by_step(path: Path) -> None:
    run = start(path, "--title", "Nightly export", "--trigger", "cron")
    report(path, "log", "progress", "--read", "100", "--created", "60", "--updated", "39", "--message", "half", run=run)
    report(path, "log", "fail", "c_1", "no such country", "--status", "422", "--record", '{"id": "c_1"}', run=run)
    done = report(path, "log", "end", "--read", "20", "--unchanged", "20", "--json", run=run)
    row = json.loads(done.output)
    assert (row["state"], row["trigger"], row["read"], row["written"], row["dead"]) == ("partial", "cron", 120, 99, 1)
    with RunLogReader.open(path) as reader:
        (failure,) = reader.failures(full=True)
        assert (failure.key, failure.state, failure.status) == ("c_1", FailureState.DEAD, 422)
        assert failure.source == {"id": "c_1"}
        assert reader.integrations()[0].title == "Nightly export"
        assert "half" in [event.message for event in reader.events()]


def test_run_whose_counts_do_not_match_fails_and_the_command_exits_1(path: Path) -> None:
    done = report(path, "log", "end", "--read", "10", "--written", "9", run=start(path))
    assert done.exit_code == 1
    assert "counts do not match: read 10, outcomes 9" in done.output
    assert get_run(path).state is RunState.FAILED


def test_without_read_all_records_with_an_outcome_count_as_read(path: Path) -> None:
    run = start(path)
    report(path, "log", "fail", "c_1", "gone", run=run)
    report(path, "log", "progress", "--filtered", "2", run=run)
    report(path, "log", "end", "--written", "3", run=run)
    row = get_run(path)
    assert (row.state, row.read, row.written, row.filtered, row.dead) == (RunState.PARTIAL, 6, 3, 2, 1)


def test_key_that_arrives_closes_its_earlier_failure(path: Path) -> None:
    run = start(path)
    report(path, "log", "fail", "c_1", "gone", run=run)
    report(path, "log", "end", run=run)
    report(path, "log", "end", "--written", "1", "--key", "c_1", run=start(path))
    with RunLogReader.open(path) as reader:
        assert reader.failures() == []
        assert reader.integrations()[0].dead == 0


def test_repeated_end_changes_nothing_and_a_different_one_is_refused(path: Path) -> None:
    run = start(path)
    for _ in range(2):
        assert report(path, "log", "end", "--written", "3", run=run).exit_code == 0
    assert get_run(path).written == 3
    with pytest.raises(Exception, match=f"run {run} has ended: succeeded"):
        report(path, "log", "end", "--status", "failed", run=run)
    with pytest.raises(Exception, match="has ended"):
        report(path, "log", "progress", "--written", "1", run=run)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("progress", "--run", "nowhere"), "there is no run nowhere"),
        (("progress",), "no run given"),
        (("start", "a/b"), "integration: String should match pattern"),
        (("start", "job", "--pid", "4194304"), "there is no process 4194304"),
        (("fail", "c_1", "why", "--record", "{"), "--record: not valid JSON"),
    ],
)
def test_invalid_reports_are_refused_with_the_reason(path: Path, args: Sequence[str], message: str) -> None:
    start(path)
    with pytest.raises(Exception, match=message):
        report(path, "log", *args)


def test_run_of_speclab_itself_cannot_be_reported_on(path: Path) -> None:
    with RunLog.open(path) as log:
        run = log.start_run("crm", "a" * 64, "manual")
    with pytest.raises(Exception, match="speclab runs it itself"):
        report(path, "log", "end", run=run)


def test_run_whose_process_is_gone_is_interrupted(path: Path) -> None:
    with subprocess.Popen(["sleep", "60"]) as process:
        start(path, "--pid", str(process.pid))
        report(path, "status")
        assert get_run(path).state is RunState.RUNNING
        process.kill()
    report(path, "status", "--runlog", str(path))
    assert get_run(path).state is RunState.INTERRUPTED


def wrap(path: Path, script: str, *options: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-P", "-m", "speclab", "wrap", *options, "job", "--", "sh", "-c", script]
    return subprocess.Popen(
        command,
        env=os.environ | {"SPECLAB_RUNLOG": str(path)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def test_wrap_reports_exit_code_and_last_lines_and_passes_output_and_exit_code_on(path: Path) -> None:
    process = wrap(path, "seq 1 50000; echo no space left >&2; exit 7", "--trigger", "cron", "--lines", "3")
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 7
    assert output.split() == [str(number).encode() for number in range(1, 50001)]
    assert errors == b"no space left\n"
    row = get_run(path)
    assert (row.state, row.trigger) == (RunState.FAILED, "cron")
    assert row.error is not None
    assert row.error.startswith("exit code 7: ")
    with RunLogReader.open(path) as reader:
        lines = [event.message for event in reader.events() if event.kind == "log"]
        assert len(lines) == 3
        assert {"no space left", "50000"} <= set(lines)
        assert reader.events()[-2].level is Level.WARNING


def test_wrapped_command_can_report_counts_itself(path: Path) -> None:
    command = f"'{sys.executable}' -P -m speclab log progress --read 5 --written 5"
    process = wrap(path, command)
    process.communicate(timeout=60)
    assert process.returncode == 0
    row = get_run(path)
    assert (row.state, row.written) == (RunState.SUCCEEDED, 5)


def test_wrap_passes_sigterm_on_and_reports_the_run_as_cancelled(path: Path) -> None:
    process = wrap(path, "trap 'echo bye; exit 0' TERM; echo ready; while :; do sleep 0.05; done")
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=60)
    assert (output, process.returncode) == (b"bye\n", 0)
    assert get_run(path).state is RunState.SUCCEEDED  # the command handled the signal and ended in order
    process = wrap(path, "echo ready; exec sleep 60")
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM
    row = get_run(path)
    assert (row.state, row.error) == (RunState.CANCELLED, "killed by SIGTERM: ready")


def test_wrap_ends_with_its_command_although_a_background_process_keeps_the_output_open(path: Path) -> None:
    began = time.monotonic()
    process = wrap(path, "sleep 20 & echo done")
    process.communicate(timeout=60)
    assert process.returncode == 0
    assert time.monotonic() - began < 15
    assert get_run(path).state is RunState.SUCCEEDED


def test_wrap_runs_the_command_although_the_run_log_cannot_be_written(tmp_path: Path) -> None:
    path = tmp_path / "runlog.db"
    path.write_bytes(b"not a database, but long enough to be read as one" * 100)
    process = wrap(path, "echo ran; exit 4")
    output, errors = process.communicate(timeout=60)
    assert (output, process.returncode) == (b"ran\n", 4)
    assert b"runlog.db" in errors


def test_wrap_reports_a_command_that_does_not_exist(path: Path) -> None:
    done = report(path, "wrap", "job", "--", "/nowhere/export.sh")
    assert done.exit_code == 127
    row = get_run(path)
    assert row.error == "exit code 127: /nowhere/export.sh: No such file or directory"
