"""Where a file is written: who looks there sees the old one or the new one, whatever happens in between."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import BinaryIO, Protocol
from uuid import uuid4


class Place(Protocol):
    """A place for one file; `journal` is a file on this machine for what is not in its place yet."""

    name: str
    journal: Path

    def exists(self) -> bool:
        """Whether a file is there."""

    def opened(self) -> BinaryIO:
        """The file that is there, as it is."""

    def replacing(self) -> AbstractContextManager[BinaryIO]:
        """A stream whose content takes the place of the file when the block ends well; else nothing changes."""


class LocalPlace:
    """A place on this machine."""

    def __init__(self, name: str, path: Path) -> None:
        """The place `path`, which the spec calls `name`."""
        self.name = name
        self.path = path
        self.journal = path.with_name(f".{path.name}.speclab")

    def exists(self) -> bool:
        """Whether a file is there."""
        return self.path.exists()

    def opened(self) -> BinaryIO:
        """The file that is there. Raises `OSError`."""
        return self.path.open("rb")

    @contextmanager
    def replacing(self) -> Iterator[BinaryIO]:
        """A stream whose content takes the place of the file when the block ends well. Raises `OSError`.

        The new file keeps the mode of the old one, is behind the same symlink, and is on the disk before it is in
        place.
        """
        path = Path(os.path.realpath(self.path))
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f".{path.name}.{uuid4().hex[:8]}")
        try:
            with draft.open("xb") as stream:
                if path.exists():
                    draft.chmod(path.stat().st_mode & 0o7777)
                yield stream
                stream.flush()
                os.fsync(stream.fileno())
            draft.replace(path)
            _sync_directory(path.parent)
        except BaseException:
            draft.unlink(missing_ok=True)
            raise


def _sync_directory(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
