"""Signals that stop a run or the service: the first SIGINT or SIGTERM after the page in progress, the second at once.

SIGHUP, which arrives when a terminal or a connection closes, always asks to stop after the page: it often arrives
twice. A signal that the parent process ignores stays ignored: SIGHUP under nohup(1), SIGINT in the background of a
script.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@contextmanager
def cancelled_by_signals(on_cancel: Callable[[], None] = lambda: None) -> Iterator[asyncio.Event]:
    """Yield an event that the first signal sets; a second one, and any after the block, has its default effect.

    `on_cancel` is called with the first signal. Use it in the main thread, inside a running event loop.
    """
    loop = asyncio.get_running_loop()
    cancelled = asyncio.Event()
    numbers = _handled_signals()

    def handle_first(number: signal.Signals) -> None:
        if not cancelled.is_set():
            on_cancel()
        cancelled.set()
        if number != signal.SIGHUP:
            for handled in set(numbers) - {signal.SIGHUP}:
                loop.remove_signal_handler(handled)

    for number in numbers:
        loop.add_signal_handler(number, handle_first, number)
    try:
        yield cancelled
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)


@dataclass(frozen=True, slots=True)
class StopRequest:
    """A request to stop a service: `graceful` lets its runs finish the page in progress, `immediate` ends them."""

    graceful: asyncio.Event = field(default_factory=asyncio.Event)
    immediate: asyncio.Event = field(default_factory=asyncio.Event)


@contextmanager
def stopped_by_signals() -> Iterator[StopRequest]:
    """Yield a `StopRequest` whose events the first and the second signal set. Use it as `cancelled_by_signals`."""
    loop = asyncio.get_running_loop()
    stop = StopRequest()
    numbers = _handled_signals()

    def handle(number: signal.Signals) -> None:
        repeated = stop.graceful.is_set() and number != signal.SIGHUP
        (stop.immediate if repeated else stop.graceful).set()

    for number in numbers:
        loop.add_signal_handler(number, handle, number)
    try:
        yield stop
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)


def _handled_signals() -> list[signal.Signals]:
    may_be_ignored = (signal.SIGINT, signal.SIGHUP)
    return [signal.SIGTERM, *(number for number in may_be_ignored if signal.getsignal(number) is not signal.SIG_IGN)]
