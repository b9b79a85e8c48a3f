"""Locks on open files and directories, between processes and between threads.

The lock is `flock(2)`: the kernel releases it when the descriptor is closed, however the process ends. The descriptor
stays the caller's, who decides about links, permissions and the content of the file: `filelock.FileLock`, which opens
a path by itself, cannot lock a file that holds data or the name of its holder.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from filelock import lock_descriptor

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
