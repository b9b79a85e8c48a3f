"""Shared by all parts of the run log: ids, JSON columns, errors, checks of the file, transactions and events."""

from __future__ import annotations

import json
import os
import secrets
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import RLock
from typing import TYPE_CHECKING, Any, Final, TypeAlias, overload

from speclab.core.clock import Clock
from speclab.core.errors import RunLogError
from speclab.core.files import STATE_DIRECTORY, find_symlink, make_private_directory, rename_durably
from speclab.core.json import Json, JsonView
from speclab.core.locks import locked_directory
from speclab.core.outcome import Level
from speclab.runlog import schema
from speclab.runlog.rows import EventRow

if TYPE_CHECKING:
    from speclab.runlog.destinations import EventForwarder, LogDestination, Write


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


_BUSY_SECONDS: Final = 10.0
_WAL_PAGES: Final = 4000  # 16 MB between WAL checkpoints: fewer syncs, and each page of record_state is written once


def open_for_writing(path: Path) -> sqlite3.Connection:
    """Open the run log at `path`: create it with its directory if it is missing, and migrate an older one.

    Raises like `RunLog.open`.
    """
    with translate_errors(path):
        refuse_linked(path)
        make_private_directory(path.parent)
        create_if_missing(path)
        refuse_empty(path, path.stat().st_size)
        connection = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)
        try:
            schema.read_version(connection, path)  # before any change: it may not be a run log
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute(f"PRAGMA wal_autocheckpoint = {_WAL_PAGES}")
            connection.execute("PRAGMA cache_size = -8000")
            connection.execute("PRAGMA secure_delete = FAST")
            schema.ensure_current(connection, path)
        except BaseException:
            connection.close()
            raise
    return connection


class WriteConnection:
    """The connection of a process that writes the run log at `path`; its threads take turns.

    `on_rollback` is called, in turn, after each transaction that failed, and `on_commit` after each other one.
    """

    def __init__(
        self, db: sqlite3.Connection, path: Path, on_commit: Callable[[], None], on_rollback: Callable[[], None]
    ) -> None:
        self.db = db
        self.path = path
        self._on_commit = on_commit
        self._on_rollback = on_rollback
        self._lock = RLock()
        self._file = get_file_id(path)

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Yield the connection, for reading what this process or another one has written."""
        with translate_errors(self.path), self._lock:
            yield self.db

    def read_one(self, sql: str, values: Sequence[object]) -> Any:
        """Return the first row of one statement; None if there is none."""
        with self.reading() as db:
            return db.execute(sql, values).fetchone()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Begin a transaction: the only one of this process, and (BEGIN IMMEDIATE) of all processes."""
        with self.reading() as db:
            refuse_other(self.path, self._file)
            db.execute("BEGIN IMMEDIATE")
            try:
                yield db
                db.execute("COMMIT")
            except BaseException:
                if db.in_transaction:  # not after a full disk, which rolls back by itself
                    db.execute("ROLLBACK")
                self._on_rollback()
                raise
            self._on_commit()


DESTINATION_EVENT: Final = "logging"
"""Kind of the events about destinations, which are only in the run log."""


class EventTable:
    """The table `log_event`, and the destinations that also get the events of this process."""

    def __init__(self) -> None:
        self._forwarder: EventForwarder | None = None

    def add_destination(
        self, spec_id: str, destination: LogDestination, write: Write | None, report: Callable[[str, str], None]
    ) -> None:
        """Send the events of an integration also to `destination`; `report` is called if it cannot be written."""
        from speclab.runlog.destinations import EventForwarder  # takes 10 ms to import

        if self._forwarder is None:
            self._forwarder = EventForwarder(report)
        self._forwarder.open(spec_id, destination, write)

    def add(
        self,
        db: sqlite3.Connection,
        at: str,
        spec_id: str,
        run: str | None,
        level: Level,
        kind: str,
        message: str,
        fields: Mapping[str, Json],
    ) -> None:
        """Append an event in a transaction; destinations get it with `send`."""
        added = db.execute(
            "INSERT INTO log_event (at, spec_id, run, level, kind, message, fields) VALUES (?, ?, ?, ?, ?, ?, ?)",
            (at, spec_id, run, level, kind, encode_text(message), encode_json(fields)),
        )
        if self._forwarder is not None and kind != DESTINATION_EVENT:
            self._forwarder.add(EventRow(added.lastrowid or 0, at, spec_id, run, level, kind, message, fields))

    def send(self) -> None:
        """Send the events of the committed transaction to the destinations."""
        if self._forwarder is not None:
            self._forwarder.send()

    def discard(self) -> None:
        """Discard the events of a transaction that was rolled back."""
        if self._forwarder is not None:
            self._forwarder.discard()

    def close(self) -> None:
        """Close the destinations."""
        if self._forwarder is not None:
            self._forwarder.close()
