"""How runs and their service are asked to stop: the first SIGINT or SIGTERM politely, the second not."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@contextmanager
def cancelled_by_signals() -> Iterator[asyncio.Event]:
    """An event that the first signal sets; from then on, and after the block, signals do what they do by default.

    To be used in the main thread, inside a running event loop.
    """
    loop = asyncio.get_running_loop()
    cancelled = asyncio.Event()
    numbers = (signal.SIGINT, signal.SIGTERM)

    def release() -> None:
        for number in numbers:
            loop.remove_signal_handler(number)

    def first() -> None:
        cancelled.set()
        release()

    for number in numbers:
        loop.add_signal_handler(number, first)
    try:
        yield cancelled
    finally:
        release()


@dataclass(frozen=True, slots=True)
class Stop:
    """How a service is asked to stop: `asked` to let its runs finish the page in hand, then `told` to end at once."""

    asked: asyncio.Event = field(default_factory=asyncio.Event)
    told: asyncio.Event = field(default_factory=asyncio.Event)


@contextmanager
def stopped_by_signals() -> Iterator[Stop]:
    """A `Stop` whose two events the first and second signal set. To be used as `cancelled_by_signals`."""
    loop = asyncio.get_running_loop()
    stop = Stop()
    numbers = (signal.SIGINT, signal.SIGTERM)

    def handle() -> None:
        (stop.told if stop.asked.is_set() else stop.asked).set()

    for number in numbers:
        loop.add_signal_handler(number, handle)
    try:
        yield stop
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)
