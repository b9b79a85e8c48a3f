"""Adding to a file on the disk: all of it or nothing, also when the disk fills up on the way."""

from __future__ import annotations

import os
from io import FileIO


def add(stream: FileIO, text: bytes) -> None:
    """Write `text` at the end of `stream`, opened for appending and without a buffer, and have it on the disk.

    Raises `OSError`; the file is as it was then.
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
