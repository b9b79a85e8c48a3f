from __future__ import annotations

import asyncio
from random import Random

from hypothesis import given
from hypothesis import strategies as st
from tests.clocks import HeldClock

from speclab.connectors.rate_limiter import RateLimiter, compute_delay
from speclab.spec.settings_types import Rate


@given(st.integers(0, 2000), st.floats(0, 1e6), st.floats(0, 1e6), st.integers())
def test_delay_is_below_the_cap_and_the_doubled_base(attempt: int, base: float, cap: float, seed: int) -> None:
    found = compute_delay(attempt, base, cap, Random(seed))
    assert 0 <= found <= cap
    assert attempt > 60 or found <= base * 2**attempt


def test_delay_has_full_jitter() -> None:
    rng = Random(1)
    found = sorted(compute_delay(3, 1, 100, rng) for _ in range(1000))
    assert found[10] < 0.5
    assert found[-10] > 7.5


@given(st.integers(1, 5), st.integers(1, 60), st.lists(st.floats(0, 100), max_size=30))
def test_requests_in_a_window_never_exceed_the_rate(count: int, seconds: int, pauses: list[float]) -> None:
    async def send() -> list[float]:
        clock = HeldClock()
        limiter = RateLimiter(1, [Rate(count, seconds)], clock)
        sent: list[float] = []
        for pause in pauses:
            await clock.sleep(pause)
            async with limiter:
                sent.append(clock.monotonic())
        return sent

    sent = asyncio.run(send())
    for earlier, later in zip(sent, sent[count:], strict=False):
        assert later - earlier >= seconds - 1e-6


async def test_hold_blocks_requests_and_is_never_shortened(clock: HeldClock) -> None:
    limiter = RateLimiter(2, (), clock)
    limiter.hold(10)
    limiter.hold(5)
    assert limiter.held == 10
    async with limiter:
        assert clock.monotonic() == 10
    assert limiter.held == 0


async def test_cancelled_wait_releases_its_slot() -> None:
    class Forever(HeldClock):
        async def sleep(self, seconds: float) -> None:
            await asyncio.sleep(seconds)

    limiter = RateLimiter(1, (), Forever())
    limiter.hold(1000)
    waiting = asyncio.create_task(limiter.__aenter__())
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert not limiter._slots.locked()
