"""Control of a run from outside: cancel requests and signals."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Final

from speclab.connectors.api import Activity, Report
from speclab.core.errors import RunLogError
from speclab.core.outcome import Level
from speclab.runlog import RunRow, RunStore
from speclab.runlog.rows import CANCEL_NOW

PERIOD: Final = 1.0
"""Seconds between two checks; a run that is shorter costs nothing."""

Show = Callable[[RunRow], None]
"""Shows a running run with its progress."""


@dataclass(slots=True)
class RunMonitor:
    """Monitors one run. `stopped` is True if the run was stopped at once, in the middle of a page."""

    log: RunStore
    run: str
    activity: Activity
    cancelled: asyncio.Event
    report: Report
    show: Show
    stopped: bool = False

    @asynccontextmanager
    async def monitoring(self) -> AsyncIterator[None]:
        """Monitor the run that the current task makes inside the block."""
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a coroutine runs in a task
        monitor = asyncio.create_task(self._monitor(task))
        try:
            yield
        finally:
            monitor.cancel()
            with suppress(asyncio.CancelledError):
                await monitor

    async def _monitor(self, task: asyncio.Task[object]) -> None:
        reported = ""
        while True:
            await asyncio.sleep(PERIOD)  # real time, even if a test controls the clock of the run
            try:
                row = self.log.save_progress(self.run, self.activity.progress())
            except RunLogError as error:  # the commit of the next page fails with it, and then the run ends
                if error.message != reported:
                    reported = error.message
                    self.report(Level.WARNING, f"the progress of the run cannot be stored: {error.message}")
                continue
            if row.cancel and not self.cancelled.is_set():
                self.report(Level.INFO, "asked to cancel: the run stops after the page in progress")
                self.cancelled.set()
            if row.cancel >= CANCEL_NOW:
                self.stopped = True
                task.cancel()  # again every second, in case something caught the previous cancellation
            self.show(row)


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
