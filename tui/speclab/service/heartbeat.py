"""The service's heartbeat: a small file that says it is alive, what it will run and when, and where it had come to.

`.speclab/up.json` is replaced whole, never changed in place, so whoever reads it sees one state. It stays when the
service ends: the next one takes over from it.
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

from speclab.core.atomic_file import replace_file
from speclab.core.clock import format_timestamp
from speclab.core.errors import SpeclabError, UsageError
from speclab.core.locks import ProcessIdentity, get_user_name, is_alive, is_last_service, is_serving
from speclab.core.state_files import read_private, refuse_symlinks

PERIOD: Final = 10.0
"""Seconds between two beats."""


@dataclass(frozen=True, slots=True)
class ServedSpec:
    """One spec of the service: its schedule as written, up to when its times are served, and when it runs next.

    `next` is None for a spec that runs on demand or is paused. `problem` says why it is not run, where something stands
    in the way.
    """

    schedule: str
    since: str
    next: str | None = None
    running: bool = False
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """A service as others see it. Times are UTC, as the run log writes them.

    `stopping` is when it was asked to end, and began to let its runs finish the page in hand; `stopped` when it ended.
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
    def first(cls, now: datetime) -> Heartbeat:
        """The first beat of this process."""
        process = ProcessIdentity.of(os.getpid())
        at = format_timestamp(now)
        return cls(process.pid, process.host, get_user_name(), process.started, since=at, beat=at)

    @property
    def process(self) -> ProcessIdentity:
        """The process that serves."""
        return ProcessIdentity(self.pid, self.host, self.process_started)

    def alive(self, workspace: Path, now: datetime) -> bool:
        """Whether the service runs that left this in `workspace`.

        That is known of a process of this machine, by its pid or, in another container, by its lock; elsewhere it is
        judged by the last beat.
        """
        if self.stopped is not None:
            return False
        if is_serving(workspace, self.process):
            return True
        if self.host != socket.gethostname():
            return abs(now - datetime.fromisoformat(self.beat)) < timedelta(seconds=3 * PERIOD)
        return is_alive(self.process)


def heartbeat_path(workspace: Path) -> Path:
    """Where the heartbeat of a workspace is."""
    return workspace / ".speclab" / "up.json"


def write(workspace: Path, heartbeat: Heartbeat) -> None:
    """Leave `heartbeat` for others to see. Raises `SpeclabError` where it cannot be written."""
    path = heartbeat_path(workspace)
    refuse_symlinks(path)
    try:
        replace_file(path, orjson.dumps(heartbeat), mode=0o600, durable=False)  # worthless after a power failure
    except OSError as error:
        raise SpeclabError(f"{path}: cannot be written: {error.strerror or error}") from error


def last(workspace: Path) -> Heartbeat | None:
    """The last beat of the service of `workspace`, be it alive or not; None if there never was one."""
    try:
        told = orjson.loads(read_private(heartbeat_path(workspace)))
        specs = {spec_id: ServedSpec(**_known(ServedSpec, one)) for spec_id, one in told.pop("specs").items()}
        return Heartbeat(**_known(Heartbeat, told), specs=specs)
    except (OSError, orjson.JSONDecodeError, TypeError, KeyError, AttributeError):
        return None  # not there, or of a version that tells it otherwise: nobody can tell what it says


def _known(kind: type[ServedSpec | Heartbeat], told: Mapping[str, Any]) -> dict[str, Any]:
    """What of `told` this version knows; a newer one may say more."""
    names = {one.name for one in fields(kind)}
    return {name: value for name, value in told.items() if name in names}


def service_of(workspace: Path, now: datetime) -> Heartbeat | None:
    """The service that is alive in `workspace`; None if nothing runs there by itself."""
    found = last(workspace)
    return found if found is not None and found.alive(workspace, now) else None


def unproven_service(workspace: Path, now: datetime) -> Heartbeat | None:
    """Return the service that is alive by its heartbeat, where the lock file does not name it; None if there is none.

    Its lock file was deleted, so the lock cannot keep a second service away.
    """
    found = last(workspace)
    if found is None or is_last_service(workspace, found.process) or not found.alive(workspace, now):
        return None
    return found


