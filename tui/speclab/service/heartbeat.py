"""The heartbeat of the service: a small file that shows that it is alive, what it runs next, and what it has done.

`.speclab/up.json` is always replaced as a whole, so a reader sees one state. It stays when the service ends: the next
service continues from it.
"""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

import orjson

from speclab.core.clock import format_timestamp
from speclab.core.errors import SpeclabError, UsageError
from speclab.core.files import read_private, refuse_symlinks, replace_file
from speclab.core.locks import ProcessIdentity, get_user_name, is_alive, is_last_service, is_serving

PERIOD: Final = 10.0
"""Seconds between two heartbeats."""


@dataclass(frozen=True, slots=True)
class ServedSpec:
    """One spec of the service: its schedule as written, the time up to which it is done, and when it runs next.

    `next` is None for a spec that runs on demand or is paused. `problem` is why it cannot run.
    """

    schedule: str
    since: str
    next: str | None = None
    running: bool = False
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """The state of a service. Times are UTC, in the format of the run log.

    `stopping` is when it was asked to stop after the pages in progress, `stopped` when it ended.
    """

    pid: int
    host: str
    user: str
    process_started: str
    since: str
    beat: str
    stopping: str | None = None
    stopped: str | None = None
    specs: Mapping[str, ServedSpec] = field(default_factory=dict)

    @classmethod
    def start(cls, now: datetime) -> Heartbeat:
        """Return the first heartbeat of this process."""
        process = ProcessIdentity.of(os.getpid())
        at = format_timestamp(now)
        return cls(process.pid, process.host, get_user_name(), process.started, since=at, beat=at)

    @property
    def process(self) -> ProcessIdentity:
        """The process of the service."""
        return ProcessIdentity(self.pid, self.host, self.process_started)

    def alive(self, workspace: Path, now: datetime) -> bool:
        """Return whether the service with this heartbeat in `workspace` is running.

        A process of this machine is found by its pid or, in another container, by its lock; the service of another
        machine counts as running while its heartbeat is recent.
        """
        if self.stopped is not None:
            return False
        if is_serving(workspace, self.process):
            return True
        if self.host != socket.gethostname():
            return abs(now - datetime.fromisoformat(self.beat)) < timedelta(seconds=3 * PERIOD)
        return is_alive(self.process)


def heartbeat_path(workspace: Path) -> Path:
    """Return the path of the heartbeat of a workspace."""
    return workspace / ".speclab" / "up.json"


def write_heartbeat(workspace: Path, heartbeat: Heartbeat) -> None:
    """Store `heartbeat` for other processes. Raises `SpeclabError` if it cannot be written."""
    path = heartbeat_path(workspace)
    refuse_symlinks(path)
    try:
        replace_file(path, orjson.dumps(heartbeat), mode=0o600, durable=False)  # worthless after a power failure
    except OSError as error:
        raise SpeclabError(f"{path}: cannot be written: {error.strerror or error}") from error


def read_heartbeat(workspace: Path) -> Heartbeat | None:
    """Return the last heartbeat of the service of `workspace`, running or not; None without a file."""
    try:
        stored = orjson.loads(read_private(heartbeat_path(workspace)))
        specs = {
            spec_id: ServedSpec(**_select_fields(ServedSpec, spec)) for spec_id, spec in stored.pop("specs").items()
        }
        return Heartbeat(**_select_fields(Heartbeat, stored), specs=specs)
    except (OSError, orjson.JSONDecodeError, TypeError, KeyError, AttributeError):
        return None  # missing, or in the format of another version


