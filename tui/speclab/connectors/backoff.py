"""How long to wait before trying again: one formula for reading, writing and the retry queue."""

from __future__ import annotations

from random import Random


def delay(attempt: int, base: float, cap: float, rng: Random) -> float:
    """Seconds to wait before try number `attempt` (0 is the first retry), with full jitter.

    Uniform over [0, min(cap, base * 2**attempt)]: spreads clients out better than equal or
    decorrelated jitter under contention (Brooker, "Exponential Backoff and Jitter", 2015).
    """
    # 2**attempt beyond 63 is past any cap, and past what a float can hold not much later.
    return rng.uniform(0, min(cap, base * 2.0 ** min(attempt, 63)))
