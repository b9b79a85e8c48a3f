"""What a run has written to a file that is not in its place yet: one line an item.

A file that is replaced as a whole comes to be at the end of a run, but what a run was told is written must outlive it:
the checkpoint has moved on. So every batch goes into the journal first, to the disk, and a journal that is found there
is of a run that was broken off, and goes on.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from typing import BinaryIO

from speclab.connectors.file.durable import add
from speclab.connectors.jsontext import decode, encode
from speclab.jsonvalue import Json, Record


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
        """What is in the journal, to be looked up."""
        if self._stream is None:
            self._stream = self._open()
        with self.path.open("rb") as stream:
            yield Entries(stream)

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
    """The entries of a journal: the last of each key, in the order the keys first came."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._left: dict[str, int] = {}  # only where a record is: a run's records need not fit into memory
        offset = 0
        for line in stream:
            self._left[_entry(line)[0]] = offset
            offset += len(line)

    def __contains__(self, key: str) -> bool:
        """Whether an entry of `key` is left."""
        return key in self._left

    def take(self, key: str) -> Record | None:
        """The record of `key`, which is not left then."""
        return self._at(self._left.pop(key))

    def left(self) -> Iterator[Record]:
        """The records that are left, without those that were deleted."""
        for offset in self._left.values():
            record = self._at(offset)
            if record is not None:
                yield record

    def _at(self, offset: int) -> Record | None:
        self._stream.seek(offset)
        return _entry(self._stream.readline())[1]


def _entry(line: bytes) -> tuple[str, Record | None]:
    entry: Json = decode(line)
    match entry:
        case [str(key), None]:
            return key, None
        case [str(key), dict(record)]:
            return key, record
    raise ValueError(f"no entry of a journal: {line[:80]!r}")
