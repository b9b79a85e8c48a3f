"""The rollup: what was read in a minute, an hour and a day, so that figures never touch events or failures."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Final

from speclab.core.clock import format_timestamp


class RollupSpan(StrEnum):
    """How much time one row of the rollup is about."""

    MINUTE = "minute"
    HOUR = "hour"
    DAY = "day"

    def start(self, at: str) -> str:
        """The start of the span that `at` (a timestamp) lies in, as a timestamp."""
        return at[: _KEPT[self]] + "0000-00-00T00:00:00.000Z"[_KEPT[self] :]


_KEPT: Final = {RollupSpan.MINUTE: 17, RollupSpan.HOUR: 14, RollupSpan.DAY: 11}


@dataclass(frozen=True, slots=True)
class RollupBucket:
    """The rows of one span from `start` (inclusive) to `end` (exclusive)."""

    span: RollupSpan
    start: str
    end: str


def add(connection: sqlite3.Connection, spec_id: str, flow: str, at: str, counts: Mapping[str, int]) -> None:
    """Add `counts` (column → how many) to the minute, the hour and the day of `at`."""
    if not counts:
        return
    columns = ", ".join(counts)
    connection.executemany(
        f"INSERT INTO rollup (spec_id, span, start, flow, {columns}) VALUES (?, ?, ?, ?{', ?' * len(counts)}) "
        f"ON CONFLICT DO UPDATE SET {', '.join(f'{column} = {column} + excluded.{column}' for column in counts)}",
        [(spec_id, span, span.start(at), flow, *counts.values()) for span in RollupSpan],
    )


def stretches(since: datetime) -> Iterator[RollupBucket]:
    """The fewest rows that are all there is since the minute of `since`: minutes, then hours, then days.

    Minutes up to the next full hour, hours up to the next midnight, and days from there on without an end; so a window
    of 24 hours is at most 59 + 23 + 1 rows.
    """
    minute = since.astimezone(UTC).replace(second=0, microsecond=0)
    hour = _next(minute, timedelta(hours=1))
    day = _next(hour, timedelta(days=1))
    yield RollupBucket(RollupSpan.MINUTE, format_timestamp(minute), format_timestamp(hour))
    yield RollupBucket(RollupSpan.HOUR, format_timestamp(hour), format_timestamp(day))
    yield RollupBucket(RollupSpan.DAY, format_timestamp(day), "9999")


def _next(moment: datetime, step: timedelta) -> datetime:
    """The first whole multiple of `step` (counted from midnight) at or after `moment`."""
    midnight = moment.replace(hour=0, minute=0)
    return midnight + -((midnight - moment) // step) * step
