"""The service when what it stands on goes away: a spec, the workspace, the run log."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest
from tests.sync.test_service_runs import LONG_AGO, Workspace, place

from speclab.errors import RunLogError
from speclab.outcome import AlertState
from speclab.runlog import AlertRow, RunLog, RunLogReader
from speclab.spec.changes import file_changes

__all__ = ["place"]


async def test_alerts_of_a_spec_that_is_not_there_any_more_are_over(
    place: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("speclab.sync.service._MINUTE", 0.2)
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
        log.record_alerts("people", [firing, AlertRow("people", "Slow", AlertState.PENDING, LONG_AGO, "9 s")])
    with RunLogReader.open(place.runlog) as reader:
        async with place.serving():
            await place.until(lambda: [row.name for row in reader.alerts()] == ["Silence"])


async def test_a_front_matter_that_is_broken_stops_no_spec_in_silence(place: Workspace) -> None:
    spec = place.spec("people", "On-demand")
    text = spec.read_text()
    async with place.serving():
        await place.until(lambda: "people" in place.heartbeat().specs)
        spec.write_text(text.replace("spec_id: people", "spec_id: [people"))
        await place.until(lambda: place.heartbeat().specs["people"].problem)
        assert "specs/people.md:3:5: F101" in place.heartbeat().specs["people"].problem
        spec.write_text(text)
        await place.until(lambda: not place.heartbeat().specs["people"].problem)
    assert [line for line in place.said if line.startswith("error: people: cannot run: specs/people.md:3:5: F101")]


async def test_a_spec_that_is_edited_before_the_specs_are_watched_is_read_at_once(
    place: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    edited = asyncio.Event()

    def late(*args: Any) -> AsyncGenerator[set[Path], None]:
        if not edited.is_set():
            edited.set()
            place.spec()
        return file_changes(*args)

    monkeypatch.setattr("speclab.sync.service.file_changes", late)
    monkeypatch.setattr("speclab.sync.service._MINUTE", 3600)
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


async def test_another_run_log_in_the_place_of_the_one_that_is_served_ends_the_service(place: Workspace) -> None:
    async def until_replaced() -> None:
        async with place.serving():
            await place.until(lambda: place.alerts() == {"people"})
            for file in place.runlog.parent.glob("runlog.db*"):
                file.unlink()
            RunLog.open(place.runlog).close()
            await place.until(place.stop.asked.is_set)

    place.spec(frequency="On-demand")
    with pytest.raises(RunLogError, match="the run log that was served is gone, and another in its place"):
        await until_replaced()
