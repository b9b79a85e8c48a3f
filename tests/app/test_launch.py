"""Start runs: in a separate session, with their output in a file and their errors reported."""

from __future__ import annotations

import os
import shutil
import sys
from typing import Any

import pytest

from speclab.core.errors import SpeclabError
from speclab.core.locks import hold_workspace
from speclab.runlog import RunLogReader
from speclab.workbench.launcher import launch, launch_service


async def test_run_continues_in_a_separate_session_and_writes_its_output_to_a_file(workspace: Any) -> None:
    launched = launch(workspace.directory / "people.md", "people", workspace.directory, workspace.runlog)
    assert os.getsid(launched.process.pid) == launched.process.pid != os.getsid(0)
    assert await launched.end() is None
    assert "3 read" in launched.output.read_text("utf-8")
    with RunLogReader.open(workspace.runlog) as reader:
        assert [run.state for run in reader.runs()] == ["partial"]


async def test_error_of_a_run_is_reported_with_a_hint(workspace: Any) -> None:
    spec = workspace.directory / "people.md"
    spec.write_text(spec.read_text("utf-8").replace("Trim, Required", "Trimm"), "utf-8")
    error = await launch(spec, "people", workspace.directory, workspace.runlog).end()
    assert error is not None
    assert "people.md" in error.message
    assert "Trimm" in error.hint


async def test_long_error_is_shortened_and_names_the_file_with_the_rest(workspace: Any) -> None:
    spec = workspace.directory / "people.md"
    spec.write_text(spec.read_text("utf-8").replace("key:", "kee:").replace("type: none", "type: nono"), "utf-8")
    launched = launch(spec, "people", workspace.directory, workspace.runlog)
    error = await launched.end()
    assert error is not None
    *problems, more = error.hint.splitlines()
    assert len(problems) == 2
    assert more.endswith(f"more are in {launched.output}")


async def test_process_that_dies_silently_is_reported_with_its_last_line(workspace: Any, tmp_path: Any) -> None:
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho 'Killed by the kernel'\nexit 137\n", "utf-8")
    python.chmod(0o755)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "executable", str(python))
        launched = launch(workspace.directory / "people.md", "people", workspace.directory, workspace.runlog)
    error = await launched.end()
    assert error is not None
    assert error.message == "exit code 137: Killed by the kernel"
    assert str(launched.output) in error.hint


async def test_process_whose_output_was_deleted_is_reported_with_its_exit_status(workspace: Any) -> None:
    launched = launch_service(workspace.directory, workspace.directory, workspace.runlog)
    shutil.rmtree(launched.output.parent)
    launched.process.kill()
    error = await launched.end()
    assert error is not None
    assert (
        error.message == f"killed by SIGKILL; the output cannot be read: {launched.output}: No such file or directory"
    )
    with pytest.raises(SpeclabError, match="cannot be read"):
        launched.read_rows()


async def test_crash_before_the_run_starts_is_reported(workspace: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(workspace.directory))
    (workspace.directory / "click.py").write_text("raise ImportError('not that click')", "utf-8")
    error = await launch(workspace.directory / "people.md", "people", workspace.directory, workspace.runlog).end()
    assert error is not None
    assert error.message == "exit code 1: ImportError: not that click"


async def test_service_runs_in_a_separate_session_and_keeps_the_output_of_the_previous_one(workspace: Any) -> None:
    directory = workspace.directory
    (directory / ".speclab" / "up.log").write_text("of the one before", "utf-8")
    with hold_workspace(directory):
        launched = launch_service(directory, directory, workspace.runlog)
        assert os.getsid(launched.process.pid) == launched.process.pid
        error = await launched.end()
    assert error is not None
    assert "are run on their schedules already, by process" in error.message
    assert launched.output == directory / ".speclab" / "up.log"
    assert launched.output.with_name("up.log.old").read_text("utf-8") == "of the one before"


async def test_killed_service_is_reported_with_the_signal(workspace: Any) -> None:
    launched = launch_service(workspace.directory, workspace.directory, workspace.runlog)
    launched.process.kill()
    error = await launched.end()
    assert error is not None
    assert error.message.startswith("killed by SIGKILL: ")


def test_process_that_cannot_be_started_is_reported(workspace: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", str(workspace.directory / "nothing"))
    with pytest.raises(SpeclabError, match="No such file"):
        launch(workspace.directory / "people.md", "people", workspace.directory, workspace.runlog)


def test_name_with_a_slash_is_one_file(workspace: Any) -> None:
    launched = launch(workspace.directory / "people.md", "a/b", workspace.directory, workspace.runlog)
    launched.process.wait()
    assert launched.output.name == "a%2Fb.log"


async def test_row_is_one_line_for_any_characters(workspace: Any) -> None:
    launched = launch(workspace.directory / "people.md", "people", workspace.directory, workspace.runlog)
    await launched.end()
    launched.output.write_text('on its way\n{"key": "a\u2028b\u0085c"}\n', "utf-8")
    assert launched.read_rows() == [{"key": "a\u2028b\u0085c"}]
