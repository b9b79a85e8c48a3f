"""Pacing requests: rate limits with several windows, concurrency, and backoff."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from random import Random
from types import TracebackType
from typing import Final

from speclab.connectors.activity import Activity
from speclab.core.clock import Clock
from speclab.spec.units import Rate


def delay(attempt: int, base: float, cap: float, rng: Random) -> float:
    """Seconds to wait before try number `attempt` (0 is the first retry), with full jitter.

    Uniform over [0, min(cap, base * 2**attempt)]: spreads clients out better than equal or
    decorrelated jitter under contention (Brooker, "Exponential Backoff and Jitter", 2015).
    """
    # 2**attempt beyond 63 is past any cap, and past what a float can hold not much later.
    return rng.uniform(0, min(cap, base * 2.0 ** min(attempt, 63)))


_MEASURED: Final = 20
"""Requests by which the rate is measured that was too fast for a system, ..."""
_SLOWER: Final = 0.7
"""... and the share of it that is tried next."""
_EASED: Final = 0.95
"""What a success leaves of the gap between requests."""
_LEAST_GAP: Final = 0.05
_LARGEST_GAP: Final = 60.0


class WaitTooLong(Exception):
    """A turn would come later than the caller waits for; `seconds` is how much later than now."""

    def __init__(self, seconds: float, reason: str) -> None:
        super().__init__(reason)
        self.seconds = seconds
        self.reason = reason


class RateLimiter:
    """Lets at most `concurrency` through at once, and at most `count` of weight in any `seconds` of each of `rates`.

    Windows slide: no burst at the edge of two fixed ones. Turns are taken in order, so that no heavy request waits
    until there are no light ones left. `async with pace:` waits for the turn of a request of weight 1.
    """

    def __init__(self, concurrency: int, rates: Sequence[Rate], clock: Clock, activity: Activity | None = None) -> None:
        self._places = asyncio.Semaphore(concurrency)
        self._turns = asyncio.Lock()
        self._windows = [_Window(rate) for rate in rates]
        self._policies: dict[Rate, _Window] = {}
        self._clock = clock
        self._activity = activity or Activity()
        self._held_until = -inf
        self._quota = _Quota(0, -inf)
        self._under_way = 0
        self._answered = asyncio.Event()
        self._gap = _Gap()

    @property
    def held(self) -> float:
        """Seconds until `hold` lets requests through again; 0 if it does now."""
        return max(0.0, self._held_until - self._clock.monotonic())

    def hold(self, seconds: float) -> None:
        """Let nothing through for `seconds` from now. Never shortens an earlier hold."""
        self._held_until = max(self._held_until, self._clock.monotonic() + seconds)

    def left(self, remaining: int, reset: float) -> None:
        """Let no more through in the next `reset` seconds than `remaining`, those under way included."""
        self._quota = _Quota(remaining - self._under_way, self._clock.monotonic() + reset)

    def keep_to(self, policies: Sequence[Rate]) -> None:
        """Keep to `policies`, too, from now on and instead of those before."""
        self._policies = {rate: self._policies.get(rate) or _Window(rate) for rate in policies}

    def slow_down(self, sent: float) -> None:
        """Go slower: a request that was sent at `sent` (see `take`) was one too many."""
        self._gap.widen(sent, self._clock.monotonic())

    def ease(self) -> None:
        """Go a little faster again, after a request that was answered well."""
        self._gap.narrow()

    async def take(self, weight: int = 1, wait_budget: float = inf) -> float:
        """Wait for the turn of a request of `weight`, to be given back with `give_back`; the time it came, monotonic.

        Raises `WaitTooLong`, at once, where that takes longer than `wait_budget` seconds.
        """
        await self._places.acquire()
        try:
            async with self._turns:
                while not await self._waited(weight, wait_budget):
                    pass
                return self._began(weight)
        except BaseException:
            self._places.release()
            raise

    def give_back(self) -> None:
        """Give the place to the next."""
        self._under_way -= 1
        self._places.release()
        self._answered.set()

    async def __aenter__(self) -> None:
        """Wait for a turn."""
        await self.take()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give the place to the next."""
        self.give_back()

    async def _waited(self, weight: int, wait_budget: float) -> bool:
        """Whether the turn has come; else waits a while for what keeps it from coming."""
        now = self._clock.monotonic()
        if self._quota.used_up(now) and self._under_way:  # what is under way may be in what was left already
            self._answered.clear()
            await self._answered.wait()
            return False
        until, reason = max(self._held_until, self._quota.until if self._quota.used_up(now) else now), "the rate limit"
        for window in (*self._windows, *self._policies.values()):
            if (free := window.free(weight, now)) > until:
                until, reason = free, f"the rate limit of {window.rate}"
        if until - now > wait_budget:
            raise WaitTooLong(until - now, f"{reason} is used up")
        if self._gap.until > until:
            until, reason = self._gap.until, "the pace was lowered after a 429"
        if (wait := until - now) <= 0:
            return True
        with self._activity.waiting(reason, wait, self._clock):
            await self._clock.sleep(wait)
        return False

    def _began(self, weight: int) -> float:
        now = self._clock.monotonic()
        for window in (*self._windows, *self._policies.values()):
            window.add(weight, now)
        self._gap.add(now)
        self._quota.left -= 1
        self._under_way += 1
        return now


@dataclass(slots=True)
class _Quota:
    """What a system says is left until a time."""

    left: int
    until: float

    def used_up(self, now: float) -> bool:
        return self.left <= 0 and now < self.until


class _Window:
    """What was sent lately, by weight."""

    def __init__(self, rate: Rate) -> None:
        self.rate = rate
        self._sent = deque[tuple[float, int]]()
        self._weight = 0

    def add(self, weight: int, now: float) -> None:
        self._sent.append((now, weight))
        self._weight += weight

    def free(self, weight: int, now: float) -> float:
        """When there is room for `weight`; what outweighs the window goes alone."""
        while self._sent and self._sent[0][0] + self.rate.seconds <= now:
            self._weight -= self._sent.popleft()[1]
        room = self.rate.count - min(weight, self.rate.count) - self._weight
        for at, lighter in self._sent:
            if room >= 0:
                break
            room += lighter
            now = at + self.rate.seconds
        return now


class _Gap:
    """The least time between two requests to a system that said they come too fast, and did not say how fast is well.

    Multiplicative both ways: down to a share of the rate that was too fast, up again with every success (as the
    adaptive retry mode of AWS's SDKs does).
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
        if sent <= self._widened:  # it was on its way when another was told the same
            return
        self._widened = now
        span = self._sent[-1] - self._sent[0] if self._sent else 0.0
        measured = span / (len(self._sent) - 1) if span else 0.0
        self._seconds = min(_LARGEST_GAP, max(_LEAST_GAP, measured / _SLOWER, self._seconds / _SLOWER))

    def narrow(self) -> None:
        if self._seconds:
            self._seconds = self._seconds * _EASED if self._seconds * _EASED > _LEAST_GAP / 10 else 0.0
