"""The lines of a file that somebody else wrote: none fills the memory, however small the file is when packed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO, Final

from speclab.connectors.unreadable import MAX_KEPT, UnreadableRecord

MAX_LINE: Final = 10_000_000
"""Bytes of a line that is read."""

_CHUNK: Final = 1 << 20


def limited_lines(stream: BinaryIO) -> Iterator[tuple[bytes, int]]:
    """Yield each line with its line end, and its size; of one that is longer than `MAX_LINE` only the beginning."""
    while raw := stream.readline(MAX_LINE + 1):
        size = len(raw)
        if size > MAX_LINE and not raw.endswith(b"\n"):
            raw = raw[: MAX_KEPT + 1]
            while rest := stream.readline(_CHUNK):
                size += len(rest)
                if rest.endswith(b"\n"):
                    break
        yield raw, size


def too_long(raw: bytes, size: int, place: str) -> UnreadableRecord:
    """Return the record of a line that begins with `raw` and is too long to be read."""
    return UnreadableRecord({}, raw, f"the line has {size:,} bytes; at most {MAX_LINE:,} are read", place, size)
