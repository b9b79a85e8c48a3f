"""Views follow changes: section text, the list of specs, the selected row, and the time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot

from speclab.app.widgets.log import EventLog

Running = Callable[..., AbstractAsyncContextManager[Pilot[None]]]
See = Callable[..., Awaitable[None]]
Until = Callable[..., Awaitable[None]]

SIZES = [(80, 24), (160, 45)]


@pytest.mark.parametrize("size", SIZES)
async def test_specs_shows_a_mapping_cell_that_was_edited_in_mapping(
    workspace: Any, running: Running, see: See, size: tuple[int, int]
) -> None:
    async with running(workspace.directory, size=size) as pilot:
        await see(pilot, "Field Mapping")
        await pilot.press("slash", *"field", "enter")
        await see(pilot, "| name | name | Trim, Required | |")
        await pilot.press("2")
        await see(pilot, "Trim, Required")
        await pilot.press("down", "enter", "home", "ctrl+k", *"Trim", "enter")
        await see(pilot, "unsaved")
        await pilot.press("1")
        await see(pilot, "| name | name | Trim           | |")


async def test_specs_added_to_an_empty_workspace_are_listed(tmp_path: Path, running: Running, see: See) -> None:
    async with running(tmp_path) as pilot:
        await see(pilot, "No specs here yet.")
        (tmp_path / "orders.md").write_text("---\nspec_id: orders\ntype: integration\nstatus: draft\n---\n\n# Orders\n")
        await see(pilot, "orders", "draft")


async def test_spec_added_to_a_directory_without_specs_is_listed(tmp_path: Path, running: Running, see: See) -> None:
    (tmp_path / "specs" / "crm").mkdir(parents=True)
    async with running(tmp_path) as pilot:
        await see(pilot, "No specs here yet.")
        await pilot.pause(0.5)
        text = "---\nspec_id: orders\ntype: integration\nstatus: draft\n---\n\n# Orders\n"
        (tmp_path / "specs" / "crm" / "orders.md").write_text(text)
        await see(pilot, "orders", "draft")
        (tmp_path / "specs").rename(tmp_path.parent / "elsewhere")
        await see(pilot, "No specs here yet.")


@pytest.mark.parametrize("size", SIZES)
async def test_spec_with_errors_is_marked_in_the_list(
    workspace: Any, running: Running, see: See, size: tuple[int, int]
) -> None:
    people = workspace.directory / "people.md"
    good = people.read_text("utf-8")
    people.write_text(good.replace("connector: file", "connector: fil"), "utf-8")
    async with running(workspace.directory, size=size) as pilot:
        await see(pilot, "✖ people", "2 errors", "◌ orders")
        people.write_text(good, "utf-8")
        await see(pilot, "◌ people", "never run")


async def test_error_is_marked_in_the_list_before_it_is_saved(workspace: Any, running: Running, see: See) -> None:
    async with running(workspace.directory) as pilot:
        await see(pilot, "◌ orders")
        await pilot.press("slash", *"field", "enter")
        await see(pilot, "| id | external_id | Direct | |")
        await pilot.press("e", "ctrl+end", *"| a | b | Nonsense | |", "escape")
        await see(pilot, "✖ orders", "unsaved")


@pytest.mark.parametrize("size", SIZES)
async def test_state_of_a_spec_with_a_long_name_is_shown(
    workspace: Any, running: Running, see: See, size: tuple[int, int]
) -> None:
    name = "salesforce-opportunities-and-line-items-to-billing"
    (workspace.directory / "orders.md").rename(workspace.directory / f"{name}.md")
    text = (workspace.directory / f"{name}.md").read_text("utf-8")
    (workspace.directory / f"{name}.md").write_text(text.replace("spec_id: orders", f"spec_id: {name}"), "utf-8")
    async with running(workspace.directory, size=size) as pilot:
        await see(pilot, "◌ salesforce-o", "never run")


@pytest.mark.parametrize("size", SIZES)
async def test_age_of_the_oldest_waiting_record_is_kept_up_to_date(
    filled: Any, running: Running, see: See, size: tuple[int, int]
) -> None:
    filled.clock.time -= timedelta(minutes=6)
    async with running(filled.directory, view="monitor", clock=filled.clock, size=size) as pilot:
        await see(pilot, "oldest 5.0 s")
        filled.clock.time += timedelta(seconds=30)
        await see(pilot, "oldest 35 s")


@pytest.mark.parametrize("size", SIZES)
async def test_filtered_events_follow_the_integration_under_the_cursor(
    filled: Any, running: Running, see: See, until: Until, size: tuple[int, int]
) -> None:
    async with running(filled.directory, view="monitor", clock=filled.clock, size=size) as pilot:
        await see(pilot, "failures of people", "✔ orders")
        await pilot.press("f")
        await see(pilot, "events of people")
        await pilot.press("down")
        await see(pilot, "failures of orders", "events of orders")
        log = pilot.app.query_one(EventLog)
        await until(pilot, lambda: log.event is not None and {log.event.spec_id} == {"orders"})
