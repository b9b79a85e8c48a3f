"""The Monitor's figures add up, and its messages name the row under the cursor."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from typing import Any

import pytest
from tests.app.conftest import dead
from textual.pilot import Pilot

from speclab.core.outcome import ErrorClass

Running = Callable[..., AbstractAsyncContextManager[Pilot[None]]]
See = Callable[..., Awaitable[None]]


async def test_errors_by_class_add_up_to_the_total(filled: Any, running: Running, see: See) -> None:
    filled.run("orders", read=1, error="the spec stops it")
    async with running(filled.directory, view="monitor", clock=filled.clock, size=(160, 45)) as pilot:
        await see(pilot, "errors 17", "mapping 14    server 2    no class 1")


async def test_classes_that_do_not_fit_are_marked_as_cut(workspace: Any, running: Running, see: See) -> None:
    failures = [replace(dead(f"c_{name}"), error_class=name) for name in ErrorClass]
    workspace.run("people", failures=failures)
    async with running(workspace.directory, view="monitor", clock=workspace.clock, size=(120, 40)) as pilot:
        await see(pilot, "errors 10", "mapping 1    contract 1", "server 1    …")


@pytest.mark.parametrize("size", [(80, 24), (160, 45)])
async def test_retry_on_a_failed_run_names_the_key_that_runs_it_again(
    filled: Any, running: Running, see: See, size: tuple[int, int]
) -> None:
    filled.run("orders", read=1, error="the source is gone")
    async with running(filled.directory, view="monitor", clock=filled.clock, size=size) as pilot:
        await see(pilot, "failures of orders", "the source is gone")
        await pilot.press("tab", "home", "R")
        await see(pilot, "this row is a failed run")
