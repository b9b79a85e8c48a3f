"""What SQLite says when it cannot go on, told with the run log's path and what to do about it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from speclab.errors import RunLogError


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
                "this file is not a run log: it is not even a SQLite database",
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
