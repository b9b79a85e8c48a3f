"""Rate limits with several sliding windows, concurrency limits, and backoff."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from random import Random
from types import TracebackType
from typing import Final

from speclab.connectors.api import Activity
from speclab.core.clock import Clock
from speclab.spec.settings_types import Rate


def compute_delay(attempt: int, base: float, cap: float, rng: Random) -> float:
    """Return the seconds to wait before retry number `attempt` (0 is the first), with full jitter.

    Uniform over [0, min(cap, base * 2**attempt)]: spreads clients out better than equal or
    decorrelated jitter under contention (Brooker, "Exponential Backoff and Jitter", 2015).
    """
    # 2**63 exceeds any cap, and much larger exponents overflow a float.
    return rng.uniform(0, min(cap, base * 2.0 ** min(attempt, 63)))


_MEASURED: Final = 20
"""Requests over which the rate that led to a 429 is measured."""
_SLOWDOWN: Final = 0.7
"""Share of that rate to continue with."""
_SPEEDUP: Final = 0.95
"""Factor by which a success shortens the gap between requests."""
_MIN_GAP: Final = 0.05
_MAX_GAP: Final = 60.0


class WaitTooLong(Exception):
    """The next request may only be sent in `seconds`, which exceeds the wait budget of the caller."""

    def __init__(self, seconds: float, reason: str) -> None:
        super().__init__(reason)
        self.seconds = seconds
        self.reason = reason


class RateLimiter:
    """Limits requests to `concurrency` at once, and to a weight of `count` in any `seconds` for each of `rates`.

    Windows slide, so there is no burst at the border of two fixed ones. Requests are sent in the order of `acquire`, so
    light ones do not overtake a heavy one. `async with limiter:` acquires a request of weight 1.
    """

    def __init__(self, concurrency: int, rates: Sequence[Rate], clock: Clock, activity: Activity | None = None) -> None:
        self._slots = asyncio.Semaphore(concurrency)
        self._queue = asyncio.Lock()
        self._windows = [_Window(rate) for rate in rates]
        self._policies: dict[Rate, _Window] = {}
        self._clock = clock
        self._activity = activity or Activity()
        self._held_until = -inf
        self._quota = _Quota(0, -inf)
        self._in_flight = 0
        self._released = asyncio.Event()
        self._gap = _Gap()

    @property
    def held(self) -> float:
        """Seconds until the end of a `hold`; 0 without one."""
        return max(0.0, self._held_until - self._clock.monotonic())

    def hold(self, seconds: float) -> None:
        """Send no request for `seconds` from now. Never shortens an earlier hold."""
        self._held_until = max(self._held_until, self._clock.monotonic() + seconds)

    def set_quota(self, remaining: int, reset: float) -> None:
        """Limit the next `reset` seconds to `remaining` requests, including those in flight."""
        self._quota = _Quota(remaining - self._in_flight, self._clock.monotonic() + reset)

    def set_policies(self, policies: Sequence[Rate]) -> None:
        """Apply `policies` in addition to the configured rates, replacing earlier policies."""
        self._policies = {rate: self._policies.get(rate) or _Window(rate) for rate in policies}

    def slow_down(self, sent: float) -> None:
        """Lower the rate after a 429 for the request that was sent at `sent`, the result of `acquire`."""
        self._gap.widen(sent, self._clock.monotonic())

    def speed_up(self) -> None:
        """Raise a lowered rate a little after a success."""
        self._gap.narrow()

    async def acquire(self, weight: int = 1, wait_budget: float = inf) -> float:
        """Wait until a request of `weight` may be sent, and return the monotonic time. Call `release` afterwards.

        Raises `WaitTooLong` immediately if that takes longer than `wait_budget` seconds.
        """
        await self._slots.acquire()
        try:
            async with self._queue:
                while not await self._is_due(weight, wait_budget):
                    pass
                return self._start(weight)
        except BaseException:
            self._slots.release()
            raise

    def release(self) -> None:
        """Let the next request through."""
        self._in_flight -= 1
        self._slots.release()
        self._released.set()

    async def __aenter__(self) -> None:
        """Acquire a request of weight 1."""
        await self.acquire()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Release it."""
        self.release()

    async def _is_due(self, weight: int, wait_budget: float) -> bool:
        """Return True if a request may be sent now; otherwise wait for the first obstacle and return False."""
        now = self._clock.monotonic()
        if self._quota.used_up(now) and self._in_flight:  # requests in flight may be counted in the quota already
            self._released.clear()
            await self._released.wait()
            return False
        until, reason = max(self._held_until, self._quota.until if self._quota.used_up(now) else now), "the rate limit"
        for window in (*self._windows, *self._policies.values()):
            if (free := window.free(weight, now)) > until:
                until, reason = free, f"the rate limit of {window.rate}"
        if until - now > wait_budget:
            raise WaitTooLong(until - now, f"{reason} is used up")
        if self._gap.until > until:
            until, reason = self._gap.until, "the rate was lowered after a 429"
        if (wait := until - now) <= 0:
            return True
        with self._activity.waiting(reason, wait, self._clock):
            await self._clock.sleep(wait)
        return False

    def _start(self, weight: int) -> float:
        now = self._clock.monotonic()
        for window in (*self._windows, *self._policies.values()):
            window.add(weight, now)
        self._gap.add(now)
        self._quota.left -= 1
        self._in_flight += 1
        return now


@dataclass(slots=True)
class _Quota:
    """The remaining requests that a server reports, until it resets them."""

    left: int
    until: float

    def used_up(self, now: float) -> bool:
        return self.left <= 0 and now < self.until


class _Window:
    """Weights of the requests sent in the last seconds of a rate."""

    def __init__(self, rate: Rate) -> None:
        self.rate = rate
        self._sent = deque[tuple[float, int]]()
        self._weight = 0

    def add(self, weight: int, now: float) -> None:
        self._sent.append((now, weight))
        self._weight += weight

    def free(self, weight: int, now: float) -> float:
        """Return the time at which `weight` fits; a weight larger than the window is sent alone."""
        while self._sent and self._sent[0][0] + self.rate.seconds <= now:
            self._weight -= self._sent.popleft()[1]
        room = self.rate.count - min(weight, self.rate.count) - self._weight
        for at, sent in self._sent:
            if room >= 0:
                break
            room += sent
            now = at + self.rate.seconds
        return now


class _Gap:
    """The minimum time between requests to a server that answered 429 without naming a rate.

    Multiplicative in both directions: down to a share of the rate that was too fast, up with every success, like the
    adaptive retry mode of the AWS SDKs.
    """

    def __init__(self) -> None:
        self._seconds = 0.0
        self._sent = deque[float](maxlen=_MEASURED)
        self._widened = -inf

    @property
    def until(self) -> float:
        return self._sent[-1] + self._seconds if self._seconds and self._sent else -inf

    def add(self, now: float) -> None:
        self._sent.append(now)

    def widen(self, sent: float, now: float) -> None:
        if sent <= self._widened:  # was in flight already when the rate was lowered
            return
        self._widened = now
        span = self._sent[-1] - self._sent[0] if self._sent else 0.0
        measured = span / (len(self._sent) - 1) if span else 0.0
        self._seconds = min(_MAX_GAP, max(_MIN_GAP, measured / _SLOWDOWN, self._seconds / _SLOWDOWN))

    def narrow(self) -> None:
        if self._seconds:
            self._seconds = self._seconds * _SPEEDUP if self._seconds * _SPEEDUP > _MIN_GAP / 10 else 0.0
