"""What a run has written to a file that is not in its place yet: one line an item.

A file that is replaced as a whole comes to be at the end of a run, but what a run was told is written must outlive it:
the checkpoint has moved on. So every batch goes into the journal first, to the disk, and a journal that is found there
is of a run that was broken off, and goes on.
"""

from __future__ import annotations

import errno
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from io import FileIO
from pathlib import Path
from typing import BinaryIO, Final

from speclab.connectors.file.durable import add
from speclab.connectors.jsontext import decode, encode
from speclab.jsonvalue import Json, Record

_CACHE: Final = 8_000
"""KiB of the index of a journal that are in memory."""


class Journal:
    """Keys and records (null for one that was deleted), in the order they were written; the last of a key counts."""

    def __init__(self, path: Path) -> None:
        """The journal at `path`, which is there while a run is on its way."""
        self.path = path
        self._stream: FileIO | None = None

    def exists(self) -> bool:
        """Whether anything was written that is not in its place yet."""
        return self.path.exists()

    def add(self, entries: Iterable[tuple[str, Record | None]]) -> None:
        """Write `entries` to the disk, all or none. Raises `OSError`."""
        self._stream = self._stream or self._open()
        add(self._stream, b"".join(encode([key, record]) + b"\n" for key, record in entries))

    @contextmanager
    def entries(self) -> Iterator[Entries]:
        """What is in the journal, to be looked up. Raises `OSError`, also where there is no room to index it."""
        if self._stream is None:
            self._stream = self._open()
        with self.path.open("rb") as stream, closing(sqlite3.connect("", isolation_level=None)) as index:
            try:
                yield Entries(stream, index)
            except sqlite3.Error as error:
                full = error.sqlite_errorcode == sqlite3.SQLITE_FULL
                raise OSError(errno.ENOSPC if full else errno.EIO, f"the index of {self.path.name}: {error}") from None

    def close(self) -> None:
        """Close the file; it stays."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def remove(self) -> None:
        """Forget it all: it is in its place now."""
        self.close()
        self.path.unlink(missing_ok=True)

    def _open(self) -> FileIO:
        """The journal, open at its end; what a crash left half written is cut off: nobody was told it was there."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if self.exists():
            with self.path.open("r+b") as stream:
                stream.truncate(sum(len(line) for line in stream if line.endswith(b"\n")))
        return self.path.open("ab", buffering=0)


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
