"""The live state of a workspace: the run log client, and the watcher for changes of run log, specs and scheduler."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from datetime import datetime
from functools import partial
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

from speclab.core.errors import RunLogError
from speclab.core.plugins import load_in_thread

if TYPE_CHECKING:
    from speclab.monitor.health import Dashboard, Overview
    from speclab.runlog import RunLog, RunLogReader
    from speclab.runlog.reader import LogUpdate, Tail
    from speclab.service.heartbeat import ServiceState
    from speclab.spec.workspace import SpecFile


Result = TypeVar("Result")

POLL: Final = 0.25
"""Seconds between two polls of the run log: half the delay that a user should see."""

HEARTBEAT_POLL: Final = 2.0
"""Seconds between two checks of the scheduler's heartbeat; each costs about a millisecond."""

FIGURES_MAX_AGE: Final = 10.0
"""Seconds after which the figures are read again without a commit, because their time window moves."""


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
        self._is_loaded = False

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
        if not self._is_loaded:
            await load_in_thread(_load_run_log)  # two threads that import it at once can fail
            self._is_loaded = True
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


def _load_run_log() -> None:
    """Import the modules that the client uses."""
    import speclab.monitor.health
    import speclab.runlog.reader  # noqa: F401 (loaded, not used)


class WatcherHost(Protocol):
    """What the watcher updates: the application."""

    read_only: bool

    @property
    def window(self) -> float:
        """Seconds that the figures cover."""

    def now(self) -> datetime:
        """Return the current time in UTC."""

    def set_overview(self, overview: Overview, update: LogUpdate | None) -> None:
        """Replace the figures; `update` has the new events, or is None if everything must be read again."""

    def set_run_log_error(self, error: RunLogError | None) -> None:
        """Replace the reason why the run log cannot be read."""

    def set_service_state(self, state: ServiceState) -> None:
        """Replace the state of the scheduler."""

    def set_specs(self, specs: Sequence[SpecFile]) -> None:
        """Replace the specs of the workspace."""

    def files_changed(self, paths: AbstractSet[Path]) -> None:
        """Update after spec files changed; `set_specs` was called before."""

    def show_warning(self, message: str) -> None:
        """Show a warning."""


class WorkspaceWatcher:
    """Follows the run log, the specs in `directory` and the scheduler; each `follow_...` runs until it is cancelled."""

    def __init__(self, directory: Path, run_log: RunLogClient, host: WatcherHost) -> None:
        self._directory = directory
        self._run_log = run_log
        self._host = host
        self._stopped = asyncio.Event()
        self._is_running = False  # whether an integration was running when the figures were last read
        self._figures_expire_at = 0.0  # monotonic time at which the figures are read again without a commit

    def stop(self) -> None:
        """Stop watching files."""
        self._stopped.set()

    def expire_figures(self) -> None:
        """Read the figures again at the next poll."""
        self._figures_expire_at = 0.0

    async def follow_run_log(self) -> None:
        """Poll the run log for commits."""
        while True:
            try:
                await self._refresh_figures()
                self._host.set_run_log_error(None)
            except RunLogError as error:
                self._host.set_run_log_error(error)
            await asyncio.sleep(POLL)

    async def _refresh_figures(self) -> None:
        """Read the figures again after a commit, or when their time window has moved."""
        update = await self._run_log.poll()
        expired = monotonic() > self._figures_expire_at
        if (update is not None and not update.changed) and not expired:
            return
        if expired and self._is_running and not self._host.read_only:
            await self._mark_killed_runs()
        self._figures_expire_at = monotonic() + FIGURES_MAX_AGE
        overview = await self._run_log.overview(self._host.window, self._host.now())
        self._is_running = bool(overview.running)
        self._host.set_overview(overview, update)

    async def _mark_killed_runs(self) -> None:
        """Mark killed runs as interrupted; they cannot do it themselves."""
        from speclab.core.locks import is_running

        is_alive = partial(is_running, self._run_log.workspace)
        await self._run_log.record(lambda log: log.mark_interrupted(is_alive))

    async def follow_service(self) -> None:
        """Poll the heartbeat of the scheduler."""
        from speclab.service.heartbeat import HeartbeatWatch

        watch = HeartbeatWatch(self._run_log.workspace)
        while True:
            self._host.set_service_state(await asyncio.to_thread(watch.check, self._host.now()))
            await asyncio.sleep(HEARTBEAT_POLL)

    async def follow_specs(self) -> None:
        """Find the specs, and watch their files and directories."""
        from speclab.spec.workspace import file_changes, is_spec_or_directory

        watched = await self._find_specs()
        while not self._stopped.is_set():
            try:
                async with aclosing(file_changes(watched, is_spec_or_directory, self._stopped)) as stream:
                    async for changed in stream:
                        directories = await self._find_specs()
                        self._host.files_changed(changed)
                        if directories != watched:
                            watched = directories
                            break
            except FileNotFoundError:  # a directory was deleted before it was watched
                await asyncio.sleep(HEARTBEAT_POLL)
                watched = await self._find_specs()
            except OSError as error:
                text = f"Files cannot be watched; external changes appear only on open and save: {error}"
                self._host.show_warning(text)
                return

    async def _find_specs(self) -> set[Path]:
        """Find the specs, and return the directories in which they can change or others appear."""
        from speclab.spec.workspace import directories_to_watch, find_specs

        specs = await asyncio.to_thread(find_specs, self._directory)
        self._host.set_specs(specs)
        directories = await asyncio.to_thread(directories_to_watch, self._directory, specs)
        return {directory for directory in directories if directory.is_dir()}
