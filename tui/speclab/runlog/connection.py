"""Shared by all parts of the run log: ids, JSON columns, SQLite errors as `RunLogError`, and checks of the file."""

from __future__ import annotations

import json
import os
import secrets
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TypeAlias, overload

from speclab.core.clock import Clock
from speclab.core.errors import RunLogError
from speclab.core.files import STATE_DIRECTORY, find_symlink, rename_durably
from speclab.core.json import JsonView
from speclab.core.locks import locked_directory


class IdGenerator:
    """Generates UUIDs of version 7 (RFC 9562), each greater than the previous one, even within a millisecond."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._last = 0

    def generate(self) -> str:
        """Return the next id, as text.

        The 12 bits after the milliseconds are a counter (RFC 9562, 6.2, method 1) that carries over into the
        milliseconds, so ids grow even if the clock stands still or is set back.
        """
        milliseconds = int(self._clock.now().timestamp() * 1000)
        self._last = max(self._last + 1, milliseconds << 12)
        time, counter = self._last >> 12, self._last & 0xFFF
        random = secrets.randbits(62)
        return (
            f"{time >> 16:08x}-{time & 0xFFFF:04x}-7{counter:03x}-"
            f"{0b10 << 14 | random >> 48:04x}-{random & 0xFFFFFFFFFFFF:012x}"
        )


def encode_json(value: JsonView) -> str:
    """Return `value` as JSON text that SQLite can store, including lone surrogates."""
    return encode_text(json.dumps(value, ensure_ascii=False, separators=(",", ":")))


@overload
def encode_text(value: str) -> str: ...
@overload
def encode_text(value: None) -> None: ...
@overload
def encode_text(value: str | None) -> str | None: ...
def encode_text(value: str | None) -> str | None:
    r"""Return `value` as SQLite can store it: a lone surrogate, which UTF-8 cannot encode, as `\udXXX`.

    Inside JSON text this escape is read back as the same surrogate.
    """
    if value is None or value.isascii():
        return value
    return value.encode("utf-8", "backslashreplace").decode("utf-8")


@contextmanager
def translate_errors(path: Path) -> Iterator[None]:
    """Raise errors of SQLite and of the system about the file at `path` as `RunLogError`.

    Errors of a wrong statement are bugs, and are not translated.
    """
    try:
        yield
    except (sqlite3.IntegrityError, sqlite3.ProgrammingError, sqlite3.InternalError):
        raise
    except sqlite3.DatabaseError as error:
        message, hint = _explain(error)
        raise RunLogError(f"{path}: {message}", hint=hint) from error
    except OSError as error:
        reason = error.strerror or str(error)
        raise RunLogError(f"{path}: the run log cannot be reached: {reason}", hint=_CHECK_DIRECTORY) from error


_CHECK_DIRECTORY: Final = "Check that the directory exists and is writable, or name another file with --runlog."


def _explain(error: sqlite3.Error) -> tuple[str, str]:
    """Return what happened and what to do, by SQLite's primary result code."""
    match getattr(error, "sqlite_errorcode", 0) & 0xFF:
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return (
                "the run log is locked by another process",
                "Find the process (`lsof` on the file), and try again when it has finished.",
            )
        case sqlite3.SQLITE_FULL:
            return (
                "the run log cannot grow: the disk is full",
                "Free some space. The current page was not recorded; the next run reads it again.",
            )
        case sqlite3.SQLITE_NOTADB:
            return (
                "this file is not a SQLite database, so not a run log",
                "Name another file with --runlog, or move this one away.",
            )
        case sqlite3.SQLITE_CORRUPT:
            return (
                "the run log is damaged",
                "Recover it with `sqlite3 FILE .recover`, or move it away: runs then read from the start.",
            )
        case sqlite3.SQLITE_CANTOPEN | sqlite3.SQLITE_PERM | sqlite3.SQLITE_READONLY:
            return (
                f"the run log cannot be opened: {error}",
                _CHECK_DIRECTORY,
            )
        case _:
            return f"the run log cannot be used: {error}", "Check the disk it is on."


FileId: TypeAlias = tuple[int, int]
"""Device and inode."""


def create_if_missing(path: Path) -> None:
    """Create a database without tables at `path` atomically, unless the file exists.

    SQLite itself would create an empty file first. Because this function does not, an empty file is always a run log
    that lost its content. Processes take turns by a lock on the directory.
    """
    if path.exists():
        return
    path = Path(os.path.realpath(path))  # follow a dangling link
    with locked_directory(path.parent):
        if not path.exists():
            _create(path)


def _create(path: Path) -> None:
    draft = path.with_name(f"{path.name}.new")
    for leftover in (draft, path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm")):
        leftover.unlink(missing_ok=True)  # left by a killed process; SQLite would apply this log to the new database
    os.close(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))  # it will contain records
    connection = sqlite3.connect(draft)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
    finally:
        connection.close()
    rename_durably(draft, path)


def refuse_linked(path: Path) -> None:
    """Raise `RunLogError` if the run log of a workspace, or a file of SQLite beside it, is a symbolic link."""
    for suffix in ("", "-wal", "-shm", "-journal", ".new"):
        if (link := find_symlink(path.with_name(path.name + suffix))) is not None:
            raise RunLogError(
                f"{link}: is a symbolic link, and speclab follows none in {STATE_DIRECTORY}",
                hint="Delete the link, or name the run log with --runlog.",
            )


def refuse_empty(path: Path, size: int) -> None:
    """Raise `RunLogError` if the file at `path`, of `size` bytes, is empty."""
    if size == 0:
        raise RunLogError(
            f"{path}: the run log is empty (0 bytes): its content was lost",
            hint="Restore it from a backup. Without a backup, check targets that only create records, then delete "
            "the file: runs then read from the start and write everything again.",
        )


def get_file_id(path: Path) -> FileId:
    """Return the identity of the file at `path`. Raise `OSError` if it does not exist."""
    status = path.stat()
    return status.st_dev, status.st_ino


def refuse_other(path: Path, opened: FileId) -> None:
    """Raise `RunLogError` if the file at `path` is not the file that was `opened`."""
    try:
        found = get_file_id(path)
    except FileNotFoundError:
        found = None
    if found == opened:
        return
    what = "deleted" if found is None else "replaced by another file"
    raise RunLogError(
        f"{path}: the run log was {what} while this process was writing to it",
        hint="The file that is there now does not record what this run wrote to the target. Restore the run log, "
        "or check the target before the next run, which would write the same records again.",
    )
