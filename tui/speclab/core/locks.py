"""Locks that processes and hosts share: on one file, and with the name of the holder."""

from __future__ import annotations

import fcntl
import getpass
import os
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import orjson
from filelock import lock_descriptor

from speclab.core.clock import Clock, SystemClock, format_timestamp
from speclab.core.errors import SpeclabError, SpecLocked, WorkspaceLocked
from speclab.core.files import make_private_directory, open_private, read_private

_RETRY_DELAYS: Final = (0.02, 0.1)
"""Seconds between attempts to take a lock that another process may only be probing (`is_locked`)."""


def lock(descriptor: int) -> None:
    """Wait for the exclusive lock on an open file. Raise `OSError` where the file system has no locks."""
    lock_descriptor(descriptor, poll_interval=0.01)


def try_lock(descriptor: int, *, retry: bool = False) -> bool:
    """Take the exclusive lock on an open file. Return whether it was free. Raise `OSError`.

    With `retry`, a lock that is free within a tenth of a second is taken as well: `is_locked` holds it for an instant.
    """
    for delay in _RETRY_DELAYS if retry else ():
        if lock_descriptor(descriptor, blocking=False):
            return True
        time.sleep(delay)
    return lock_descriptor(descriptor, blocking=False)


def is_locked(path: Path) -> bool:
    """Whether any process holds the lock on the file at `path`. Raise `OSError` if it cannot be opened.

    The probe is a shared lock, so that two of them do not take each other for a holder; `filelock` has none.
    """
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


@contextmanager
def locked_directory(directory: Path, *, required: bool = True) -> Iterator[None]:
    """Hold the exclusive lock on `directory` for the block, so that writers of its files take turns.

    Without `required`, a file system that has no locks is accepted. Raise `OSError`.
    """
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            lock(descriptor)
        except OSError:
            if required:
                raise
        yield
    finally:
        os.close(descriptor)


@dataclass(frozen=True, slots=True)
class ProcessIdentity:
    """A process on a machine; `started` distinguishes it from a later process with the same PID."""

    pid: int
    host: str
    started: str

    @classmethod
    def of(cls, pid: int) -> ProcessIdentity:
        """Return the process `pid` on this machine; `started` is empty if it does not run."""
        return cls(pid, socket.gethostname(), _get_start(pid))


def is_alive(process: ProcessIdentity) -> bool:
    """Whether `process` is running. A process on another machine counts as running: it cannot be checked from here."""
    if process.host != socket.gethostname():
        return True
    return process.started != "" and process.started == _get_start(process.pid)


@contextmanager
def hold_spec(workspace: Path, spec_id: str, clock: Clock | None = None) -> Iterator[None]:
    """Hold the lock of `spec_id` in `workspace` for the block: one process at a time runs it.

    Raise `SpecLocked`, with the holder, if another process holds it. The lock is on `.speclab/locks/SPEC_ID.lock`; the
    file names the process that took it last.
    """
    with _hold(_get_spec_lock(workspace, spec_id), clock) as holder:
        if holder:
            raise SpecLocked(f"{spec_id} is being run by {holder}", hint="wait until that run ends, or stop it")
        yield


@contextmanager
def hold_workspace(workspace: Path, clock: Clock | None = None) -> Iterator[None]:
    """Hold the lock of `workspace` for the block: one service at a time runs its specs. The lock is `.speclab/up.lock`.

    Raise `WorkspaceLocked`, with the holder, if another process holds it.
    """
    with _hold(_get_service_lock(workspace), clock) as holder:
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
    path = _get_spec_lock(workspace, spec_id)
    return is_locked(path) if _read_process(path) == process else is_alive(process)


def is_last_service(workspace: Path, process: ProcessIdentity) -> bool:
    """Whether `process` took the lock of `workspace` last: then the lock decides whether its service is running."""
    return _read_process(_get_service_lock(workspace)) == process


def is_serving(workspace: Path, process: ProcessIdentity) -> bool:
    """Whether `process` holds the lock of `workspace`, in whichever container or PID namespace of this machine."""
    return is_last_service(workspace, process) and is_locked(_get_service_lock(workspace))


def get_user_name() -> str:
    """Return the name of the user of this process."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user ID without a name, as in many containers
        return f"user {os.getuid()}"


def _get_start(pid: int) -> str:
    """Return the boot and the time of the start of `pid`; empty if it is not running.

    On Linux the time counts clock ticks since the boot, and the boot has an ID: neither changes when the clock is set.
    """
    import psutil

    if type(pid) is not int or pid <= 0:  # it may come from a file of another program
        return ""
    try:
        while True:
            booted, process = psutil.boot_time(), psutil.Process(pid)
            if process.status() == psutil.STATUS_ZOMBIE:
                return ""
            started = process.create_time()
            if psutil.boot_time() == booted:  # otherwise the clock was set in between
                break
    except (psutil.NoSuchProcess, OverflowError):
        return ""
    if not psutil.LINUX:
        return f"{started:.6f}"
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return f"{boot}/{round((started - booted) * os.sysconf('SC_CLK_TCK'))}"


def _get_spec_lock(workspace: Path, spec_id: str) -> Path:
    return workspace / ".speclab" / "locks" / f"{quote(spec_id, safe=' ')}.lock"


def _get_service_lock(workspace: Path) -> Path:
    return workspace / ".speclab" / "up.lock"


@contextmanager
def _hold(path: Path, clock: Clock | None) -> Iterator[str]:
    """Hold the lock at `path` for the block. Yield a description of the holder, empty if it is this process."""
    with ExitStack() as stack:
        try:
            make_private_directory(path.parent)
            descriptor = open_private(path, os.O_RDWR | os.O_CREAT)
            stack.callback(os.close, descriptor)
            if taken := try_lock(descriptor, retry=True):
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, orjson.dumps(_describe_this_process(clock or SystemClock())), 0)
        except OSError as error:
            raise SpeclabError(f"{path}: cannot be locked: {error.strerror}", hint=_hint(path, error)) from error
        yield "" if taken else _describe_holder(path)


def _hint(path: Path, error: OSError) -> str:
    """Return what to do about a lock file that cannot be opened."""
    if not isinstance(error, PermissionError):
        return ""
    with suppress(OSError, KeyError):
        return f"it is {path.owner()}'s: run as that user, or have it made writable for {get_user_name()}"
    return "run as the user whose workspace it is"


def _describe_this_process(clock: Clock) -> dict[str, str | int]:
    process = ProcessIdentity.of(os.getpid())
    return {
        "pid": process.pid,
        "user": get_user_name(),
        "host": process.host,
        "started": process.started,
        "since": format_timestamp(clock.now()),
    }


def _describe_holder(path: Path) -> str:
    holder = _read_holder(path)
    if holder is None:
        return "another process"
    return f"process {holder['pid']} of {holder['user']} on {holder['host']}, since {holder['since']}"


def _read_process(path: Path) -> ProcessIdentity | None:
    """Return the process that took the lock at `path` last; None if unknown."""
    holder = _read_holder(path)
    if holder is None:
        return None
    return ProcessIdentity(holder.get("pid", 0), holder.get("host", ""), holder.get("started", ""))


def _read_holder(path: Path) -> dict[str, Any] | None:
    """Return who took the lock at `path` last; None if no process did, or another one is writing it just now."""
    try:
        holder: dict[str, Any] = orjson.loads(read_private(path))
    except (OSError, orjson.JSONDecodeError):
        return None
    return holder
