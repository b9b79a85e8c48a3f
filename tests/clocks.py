"""Clocks of the tests: a held clock, so that nothing waits and every moment is known."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta


class HeldClock:
    """A clock that advances only while something waits for it, immediately, or by `turn`."""

    def __init__(self, start: datetime = datetime(2026, 11, 24, 12, tzinfo=UTC)) -> None:
        self.start = start
        self.passed = 0.0
        self.naps: list[float] = []

    @property
    def time(self) -> datetime:
        """The current time."""
        return self.start + timedelta(seconds=self.passed)

    @time.setter
    def time(self, time: datetime) -> None:
        self.passed = (time - self.start).total_seconds()

    def now(self) -> datetime:
        return self.time

    def monotonic(self) -> float:
        return self.passed

    async def sleep(self, seconds: float) -> None:
        self.naps.append(seconds)
        self.turn(seconds)
        await asyncio.sleep(0)

    def turn(self, seconds: float) -> None:
        """Advance the clock by `seconds`."""
        self.passed += seconds
