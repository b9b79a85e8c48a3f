"""Reading workspace files with a size limit and without blocking on pipes or devices."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final

from speclab.core.errors import TooLarge, UsageError

MAX_SPEC_SIZE: Final = 1_000_000
"""Maximum size of a spec in bytes: 50 times a long one, and about two seconds to parse."""

_KINDS: Final = {
    stat.S_IFDIR: "a directory",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def read_regular_file(path: Path, largest: int = MAX_SPEC_SIZE) -> bytes:
    """Return the content of the file at `path`, without waiting for a writer.

    Raise `OSError` if it cannot be opened, `UsageError` if it is not a regular file (reading a pipe or a terminal would
    block), and `TooLarge` if it has more than `largest` bytes.
    """
    data, size = read_head(path, largest + 1)
    if len(data) > largest:
        raise too_large(path, max(len(data), size), largest)
    return data


def read_head(path: Path, most: int) -> tuple[bytes, int]:
    """Return the first `most` bytes of the file at `path`, and its size. Raises as `read_regular_file` does."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            kind = _KINDS.get(stat.S_IFMT(status.st_mode), "something else")
            raise UsageError(f"{path}: cannot be read: expected a file, got {kind}")
        with open(descriptor, "rb", closefd=False) as file:
            return file.read(most), status.st_size
    finally:
        os.close(descriptor)


def too_large(path: Path | None, size: int, largest: int = MAX_SPEC_SIZE) -> TooLarge:
    """Return the error for a spec of `size` bytes."""
    return TooLarge(
        f"{path or 'the spec'}: too large: {size / 1e6:,.1f} MB, and a spec has at most {largest / 1e6:,.0f} MB",
        hint="Split the spec, or move unrelated text to another file.",
    )


def resolve_path(path: Path) -> Path:
    """Return `path` without symbolic links; a link loop is returned unchanged (`Path.resolve` raises there)."""
    return Path(os.path.realpath(path))
