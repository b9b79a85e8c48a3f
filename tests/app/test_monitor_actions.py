"""Actions in the Monitor: discard, retry, run now, and why an action is unavailable."""

from __future__ import annotations

from typing import Any

import pytest
from tests.app.test_monitor_view import Open, line, list_runs, opened

__all__ = ["line", "opened"]


async def test_discarding_a_group_needs_a_reason(
    filled: Any, opened: Open, see: Open, until: Open, screen: Open
) -> None:
    async with opened(filled) as pilot:
        await see(pilot, "failures of people ── 16 records, grouped")
        await pilot.press("D")
        await see(pilot, "discard 14 records of people")
        await pilot.press("enter")
        await see(pilot, "A reason is required")
        await pilot.press(*"duplicates", "enter")
        await see(pilot, "14 records discarded")
        await until(pilot, lambda: "P0" not in screen(pilot))
        with filled.log() as log:
            events = [row for (row,) in log._db.execute("SELECT message FROM log_event ORDER BY id DESC LIMIT 1")]
        assert "duplicates" in events[0]


async def test_last_discarded_failure_of_a_group_is_not_shown_as_dead(
    filled: Any, opened: Open, see: Open, until: Open, screen: Open
) -> None:
    async with opened(filled, size=(80, 24)) as pilot:
        await see(pilot, "failures of people ── 16 records, grouped")
        await pilot.press("tab", "end", "enter")
        for left in ("1 of 2", "1 of 1"):
            await see(pilot, left)
            await pilot.press("D", *"void", "enter")
            await until(pilot, lambda left=left: left not in screen(pilot))
        await see(pilot, "No failures left.", "All of them were resolved or discarded.")
        assert "w_1" not in screen(pilot)
        await pilot.press("D")
        await see(pilot, "Not now: discard")


async def test_nothing_is_discarded_without_confirmation(filled: Any, opened: Open, see: Open, screen: Open) -> None:
    async with opened(filled) as pilot:
        await see(pilot, "failures of people ── 16 records, grouped")
        await pilot.press("D", "escape")
        await pilot.pause()
        assert "14 dead" in screen(pilot)


async def test_retry_asks_for_confirmation_and_then_runs_the_spec(
    filled: Any, opened: Open, see: Open, until: Open
) -> None:
    async with opened(filled) as pilot:
        await see(pilot, "failures of people ── 16 records, grouped")
        await pilot.press("R")
        await see(pilot, "retry 14 records of people")
        await pilot.press("y")
        await see(pilot, "people was started")
        await until(pilot, lambda: "manual" in {run.trigger for run in list_runs(filled)})


async def test_run_now_starts_a_run_in_a_separate_process(workspace: Any, opened: Open, see: Open, until: Open) -> None:
    async with opened(workspace) as pilot:
        await pilot.press("r")
        await see(pilot, "orders was started")
        await see(pilot, "page 1, 3 read, 2 written")
        await until(pilot, lambda: {run.state for run in list_runs(workspace)} == {"partial"})
        assert (workspace.directory / ".speclab" / "runs" / "orders.log").exists()


async def test_spec_that_cannot_run_shows_the_reason(workspace: Any, opened: Open, see: Open) -> None:
    spec = workspace.directory / "orders.md"
    spec.write_text(spec.read_text().replace("Trim, Required", "Trimm"), "utf-8")
    async with opened(workspace) as pilot:
        await pilot.press("r")
        await see(pilot, "The run of orders failed", "Trimm")


async def test_spec_run_by_another_process_names_the_process(workspace: Any, opened: Open, see: Open) -> None:
    from speclab.core.locks import hold_spec

    async with opened(workspace) as pilot:
        with hold_spec(workspace.directory, "orders"):
            await pilot.press("r")
            await see(pilot, "orders is being run by process")


async def test_running_spec_is_not_started_again(filled: Any, opened: Open, see: Open) -> None:
    filled.start("orders", read=50, total=200)
    async with opened(filled) as pilot:
        await pilot.press("down", "r")
        await see(pilot, "orders is already running")


async def test_read_only_app_changes_nothing_and_says_so(filled: Any, opened: Open, see: Open) -> None:
    async with opened(filled, read_only=True) as pilot:
        await see(pilot, "failures of people ── 16 records, grouped")
        for key in "rRD":
            await pilot.press(key)
            await see(pilot, "the app was started with --read-only")
            pilot.app.clear_notifications()
            await pilot.pause()
        assert len(list_runs(filled)) == 2


async def test_run_whose_process_was_killed_becomes_interrupted(
    filled: Any, opened: Open, see: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("speclab.workbench.run_log_client.FIGURES_MAX_AGE", 0.3)
    with filled.log() as log:
        log.start_run("orders", "hash", "manual", pid=2**22 + 1)
    async with opened(filled) as pilot:
        await see(pilot, "✖ orders", "interrupted")
