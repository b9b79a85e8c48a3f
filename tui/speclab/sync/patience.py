"""How a run waits: for no longer in all than it was given, and only until it is asked to stop."""

from __future__ import annotations

import asyncio
from math import ceil
from typing import Any, TypeVar

from speclab.clock import Clock
from speclab.connectors.activity import Activity
from speclab.spec.units import duration_text

T = TypeVar("T")


class Patience:
    """The seconds a run may spend doing nothing, and the one place where it does so."""

    def __init__(
        self, clock: Clock, seconds: float, cancelled: asyncio.Event, activity: Activity | None = None
    ) -> None:
        self.left = seconds
        self._clock = clock
        self._cancelled = cancelled
        self._activity = activity or Activity()

    @property
    def cancelled(self) -> bool:
        """Whether the run was asked to stop."""
        return self._cancelled.is_set()

    async def wait(self, seconds: float, reason: str) -> bool:
        """Wait `seconds` for `reason`, never less.

        False, at once, where that is more than is left or the run is asked to stop.
        """
        if seconds > self.left or self.cancelled:
            return False
        self.left -= seconds
        pause = asyncio.ensure_future(self._clock.sleep(seconds))
        try:
            with self._activity.waiting(reason, seconds, self._clock):
                await self.unless_cancelled(pause)
        finally:
            pause.cancel()
        return not self.cancelled

    async def unless_cancelled(self, future: asyncio.Future[T]) -> T | None:
        """What `future` comes to; None as soon as the run is asked to stop."""
        stop = asyncio.ensure_future(self._cancelled.wait())
        either: set[asyncio.Future[Any]] = {future, stop}
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stop.cancel()
        return await future if future.done() else None


def wait_text(seconds: float) -> str:
    """How long a wait is, for people: `1.8 s`, `1m30s`."""
    return f"{seconds:.1f} s" if seconds < 10 else duration_text(ceil(seconds))
