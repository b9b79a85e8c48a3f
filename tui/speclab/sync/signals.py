"""How a run is asked to stop: the first SIGINT or SIGTERM lets it finish the page in hand, the second ends it."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from contextlib import contextmanager


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
