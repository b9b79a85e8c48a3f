"""Views follow what changes: the text of a section, the specs there are, the selected row, and the time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot

from speclab.app.specs.desk import Desk
from speclab.app.widgets.grid import Grid

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


async def test_a_spec_added_to_a_directory_without_specs_is_listed(tmp_path: Path, running: Running, see: See) -> None:
    (tmp_path / "specs" / "crm").mkdir(parents=True)
    async with running(tmp_path) as pilot:
        await see(pilot, "No specs here yet.")
        await pilot.pause(0.5)
        text = "---\nspec_id: orders\ntype: integration\nstatus: draft\n---\n\n# Orders\n"
        (tmp_path / "specs" / "crm" / "orders.md").write_text(text)
        await see(pilot, "orders", "draft")
        (tmp_path / "specs").rename(tmp_path.parent / "elsewhere")
        await see(pilot, "No specs here yet.")
