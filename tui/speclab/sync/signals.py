"""How runs and their service are asked to stop: the first SIGINT or SIGTERM politely, the second not.

SIGHUP, which comes when a terminal or a connection goes, asks politely every time: it often comes twice. What whoever
started us wants ignored stays so: SIGHUP under nohup(1), SIGINT in the background of a script.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@contextmanager
def cancelled_by_signals(tell: Callable[[], None] = lambda: None) -> Iterator[asyncio.Event]:
    """An event that the first signal sets; a second one, and any after the block, does what it does by default.

    `tell` is called with the first, to say so. To be used in the main thread, inside a running event loop.
    """
    loop = asyncio.get_running_loop()
    cancelled = asyncio.Event()
    numbers = _heard()

    def first(number: signal.Signals) -> None:
        if not cancelled.is_set():
            tell()
        cancelled.set()
        if number != signal.SIGHUP:
            for one in set(numbers) - {signal.SIGHUP}:
                loop.remove_signal_handler(one)

    for number in numbers:
        loop.add_signal_handler(number, first, number)
    try:
        yield cancelled
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)


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
    numbers = _heard()

    def handle(number: signal.Signals) -> None:
        again = stop.asked.is_set() and number != signal.SIGHUP
        (stop.told if again else stop.asked).set()

    for number in numbers:
        loop.add_signal_handler(number, handle, number)
    try:
        yield stop
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)


def _heard() -> list[signal.Signals]:
    may_be_ignored = (signal.SIGINT, signal.SIGHUP)
    return [signal.SIGTERM, *(one for one in may_be_ignored if signal.getsignal(one) is not signal.SIG_IGN)]
