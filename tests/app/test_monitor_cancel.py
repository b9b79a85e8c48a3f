"""The Monitor and a running run: its progress within a page, and its cancellation."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from speclab.core.clock import format_timestamp
from speclab.core.outcome import Level, RunState

Open = Callable[..., Any]


@pytest.mark.parametrize("size", [(80, 24), (120, 40)])
async def test_monitor_shows_the_progress_of_a_run_within_its_page(
    filled: Any, running: Open, see: Open, size: tuple[int, int]
) -> None:
    run = filled.start("people", read=0, total=0)
    async with running(filled.directory, view="monitor", size=size) as pilot:
        with filled.log() as log:
            log.save_progress(run, {"page": 1, "records": 200, "sent": 40, "requests": 41})
        await see(pilot, "running, 0 + 40/200", "page 1: 40 of")
        until = filled.clock.time + timedelta(seconds=90)
        with filled.log() as log:
            progress = {"page": 1, "records": 200, "sent": 40, "requests": 41}
            log.save_progress(run, {**progress, "wait": "the rate limit", "until": format_timestamp(until)})
        await see(pilot, f"waits to {until.astimezone():%H:%M:%S}", f"waits until {until.astimezone():%H:%M:%S}")


async def test_x_cancels_the_selected_run_and_a_second_x_stops_it_now(filled: Any, running: Open, see: Open) -> None:
    run = filled.start("people", read=50, total=0)
    async with running(filled.directory, view="monitor") as pilot:
        await see(pilot, "running, 50 read", "x cancel run")
        with filled.log() as log:
            for requested, toast in ((1, "people stops after this page"), (2, "people stops now")):
                await pilot.press("x")
                await see(pilot, toast, "stopping, 50 read")
                assert log.save_progress(run, {}).cancel == requested
            log.finish_run(run, "stopped", RunState.CANCELLED)
        await see(pilot, "stops now", "cancelled")


async def test_parked_integration_shows_until_when(filled: Any, running: Open, see: Open) -> None:
    with filled.log() as log:
        run = log.start_run("orders", "hash", "schedule")
        until = format_timestamp(filled.clock.time + timedelta(days=365))
        log.log_event("orders", run, Level.INFO, "parked", "", {"until": until, "end": "source"})
        log.finish_run(run, "parked", RunState.PARTIAL)
    async with running(filled.directory, view="monitor") as pilot:
        await see(pilot, "◷ orders", "parked, in ")
