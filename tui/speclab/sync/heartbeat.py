"""The service's heartbeat: a small file that says it is alive, what it will run and when, and where it had come to.

`.speclab/up.json` is replaced whole, never changed in place, so whoever reads it sees one state. It stays when the
service ends: the next one takes over from it.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Final

import orjson

from speclab.clock import timestamp
from speclab.errors import SpeclabError
from speclab.runlog.process import Process, alive
from speclab.sync.lock import user

PERIOD: Final = 10.0
"""Seconds between two beats."""


@dataclass(frozen=True, slots=True)
class Served:
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
    """A service as others see it. Times are UTC, as the run log writes them; `stopped` is when it ended of itself."""

    pid: int
    host: str
    user: str
    process_started: str
    since: str
    beat: str
    stopped: str | None = None
    specs: Mapping[str, Served] = field(default_factory=dict)

    @classmethod
    def first(cls, now: datetime) -> Heartbeat:
        """The first beat of this process."""
        process = Process.of(os.getpid())
        at = timestamp(now)
        return cls(process.pid, process.host, user(), process.started, since=at, beat=at)

    def alive(self, now: datetime) -> bool:
        """Whether the service runs: known of a process on this machine, judged by the last beat elsewhere."""
        if self.stopped is not None:
            return False
        if self.host != socket.gethostname():
            return (now - datetime.fromisoformat(self.beat)).total_seconds() < 3 * PERIOD
        return alive(Process(self.pid, self.host, self.process_started))


def heartbeat_path(workspace: Path) -> Path:
    """Where the heartbeat of a workspace is."""
    return workspace / ".speclab" / "up.json"


def write(workspace: Path, heartbeat: Heartbeat) -> None:
    """Leave `heartbeat` for others to see. Raises `SpeclabError` where it cannot be written."""
    path = heartbeat_path(workspace)
    new = path.with_suffix(".new")
    try:
        new.write_bytes(orjson.dumps(heartbeat))
        new.replace(path)
    except OSError as error:
        raise SpeclabError(f"{path}: cannot be written: {error.strerror or error}") from error


def last(workspace: Path) -> Heartbeat | None:
    """The last beat of the service of `workspace`, be it alive or not; None if there never was one."""
    try:
        told = orjson.loads(heartbeat_path(workspace).read_bytes())
        specs = {spec_id: Served(**one) for spec_id, one in told.pop("specs").items()}
        return Heartbeat(**told, specs=specs)
    except (OSError, orjson.JSONDecodeError, TypeError, KeyError, AttributeError):
        return None  # not there, or of another version: nobody can tell what it says


def service_of(workspace: Path, now: datetime) -> Heartbeat | None:
    """The service that is alive in `workspace`; None if nothing runs there by itself."""
    found = last(workspace)
    return found if found is not None and found.alive(now) else None


class Beats:
    """The beats of this process, from its first to its last."""

    def __init__(self, workspace: Path, now: datetime) -> None:
        self._workspace = workspace
        self._last = Heartbeat.first(now)
        self._written = False

    def beat(self, now: datetime, specs: Mapping[str, Served]) -> None:
        """Beat if there is something new to tell, or if it is time. Raises as `write`."""
        idle = (now - datetime.fromisoformat(self._last.beat)).total_seconds()
        if not self._written or specs != self._last.specs or idle >= PERIOD:
            self._beat(replace(self._last, beat=timestamp(now), specs=specs))

    def end(self, now: datetime, specs: Mapping[str, Served]) -> None:
        """The last beat. Raises as `write`."""
        self._beat(replace(self._last, beat=timestamp(now), stopped=timestamp(now), specs=specs))

    def _beat(self, heartbeat: Heartbeat) -> None:
        self._last = heartbeat
        write(self._workspace, heartbeat)
        self._written = True
