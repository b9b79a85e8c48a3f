"""Local files: patterns, atomic replacement, and durable appends."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from glob import glob
from io import FileIO
from pathlib import Path
from typing import BinaryIO, Protocol, cast

from speclab.core.errors import BadResponse, Unreachable
from speclab.core.files import replacing_file, resolve_path
from speclab.core.json import Record
from speclab.core.locks import lock


def append_durably(stream: FileIO, text: bytes) -> None:
    """Append `text` to `stream`, which is unbuffered and in append mode, and wait until it is on the disk.

    Raise `OSError`; the file is unchanged then. A process that is killed may leave a part of `text`.
    """
    size = os.fstat(stream.fileno()).st_size
    left = memoryview(text)
    try:
        while left:
            left = left[stream.write(left) :]
        os.fsync(stream.fileno())
    except OSError:
        os.ftruncate(stream.fileno(), size)
        raise


def append_with_intent(stream: FileIO, text: bytes, mark: Path) -> None:
    """Append `text` as `append_durably` does, with the file `mark` as its write intent for `undo_partial_append`."""
    with mark.open("wb", buffering=0) as noted:
        append_durably(noted, b"%d\n%b" % (os.fstat(stream.fileno()).st_size, text))
    try:
        append_durably(stream, text)
    finally:
        mark.unlink()


def undo_partial_append(stream: FileIO, mark: Path) -> None:
    """Remove a part of `text` that a killed process appended; data that others appended stays."""
    if not mark.exists():
        return
    size, _, text = mark.read_bytes().partition(b"\n")
    if size.isdigit():
        stream.seek(int(size))
        part = stream.read(len(text))
        if 0 < len(part) < len(text) and text.startswith(part):
            os.ftruncate(stream.fileno(), int(size))
    mark.unlink()


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One file as found: `name` for messages, `where` for its source, and `version` to detect changes."""

    name: str
    where: str
    size: int
    version: int | str


class SourceLocation(Protocol):
    """The location of source files."""

    def find(self) -> list[SourceFile]:
        """Return the files sorted by name. Raise `Unreachable` if there is none."""

    def opened(self, file: SourceFile, *, seeking: bool) -> BinaryIO:
        """Open a file. With `seeking` it is read at any offset, else only forward."""


class LocalSourceLocation:
    """Local files that match a pattern."""

    def __init__(self, pattern: str, base: Path) -> None:
        """Create a location for the files that match `pattern`, relative to `base`."""
        self._pattern = pattern
        self._base = base

    def find(self) -> list[SourceFile]:
        """Return the files sorted by name. Raise `Unreachable` if there is none."""
        matches = sorted(glob(self._pattern, root_dir=self._base, recursive=True))  # noqa: PTH207 - takes absolute patterns, too
        paths = [self._base / match for match in matches if (self._base / match).is_file()]
        if not paths:
            raise Unreachable(
                f"there is no file {self._pattern}", hint=f"Paths are relative to the workspace, {self._base}."
            )
        return [self._look(path) for path in paths]

    def opened(self, file: SourceFile, *, seeking: bool) -> BinaryIO:
        """Open a file. Raise `OSError`."""
        del seeking  # any place is as near as any other
        return Path(file.where).open("rb")

    def _look(self, path: Path) -> SourceFile:
        found = path.stat()
        name = path.relative_to(self._base) if path.is_relative_to(self._base) else path
        return SourceFile(str(name), str(path), found.st_size, found.st_mtime_ns)


class TargetLocation(Protocol):
    """The location of one target file; `journal` is a local file for records that are not merged yet."""

    name: str
    journal: Path

    def exists(self) -> bool:
        """Whether the file exists."""

    def opened(self, *, seeking: bool) -> BinaryIO:
        """Open the existing file; see `SourceLocation`."""

    def replacing(self) -> AbstractContextManager[BinaryIO]:
        """Yield a stream whose content replaces the file when the block ends; after an error nothing changes."""


class LocalTargetLocation:
    """A local target file."""

    def __init__(self, name: str, path: Path) -> None:
        """Create a location for `path`, which the spec calls `name`."""
        self.name = name
        self.path = path
        self.journal = path.with_name(f".{path.name}.speclab")

    def exists(self) -> bool:
        """Whether the file exists."""
        return self.path.exists()

    def opened(self, *, seeking: bool) -> BinaryIO:
        """Open the existing file. Raise `OSError`, and `BadResponse` for a pipe or a device, which might never end."""
        del seeking
        return open_regular(self.path, os.O_RDONLY, "rb")

    @contextmanager
    def replacing(self) -> Iterator[BinaryIO]:
        """Yield a stream whose content replaces the file when the block ends. Raise `OSError`.

        The new file keeps the mode of the old one, a symbolic link stays, and the content is on the disk before it is
        visible.
        """
        path = resolve_path(self.path)
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and not path.is_file():
            raise _irregular(path)
        with _held(path), replacing_file(path) as stream:
            yield stream


@contextmanager
def _held(path: Path) -> Iterator[None]:
    """Keep writers that append to `path` waiting for the block, in which another file replaces it."""
    try:
        stream = path.open("rb")
    except (FileNotFoundError, PermissionError):  # a user who may write is not always allowed to read
        yield
        return
    with stream:
        lock(stream.fileno())
        yield


def open_regular(path: Path, flags: int, mode: str) -> BinaryIO:
    """Open the file at `path` without waiting for a pipe.

    Raise `OSError`, and `BadResponse` if it is not a regular file.
    """
    descriptor = os.open(path, flags | os.O_CLOEXEC | os.O_NONBLOCK, 0o666)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise _irregular(path)
    return cast("BinaryIO", os.fdopen(descriptor, mode, buffering=0 if "a" in mode else -1))


def _irregular(path: Path) -> BadResponse:
    return BadResponse(f"{path}: expected a regular file, found a pipe, a device or a directory")


@dataclass(frozen=True, slots=True)
class RowPosition:
    """A position between two records: the byte offset (after decompression), and the number of the next line.

    In formats without lines, the offset counts records.
    """

    offset: int = 0
    line: int = 1


@dataclass(frozen=True, slots=True)
class FileRow:
    """One record, its bytes, and the position after it."""

    record: Record
    raw: bytes
    end: RowPosition