@dataclass(frozen=True, slots=True)
class ServiceState:
    """What can be told of the service of a workspace: its last beat, if there ever was one, and whether it is alive."""

    beat: Heartbeat | None
    alive: bool

    @property
    def crashed(self) -> bool:
        """Whether it ended without a word."""
        return self.beat is not None and not self.alive and self.beat.stopped is None

    def served(self, spec_id: str) -> ServedSpec | None:
        """What a service that is alive tells of a spec; None if it does not run it, or there is none."""
        return self.beat.specs.get(spec_id) if self.beat is not None and self.alive else None


class HeartbeatWatch:
    """Looks at the pulse of a workspace's service again and again; the heartbeat is read only if it changed."""

    def __init__(self, workspace: Path) -> None:
        self._workspace = workspace
        self._stamp: tuple[int, int] | None = None
        self._last: Heartbeat | None = None

    def look(self, now: datetime) -> ServiceState:
        """The pulse as it is now."""
        try:
            status = heartbeat_path(self._workspace).stat()
        except OSError:
            stamp = None
        else:
            stamp = (status.st_ino, status.st_mtime_ns)
        if stamp != self._stamp:
            self._stamp, self._last = stamp, last(self._workspace)
        return ServiceState(self._last, self._last is not None and self._last.alive(self._workspace, now))


def why_not_stop(service: Heartbeat) -> str | None:
    """Why `service` cannot be asked to stop from here, in a sentence; None if it can."""
    if service.host != socket.gethostname():
        return f"speclab up runs on {service.host}: stop it there"
    if service.user != get_user_name():
        return f"speclab up runs as {service.user}, and you are {get_user_name()}"
    if service.stopping is not None:
        return "speclab up was asked to stop already; its runs finish the page in hand"
    return None


def ask_to_stop(workspace: Path, service: Heartbeat) -> None:
    """Ask `service` to let its runs finish the page in hand, and end; never twice, for that would end them at once.

    Raises `UsageError` where it cannot be asked, by its latest beat.
    """
    now = last(workspace)
    if now is None or (now.pid, now.process_started) != (service.pid, service.process_started):
        raise UsageError("another speclab up has taken its place")
    if (reason := why_not_stop(now)) is not None:
        raise UsageError(reason)
    if not is_alive(now.process):
        if is_serving(workspace, now.process):
            raise UsageError("speclab up runs in a container, or where else its process is not seen: stop it there")
        raise UsageError("speclab up is not alive any more")
    try:
        os.kill(now.pid, signal.SIGTERM)
    except OSError as error:  # it ended just now, or its user only has the same name
        raise UsageError(f"speclab up, process {now.pid}, cannot be asked to stop: {error.strerror}") from error


class HeartbeatWriter:
    """The beats of this process, from its first to its last."""

    def __init__(self, workspace: Path, now: datetime) -> None:
        self._workspace = workspace
        self._last = Heartbeat.first(now)
        self._written = False

    def beat(self, now: datetime, specs: Mapping[str, ServedSpec]) -> None:
        """Beat if there is something new to tell, or if it is time. Raises as `write`."""
        idle = abs((now - datetime.fromisoformat(self._last.beat)).total_seconds())  # a clock may be set back
        if not self._written or specs != self._last.specs or idle >= PERIOD:
            self._beat(replace(self._last, beat=format_timestamp(now), specs=specs))

    def stopping(self, now: datetime, specs: Mapping[str, ServedSpec]) -> None:
        """It was asked to stop; further beats say so, too. Raises as `write`."""
        self._beat(replace(self._last, beat=format_timestamp(now), stopping=format_timestamp(now), specs=specs))

    def end(self, now: datetime, specs: Mapping[str, ServedSpec]) -> None:
        """The last beat. Raises as `write`."""
        self._beat(replace(self._last, beat=format_timestamp(now), stopped=format_timestamp(now), specs=specs))

    def _beat(self, heartbeat: Heartbeat) -> None:
        self._last, self._written = heartbeat, False
        write(self._workspace, heartbeat)
        self._written = True
