"""A record as it stands in a file, and the places between records, which a read can go on from."""

from __future__ import annotations

from dataclasses import dataclass

from speclab.jsonvalue import Record


@dataclass(frozen=True, slots=True)
class Spot:
    """A place between two records: the offset in bytes (after gunzip), and the number of the line that begins there.

    In formats that have no lines the offset counts records.
    """

    offset: int = 0
    line: int = 1


@dataclass(frozen=True, slots=True)
class Row:
    """One record, the bytes it was read from, and the place after it."""

    record: Record
    raw: bytes
    end: Spot
