"""What a run has written to a file that is not in its place yet: one line an item, beside the file.

A file that is replaced as a whole comes to be at the end of a run, but what a run was told is written must outlive it:
the checkpoint has moved on. So every batch goes into the journal first, to the disk, and a journal that is found there
is of a run that was broken off, and goes on.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from speclab.connectors.jsontext import decode, encode
from speclab.jsonvalue import Json, Record


class Journal:
    """Keys and records (null for one that was deleted), in the order they were written; the last of a key counts."""

    def __init__(self, target: Path) -> None:
        """The journal of the file at `target`."""
        self.path = target.with_name(f".{target.name}.speclab")
        self._stream: BinaryIO | None = None

    def exists(self) -> bool:
        """Whether anything was written that is not in its place yet."""
        return self.path.exists()

    def add(self, entries: Sequence[tuple[str, Record | None]]) -> int:
        """Write `entries` to the disk, all or none; gives the bytes they take. Raises `OSError`."""
        stream = self._stream = self._stream or self._open()
        size = stream.tell()
        try:
            text = b"".join(encode([key, record]) + b"\n" for key, record in entries)
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        except OSError:
            stream.truncate(size)
            stream.seek(size)
            raise
        return len(text)

    def latest(self) -> dict[str, int]:
        """Where the last entry of each key begins, keys in the order they first came."""
        found: dict[str, int] = {}
        if not self.exists():
            return found
        with self.path.open("rb") as stream:
            offset = 0
            for line in stream:
                if not line.endswith(b"\n"):
                    break
                key, _ = _entry(line)
                found[key] = offset
                offset += len(line)
        return found

    def records(self, offsets: Iterable[int]) -> Iterator[Record | None]:
        """The records of the entries that begin at `offsets`."""
        if not self.exists():
            return
        with self.path.open("rb") as stream:
            for offset in offsets:
                stream.seek(offset)
                yield _entry(stream.readline())[1]

    def close(self) -> None:
        """Close the file; it stays."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def remove(self) -> None:
        """Forget it all: it is in its place now."""
        self.close()
        self.path.unlink(missing_ok=True)

    def _open(self) -> BinaryIO:
        """The journal, open at its end; what a crash left half written is cut off, for nobody was told it was there."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        stream = self.path.open("r+b" if self.path.exists() else "w+b")
        whole = 0
        for line in stream:
            whole += len(line) if line.endswith(b"\n") else 0
        stream.truncate(whole)
        stream.seek(whole)
        return stream


def _entry(line: bytes) -> tuple[str, Record | None]:
    entry: Json = decode(line)
    match entry:
        case [str(key), None]:
            return key, None
        case [str(key), dict(record)]:
            return key, record
    raise ValueError(f"no entry of a journal: {line[:80]!r}")
