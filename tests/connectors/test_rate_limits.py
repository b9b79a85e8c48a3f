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
from speclab.spec.units import Rate


async def sent_at(pace: RateLimiter, clock: HeldClock, *weights: int) -> list[float]:
    """When requests of these weights have their turns, one after the other."""
    times = []
    for weight in weights:
        await pace.take(weight)
        times.append(clock.monotonic())
        pace.give_back()
    return times


async def test_each_of_several_windows_holds(clock: HeldClock) -> None:
    pace = RateLimiter(1, [Rate(2, 1), Rate(5, 60)], clock)
    assert await sent_at(pace, clock, *[1] * 7) == [0, 0, 1, 1, 2, 60, 60]


async def test_a_heavy_request_takes_its_weight(clock: HeldClock) -> None:
    pace = RateLimiter(1, [Rate(10, 60)], clock)
    assert await sent_at(pace, clock, 4, 4, 4, 2, 10, 99, 1) == [0, 0, 60, 60, 120, 180, 240]


@given(
    st.lists(st.tuples(st.integers(1, 9), st.integers(1, 30)), min_size=1, max_size=3),
    st.lists(st.tuples(st.integers(1, 5), st.floats(0, 20)), max_size=30),
)
def test_no_window_ever_holds_more_weight_than_its_rate(
    rates: list[tuple[int, int]], requests: list[tuple[int, float]]
) -> None:
    async def send() -> list[tuple[float, int]]:
        clock = HeldClock()
        pace = RateLimiter(1, [Rate(count, seconds) for count, seconds in rates], clock)
        sent = []
        for weight, pause in requests:
            await clock.sleep(pause)
            await pace.take(weight)
            sent.append((clock.monotonic(), weight))
            pace.give_back()
        return sent

    sent = asyncio.run(send())
    for count, seconds in rates:
        for start, _ in sent:
            within = [weight for at, weight in sent if start <= at < start + seconds - 1e-6]
            assert sum(within) <= count or len(within) == 1


async def test_light_requests_do_not_overtake_a_heavy_one(clock: HeldClock) -> None:
    pace = RateLimiter(4, [Rate(4, 10)], clock)
    order: list[int] = []

    async def send(weight: int) -> None:
        await pace.take(weight)
        order.append(weight)
        await asyncio.sleep(0)
        pace.give_back()

    async with asyncio.TaskGroup() as group:
        for weight in (1, 1, 4, 1, 1, 1):
            group.create_task(send(weight))
    assert order == [1, 1, 4, 1, 1, 1]


async def test_a_wait_longer_than_patience_is_not_begun(clock: HeldClock) -> None:
    pace = RateLimiter(1, [Rate(1, 3600)], clock)
    await sent_at(pace, clock, 1)
    with pytest.raises(WaitTooLong, match="the rate limit of 1/h is used up") as caught:
        await pace.take(wait_budget=300)
    assert (caught.value.seconds, clock.naps) == (3600, [])
    await pace.take(wait_budget=3600)  # the place was given back
    assert clock.naps == [3600]


async def test_what_is_left_is_shared_with_what_is_under_way(clock: HeldClock) -> None:
    pace = RateLimiter(4, (), clock)
    await pace.take()
    await pace.take()
    pace.left(2, 30)  # as a third one was told
    waiting = asyncio.create_task(pace.take())
    await asyncio.sleep(0)
    assert not waiting.done()  # those two may be the last
    pace.give_back()
    pace.left(2, 30)  # they were not: one is under way, so one is left
    await waiting
    assert clock.naps == []
    pace.give_back()
    pace.give_back()
    pace.left(0, 30)
    await pace.take()
    assert clock.naps == [30]


async def test_what_a_system_lets_us_know_only_ever_lowers_the_pace(clock: HeldClock) -> None:
    pace = RateLimiter(1, [Rate(2, 60)], clock)
    pace.left(1000, 60)
    pace.keep_to([Rate(1000, 60)])
    assert await sent_at(pace, clock, 1, 1, 1) == [0, 0, 60]
    pace.keep_to([Rate(1, 90)])
    assert await sent_at(pace, clock, 1, 1, 1) == [60, 150, 240]
    pace.keep_to([])
    assert await sent_at(pace, clock, 1, 1) == [240, 300]


