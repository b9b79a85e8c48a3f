"""The service when a spec, the workspace or the run log disappears."""

from __future__ import annotations

import asyncio
import errno
import os
import sqlite3
import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from tests.sync.service_workspace import LONG_AGO, ServiceWorkspace, workspace

from speclab.core.errors import RunLogError, RunLogTooNew, SpeclabError
from speclab.core.outcome import AlertState, Trigger
from speclab.runlog import AlertRow, RunLog, RunLogReader, schema
from speclab.service.process import ProcessExit, RunProcess
from speclab.spec.workspace import file_changes

__all__ = ["workspace"]


async def test_alerts_of_a_deleted_spec_end(workspace: ServiceWorkspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("speclab.service.scheduler._MINUTE", 0.2)
    spec = workspace.spec("people", "On-demand")
    async with workspace.serving():
        await workspace.wait_until(lambda: workspace.alerts() == {"people"})
        spec.unlink()
        await workspace.wait_until(lambda: workspace.alerts() == set())
    assert workspace.events("alert")[-1] == "alert over: Nothing yet"


async def test_paused_time_does_not_count_for_an_alert(workspace: ServiceWorkspace) -> None:
    workspace.spec("people", "On-demand")
    with RunLog.open(workspace.runlog) as log:
        log.pause("people", "ada")
        firing = AlertRow("people", "Silence", AlertState.FIRING, LONG_AGO, "no run in 3 h")
        log.save_alerts("people", [firing, AlertRow("people", "Slow", AlertState.PENDING, LONG_AGO, "9 s")])
    with RunLogReader.open(workspace.runlog) as reader:
        async with workspace.serving():
            await workspace.wait_until(lambda: [row.name for row in reader.alerts()] == ["Silence"])


async def test_file_with_a_duplicate_spec_id_is_reported_and_not_run(workspace: ServiceWorkspace) -> None:
    workspace.spec(frequency="On-demand")
    workspace.write("specs/zz-copy.md", (workspace.directory / "specs/people.md").read_text())
    async with workspace.serving():
        await workspace.wait_until(
            lambda: any("zz-copy.md is not run: its spec_id is the one of" in line for line in workspace.reported)
        )


async def test_invalid_status_is_reported_and_not_guessed(workspace: ServiceWorkspace) -> None:
    path = workspace.spec(frequency="On-demand", status="in-progres")
    async with workspace.serving():
        await workspace.wait_until(
            lambda: (
                f"warning: {path} is not run: its status is 'in-progres'; did you mean 'in-progress'?"
                in workspace.reported
            )
        )
        assert workspace.heartbeat().specs == {}


async def test_broken_front_matter_is_reported_and_the_spec_keeps_running(workspace: ServiceWorkspace) -> None:
    spec = workspace.spec("people", "On-demand")
    text = spec.read_text()
    async with workspace.serving():
        await workspace.wait_until(lambda: "people" in workspace.heartbeat().specs)
        spec.write_text(text.replace("spec_id: people", "spec_id: [people"))
        await workspace.wait_until(lambda: workspace.heartbeat().specs["people"].problem)
        assert "specs/people.md:2:10: F101" in workspace.heartbeat().specs["people"].problem
        spec.write_text(text)
        await workspace.wait_until(lambda: not workspace.heartbeat().specs["people"].problem)
    assert [
        line for line in workspace.reported if line.startswith("error: people: cannot run: specs/people.md:2:10: F101")
    ]


async def test_spec_edited_before_the_watch_starts_is_read_at_once(
    workspace: ServiceWorkspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    edited = asyncio.Event()

    def late(*args: Any) -> AsyncGenerator[set[Path], None]:
        if not edited.is_set():
            edited.set()
            workspace.spec()
        return file_changes(*args)

    monkeypatch.setattr("speclab.service.scheduler.file_changes", late)
    monkeypatch.setattr("speclab.service.scheduler._MINUTE", 3600)
    workspace.spec(status="draft")
    async with workspace.serving():
        await workspace.wait_until(workspace.ended)


async def test_missing_workspace_is_not_created_and_is_served_again_when_it_returns(
    workspace: ServiceWorkspace,
) -> None:
    workspace.spec()
    away = workspace.directory.with_name("away")
    async with workspace.serving():
        await workspace.wait_until(workspace.ended)
        workspace.directory.rename(away)
        await workspace.wait_until(lambda: any("/.speclab/runs: No such file" in line for line in workspace.reported))
        away.rename(workspace.directory)
        ended = len(workspace.ended())
        await workspace.wait_until(lambda: len(workspace.ended()) > ended)
    assert len([line for line in workspace.reported if "No such file" in line]) <= 3  # each problem is reported once
    assert "info: people: no longer in progress" not in workspace.reported


async def test_replaced_run_log_ends_the_service(workspace: ServiceWorkspace) -> None:
    async def until_replaced() -> None:
        async with workspace.serving():
            await workspace.wait_until(lambda: workspace.alerts() == {"people"})
            for file in workspace.runlog.parent.glob("runlog.db*"):
                file.unlink()
            RunLog.open(workspace.runlog).close()
            await workspace.wait_until(workspace.stop.graceful.is_set)

    workspace.spec(frequency="On-demand")
    with pytest.raises(RunLogError, match="the run log was replaced by another file"):
        await until_replaced()


async def test_problem_of_one_spec_stops_no_other_and_is_reported_once(workspace: ServiceWorkspace) -> None:
    workspace.spec("barred")
    workspace.spec("people")
    log = workspace.directory / ".speclab/runs/barred.up.log"
    log.mkdir(parents=True)  # as for a directory of another user: not writable
    async with workspace.serving():
        await workspace.wait_until(lambda: workspace.ended("people") and workspace.heartbeat().specs["barred"].problem)
        assert workspace.heartbeat().specs["barred"].problem == f"{log}: Is a directory"
        log.rmdir()
        await workspace.wait_until(lambda: not workspace.heartbeat().specs["barred"].problem)
    assert workspace.reported.count(f"error: {log}: Is a directory") == 1


async def test_all_specs_that_change_while_the_run_log_is_not_writable_are_read(
    workspace: ServiceWorkspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("speclab.service.scheduler._MINUTE", 0.2)
    monkeypatch.setattr("speclab.runlog.connection._BUSY_SECONDS", 0.0)
    workspace.spec("first", "On-demand")
    async with workspace.serving():
        await workspace.wait_until(lambda: "first" in workspace.alerts())
        with closing(sqlite3.connect(workspace.runlog, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            for name in ("first", "second", "third"):
                workspace.spec(name, "Hourly")
            await workspace.wait_until(lambda: "third" in workspace.heartbeat().specs)
            assert any("the run log is locked" in line for line in workspace.reported)
        await workspace.wait_until(lambda: all(one.next for one in workspace.heartbeat().specs.values()))
        await workspace.wait_until(lambda: sum("Hourly, next at" in line for line in workspace.reported) == 3)


async def test_spec_with_invalid_text_stops_no_other(workspace: ServiceWorkspace) -> None:
    odd = workspace.spec("odd", "On-demand")
    odd.write_bytes(odd.read_bytes().replace(b"spec_id: odd", b"spec_id: caf\xe9"))
    workspace.spec("moved", "On-demand").rename(odd.with_name(os.fsdecode(b"caf\xe9.md")))
    async with workspace.serving():
        await workspace.wait_until(lambda: workspace.alerts() == {"moved"})
        assert "is not a valid spec_id" in workspace.heartbeat().specs["caf\\udce9"].problem
    with RunLogReader.open(workspace.runlog) as reader:
        assert [row.path for row in reader.integrations("moved")] == ["specs/caf\\udce9.md"]


async def test_spec_that_is_unreadable_for_a_while_stays_in_progress(workspace: ServiceWorkspace) -> None:
    spec = workspace.spec("people", "Hourly")
    aside = spec.with_name("aside")
    async with workspace.serving():
        await workspace.wait_until(lambda: "people" in workspace.heartbeat().specs)
        spec.rename(aside)
        spec.symlink_to(spec)  # unreadable, like a file of another user or on an unmounted disk
        workspace.spec("other", "Hourly")
        await workspace.wait_until(lambda: "other" in workspace.heartbeat().specs)
        assert workspace.heartbeat().specs["people"].next is not None
        aside.replace(spec)
    assert "info: people: no longer in progress" not in workspace.reported


async def test_spec_that_disappears_and_returns_while_its_run_starts_is_not_run_twice_at_once(
    workspace: ServiceWorkspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = (sys.executable, "-c", "import time; time.sleep(60)")
    monkeypatch.setattr("speclab.core.processes.module_command", lambda *_: command)
    workspace.leave_stale_heartbeat("Every 1 second")
    spec = workspace.spec()
    async with workspace.serving():
        await workspace.wait_until(lambda: any("started by schedule" in line for line in workspace.reported))
        spec.unlink()
        await workspace.wait_until(lambda: workspace.heartbeat().specs == {})
        workspace.spec()
        await workspace.wait_until(lambda: "people" in workspace.heartbeat().specs)
    assert sum("started by schedule" in line for line in workspace.reported) == 1


async def test_run_log_migrated_by_a_newer_speclab_ends_the_service(
    workspace: ServiceWorkspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def until_it_is_newer() -> None:
        async with workspace.serving():
            await workspace.wait_until(lambda: workspace.alerts() == {"people"})
            with closing(sqlite3.connect(workspace.runlog)) as newer:
                newer.execute(f"PRAGMA user_version = {schema.VERSION + 1}")
            await workspace.wait_until(workspace.stop.graceful.is_set)

    monkeypatch.setattr("speclab.service.scheduler._MINUTE", 0.2)
    workspace.spec(frequency="On-demand")
    with pytest.raises(RunLogTooNew):
        await until_it_is_newer()


@pytest.mark.parametrize("prints", ["", "not JSON", '{"state": 1'])
async def test_run_is_reported_although_its_output_is_invalid_or_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prints: str
) -> None:
    code = f"print({prints!r}); raise SystemExit(3)"
    monkeypatch.setattr("speclab.core.processes.module_command", lambda *_: (sys.executable, "-c", code))
    output = tmp_path / "runs/people.up.log"
    child = RunProcess.start(tmp_path / "people.md", Trigger.SCHEDULE, tmp_path / "runlog.db", tmp_path, output)
    output.unlink()
    assert await child.wait() == ProcessExit(3, None, "exit code 3")


async def test_output_of_a_connector_before_the_row_of_a_run_is_skipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = """print('connected'); print('{"state": "succeeded"}')"""
    monkeypatch.setattr("speclab.core.processes.module_command", lambda *_: (sys.executable, "-c", code))
    output = tmp_path / "people.up.log"
    child = RunProcess.start(tmp_path / "people.md", Trigger.SCHEDULE, tmp_path / "runlog.db", tmp_path, output)
    assert await child.wait() == ProcessExit(0, {"state": "succeeded"})


async def test_failure_to_start_a_process_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def rejected(*_args: object, **_more: object) -> None:
        raise BlockingIOError(
            errno.EAGAIN, "Resource temporarily unavailable"
        )  # the error of fork(2) under `ulimit -u`

    monkeypatch.setattr(subprocess, "Popen", rejected)
    with pytest.raises(SpeclabError, match="cannot start a process: Resource temporarily unavailable"):
        RunProcess.start(tmp_path, Trigger.SCHEDULE, tmp_path / "runlog.db", tmp_path, tmp_path / "people.up.log")
