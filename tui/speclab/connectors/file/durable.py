"""Adding to a file on the disk: all or nothing, also when the disk fills up or the process is killed meanwhile."""

from __future__ import annotations

import os
from io import FileIO
from pathlib import Path


def add(stream: FileIO, text: bytes) -> None:
    """Write `text` at the end of `stream`, opened for appending and without a buffer, and have it on the disk.

    Raises `OSError`; the file is as it was then. A process that is killed may leave a part of `text`.
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


def add_marked(stream: FileIO, text: bytes, mark: Path) -> None:
    """As `add`, with what is about to be added in the file `mark` for so long, so that `mend` can undo a part of it."""
    with mark.open("wb", buffering=0) as noted:
        add(noted, b"%d\n%b" % (os.fstat(stream.fileno()).st_size, text))
    try:
        add(stream, text)
    finally:
        mark.unlink()


def mend(stream: FileIO, mark: Path) -> None:
    """Cut off what is in `stream` of a text that a killed process added in part; what another wrote there stays."""
    if not mark.exists():
        return
    size, _, text = mark.read_bytes().partition(b"\n")
    if size.isdigit():
        stream.seek(int(size))
        part = stream.read(len(text))
        if 0 < len(part) < len(text) and text.startswith(part):
            os.ftruncate(stream.fileno(), int(size))
    mark.unlink()