async def test_after_a_429_it_goes_slower_and_finds_its_way_back(clock: HeldClock) -> None:
    pace = RateLimiter(1, (), clock)
    times = []
    for _ in range(10):
        times.append(await pace.take())
        await clock.sleep(0.1)
        pace.give_back()
    pace.slow_down(times[-1])
    pace.slow_down(times[-2])  # was on its way already: it tells nothing new
    after = await sent_at(pace, clock, 1, 1, 1)
    assert after[2] - after[1] == pytest.approx(0.1 / 0.7)
    gaps = []
    for _ in range(100):
        pace.ease()
        (at,) = await sent_at(pace, clock, 1)
        gaps.append(at - after[-1])
        after.append(at)
    assert gaps == sorted(gaps, reverse=True)
    assert gaps[-1] == 0


async def test_a_system_that_says_429_again_and_again_is_asked_ever_more_seldom(clock: HeldClock) -> None:
    pace = RateLimiter(1, (), clock)
    gaps = []
    for _ in range(40):
        sent = await pace.take()
        pace.give_back()
        pace.slow_down(sent)
        gaps.append(round(clock.naps[-1], 6) if clock.naps else 0)
    assert gaps == sorted(gaps)
    assert gaps[-1] == 60


def test_a_request_weighs_what_the_longest_name_says() -> None:
    weights = RequestWeights({"POST": 5, "GET /search": 10, "GET /search/light": 2}, "https://x.example/v1")
    asked = {
        "GET https://x.example/v1/customers": 1,
        "POST https://x.example/v1/search": 5,
        "GET https://x.example/v1/search?q=a": 10,
        "GET https://x.example/v1/search/light?q=a": 2,
    }
    assert {request: weights.of(*request.split(" ")) for request in asked} == asked


def system(url: str, limits: Json, **settings: Json) -> HttpSystem:
    return HttpSystem.model_validate({"connector": "http", "base_url": url, "key": "id", "limits": limits, **settings})


Write = Callable[..., Awaitable[list[WriteResult]]]


@pytest.fixture
def write(references: References, context: RuntimeContext) -> Write:
    async def written(url: str, limits: Json, count: int, **write: Json) -> list[WriteResult]:
        settings: Json = {"upsert": "PUT /c/{id}", **write}
        writer = open_writer(system(url, limits, write=settings), NoAuth(), references, context)
        answers = list(await writer.write([item(str(number)) for number in range(count)]))
        await writer.close()
        return answers

    return written


async def test_the_spec_can_say_that_writes_weigh_more(serve: Serve, write: Write, clock: HeldClock) -> None:
    async def fine(request: web.Request) -> web.Response:
        return web.json_response({"id": request.match_info["path"]})

    limits: Json = {"rate": "10/min", "weights": {"PUT": 4, "GET /c": 1}, "concurrency": 1}
    headers: Json = {"X-Was": "{found.id}"}
    answers = await write(await serve(fine), limits, 4, lookup="GET /c/{id}", headers=headers)
    assert [answer.effect for answer in answers] == [Effect.UPDATED] * 4
    assert clock.naps == [60]  # two of five each fill the window


async def test_a_budget_that_comes_back_too_late_for_the_run_is_a_rate_limit(serve: Serve, write: Write) -> None:
    requests = 0

    async def fine(_: web.Request) -> web.Response:
        nonlocal requests
        requests += 1
        return web.Response(status=204)

    answers = await write(await serve(fine), {"rate": ["100/s", "3/h"], "concurrency": 1}, 5)
    assert requests == 3
    assert [answer.error and answer.error.error_class for answer in answers[3:]] == [ErrorClass.RATE_LIMIT] * 2
    write_error = answers[3].error
    assert write_error is not None
    assert (write_error.sent, write_error.retry_after) == (False, 3600)
    assert write_error.message == "the rate limit of 3/h is used up; the next request may go in 1h"


async def test_requests_under_way_leave_room_for_a_quota_they_share(serve: Serve, write: Write) -> None:
    """A target that allows ten, counts on arrival and would refuse the eleventh."""
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

    answers = await write(await serve(strict), {"concurrency": 4}, 20)
    assert sum(answer.effect is Effect.UPDATED for answer in answers) == 10
    assert most == 10
    refused = [answer.error for answer in answers if answer.error]
    assert {write_error.error_class for write_error in refused} == {ErrorClass.RATE_LIMIT}
    assert not any(write_error.sent for write_error in refused)


async def test_a_policy_alone_is_kept_to(
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
