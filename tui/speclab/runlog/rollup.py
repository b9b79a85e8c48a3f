"""The rollup: counts per minute, hour and day, so that statistics never read events or failures."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Final

from speclab.core.clock import format_timestamp


class RollupSpan(StrEnum):
    """The length of time that one row of the rollup covers."""

    MINUTE = "minute"
    HOUR = "hour"
    DAY = "day"

    def start(self, at: str) -> str:
        """Return the start of the span that contains the timestamp `at`, as a timestamp."""
        return at[: _PREFIX_LENGTH[self]] + "0000-00-00T00:00:00.000Z"[_PREFIX_LENGTH[self] :]


_PREFIX_LENGTH: Final = {RollupSpan.MINUTE: 17, RollupSpan.HOUR: 14, RollupSpan.DAY: 11}


@dataclass(frozen=True, slots=True)
class RollupBucket:
    """The rows of one span from `start` (inclusive) to `end` (exclusive)."""

    span: RollupSpan
    start: str
    end: str


def add_counts(connection: sqlite3.Connection, spec_id: str, flow: str, at: str, counts: Mapping[str, int]) -> None:
    """Add `counts` (by column) to the minute, the hour and the day of `at`."""
    if not counts:
        return
    columns = ", ".join(counts)
    connection.executemany(
        f"INSERT INTO rollup (spec_id, span, start, flow, {columns}) VALUES (?, ?, ?, ?{', ?' * len(counts)}) "
        f"ON CONFLICT DO UPDATE SET {', '.join(f'{column} = {column} + excluded.{column}' for column in counts)}",
        [(spec_id, span, span.start(at), flow, *counts.values()) for span in RollupSpan],
    )


def split_window(since: datetime) -> Iterator[RollupBucket]:
    """Yield the buckets that cover the time from the minute of `since` on with the fewest rows.

    They are minutes up to the next full hour, hours up to the next midnight, and days after that, without an end: a
    window of 24 hours has at most 59 + 23 + 1 rows.
    """
    minute = since.astimezone(UTC).replace(second=0, microsecond=0)
    hour = _round_up(minute, timedelta(hours=1))
    day = _round_up(hour, timedelta(days=1))
    yield RollupBucket(RollupSpan.MINUTE, format_timestamp(minute), format_timestamp(hour))
    yield RollupBucket(RollupSpan.HOUR, format_timestamp(hour), format_timestamp(day))
    yield RollupBucket(RollupSpan.DAY, format_timestamp(day), "9999")


def _round_up(moment: datetime, step: timedelta) -> datetime:
    """Return the first whole multiple of `step`, counted from midnight, at or after `moment`."""
    midnight = moment.replace(hour=0, minute=0)
    return midnight + -((midnight - moment) // step) * step
