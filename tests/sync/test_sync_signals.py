"""Asking a run to stop: politely the first time."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest

from speclab.sync.signals import cancelled_by_signals


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
