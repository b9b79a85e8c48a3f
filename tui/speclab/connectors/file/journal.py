"""What a run has written to a file that is not in its place yet: one line an item.

A file that is replaced as a whole comes to be at the end of a run, but what a run was told is written must outlive it:
the checkpoint has moved on. So every batch goes into the journal first, to the disk, and a journal that is found there
is of a run that was broken off, and goes on.
"""

from __future__ import annotations

import errno
import fcntl
import os
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from io import FileIO
from pathlib import Path
from typing import BinaryIO, Final

from speclab.connectors.file.durable import add
from speclab.connectors.jsontext import decode, encode
from speclab.jsonvalue import Json, Record
from speclab.statefiles import make_private_directory

_CACHE: Final = 8_000
"""KiB of the index of a journal that are in memory."""


class Journal:
    """Keys and records (null for one that was deleted), in the order they were written; the last of a key counts.

    One writer of any process holds it, from before its first entry until the entries are in their place: two that
    merged into one file at once would each leave out what the other has written.
    """

    def __init__(self, path: Path) -> None:
        """The journal at `path`, which is there while a run is on its way."""
        self.path = path
        self._stream: FileIO | None = None

    def exists(self) -> bool:
        """Whether anything was written that is not in its place yet."""
        try:
            return self.path.stat().st_size > 0
        except (FileNotFoundError, NotADirectoryError):
            return False

    def hold(self) -> bool:
        """Hold the journal from now on; False if another writer does. Raises `OSError`.

        The lock is `flock(2)` on the file itself, which its holder may remove: who got one that was removed gets the
        next. A symbolic link is not followed.
        """
        if self._stream is not None:
            return True
        make_private_directory(self.path.parent)
        while True:
            flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
            stream = os.fdopen(os.open(self.path, flags, 0o666), "ab", buffering=0)
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if self._is_current(stream):
                    self._mend(stream)
                    self._stream = stream
                    return True
            except BlockingIOError:
                return False
            finally:
                if self._stream is not stream:
                    stream.close()

    def add(self, entries: Iterable[tuple[str, Record | None]]) -> None:
        """Write `entries` to the disk, all or none. Raises `OSError`, also if another writer holds the journal."""
        add(self._held(), b"".join(encode([key, record]) + b"\n" for key, record in entries))

    @contextmanager
    def entries(self) -> Iterator[Entries]:
        """What is in the journal, to be looked up.

        Raises `OSError`, also where there is no room to index it, and if another writer holds the journal.
        """
        self._held()
        with self.path.open("rb") as stream, closing(sqlite3.connect("", isolation_level=None)) as index:
            try:
                yield Entries(stream, index)
            except sqlite3.Error as error:
                full = error.sqlite_errorcode == sqlite3.SQLITE_FULL
                raise OSError(errno.ENOSPC if full else errno.EIO, f"the index of {self.path.name}: {error}") from None

    def clear(self) -> None:
        """Forget all entries, and hold the journal still. Raises `OSError`."""
        os.ftruncate(self._held().fileno(), 0)

    def close(self) -> None:
        """Let go of the journal; the file stays if there is anything in it."""
        if self._stream is not None:
            if os.fstat(self._stream.fileno()).st_size == 0:
                self.path.unlink(missing_ok=True)
            self._stream.close()
            self._stream = None

    def remove(self) -> None:
        """Forget it all, and let go: it is in its place now."""
        self.path.unlink(missing_ok=True)  # before the lock goes, or it would be the next one's
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def _held(self) -> FileIO:
        if not self.hold():
            raise BlockingIOError(errno.EAGAIN, "another run is writing to this file", os.fspath(self.path))
        assert self._stream is not None  # noqa: S101 - it is held
        return self._stream

    def _is_current(self, stream: FileIO) -> bool:
        """Whether the file that was opened is still the one at the path."""
        try:
            return os.path.samestat(os.fstat(stream.fileno()), self.path.lstat())
        except FileNotFoundError:
            return False

    def _mend(self, stream: FileIO) -> None:
        """Cut off what a crash left half written: nobody was told it was there."""
        with self.path.open("rb") as lines:
            os.ftruncate(stream.fileno(), sum(len(line) for line in lines if line.endswith(b"\n")))


class Entries:
    """The entries of a journal: the last of each key, in the order the keys first came.

    Where each is, is in a database on the disk that SQLite removes by itself: a run's keys need not fit into memory.
    """

    def __init__(self, stream: BinaryIO, index: sqlite3.Connection) -> None:
        """The entries of `stream`, found by an `index` that is empty yet."""
        self._stream = stream
        self._index = index
        index.execute(f"PRAGMA cache_size = -{_CACHE}")
        index.execute("CREATE TABLE entry (key TEXT UNIQUE, at INTEGER, taken INTEGER DEFAULT 0)")
        index.execute("BEGIN")
        index.executemany(
            "INSERT INTO entry (key, at) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET at = excluded.at",
            _places(stream),
        )

    def __contains__(self, key: str) -> bool:
        """Whether there is an entry of `key`, taken or not."""
        return self._index.execute("SELECT 1 FROM entry WHERE key = ?", (key,)).fetchone() is not None

    def take(self, key: str) -> Record | None:
        """The record of `key`, once; None if it was deleted, or taken before."""
        found = self._index.execute("SELECT at FROM entry WHERE key = ? AND NOT taken", (key,)).fetchone()
        if found is None:
            return None
        self._index.execute("UPDATE entry SET taken = 1 WHERE key = ?", (key,))
        return self._at(*found)

    def left(self) -> Iterator[Record]:
        """The records that were not taken, without those that were deleted."""
        for found in self._index.execute("SELECT at FROM entry WHERE NOT taken ORDER BY rowid"):
            record = self._at(*found)
            if record is not None:
                yield record

    def _at(self, offset: int) -> Record | None:
        self._stream.seek(offset)
        return _entry(self._stream.readline())[1]


def _places(stream: BinaryIO) -> Iterator[tuple[str, int]]:
    """The key of each entry, and where it begins."""
    offset = 0
    for line in stream:
        yield _entry(line)[0], offset
        offset += len(line)


def _entry(line: bytes) -> tuple[str, Record | None]:
    entry: Json = decode(line)
    match entry:
        case [str(key), None]:
            return key, None
        case [str(key), dict(record)]:
            return key, record
    raise ValueError(f"no entry of a journal: {line[:80]!r}")
