"""Snapshots of the app at the two most important sizes; check the report before `--snapshot-update`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from textual.pilot import Pilot

from speclab.app.application import SpeclabApp


@pytest.mark.parametrize("size", [(80, 24), (120, 40)], ids=lambda size: f"{size[0]}x{size[1]}")
def test_monitor(
    filled: Any, see: Callable[..., Any], snap_compare: Callable[..., bool], size: tuple[int, int]
) -> None:
    filled.start("orders", read=50, total=200)

    async def ready(pilot: Pilot[None]) -> None:
        await see(pilot, "failures of people", "started by manual", "25 %", "14 dead" if size[0] > 80 else "✖ 14")
        await see(pilot, "Scheduler is not running.", *(["priority: P0"] if size[0] > 80 else []))

    app = SpeclabApp(filled.directory, view="monitor", clock=filled.clock)
    assert snap_compare(app, terminal_size=size, run_before=ready)
