"""The retry budget: a token bucket that turns a dying target into a fast, honest stop instead of a storm."""

from __future__ import annotations

from collections import deque
from typing import Final

_LATEST: Final = 50
"""Requests by which the target's health is judged, ..."""
_ENOUGH: Final = 10
"""... and fewer than these say nothing about it."""


class RetryBudget:
    """How many requests may fail for reasons that heal, by how many succeed.

    A failure takes a token; a success gives `ratio` of one back, up to `capacity`. So short trouble passes, and a
    target that fails more than `ratio / (1 + ratio)` of what it is asked, a third by default, ends the run. (Finagle's
    RetryBudget and gRPC's retry throttling, proposal A6, work alike.)

    `half_open` is for a target that ended the run before: a few failures are enough, and until something is taken it is
    only probed. (The half-open state of a circuit breaker: Nygard, "Release It!", 2007.)
    """

    def __init__(self, capacity: int = 100, ratio: float = 0.5, *, half_open: bool = False) -> None:
        self._capacity = capacity
        self._ratio = ratio
        self._tokens = float(min(capacity, _ENOUGH) if half_open else capacity)
        self._latest = deque[bool](maxlen=_LATEST)
        self.probing = half_open
        """Whether one record at a time is to be sent: it is not known yet that the target takes any."""

    @property
    def exhausted(self) -> bool:
        """Whether there is nothing left for another failure."""
        return self._tokens < 1

    @property
    def strained(self) -> bool:
        """Whether the target has lately failed so often that a failure says nothing about the record it hit."""
        failed = self._latest.count(False)
        return len(self._latest) >= _ENOUGH and failed > self._latest.count(True) * self._ratio

    def spend(self, failures: int) -> None:
        """Take a token for each of `failures` requests that failed."""
        self._tokens = max(0.0, self._tokens - failures)
        self._latest.extend([False] * min(failures, _LATEST))

    def earn(self, successes: int) -> None:
        """Give back the share of `successes` requests that were answered well."""
        self._tokens = min(float(self._capacity), self._tokens + successes * self._ratio)
        self._latest.extend([True] * min(successes, _LATEST))
        if successes:
            self.probing = False
