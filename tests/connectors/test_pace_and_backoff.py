from __future__ import annotations

import asyncio
from random import Random

from hypothesis import given
from hypothesis import strategies as st
from tests.clocks import HeldClock

from speclab.connectors.rate_limiter import RateLimiter, delay
from speclab.spec.units import Rate


@given(st.integers(0, 2000), st.floats(0, 1e6), st.floats(0, 1e6), st.integers())
def test_a_delay_is_under_the_cap_and_under_its_doubling_base(attempt: int, base: float, cap: float, seed: int) -> None:
    found = delay(attempt, base, cap, Random(seed))
    assert 0 <= found <= cap
    assert attempt > 60 or found <= base * 2**attempt


def test_jitter_is_full() -> None:
    rng = Random(1)
    found = sorted(delay(3, 1, 100, rng) for _ in range(1000))
    assert found[10] < 0.5
    assert found[-10] > 7.5


@given(st.integers(1, 5), st.integers(1, 60), st.lists(st.floats(0, 100), max_size=30))
def test_no_window_ever_holds_more_than_the_rate(count: int, seconds: int, pauses: list[float]) -> None:
    async def send() -> list[float]:
        clock = HeldClock()
        pace = RateLimiter(1, [Rate(count, seconds)], clock)
        sent: list[float] = []
        for pause in pauses:
            await clock.sleep(pause)
            async with pace:
                sent.append(clock.monotonic())
        return sent

    sent = asyncio.run(send())
    for earlier, later in zip(sent, sent[count:], strict=False):
        assert later - earlier >= seconds - 1e-6


async def test_a_hold_lets_nothing_through_and_is_never_shortened(clock: HeldClock) -> None:
    pace = RateLimiter(2, (), clock)
    pace.hold(10)
    pace.hold(5)
    assert pace.held == 10
    async with pace:
        assert clock.monotonic() == 10
    assert pace.held == 0


async def test_a_place_is_given_back_when_waiting_is_cancelled() -> None:
    class Forever(HeldClock):
        async def sleep(self, seconds: float) -> None:
            await asyncio.sleep(seconds)

    pace = RateLimiter(1, (), Forever())
    pace.hold(1000)
    waiting = asyncio.create_task(pace.__aenter__())
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert not pace._places.locked()
