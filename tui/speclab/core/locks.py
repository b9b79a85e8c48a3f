"""Locks between processes: one run per spec, one service per workspace, and who holds them."""

from __future__ import annotations

import contextlib
import fcntl
import getpass
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import orjson

from speclab.core.clock import Clock, SystemClock, format_timestamp
from speclab.core.errors import SpeclabError, SpecLocked, WorkspaceLocked
from speclab.core.state_files import make_private_directory, open_private, read_private


@dataclass(frozen=True, slots=True)
class ProcessIdentity:
    """A process on a machine; `started` tells it from a later one that was given the same pid."""

    pid: int
    host: str
    started: str

    @classmethod
    def of(cls, pid: int) -> ProcessIdentity:
        """The process `pid` on this machine; `started` is empty if there is none."""
        return cls(pid, socket.gethostname(), _started(pid))


def is_alive(process: ProcessIdentity) -> bool:
    """Whether `process` still runs; one on another machine is taken to, since nobody here can know."""
    return process.host != socket.gethostname() or (process.started != "" and process.started == _started(process.pid))


def _started(pid: int) -> str:
    """When `pid` was started, in whatever words the system has for it; empty if it is not running."""
    stat = Path(f"/proc/{pid}/stat")
    if Path("/proc/self/stat").exists():
        try:
            fields = stat.read_text(errors="replace").rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            return ""
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        state, ticks = fields[0], fields[19]  # proc(5): field 3 and field 22
        return "" if state == "Z" else f"{boot}/{ticks}"
    found = subprocess.run(
        ["/bin/ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False,
        env={**os.environ, "LC_ALL": "C", "TZ": "UTC"},
    )  # fmt: skip
    return found.stdout.strip()


@contextlib.contextmanager
def hold_spec(workspace: Path, spec_id: str, clock: Clock | None = None) -> Iterator[None]:
    """Be the only one that runs `spec_id` in `workspace`, until the block ends.

    Raises `SpecLocked`, naming who holds it, if another live process does. The lock is `flock(2)` on
    `.speclab/locks/SPEC_ID.lock`: the kernel lets go of it when the process ends, however it ends. In the file stands
    who took it last.
    """
    with _locked(_of_spec(workspace, spec_id), clock) as holder:
        if holder:
            raise SpecLocked(f"{spec_id} is being run by {holder}", hint="wait until that run ends, or stop it")
        yield


@contextlib.contextmanager
def hold_workspace(workspace: Path, clock: Clock | None = None) -> Iterator[None]:
    """Be the only service of `workspace`, until the block ends; as `hold_spec`, on `.speclab/up.lock`.

    Raises `WorkspaceLocked`, naming who holds it.
    """
    with _locked(_of_service(workspace), clock) as holder:
        if holder:
            raise WorkspaceLocked(
                f"the specs in {workspace} are run on their schedules already, by {holder}",
                hint="one `speclab up` is enough for a workspace; stop that one first",
            )
        yield


def is_running(workspace: Path, spec_id: str, process: ProcessIdentity) -> bool:
    """Whether the run of a spec in `workspace` that belongs to `process` is still running.

    For the process that took the spec's lock last, the lock decides, in whichever container or PID namespace of this
    machine that process is: a container that was killed would otherwise look like an unreachable machine. Other
    processes are looked up by PID.
    """
    path = _of_spec(workspace, spec_id)
    return _held(path) if _taker(path) == process else is_alive(process)


def is_last_service(workspace: Path, process: ProcessIdentity) -> bool:
    """Whether `process` was the last to take the lock of `workspace`: then the lock tells whether it serves."""
    return _taker(_of_service(workspace)) == process


def is_serving(workspace: Path, process: ProcessIdentity) -> bool:
    """Whether `process` holds the lock of `workspace`, in whichever container or namespace of this machine it is."""
    path = _of_service(workspace)
    return _taker(path) == process and _held(path)


def _of_spec(workspace: Path, spec_id: str) -> Path:
    return workspace / ".speclab" / "locks" / f"{quote(spec_id, safe=' ')}.lock"


def _of_service(workspace: Path) -> Path:
    return workspace / ".speclab" / "up.lock"


@contextlib.contextmanager
def _locked(path: Path, clock: Clock | None) -> Iterator[str]:
    """Hold the lock at `path`; gives who else does, in words, or nothing if it is ours."""
    with contextlib.ExitStack() as stack:
        try:
            make_private_directory(path.parent)
            descriptor = open_private(path, os.O_RDWR | os.O_CREAT)
            stack.callback(os.close, descriptor)
            if taken := _taken(descriptor):
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, orjson.dumps(_self(clock or SystemClock())), 0)
        except OSError as error:
            raise SpeclabError(f"{path}: cannot be locked: {error.strerror}", hint=_whose(path, error)) from error
        yield "" if taken else _holder(path)


def _whose(path: Path, error: OSError) -> str:
    """What to do about a lock that cannot be had."""
    if not isinstance(error, PermissionError):
        return ""
    with contextlib.suppress(OSError, KeyError):
        return f"it is {path.owner()}'s: run as that user, or have it made writable for {get_user_name()}"
    return "run as the user whose workspace it is"


def _taken(descriptor: int) -> bool:
    """Whether the lock is ours now. One that is only looked at, for an instant, is waited for."""
    for pause in (0.02, 0.1, None):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if pause is not None:
                time.sleep(pause)
        else:
            return True
    return False


def _held(path: Path) -> bool:
    """Whether any process holds the lock at `path`."""
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _self(clock: Clock) -> dict[str, str | int]:
    process = ProcessIdentity.of(os.getpid())
    return {
        "pid": process.pid,
        "user": get_user_name(),
        "host": process.host,
        "started": process.started,
        "since": format_timestamp(clock.now()),
    }


def get_user_name() -> str:
    """Who this process runs as."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user id without a name, as in many a container
        return f"user {os.getuid()}"


def _taker(path: Path) -> ProcessIdentity | None:
    """The process that took the lock at `path` last, as far as that can be told."""
    told = _last(path)
    return None if told is None else ProcessIdentity(told.get("pid", 0), told.get("host", ""), told.get("started", ""))


def _last(path: Path) -> dict[str, Any] | None:
    """Who took the lock at `path` last; None if nobody did, or one has only just taken it."""
    try:
        told: dict[str, Any] = orjson.loads(read_private(path))
    except (OSError, orjson.JSONDecodeError):
        return None
    return told


def _holder(path: Path) -> str:
    told = _last(path)
    if told is None:
        return "another process"
    return f"process {told['pid']} of {told['user']} on {told['host']}, since {told['since']}"
