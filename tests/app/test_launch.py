"""Starting runs: a process of its own session, what it says in a file, and its complaints told."""

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


async def test_a_run_goes_on_in_a_session_of_its_own_and_says_what_it_does_in_a_file(workspace: Any) -> None:
    launched = launch(workspace.directory / "people.md", "people", workspace.directory, workspace.runlog)
    assert os.getsid(launched.process.pid) == launched.process.pid != os.getsid(0)
    assert await launched.end() is None
    assert "3 read" in launched.output.read_text("utf-8")
    with RunLogReader.open(workspace.runlog) as reader:
        assert [run.state for run in reader.runs()] == ["partial"]


async def test_what_a_run_complains_about_is_told_with_what_to_do(workspace: Any) -> None:
    spec = workspace.directory / "people.md"
    spec.write_text(spec.read_text("utf-8").replace("Trim, Required", "Trimm"), "utf-8")
    error = await launch(spec, "people", workspace.directory, workspace.runlog).end()
    assert error is not None
    assert "people.md" in error.message
    assert "Trimm" in error.hint


async def test_a_long_complaint_is_told_by_its_beginning_and_where_the_rest_is(workspace: Any) -> None:
    spec = workspace.directory / "people.md"
    spec.write_text(spec.read_text("utf-8").replace("key:", "kee:").replace("type: none", "type: nono"), "utf-8")
    launched = launch(spec, "people", workspace.directory, workspace.runlog)
    error = await launched.end()
    assert error is not None
    *problems, more = error.hint.splitlines()
    assert len(problems) == 2
    assert more.endswith(f"more are in {launched.output}")


async def test_a_process_that_dies_without_a_word_is_told_by_its_last_line(workspace: Any, tmp_path: Any) -> None:
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


async def test_a_process_whose_words_are_taken_away_is_told_by_how_it_ended(workspace: Any) -> None:
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


async def test_a_crash_before_the_run_begins_is_told(workspace: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(workspace.directory))
    (workspace.directory / "click.py").write_text("raise ImportError('not that click')", "utf-8")
    error = await launch(workspace.directory / "people.md", "people", workspace.directory, workspace.runlog).end()
    assert error is not None
    assert error.message == "exit code 1: ImportError: not that click"


async def test_a_service_goes_on_in_a_session_of_its_own_and_what_the_one_before_said_is_kept(workspace: Any) -> None:
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


async def test_a_service_that_is_killed_is_told_by_the_signal(workspace: Any) -> None:
    launched = launch_service(workspace.directory, workspace.directory, workspace.runlog)
    launched.process.kill()
    error = await launched.end()
    assert error is not None
    assert error.message.startswith("killed by SIGKILL: ")


def test_a_process_that_cannot_be_started_is_told(workspace: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", str(workspace.directory / "nothing"))
    with pytest.raises(SpeclabError, match="No such file"):
        launch(workspace.directory / "people.md", "people", workspace.directory, workspace.runlog)


def test_a_name_with_a_slash_stays_one_file(workspace: Any) -> None:
    launched = launch(workspace.directory / "people.md", "a/b", workspace.directory, workspace.runlog)
    launched.process.wait()
    assert launched.output.name == "a%2Fb.log"


async def test_a_row_is_one_line_whatever_signs_are_in_it(workspace: Any) -> None:
    launched = launch(workspace.directory / "people.md", "people", workspace.directory, workspace.runlog)
    await launched.end()
    launched.output.write_text('on its way\n{"key": "a\u2028b\u0085c"}\n', "utf-8")
    assert launched.read_rows() == [{"key": "a\u2028b\u0085c"}]
