"""One run a spec, one service a workspace: locks the kernel holds, so that no crash leaves one behind."""

from __future__ import annotations

import contextlib
import fcntl
import getpass
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import orjson

from speclab.clock import Clock, SystemClock, timestamp
from speclab.errors import SpecHeld, WorkspaceHeld


@contextlib.contextmanager
def hold(workspace: Path, spec_id: str, clock: Clock | None = None) -> Iterator[None]:
    """Be the only one that runs `spec_id` in `workspace`, until the block ends.

    Raises `SpecHeld`, naming who holds it, if another live process does. The lock is `flock(2)` on
    `.speclab/locks/SPEC_ID.lock`: the kernel lets go of it when the process ends, however it ends. What stands in the
    file is for the message only, and is stale once the lock is free.
    """
    path = workspace / ".speclab" / "locks" / f"{quote(spec_id, safe=' ')}.lock"
    with _locked(path, clock) as holder:
        if holder:
            raise SpecHeld(f"{spec_id} is being run by {holder}", hint="wait until that run ends, or stop it")
        yield


@contextlib.contextmanager
def hold_workspace(workspace: Path, clock: Clock | None = None) -> Iterator[None]:
    """Be the only service of `workspace`, until the block ends; as `hold`, on `.speclab/up.lock`.

    Raises `WorkspaceHeld`, naming who holds it.
    """
    with _locked(workspace / ".speclab" / "up.lock", clock) as holder:
        if holder:
            raise WorkspaceHeld(
                f"the specs in {workspace} are run on their schedules already, by {holder}",
                hint="one `speclab up` is enough for a workspace; stop that one first",
            )
        yield


@contextlib.contextmanager
def _locked(path: Path, clock: Clock | None) -> Iterator[str]:
    """Hold the lock at `path`; gives who else does, in words, or nothing if it is ours."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield _holder(path)
            return
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, orjson.dumps(_self(clock or SystemClock())), 0)
        yield ""
    finally:
        os.close(descriptor)


def _self(clock: Clock) -> dict[str, str | int]:
    return {
        "pid": os.getpid(),
        "user": user(),
        "host": socket.gethostname(),
        "since": timestamp(clock.now()),
    }


def user() -> str:
    """Who this process runs as."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user id without a name, as in many a container
        return f"user {os.getuid()}"


def _holder(path: Path) -> str:
    try:
        told = orjson.loads(path.read_bytes())
    except (OSError, orjson.JSONDecodeError):  # it has only just taken the lock
        return "another process"
    return f"process {told['pid']} of {told['user']} on {told['host']}, since {told['since']}"
