"""Unreadable records: they pass through a run as dead letters and do not fail anything else."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import BinaryIO, Final

from speclab.core.json import Json, Record, describe_unfit

MAX_KEPT: Final = 100_000
"""Bytes of an unreadable record that are kept."""
MAX_LINE: Final = 10_000_000
"""Bytes of a line that are read."""
_LINE_CHUNK: Final = 1 << 20


class UnreadableRecord(dict[str, Json]):
    """A record with a part that cannot be represented, as far as it can be read.

    `raw` are its bytes, or the first of `size` bytes; `reason` says what is wrong, and `place` where in the source.
    """

    __slots__ = ("place", "raw", "reason", "size")

    def __init__(self, fields: Mapping[str, Json], raw: bytes, reason: str, place: str = "", size: int = 0) -> None:
        super().__init__(fields)
        self.raw = raw[:MAX_KEPT]
        self.size = size or len(raw)
        self.reason = reason
        self.place = place

    @property
    def text(self) -> str:
        """The bytes as text, shortened, with bytes that are not UTF-8 escaped."""
        text = self.raw.decode("utf-8", "backslashreplace")
        return text if self.size <= MAX_KEPT else f"{text}… ({self.size:,} bytes)"

    def with_fields(self, fields: Mapping[str, Json]) -> UnreadableRecord:
        """Return the record with more fields."""
        return UnreadableRecord({**self, **fields}, self.raw, self.reason, self.place, self.size)


def check_readable(record: Record, raw: bytes | None = None, place: str = "", hint: str = "") -> Record:
    """Return `record`, which was decoded leniently, or an `UnreadableRecord` if a part cannot be represented.

    `raw` are its bytes; without them, they are encoded again. `hint` is added to the reason.
    """
    reason = describe_unfit(record)
    if reason is None:
        return record
    return UnreadableRecord(record, json.dumps(record).encode() if raw is None else raw, reason + hint, place)


def limited_lines(stream: BinaryIO) -> Iterator[tuple[bytes, int]]:
    """Yield each line with its line end, and its size; of a line longer than `MAX_LINE`, only the beginning."""
    while raw := stream.readline(MAX_LINE + 1):
        size = len(raw)
        if size > MAX_LINE and not raw.endswith(b"\n"):
            raw = raw[: MAX_KEPT + 1]
            while rest := stream.readline(_LINE_CHUNK):
                size += len(rest)
                if rest.endswith(b"\n"):
                    break
        yield raw, size


def too_long(raw: bytes, size: int, place: str) -> UnreadableRecord:
    """Return the record of a line that begins with `raw` and is too long to be read."""
    return UnreadableRecord({}, raw, f"the line has {size:,} bytes; at most {MAX_LINE:,} are read", place, size)
