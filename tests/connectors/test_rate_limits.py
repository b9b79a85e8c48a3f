from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st
from tests.clocks import HeldClock
from tests.connectors.conftest import Serve, item, read_all, records_of

from speclab.connectors.api import RuntimeContext, WriteResult
from speclab.connectors.http.rate_limit_headers import RequestWeights
from speclab.connectors.http.settings import HttpSystem
from speclab.connectors.rate_limiter import RateLimiter, WaitTooLong
from speclab.connectors.registry import open_reader, open_writer
from speclab.connectors.secrets.references import References
from speclab.core.json import Json
from speclab.core.outcome import Effect, ErrorClass
from speclab.spec.auth import NoAuth
from speclab.spec.settings import RetrySettings
from speclab.spec.settings_types import Rate


async def sent_at(limiter: RateLimiter, clock: HeldClock, *weights: int) -> list[float]:
    """Return the times at which requests of these weights are sent, one after the other."""
    times = []
    for weight in weights:
        await limiter.acquire(weight)
        times.append(clock.monotonic())
        limiter.release()
    return times


async def test_every_window_is_kept(clock: HeldClock) -> None:
    limiter = RateLimiter(1, [Rate(2, 1), Rate(5, 60)], clock)
    assert await sent_at(limiter, clock, *[1] * 7) == [0, 0, 1, 1, 2, 60, 60]


async def test_request_counts_by_its_weight(clock: HeldClock) -> None:
    limiter = RateLimiter(1, [Rate(10, 60)], clock)
    assert await sent_at(limiter, clock, 4, 4, 4, 2, 10, 99, 1) == [0, 0, 60, 60, 120, 180, 240]


@given(
    st.lists(st.tuples(st.integers(1, 9), st.integers(1, 30)), min_size=1, max_size=3),
    st.lists(st.tuples(st.integers(1, 5), st.floats(0, 20)), max_size=30),
)
def test_weight_in_a_window_never_exceeds_its_rate(
    rates: list[tuple[int, int]], requests: list[tuple[int, float]]
) -> None:
    async def send() -> list[tuple[float, int]]:
        clock = HeldClock()
        limiter = RateLimiter(1, [Rate(count, seconds) for count, seconds in rates], clock)
        sent = []
        for weight, pause in requests:
            await clock.sleep(pause)
            await limiter.acquire(weight)
            sent.append((clock.monotonic(), weight))
            limiter.release()
        return sent

    sent = asyncio.run(send())
    for count, seconds in rates:
        for start, _ in sent:
            within = [weight for at, weight in sent if start <= at < start + seconds - 1e-6]
            assert sum(within) <= count or len(within) == 1


async def test_light_requests_do_not_overtake_a_heavy_one(clock: HeldClock) -> None:
    limiter = RateLimiter(4, [Rate(4, 10)], clock)
    order: list[int] = []

    async def send(weight: int) -> None:
        await limiter.acquire(weight)
        order.append(weight)
        await asyncio.sleep(0)
        limiter.release()

    async with asyncio.TaskGroup() as group:
        for weight in (1, 1, 4, 1, 1, 1):
            group.create_task(send(weight))
    assert order == [1, 1, 4, 1, 1, 1]


async def test_wait_longer_than_the_budget_raises_at_once(clock: HeldClock) -> None:
    limiter = RateLimiter(1, [Rate(1, 3600)], clock)
    await sent_at(limiter, clock, 1)
    with pytest.raises(WaitTooLong, match="the rate limit of 1/h is used up") as caught:
        await limiter.acquire(wait_budget=300)
    assert (caught.value.seconds, clock.naps) == (3600, [])
    await limiter.acquire(wait_budget=3600)  # the slot was released
    assert clock.naps == [3600]


async def test_quota_includes_requests_in_flight(clock: HeldClock) -> None:
    limiter = RateLimiter(4, (), clock)
    await limiter.acquire()
    await limiter.acquire()
    limiter.set_quota(2, 30)  # as the response to a third request reports
    waiting = asyncio.create_task(limiter.acquire())
    await asyncio.sleep(0)
    assert not waiting.done()  # the two in flight may use up the quota
    limiter.release()
    limiter.set_quota(2, 30)  # they did not: one is in flight, so one is left
    await waiting
    assert clock.naps == []
    limiter.release()
    limiter.release()
    limiter.set_quota(0, 30)
    await limiter.acquire()
    assert clock.naps == [30]


async def test_server_quotas_and_policies_only_lower_the_rate(clock: HeldClock) -> None:
    limiter = RateLimiter(1, [Rate(2, 60)], clock)
    limiter.set_quota(1000, 60)
    limiter.set_policies([Rate(1000, 60)])
    assert await sent_at(limiter, clock, 1, 1, 1) == [0, 0, 60]
    limiter.set_policies([Rate(1, 90)])
    assert await sent_at(limiter, clock, 1, 1, 1) == [60, 150, 240]
    limiter.set_policies([])
    assert await sent_at(limiter, clock, 1, 1) == [240, 300]


