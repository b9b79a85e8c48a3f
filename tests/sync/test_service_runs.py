"""The service: which runs it starts and when, with real processes, files and run log."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sqlite3
from datetime import UTC, datetime, timedelta

import pytest
from tests.sync.service_workspace import (
    LONG_AGO,
    ServiceWorkspace,
    SlowTarget,
    dead_pid,
    hanging_source,
    is_overlapping,
    waiting_page,
    workspace,
)

from speclab.core.clock import format_timestamp
from speclab.core.errors import WorkspaceLocked
from speclab.core.locks import hold_spec
from speclab.core.outcome import Level, RunState
from speclab.monitor.alerts import WatchedSpec, evaluate_alerts
from speclab.runlog import RunLog, RunLogReader
from speclab.service import heartbeat
from speclab.spec.integration import Alert
from speclab.spec.notifications import NotificationSettings

__all__ = ["hanging_source", "workspace"]


async def test_only_specs_in_progress_run_on_their_schedule(workspace: ServiceWorkspace) -> None:
    workspace.spec()
    workspace.spec("draft", status="draft")
    workspace.spec("by-hand", "On-demand")
    async with workspace.serving():
        await workspace.wait_until(lambda: len(workspace.ended("people")) >= 2)
        beat = workspace.heartbeat()
        assert beat.alive(workspace.directory, datetime.now(UTC))
        assert heartbeat.find_service(workspace.directory, datetime.now(UTC)) == beat
        assert beat.specs["people"].next is not None
        assert beat.specs["by-hand"].next is None
    runs = workspace.runs()
    assert {(run.spec_id, run.trigger) for run in runs} == {("people", "schedule")}
    assert runs[0].written == 2
    assert not is_overlapping(runs)
    assert heartbeat.find_service(workspace.directory, datetime.now(UTC)) is None
    assert [text.partition(" is ")[0] for text in workspace.events("alert")] == [
        "alert: Nothing yet: since_success()"
    ] * 2


async def test_changed_specs_are_read_again(workspace: ServiceWorkspace) -> None:
    path = workspace.spec(frequency="Every 300 days")
    async with workspace.serving():
        await workspace.wait_until(lambda: "people" in workspace.heartbeat().specs)
        workspace.spec(step="Trimm")
        await workspace.wait_until(lambda: workspace.events("service"))
        assert "cannot run: specs/people.md:38:33: M101" in workspace.events("service")[0]
        assert "unknown step 'Trimm'" in workspace.heartbeat().specs["people"].problem
        workspace.spec()
        await workspace.wait_until(lambda: workspace.ended("people"))
        workspace.spec("orders")
        await workspace.wait_until(lambda: workspace.ended("orders"))
        path.write_text(path.read_text().replace("in-progress", "completed"))
        await workspace.wait_until(lambda: "people" not in workspace.heartbeat().specs)
    assert any("people: no longer in progress" in line for line in workspace.reported)


async def test_jobs_limits_the_number_of_concurrent_runs(workspace: ServiceWorkspace) -> None:
    for name in ("a", "b", "c"):
        workspace.spec(name)
    async with workspace.serving(jobs=1):
        await workspace.wait_until(lambda: {run.spec_id for run in workspace.ended()} == {"a", "b", "c"})
    assert not is_overlapping(workspace.runs())


async def test_service_waits_for_a_manual_run_and_counts_it(workspace: ServiceWorkspace) -> None:
    workspace.spec(frequency="Every 1 second")
    with RunLog.open(workspace.runlog) as log:
        run = log.start_run("people", "", "manual")
        async with workspace.serving():
            await workspace.wait_until(lambda: any("Every 1 second" in line for line in workspace.reported))
            await asyncio.sleep(1.5)
            assert len(workspace.runs()) == 1
            log.finish_run(run)
            await workspace.wait_until(lambda: len(workspace.ended()) == 2)
    assert not is_overlapping(workspace.runs())


async def test_due_retries_are_sent_without_reading(workspace: ServiceWorkspace) -> None:
    workspace.spec(frequency="On-demand")
    with RunLog.open(workspace.runlog) as log:
        run = log.start_run("people", "", "manual")
        due = format_timestamp(datetime.now(UTC) + timedelta(seconds=1))
        log.commit_page(run, waiting_page(7, due))
        log.finish_run(run)
    async with workspace.serving():
        await workspace.wait_until(lambda: len(workspace.ended()) == 2)
    retry = workspace.runs()[-1]
    assert (retry.trigger, retry.read, retry.written) == ("retry", 1, 1)
    assert (workspace.directory / "out/people.jsonl").read_text() == '{"id":7,"name":"Edsger"}\n'


async def test_paused_spec_does_not_run_and_one_run_catches_up_after_the_pause(workspace: ServiceWorkspace) -> None:
    workspace.leave_stale_heartbeat("Every 300 days")
    workspace.spec(frequency="Every 300 days")
    workspace.spec("ticking")
    with RunLog.open(workspace.runlog) as log:
        log.finish_run(log.start_run("ticking", "", "manual"))
        run = log.start_run("people", "", "retry", pid=dead_pid())
        log.commit_page(run, waiting_page(7, LONG_AGO))
        log.pause("people", "ada")
        async with workspace.serving():
            await workspace.wait_until(lambda: len(workspace.ended("ticking")) == 3)
            assert [run.state for run in workspace.runs("people")] == [RunState.INTERRUPTED]
            assert workspace.heartbeat().specs["people"].next is None
            assert workspace.alerts() == {"ticking"}
            log.resume("people", "ada")
            await workspace.wait_until(lambda: len(workspace.ended("people")) == 2)
            ticked = len(workspace.ended("ticking"))
            await workspace.wait_until(lambda: len(workspace.ended("ticking")) == ticked + 2)
    (_, after) = workspace.runs("people")
    assert (after.trigger, after.read, after.written) == ("schedule", 3, 3)
    assert [line for line in workspace.reported if "people: paused" in line or "people: resumed" in line] == [
        "info: people: paused by ada",
        "info: people: resumed",
    ]


async def test_system_is_not_called_before_the_time_that_it_requested(workspace: ServiceWorkspace) -> None:
    workspace.spec()
    workspace.spec("ticking")
    with RunLog.open(workspace.runlog) as log:
        for name in ("people", "ticking"):
            log.register(name, title=name, path=f"specs/{name}.md", status="in-progress", schedule="")
        run = log.start_run("people", "", "manual")
        until = format_timestamp(datetime.now(UTC) + timedelta(hours=1))
        log.log_event("people", run, Level.INFO, "parked", "", {"until": until, "end": "source"})
        log.finish_run(run, "parked", RunState.PARTIAL)
        log.finish_run(log.start_run("people", "", "retry"))  # does not call the source
        async with workspace.serving():
            await workspace.wait_until(lambda: len(workspace.ended("ticking")) == 2)
            assert len(workspace.runs("people")) == 2
            assert workspace.heartbeat().specs["people"].next == until
            log.finish_run(log.start_run("people", "", "manual"))  # manual run, and the source responded
            await workspace.wait_until(lambda: len(workspace.ended("people")) == 4)


async def test_running_run_continues_when_its_spec_is_paused(workspace: ServiceWorkspace, hanging_source: str) -> None:
    workspace.spec(source=hanging_source)
    async with workspace.serving():
        await workspace.wait_until(workspace.pids)
        with RunLog.open(workspace.runlog) as log:
            log.pause("people", "ada")
        await workspace.wait_until(lambda: any("people: paused by ada" in line for line in workspace.reported))
        assert len(workspace.pids()) == 1
        assert workspace.heartbeat().specs["people"].running


async def test_next_service_repeats_a_run_that_the_stop_cut_short(
    workspace: ServiceWorkspace, hanging_source: str
) -> None:
    workspace.leave_stale_heartbeat("Every 300 days")
    workspace.spec(frequency="Every 300 days", source=hanging_source)
    async with workspace.serving():
        await workspace.wait_until(workspace.pids)
    assert [run.state for run in workspace.runs()] == [RunState.CANCELLED]
    assert any("stopping after the pages in progress of people" in line for line in workspace.reported)
    assert workspace.heartbeat().stopped is not None
    workspace.spec(frequency="Every 300 days")
    async with workspace.serving():
        await workspace.wait_until(lambda: len(workspace.ended()) == 2)
    assert workspace.runs()[-1].state is RunState.SUCCEEDED
    async with workspace.serving():
        await workspace.wait_until(lambda: any("Every 300 days, next at" in line for line in workspace.reported[-1:]))
    assert len(workspace.runs()) == 2


async def test_graceful_stop_finishes_the_current_page_and_the_heartbeat_says_stopping(
    workspace: ServiceWorkspace,
) -> None:
    target = SlowTarget()
    async with await asyncio.start_server(target.serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        write = 'write: {upsert: "PUT /people/{id}"}'
        workspace.spec(target=f"connector: http\nbase_url: http://127.0.0.1:{port}\n{write}")
        async with workspace.serving():
            await workspace.wait_until(lambda: len(target.taken) == 2)
            workspace.stop.graceful.set()
            await workspace.wait_until(lambda: workspace.heartbeat().stopping)
            assert workspace.heartbeat().alive(workspace.directory, datetime.now(UTC))
            assert len(workspace.pids()) == 1
            target.answers.set()
    (run,) = workspace.runs()
    assert (run.read, run.written, sorted(target.taken)) == (2, 2, ["/people/1", "/people/2"])
    assert workspace.heartbeat().stopped is not None


async def test_second_stop_request_ends_runs_at_once(workspace: ServiceWorkspace, hanging_source: str) -> None:
    workspace.spec(source=hanging_source)
    async with workspace.serving():
        await workspace.wait_until(workspace.pids)
        (pid,) = workspace.pids()
        os.kill(pid, signal.SIGSTOP)  # it cannot finish its page
        workspace.stop.graceful.set()
        await workspace.wait_until(lambda: any("stopping after" in line for line in workspace.reported))
        workspace.stop.immediate.set()
    assert workspace.runs()[0].state is RunState.INTERRUPTED
    assert workspace.events("service") == ["the run died before finishing: killed by SIGKILL"]


async def test_run_stopped_before_it_starts_is_not_a_crash(workspace: ServiceWorkspace) -> None:
    workspace.leave_stale_heartbeat("Every 300 days")
    workspace.spec(frequency="Every 300 days")
    async with workspace.serving():
        await workspace.wait_until(lambda: any("people: started by schedule" in line for line in workspace.reported))
    assert workspace.runs() == []
    assert workspace.events("service") == []
    assert workspace.reported[-1] == "info: people: stopped before it started"
    async with workspace.serving():
        await workspace.wait_until(lambda: len(workspace.ended()) == 1)


async def test_crashed_run_is_reported_and_the_next_starts_at_its_time(
    workspace: ServiceWorkspace, hanging_source: str
) -> None:
    workspace.spec(source=hanging_source)
    async with workspace.serving():
        await workspace.wait_until(workspace.pids)
        (pid,) = workspace.pids()
        os.kill(pid, signal.SIGKILL)
        await workspace.wait_until(lambda: len(workspace.runs()) == 2)
        assert workspace.runs()[0].state is RunState.INTERRUPTED
        assert workspace.events("service") == ["the run died before finishing: killed by SIGKILL"]


async def test_run_that_could_not_start_is_reported_with_its_reason(workspace: ServiceWorkspace) -> None:
    workspace.spec()
    with hold_spec(workspace.directory, "people"):  # without a run in the run log yet
        async with workspace.serving():
            await workspace.wait_until(lambda: workspace.events("service"))
            assert "could not run: people is being run by process" in workspace.events("service")[0]
            assert workspace.runs() == []


async def test_runs_of_a_killed_service_are_taken_over(workspace: ServiceWorkspace) -> None:
    workspace.leave_stale_heartbeat("Every 300 days")
    workspace.spec(frequency="Every 300 days")
    with RunLog.open(workspace.runlog) as log:
        log.start_run("people", "", "schedule", pid=dead_pid())
    async with workspace.serving():
        await workspace.wait_until(lambda: len(workspace.ended()) == 2)
    assert [run.state for run in workspace.runs()] == [RunState.INTERRUPTED, RunState.SUCCEEDED]
    assert any("process 1, died" in line for line in workspace.reported)
    assert any("started by schedule, due since 20" in line for line in workspace.reported)


async def test_old_rows_are_deleted_and_alerts_of_specs_not_in_progress_end(workspace: ServiceWorkspace) -> None:
    workspace.spec(frequency="On-demand", status="draft")
    workspace.spec("orders", "On-demand")
    with RunLog.open(workspace.runlog) as log, RunLogReader.open(workspace.runlog) as reader:
        log.register("people", title="", path="", status="draft", schedule="")
        log.log_event("orders", None, Level.INFO, "log", "of old")
        log.log_event("orders", None, Level.INFO, "log", "of now")
        alerts = (Alert("Nothing yet", "since_success() >= 0.0", hold=0, notify="", line=1),)
        spec = WatchedSpec("people", "People", alerts, NotificationSettings())
        evaluate_alerts(log, reader, spec, datetime.now(UTC))
    with sqlite3.connect(workspace.runlog) as db:
        db.execute("UPDATE log_event SET at = '2020-01-01T00:00:00.000Z' WHERE message = 'of old'")
    db.close()
    async with workspace.serving():
        await workspace.wait_until(lambda: "alert over: Nothing yet" in workspace.events("alert"))
        await workspace.wait_until(lambda: workspace.events("log") == ["of now"])


async def test_second_service_is_rejected_although_the_lock_file_was_deleted(workspace: ServiceWorkspace) -> None:
    async with workspace.serving():
        await workspace.wait_until(lambda: heartbeat.read_heartbeat(workspace.directory))
        (workspace.directory / ".speclab" / "up.lock").unlink()
        with pytest.raises(WorkspaceLocked, match=f"by process {os.getpid()} of .*, whose lock file was deleted"):
            await workspace.serve(1)
        assert heartbeat.find_service(workspace.directory, datetime.now(UTC)) is not None
    (workspace.directory / ".speclab" / "up.lock").unlink()
    async with workspace.serving():  # after the first has ended, a deleted lock file blocks no service
        pass


async def test_second_service_names_the_lock_holder(workspace: ServiceWorkspace) -> None:
    async with workspace.serving():
        await workspace.wait_until(lambda: heartbeat.read_heartbeat(workspace.directory))
        with pytest.raises(WorkspaceLocked, match=f"by process {os.getpid()} of"):
            await workspace.serve(1)


async def test_events_of_a_run_reach_the_standard_error_of_the_service(
    workspace: ServiceWorkspace, capfd: pytest.CaptureFixture[str]
) -> None:
    path = workspace.spec()
    logging = "\n## Monitoring & Alerting\n\n### Logging\n\n```yaml\ndestination: stderr\nformat: json\n```\n"
    path.write_text(path.read_text() + logging)
    async with workspace.serving():
        await workspace.wait_until(lambda: len(workspace.ended("people")) >= 1)
    lines = [json.loads(line) for line in capfd.readouterr().err.splitlines() if line.startswith("{")]
    assert [line["message"] for line in lines][:1] == ["started by schedule"]
    assert {line["spec_id"] for line in lines} == {"people"}
