"""What every part of the run log uses: ids, JSON columns, and SQLite errors as `RunLogError`."""

from __future__ import annotations

import json
import os
import secrets
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TypeAlias, overload

from speclab.core.atomic_file import rename_durably
from speclab.core.clock import Clock
from speclab.core.errors import RunLogError
from speclab.core.file_lock import locked_directory
from speclab.core.json import JsonView
from speclab.core.state_files import STATE_DIRECTORY, find_symlink


class Ids:
    """Makes UUIDs of version 7 (RFC 9562), each greater than the one before even within a millisecond."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._last = 0

    def new(self) -> str:
        """The next id, as text.

        The 12 bits after the milliseconds are a counter (RFC 9562, 6.2, method 1) that carries over into the
        milliseconds, so a clock that stands still or is set back never makes an id smaller.
        """
        milliseconds = int(self._clock.now().timestamp() * 1000)
        self._last = max(self._last + 1, milliseconds << 12)
        time, counter = self._last >> 12, self._last & 0xFFF
        random = secrets.randbits(62)
        return (
            f"{time >> 16:08x}-{time & 0xFFFF:04x}-7{counter:03x}-"
            f"{0b10 << 14 | random >> 48:04x}-{random & 0xFFFFFFFFFFFF:012x}"
        )


def as_json(value: JsonView) -> str:
    """`value` as JSON text that SQLite can store, lone surrogates and all."""
    return text(json.dumps(value, ensure_ascii=False, separators=(",", ":")))


@overload
def text(value: str) -> str: ...
@overload
def text(value: None) -> None: ...
@overload
def text(value: str | None) -> str | None: ...
def text(value: str | None) -> str | None:
    r"""`value` as SQLite can store it: a lone surrogate, which UTF-8 cannot say, as `\udXXX`.

    Inside JSON text that is the very escape that reads back as the same surrogate.
    """
    if value is None or value.isascii():
        return value
    return value.encode("utf-8", "backslashreplace").decode("utf-8")


@contextmanager
def telling(path: Path) -> Iterator[None]:
    """Errors of SQLite and of the system about the file at `path`, raised as `RunLogError`.

    Only what the world can do to a file is translated; a wrong statement is our own mistake and stays what it is.
    """
    try:
        yield
    except (sqlite3.IntegrityError, sqlite3.ProgrammingError, sqlite3.InternalError):
        raise
    except sqlite3.DatabaseError as error:
        message, hint = _words(error)
        raise RunLogError(f"{path}: {message}", hint=hint) from error
    except OSError as error:
        reason = error.strerror or str(error)
        raise RunLogError(f"{path}: the run log cannot be reached: {reason}", hint=_ELSEWHERE) from error


_ELSEWHERE: Final = "Check that the directory is there and may be written, or name another place with --runlog."


def _words(error: sqlite3.Error) -> tuple[str, str]:
    """What happened and what to do, by SQLite's primary result code."""
    match getattr(error, "sqlite_errorcode", 0) & 0xFF:
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return (
                "the run log is locked: another process has been writing to it for too long",
                "See which process holds it (`lsof` on the file), and try again when it is done.",
            )
        case sqlite3.SQLITE_FULL:
            return (
                "the run log cannot grow: the disk is full",
                "Free some space; the page in hand was not recorded and is read again by the next run.",
            )
        case sqlite3.SQLITE_NOTADB:
            return (
                "this file is not a SQLite database, so not a run log",
                "Name another with --runlog, or move this one away.",
            )
        case sqlite3.SQLITE_CORRUPT:
            return (
                "the run log is damaged",
                "Save what can be saved with `sqlite3 FILE .recover`, or move it away: runs then read from the start.",
            )
        case sqlite3.SQLITE_CANTOPEN | sqlite3.SQLITE_PERM | sqlite3.SQLITE_READONLY:
            return (
                f"the run log cannot be opened: {error}",
                _ELSEWHERE,
            )
        case _:
            return f"the run log cannot be used: {error}", "Check the disk it is on."


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
    with locked_directory(path.parent):
        if not path.exists():
            _create(path)


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
    rename_durably(draft, path)


def refuse_linked(path: Path) -> None:
    """Raise `RunLogError` if the run log of a workspace, or what SQLite keeps beside it, is a symbolic link."""
    for suffix in ("", "-wal", "-shm", "-journal", ".new"):
        if (link := find_symlink(path.with_name(path.name + suffix))) is not None:
            raise RunLogError(
                f"{link}: is a symbolic link, and speclab follows none in {STATE_DIRECTORY}",
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