async def test_rate_drops_after_429_and_recovers(clock: HeldClock) -> None:
    limiter = RateLimiter(1, (), clock)
    times = []
    for _ in range(10):
        times.append(await limiter.acquire())
        await clock.sleep(0.1)
        limiter.release()
    limiter.slow_down(times[-1])
    limiter.slow_down(times[-2])  # already in flight, so not counted
    after = await sent_at(limiter, clock, 1, 1, 1)
    assert after[2] - after[1] == pytest.approx(0.1 / 0.7)
    gaps = []
    for _ in range(100):
        limiter.speed_up()
        (at,) = await sent_at(limiter, clock, 1)
        gaps.append(at - after[-1])
        after.append(at)
    assert gaps == sorted(gaps, reverse=True)
    assert gaps[-1] == 0


async def test_repeated_429_lowers_the_rate_further(clock: HeldClock) -> None:
    limiter = RateLimiter(1, (), clock)
    gaps = []
    for _ in range(40):
        sent = await limiter.acquire()
        limiter.release()
        limiter.slow_down(sent)
        gaps.append(round(clock.naps[-1], 6) if clock.naps else 0)
    assert gaps == sorted(gaps)
    assert gaps[-1] == 60


def test_longest_matching_name_sets_the_weight() -> None:
    weights = RequestWeights({"POST": 5, "GET /search": 10, "GET /search/light": 2}, "https://x.example/v1")
    requested = {
        "GET https://x.example/v1/customers": 1,
        "POST https://x.example/v1/search": 5,
        "GET https://x.example/v1/search?q=a": 10,
        "GET https://x.example/v1/search/light?q=a": 2,
    }
    assert {request: weights.get(*request.split(" ")) for request in requested} == requested


def system(url: str, limits: Json, **settings: Json) -> HttpSystem:
    return HttpSystem.model_validate({"connector": "http", "base_url": url, "key": "id", "limits": limits, **settings})


Write = Callable[..., Awaitable[list[WriteResult]]]


@pytest.fixture
def write(references: References, context: RuntimeContext) -> Write:
    async def written(url: str, limits: Json, count: int, **write: Json) -> list[WriteResult]:
        settings: Json = {"upsert": "PUT /c/{id}", **write}
        writer = open_writer(system(url, limits, write=settings), NoAuth(), references, context)
        results = list(await writer.write([item(str(number)) for number in range(count)]))
        await writer.close()
        return results

    return written


async def test_spec_can_give_writes_a_higher_weight(serve: Serve, write: Write, clock: HeldClock) -> None:
    async def fine(request: web.Request) -> web.Response:
        return web.json_response({"id": request.match_info["path"]})

    limits: Json = {"rate": "10/min", "weights": {"PUT": 4, "GET /c": 1}, "concurrency": 1}
    headers: Json = {"X-Was": "{found.id}"}
    results = await write(await serve(fine), limits, 4, lookup="GET /c/{id}", headers=headers)
    assert [result.effect for result in results] == [Effect.UPDATED] * 4
    assert clock.naps == [60]  # two of weight five fill the window


async def test_quota_that_resets_too_late_for_the_run_is_a_rate_limit(serve: Serve, write: Write) -> None:
    requests = 0

    async def fine(_: web.Request) -> web.Response:
        nonlocal requests
        requests += 1
        return web.Response(status=204)

    results = await write(await serve(fine), {"rate": ["100/s", "3/h"], "concurrency": 1}, 5)
    assert requests == 3
    assert [result.error and result.error.error_class for result in results[3:]] == [ErrorClass.RATE_LIMIT] * 2
    write_error = results[3].error
    assert write_error is not None
    assert (write_error.sent, write_error.retry_after) == (False, 3600)
    assert write_error.message == "the rate limit of 3/h is used up; the next request may be sent in 1h"


async def test_requests_in_flight_count_towards_a_shared_quota(serve: Serve, write: Write) -> None:
    """A target that allows ten requests, counts on arrival and would reject the eleventh."""
    counted = most = 0

    async def strict(_: web.Request) -> web.Response:
        nonlocal counted, most
        counted += 1
        left = 10 - counted
        most = max(most, counted)
        await asyncio.sleep(0.005)
        if left < 0:
            return web.Response(status=429)
        return web.Response(status=204, headers={"RateLimit": f'"hour";r={left};t=3600'})

    results = await write(await serve(strict), {"concurrency": 4}, 20)
    assert sum(result.effect is Effect.UPDATED for result in results) == 10
    assert most == 10
    rejected = [result.error for result in results if result.error]
    assert {write_error.error_class for write_error in rejected} == {ErrorClass.RATE_LIMIT}
    assert not any(write_error.sent for write_error in rejected)


async def test_policy_without_a_quota_is_applied(
    serve: Serve, references: References, context: RuntimeContext, clock: HeldClock
) -> None:
    async def numbered(request: web.Request) -> web.Response:
        page = int(request.query["page"])
        rows = [{"id": page}] if page <= 5 else []
        return web.json_response(rows, headers={"RateLimit-Policy": '"slow";q=2;w=10'})

    read: Json = {"path": "/c", "pagination": {"by": "page", "param": "page", "size": 1}}
    source = system(await serve(numbered), {"concurrency": 1}, read=read)
    retry = RetrySettings.model_validate({})
    pages = await read_all(open_reader(source, NoAuth(), references, context, retry))
    assert len(records_of(pages)) == 5
    assert clock.naps == [10, 10]
