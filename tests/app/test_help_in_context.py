"""Help and the section finder list what works where they are opened."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest
from textual.pilot import Pilot

from speclab.app.widgets.grid import Grid

Running = Callable[..., AbstractAsyncContextManager[Pilot[None]]]
See = Callable[..., Awaitable[None]]
SIZES = [(80, 24), (160, 45)]


@pytest.mark.parametrize("size", SIZES)
async def test_help_in_editing_mode_lists_only_keys_that_work_there(
    workspace: Any, running: Running, see: See, size: tuple[int, int]
) -> None:
    async with running(workspace.directory, size=size) as pilot:
        await see(pilot, "Field Mapping")
        await pilot.press("slash", *"field", "enter", "e")
        await see(pilot, "editing")
        await pilot.press("f1")
        await see(pilot, "help")
        keys = {getattr(row.cells[0], "text", "") for row in pilot.app.screen.query_one(Grid).rows}
        listed = {key for text in keys for key in text.split()}
        assert {"F1", "F2", "esc", "ctrl+p"} <= listed
        assert listed.isdisjoint({"?", "q", "1", "2", "3", "tab", "ctrl+c", "f", "n"})


@pytest.mark.parametrize("size", SIZES)
async def test_find_section_finds_the_front_matter(
    workspace: Any, running: Running, see: See, size: tuple[int, int]
) -> None:
    async with running(workspace.directory, size=size) as pilot:
        await see(pilot, "Field Mapping")
        await pilot.press("slash", *"field", "enter")
        await see(pilot, "▸ Field Mapping")
        await pilot.press("slash", *"front", "enter")
        await see(pilot, "▸ Front matter", "spec_id")
