"""The service when a spec, the workspace or the run log disappears."""

from __future__ import annotations

import asyncio
import errno
import os
import sqlite3
import sys
from collections.abc import AsyncGenerator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from tests.sync.test_service_runs import LONG_AGO, Workspace, place

from speclab.core.errors import RunLogError, RunLogTooNew, SpeclabError
from speclab.core.outcome import AlertState, Trigger
from speclab.runlog import AlertRow, RunLog, RunLogReader, schema
from speclab.service.process import ProcessExit, RunProcess
from speclab.spec.workspace import file_changes

__all__ = ["place"]


async def test_alerts_of_a_spec_that_is_not_there_any_more_are_over(
    place: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("speclab.service.scheduler._MINUTE", 0.2)
    spec = place.spec("people", "On-demand")
    async with place.serving():
        await place.until(lambda: place.alerts() == {"people"})
        spec.unlink()
        await place.until(lambda: place.alerts() == set())
    assert place.events("alert")[-1] == "alert over: Nothing yet"


async def test_a_pause_is_no_time_in_which_an_alert_holds(place: Workspace) -> None:
    place.spec("people", "On-demand")
    with RunLog.open(place.runlog) as log:
        log.pause("people", "ada")
        firing = AlertRow("people", "Silence", AlertState.FIRING, LONG_AGO, "no run in 3 h")
        log.save_alerts("people", [firing, AlertRow("people", "Slow", AlertState.PENDING, LONG_AGO, "9 s")])
    with RunLogReader.open(place.runlog) as reader:
        async with place.serving():
            await place.until(lambda: [row.name for row in reader.alerts()] == ["Silence"])


async def test_a_file_with_a_spec_id_that_is_taken_is_told_and_not_run(place: Workspace) -> None:
    place.spec(frequency="On-demand")
    place.write("specs/zz-copy.md", (place.directory / "specs/people.md").read_text())
    async with place.serving():
        await place.until(
            lambda: any("zz-copy.md is not run: its spec_id is the one of" in line for line in place.said)
        )


async def test_a_status_that_is_none_is_told_and_not_taken_for_one(place: Workspace) -> None:
    path = place.spec(frequency="On-demand", status="in-progres")
    async with place.serving():
        await place.until(
            lambda: f"warning: {path} is not run: its status is 'in-progres'; did you mean 'in-progress'?" in place.said
        )
        assert place.heartbeat().specs == {}


async def test_a_front_matter_that_is_broken_stops_no_spec_in_silence(place: Workspace) -> None:
    spec = place.spec("people", "On-demand")
    text = spec.read_text()
    async with place.serving():
        await place.until(lambda: "people" in place.heartbeat().specs)
        spec.write_text(text.replace("spec_id: people", "spec_id: [people"))
        await place.until(lambda: place.heartbeat().specs["people"].problem)
        assert "specs/people.md:2:10: F101" in place.heartbeat().specs["people"].problem
        spec.write_text(text)
        await place.until(lambda: not place.heartbeat().specs["people"].problem)
    assert [line for line in place.said if line.startswith("error: people: cannot run: specs/people.md:2:10: F101")]


async def test_a_spec_that_is_edited_before_the_specs_are_watched_is_read_at_once(
    place: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    edited = asyncio.Event()

    def late(*args: Any) -> AsyncGenerator[set[Path], None]:
        if not edited.is_set():
            edited.set()
            place.spec()
        return file_changes(*args)

    monkeypatch.setattr("speclab.service.scheduler.file_changes", late)
    monkeypatch.setattr("speclab.service.scheduler._MINUTE", 3600)
    place.spec(status="draft")
    async with place.serving():
        await place.until(place.ended)


async def test_a_workspace_that_is_gone_is_not_made_anew_and_is_served_again_when_it_is_back(place: Workspace) -> None:
    place.spec()
    away = place.directory.with_name("away")
    async with place.serving():
        await place.until(place.ended)
        place.directory.rename(away)
        await place.until(lambda: any("/.speclab/runs: No such file" in line for line in place.said))
        away.rename(place.directory)
        ended = len(place.ended())
        await place.until(lambda: len(place.ended()) > ended)
    assert len([line for line in place.said if "No such file" in line]) <= 3  # each trouble is told once
    assert "info: people: no longer in progress" not in place.said


async def test_another_run_log_in_the_place_of_the_one_that_is_served_ends_the_service(place: Workspace) -> None:
    async def until_replaced() -> None:
        async with place.serving():
            await place.until(lambda: place.alerts() == {"people"})
            for file in place.runlog.parent.glob("runlog.db*"):
                file.unlink()
            RunLog.open(place.runlog).close()
            await place.until(place.stop.graceful.is_set)

    place.spec(frequency="On-demand")
    with pytest.raises(RunLogError, match="the run log was replaced by another file"):
        await until_replaced()


async def test_what_stands_in_the_way_of_one_spec_stops_no_other_and_is_told_once(place: Workspace) -> None:
    place.spec("barred")
    place.spec("people")
    log = place.directory / ".speclab/runs/barred.up.log"
    log.mkdir(parents=True)  # as one that is another user's: it cannot be written
    async with place.serving():
        await place.until(lambda: place.ended("people") and place.heartbeat().specs["barred"].problem)
        assert place.heartbeat().specs["barred"].problem == f"{log}: Is a directory"
        log.rmdir()
        await place.until(lambda: not place.heartbeat().specs["barred"].problem)
    assert place.said.count(f"error: {log}: Is a directory") == 1


async def test_specs_that_change_while_the_run_log_cannot_be_written_are_all_taken_in(
    place: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("speclab.service.scheduler._MINUTE", 0.2)
    monkeypatch.setattr("speclab.runlog.store._BUSY_SECONDS", 0.0)
    place.spec("first", "On-demand")
    async with place.serving():
        await place.until(lambda: "first" in place.alerts())
        with closing(sqlite3.connect(place.runlog, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            for name in ("first", "second", "third"):
                place.spec(name, "Hourly")
            await place.until(lambda: "third" in place.heartbeat().specs)
            assert any("the run log is locked" in line for line in place.said)
        await place.until(lambda: all(one.next for one in place.heartbeat().specs.values()))
        await place.until(lambda: sum("Hourly, next at" in line for line in place.said) == 3)


async def test_a_spec_whose_bytes_are_no_text_stops_no_other(place: Workspace) -> None:
    odd = place.spec("odd", "On-demand")
    odd.write_bytes(odd.read_bytes().replace(b"spec_id: odd", b"spec_id: caf\xe9"))
    place.spec("moved", "On-demand").rename(odd.with_name(os.fsdecode(b"caf\xe9.md")))
    async with place.serving():
        await place.until(lambda: place.alerts() == {"moved"})
        assert "is not a valid spec_id" in place.heartbeat().specs["caf\\udce9"].problem
    with RunLogReader.open(place.runlog) as reader:
        assert [row.path for row in reader.integrations("moved")] == ["specs/caf\\udce9.md"]


async def test_a_spec_that_cannot_be_read_for_a_while_is_still_in_progress(place: Workspace) -> None:
    spec = place.spec("people", "Hourly")
    aside = spec.with_name("aside")
    async with place.serving():
        await place.until(lambda: "people" in place.heartbeat().specs)
        spec.rename(aside)
        spec.symlink_to(spec)  # which nobody can open, as one of another user, or on a disk that is away
        place.spec("other", "Hourly")
        await place.until(lambda: "other" in place.heartbeat().specs)
        assert place.heartbeat().specs["people"].next is not None
        aside.replace(spec)
    assert "info: people: no longer in progress" not in place.said


async def test_a_spec_that_comes_and_goes_while_its_run_begins_is_not_run_twice_at_once(
    place: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("speclab.service.process._COMMAND", (sys.executable, "-c", "import time; time.sleep(60)"))
    place.served_until_long_ago("Every 1 second")
    spec = place.spec()
    async with place.serving():
        await place.until(lambda: any("started by schedule" in line for line in place.said))
        spec.unlink()
        await place.until(lambda: place.heartbeat().specs == {})
        place.spec()
        await place.until(lambda: "people" in place.heartbeat().specs)
    assert sum("started by schedule" in line for line in place.said) == 1


async def test_a_run_log_that_a_newer_speclab_has_changed_ends_the_service(
    place: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def until_it_is_newer() -> None:
        async with place.serving():
            await place.until(lambda: place.alerts() == {"people"})
            with closing(sqlite3.connect(place.runlog)) as newer:
                newer.execute(f"PRAGMA user_version = {schema.VERSION + 1}")
            await place.until(place.stop.graceful.is_set)

    monkeypatch.setattr("speclab.service.scheduler._MINUTE", 0.2)
    place.spec(frequency="On-demand")
    with pytest.raises(RunLogTooNew):
        await until_it_is_newer()


@pytest.mark.parametrize("prints", ["", "not JSON", '{"state": 1'])
async def test_a_run_is_told_of_whatever_it_printed_and_whoever_swept_away_what_it_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prints: str
) -> None:
    monkeypatch.setattr(
        "speclab.service.process._COMMAND", (sys.executable, "-c", f"print({prints!r}); raise SystemExit(3)")
    )
    output = tmp_path / "runs/people.up.log"
    child = await RunProcess.start(tmp_path / "people.md", Trigger.SCHEDULE, tmp_path / "runlog.db", tmp_path, output)
    output.unlink()
    assert await child.wait() == ProcessExit(3, None, "exit code 3")


async def test_what_a_connector_prints_before_the_row_of_a_run_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = """print('connected'); print('{"state": "succeeded"}')"""
    monkeypatch.setattr("speclab.service.process._COMMAND", (sys.executable, "-c", code))
    output = tmp_path / "people.up.log"
    child = await RunProcess.start(tmp_path / "people.md", Trigger.SCHEDULE, tmp_path / "runlog.db", tmp_path, output)
    assert await child.wait() == ProcessExit(0, {"state": "succeeded"})


async def test_where_no_process_can_be_started_that_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refused(*_args: object, **_more: object) -> None:
        raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")  # what fork(2) says, at `ulimit -u`

    monkeypatch.setattr(asyncio, "create_subprocess_exec", refused)
    with pytest.raises(SpeclabError, match="cannot start a process: Resource temporarily unavailable"):
        await RunProcess.start(tmp_path, Trigger.SCHEDULE, tmp_path / "runlog.db", tmp_path, tmp_path / "people.up.log")
