"""Once a second beside a run: store its progress, and obey requests to cancel it.

Both go through the run log, so they work for every process that shares it: in another container, on another host, and
for runs that `speclab up` started.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Final

from speclab.connectors.activity import Activity
from speclab.connectors.api import Report
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