def _select_fields(kind: type[ServedSpec | Heartbeat], stored: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of `stored` that this version has; a newer version may store more."""
    names = {field.name for field in fields(kind)}
    return {name: value for name, value in stored.items() if name in names}


def get_due(beat: Heartbeat) -> dict[str, datetime]:
    """Return when the next run of each spec is due; except specs that run on demand or are paused."""
    return {spec_id: datetime.fromisoformat(spec.next) for spec_id, spec in beat.specs.items() if spec.next}


def find_service(workspace: Path, now: datetime) -> Heartbeat | None:
    """Return the running service of `workspace`; None if no service runs."""
    found = read_heartbeat(workspace)
    return found if found is not None and found.alive(workspace, now) else None


def find_unproven_service(workspace: Path, now: datetime) -> Heartbeat | None:
    """Return the service that runs by its heartbeat, but is not in the lock file; None if no such service runs.

    Its lock file was deleted, so the lock cannot keep a second service away.
    """
    found = read_heartbeat(workspace)
    if found is None or is_last_service(workspace, found.process) or not found.alive(workspace, now):
        return None
    return found


@dataclass(frozen=True, slots=True)
class ServiceState:
    """The service of a workspace: its last heartbeat, if it has one, and whether it is running."""

    beat: Heartbeat | None
    alive: bool

    @property
    def crashed(self) -> bool:
        """Whether it died without writing a last heartbeat."""
        return self.beat is not None and not self.alive and self.beat.stopped is None

    def get_served(self, spec_id: str) -> ServedSpec | None:
        """Return the state of a spec in a running service; None if the service does not run it or is not running."""
        return self.beat.specs.get(spec_id) if self.beat is not None and self.alive else None


class HeartbeatWatch:
    """Checks the service of a workspace repeatedly; the heartbeat is only read again if it has changed."""

    def __init__(self, workspace: Path) -> None:
        self._workspace = workspace
        self._stamp: tuple[int, int] | None = None
        self._last: Heartbeat | None = None

    def check(self, now: datetime) -> ServiceState:
        """Return the current state of the service."""
        try:
            status = heartbeat_path(self._workspace).stat()
        except OSError:
            stamp = None
        else:
            stamp = (status.st_ino, status.st_mtime_ns)
        if stamp != self._stamp:
            self._stamp, self._last = stamp, read_heartbeat(self._workspace)
        return ServiceState(self._last, self._last is not None and self._last.alive(self._workspace, now))


def explain_unstoppable(service: Heartbeat) -> str | None:
    """Return in a sentence why `service` cannot be stopped from here; None if it can."""
    if service.host != socket.gethostname():
        return f"speclab up runs on {service.host}; stop it there"
    if service.user != get_user_name():
        return f"speclab up runs as {service.user}, and you are {get_user_name()}"
    if service.stopping is not None:
        return "speclab up is already stopping; its runs finish the page in progress"
    return None


def request_stop(workspace: Path, service: Heartbeat) -> None:
    """Ask `service` to stop after the pages in progress; never twice, because that would end its runs at once.

    Raises `UsageError` if that is not possible, according to its latest heartbeat.
    """
    now = read_heartbeat(workspace)
    if now is None or (now.pid, now.process_started) != (service.pid, service.process_started):
        raise UsageError("another speclab up has replaced it")
    if (reason := explain_unstoppable(now)) is not None:
        raise UsageError(reason)
    if not is_alive(now.process):
        if is_serving(workspace, now.process):
            raise UsageError("speclab up runs in a container or another process namespace; stop it there")
        raise UsageError("speclab up is not running any more")
    try:
        os.kill(now.pid, signal.SIGTERM)
    except OSError as error:  # it has just ended, or another user has the same name
        raise UsageError(f"speclab up, process {now.pid}, cannot be signalled: {error.strerror}") from error


class HeartbeatWriter:
    """Writes the heartbeats of this process."""

    def __init__(self, workspace: Path, now: datetime) -> None:
        self._workspace = workspace
        self._last = Heartbeat.start(now)
        self._written = False

    def beat(self, now: datetime, specs: Mapping[str, ServedSpec]) -> None:
        """Write a heartbeat if `specs` changed or the period is over. Raises as `write_heartbeat`."""
        idle = abs((now - datetime.fromisoformat(self._last.beat)).total_seconds())  # the clock may have been set back
        if not self._written or specs != self._last.specs or idle >= PERIOD:
            self._write(replace(self._last, beat=format_timestamp(now), specs=specs))

    def write_stopping(self, now: datetime, specs: Mapping[str, ServedSpec]) -> None:
        """Write that the service is stopping, also in later heartbeats. Raises as `write_heartbeat`."""
        self._write(replace(self._last, beat=format_timestamp(now), stopping=format_timestamp(now), specs=specs))

    def write_end(self, now: datetime, specs: Mapping[str, ServedSpec]) -> None:
        """Write the last heartbeat. Raises as `write_heartbeat`."""
        self._write(replace(self._last, beat=format_timestamp(now), stopped=format_timestamp(now), specs=specs))

    def _write(self, heartbeat: Heartbeat) -> None:
        self._last, self._written = heartbeat, False
        write_heartbeat(self._workspace, heartbeat)
        self._written = True
