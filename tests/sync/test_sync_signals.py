"""Signals: the first asks a run to stop, the second ends it."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest

from speclab.sync.run_control import cancelled_by_signals, stopped_by_signals


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_first_signal_sets_the_event_and_restores_the_handler_for_the_second(number: signal.Signals) -> None:
    before = signal.getsignal(signal.SIGTERM)
    with cancelled_by_signals() as cancelled:
        assert not cancelled.is_set()
        os.kill(os.getpid(), number)
        await asyncio.wait_for(cancelled.wait(), 10)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    assert signal.getsignal(signal.SIGTERM) is before


async def test_handlers_are_restored_after_the_block() -> None:
    with cancelled_by_signals() as cancelled:
        pass
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    assert not cancelled.is_set()


async def test_hangup_requests_a_graceful_stop_however_often_it_is_sent() -> None:
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


@pytest.mark.parametrize("handling", [cancelled_by_signals, stopped_by_signals])
async def test_ignored_signal_stays_ignored(handling: Callable[[], AbstractContextManager[object]]) -> None:
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGHUP)}
    try:
        with handling():
            assert {signal.getsignal(number) for number in before} == {signal.SIG_IGN}
        assert {signal.getsignal(number) for number in before} == {signal.SIG_IGN}
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
