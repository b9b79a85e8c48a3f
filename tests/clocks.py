"""Time in the tests: a clock that is held, so that nothing waits and every moment is known."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta


class HeldClock:
    """Time that passes only while something waits for it, and then at once, or when it is told to."""

    def __init__(self, start: datetime = datetime(2026, 11, 24, 12, tzinfo=UTC)) -> None:
        self.start = start
        self.passed = 0.0
        self.naps: list[float] = []

    @property
    def time(self) -> datetime:
        """The time of day."""
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
        """Let so many seconds pass."""
        self.passed += seconds
