"""The pace a system may be asked at: requests at once, requests a window, and pauses it asked for itself."""

from __future__ import annotations

import asyncio
from collections import deque
from types import TracebackType

from speclab.clock import Clock
from speclab.spec.units import Rate


class Pace:
    """Lets at most `concurrency` through at once, and at most `rate.count` in any window of `rate.seconds`.

    `async with pace:` waits for a turn. The window slides: no burst at the edge of two fixed windows.
    """

    def __init__(self, concurrency: int, rate: Rate | None, clock: Clock) -> None:
        self._places = asyncio.Semaphore(concurrency)
        self._rate = rate
        self._sent: deque[float] = deque(maxlen=rate.count if rate else 0)
        self._clock = clock
        self._held_until = float("-inf")

    @property
    def held(self) -> float:
        """Seconds until `hold` lets requests through again; 0 if it does now."""
        return max(0.0, self._held_until - self._clock.monotonic())

    def hold(self, seconds: float) -> None:
        """Let nothing through for `seconds` from now. Never shortens an earlier hold."""
        self._held_until = max(self._held_until, self._clock.monotonic() + seconds)

    async def __aenter__(self) -> None:
        """Wait for a turn."""
        await self._places.acquire()
        try:
            while wait := max(self.held, self._window()):
                await self._clock.sleep(wait)
        except BaseException:
            self._places.release()
            raise
        if self._rate:
            self._sent.append(self._clock.monotonic())

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give the place to the next."""
        self._places.release()

    def _window(self) -> float:
        """Seconds until the window has room for one more."""
        if self._rate is None or len(self._sent) < self._rate.count:
            return 0.0
        return max(0.0, self._sent[0] + self._rate.seconds - self._clock.monotonic())
