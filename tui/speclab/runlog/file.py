"""The run log's file: created whole, and recognised again, so that an empty or another file is never taken for it."""

from __future__ import annotations

import fcntl
import os
import sqlite3
from pathlib import Path
from typing import TypeAlias

from speclab.errors import RunLogError
from speclab.statefiles import STATE, find_link

FileId: TypeAlias = tuple[int, int]
"""Device and inode."""


def create_if_missing(path: Path) -> None:
    """Create a database without tables at `path` if there is no file, in one step.

    SQLite itself creates an empty file first. A run log is never empty this way, so an empty file is always one that
    lost its content. Creating processes take turns by a lock on the directory.
    """
    if path.exists():
        return
    path = Path(os.path.realpath(path))  # of a dangling link, the file it names
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(directory, fcntl.LOCK_EX)
        if not path.exists():
            _create(path)
    finally:
        os.close(directory)


def _create(path: Path) -> None:
    draft = path.with_name(f"{path.name}.new")
    for leftover in (draft, path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm")):
        leftover.unlink(missing_ok=True)  # of a killed process; SQLite would read a log beside the wrong database
    os.close(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))  # it will hold records
    connection = sqlite3.connect(draft)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
    finally:
        connection.close()
    draft.replace(path)


def refuse_linked(path: Path) -> None:
    """Raise `RunLogError` if the run log of a workspace, or what SQLite keeps beside it, is a symbolic link."""
    for suffix in ("", "-wal", "-shm", "-journal", ".new"):
        if (link := find_link(path.with_name(path.name + suffix))) is not None:
            raise RunLogError(
                f"{link}: is a symbolic link, and speclab follows none in {STATE}",
                hint="Delete the link, or name the run log that is meant with --runlog.",
            )


def refuse_empty(path: Path, size: int) -> None:
    """Raise `RunLogError` if the file at `path`, of `size` bytes, is empty."""
    if size == 0:
        raise RunLogError(
            f"{path}: the run log is empty (0 bytes): its content is lost",
            hint="Restore it from a backup. Without one, check the targets that only create, then delete the file: "
            "runs then read from the start and write everything again.",
        )


def file_id(path: Path) -> FileId:
    """Return the identity of the file at `path`. Raise `OSError` if there is none."""
    status = path.stat()
    return status.st_dev, status.st_ino


def refuse_other(path: Path, opened: FileId) -> None:
    """Raise `RunLogError` if the file at `path` is no longer the one that was `opened`."""
    try:
        found = file_id(path)
    except FileNotFoundError:
        found = None
    if found == opened:
        return
    what = "deleted" if found is None else "replaced by another file"
    raise RunLogError(
        f"{path}: the run log was {what} while this process was writing to it",
        hint="What was written to the target in this run is not recorded in the file that is there now. Put the run "
        "log back, or check the target before the next run, which would write the same records again.",
    )
