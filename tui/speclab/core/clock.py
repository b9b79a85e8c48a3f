"""Access to time: all code that waits or reads the time uses a clock, so that tests can control it."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from typing import Final, Protocol

LONGEST: Final = 36_500 * 86400.0
"""The longest duration in seconds, a hundred years, so that date arithmetic cannot overflow."""


class Clock(Protocol):
    """The time source of the engine."""

    def now(self) -> datetime:
        """Return the current time in UTC, with its time zone."""

    def monotonic(self) -> float:
        """Return monotonic seconds, for measuring durations."""

    async def sleep(self, seconds: float) -> None:
        """Wait `seconds`."""


class SystemClock:
    """The system clock."""

    def now(self) -> datetime:
        """Return the current time in UTC, with its time zone."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Return monotonic seconds, for measuring durations."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Wait `seconds`."""
        await asyncio.sleep(seconds)


def format_timestamp(moment: datetime) -> str:
    """Format `moment` for the run log: UTC, ISO 8601 with milliseconds and `Z`; sorts as text."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"
