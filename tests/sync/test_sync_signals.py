"""Asking a run to stop: politely the first time."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest

from speclab.sync.run_control import cancelled_by_signals, stopped_by_signals


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_the_first_signal_sets_the_event_and_gives_the_second_back_to_the_system(number: signal.Signals) -> None:
    before = signal.getsignal(signal.SIGTERM)
    with cancelled_by_signals() as cancelled:
        assert not cancelled.is_set()
        os.kill(os.getpid(), number)
        await asyncio.wait_for(cancelled.wait(), 10)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    assert signal.getsignal(signal.SIGTERM) is before


async def test_after_the_block_signals_do_what_they_did() -> None:
    with cancelled_by_signals() as cancelled:
        pass
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    assert not cancelled.is_set()


async def test_a_connection_that_goes_asks_politely_however_often_it_is_told() -> None:
    with stopped_by_signals() as stop:
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGHUP)
            await asyncio.wait_for(stop.graceful.wait(), 10)
        await asyncio.sleep(0)
        assert not stop.immediate.is_set()
    with cancelled_by_signals() as cancelled:
        for number in (signal.SIGHUP, signal.SIGHUP, signal.SIGTERM, signal.SIGHUP):
            os.kill(os.getpid(), number)
            await asyncio.wait_for(cancelled.wait(), 10)
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_DFL


@pytest.mark.parametrize("asked", [cancelled_by_signals, stopped_by_signals])
async def test_what_is_to_be_ignored_stays_so(asked: Callable[[], AbstractContextManager[object]]) -> None:
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGHUP)}
    try:
        with asked():
            assert {signal.getsignal(number) for number in before} == {signal.SIG_IGN}
        assert {signal.getsignal(number) for number in before} == {signal.SIG_IGN}
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
