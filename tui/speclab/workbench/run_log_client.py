"""The run log client: reads and writes the run log in a separate thread, and polls it for changes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from speclab.monitor.health import Dashboard, Overview
    from speclab.runlog import RunLog, RunLogReader
    from speclab.runlog.reader import LogUpdate, Tail


Result = TypeVar("Result")

POLL: Final = 0.25
"""Seconds between two polls of the run log: half the delay that a user should see."""


class RunLogClient:
    """The run log at `path`, or of the workspace that `directory` belongs to.

    It is read and written in one separate thread, so that a slow disk or a large result delays no key.
    """

    def __init__(self, directory: Path, path: Path | None = None, *, read_only: bool = False) -> None:
        self._read_only = read_only
        self._directory = directory
        self._path = path
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="runlog")
        self._reader: RunLogReader | None = None
        self._tail: Tail | None = None
        self._dashboard: Dashboard | None = None
        self._closed = False

    @property
    def workspace(self) -> Path:
        """The workspace that contains the directory."""
        from speclab.spec.workspace import workspace_of

        return workspace_of(self._directory)

    @property
    def path(self) -> Path:
        """The path of the run log: the given path, or that of the workspace."""
        from speclab.spec.workspace import runlog_path

        return self._path or runlog_path(self.workspace)

    async def ask(self, query: Callable[[RunLogReader], Result]) -> Result:
        """Return the result of `query`, which is called with the reader in the thread. Raises `RunLogError`."""
        return await self._in_thread(lambda: query(self._open()))

    async def record(self, write: Callable[[RunLog], Result]) -> Result:
        """Return the result of `write`, which writes to the run log. Raises `RunLogError`."""
        return await self._in_thread(lambda: self._record(write))

    async def overview(self, window: float, now: datetime) -> Overview:
        """Return the health of all integrations; only changes are computed again. Raises `RunLogError`."""
        return await self._in_thread(lambda: self._overview(window, now))

    async def poll(self) -> LogUpdate | None:
        """Return the commits since the last call; None on the first call. Raises `RunLogError`."""
        return await self._in_thread(self._poll)

    def close(self) -> None:
        """Close the file after the current call."""
        self._closed = True
        self._thread.submit(self._close)
        self._thread.shutdown(wait=True)

    async def _in_thread(self, query: Callable[[], Result]) -> Result:
        if self._closed:
            raise asyncio.CancelledError  # the app is being closed
        return await asyncio.get_running_loop().run_in_executor(self._thread, query)

    def _open(self) -> RunLogReader:
        from speclab.runlog import RunLog, RunLogReader

        if self._reader is None:
            self._reader = RunLogReader(self.path) if self._read_only else RunLog.reader(self.path)
        return self._reader

    def _record(self, write: Callable[[RunLog], Result]) -> Result:
        from speclab.runlog import RunLog

        with RunLog.open(self.path) as log:
            return write(log)

    def _overview(self, window: float, now: datetime) -> Overview:
        from speclab.monitor.health import Dashboard

        if self._dashboard is None or self._dashboard.window != window:
            self._dashboard = Dashboard(self._open(), window)
        return self._dashboard.refresh(now)

    def _poll(self) -> LogUpdate | None:
        from speclab.runlog.reader import Tail

        if self._tail is None:
            self._tail = Tail.open(self._open())
            return None
        return self._tail.poll()

    def _close(self) -> None:
        if self._reader is not None:
            self._reader.close()
