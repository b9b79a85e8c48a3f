"""Waits: within the wait budget, never shortened, and ended by a stop request."""

from __future__ import annotations

import asyncio

from speclab.core.clock import SystemClock
from speclab.sync.delivery import WaitBudget, wait_text


async def test_waits_while_budget_is_left() -> None:
    wait_budget = WaitBudget(SystemClock(), 0.03, asyncio.Event())
    assert await wait_budget.wait(0.02, "a test")
    assert not await wait_budget.wait(0.02, "a test")
    assert await wait_budget.wait(0.0, "a test")


async def test_wait_longer_than_the_remaining_budget_is_not_started() -> None:
    wait_budget = WaitBudget(SystemClock(), 10, asyncio.Event())
    assert not await wait_budget.wait(11, "a test")
    assert wait_budget.left == 10


async def test_stop_request_ends_a_wait() -> None:
    cancelled = asyncio.Event()
    wait_budget = WaitBudget(SystemClock(), 3600, cancelled)
    waiting = asyncio.create_task(wait_budget.wait(3600, "a test"))
    await asyncio.sleep(0)
    cancelled.set()
    assert await waiting is False
    assert not await wait_budget.wait(0, "a test")


async def test_finished_result_is_returned_even_after_a_stop_request() -> None:
    cancelled = asyncio.Event()
    cancelled.set()
    done = asyncio.get_running_loop().create_future()
    done.set_result(7)
    never = asyncio.get_running_loop().create_future()
    wait_budget = WaitBudget(SystemClock(), 0, cancelled)
    assert await wait_budget.unless_cancelled(done) == 7
    assert await wait_budget.unless_cancelled(never) is None


def test_waits_are_reported_in_round_figures() -> None:
    assert wait_text(1.84) == "1.8 s"
    assert wait_text(89.2) == "1m30s"
