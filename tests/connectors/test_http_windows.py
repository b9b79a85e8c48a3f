"""Reads in time windows: their requests, no lost or duplicate records, and clock differences."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from random import Random

import pytest
from aiohttp import web
from tests.clocks import HeldClock
from tests.connectors.changing import (
    NOON,
    NOTATIONS,
    SINCE,
    Source,
    Write,
    days,
    keys,
    local,
    opened,
    read_pages,
    seconds,
    unix,
)
from tests.connectors.conftest import Reports, Serve, read_all, read_to_failure, records_of

from speclab.connectors.api import RuntimeContext
from speclab.connectors.http.settings import HttpSystem
from speclab.connectors.registry import open_reader
from speclab.connectors.secrets.references import References
from speclab.core.errors import BadResponse, SpecError
from speclab.core.json import Json
from speclab.spec.auth import NoAuth
from speclab.spec.settings import RetrySettings


async def test_first_read_uses_windows_from_its_start_and_an_open_last_window(serve: Serve) -> None:
    source = Source(days(9.5, 7, 6.5, 3, 0.5))
    pages = await read_all(opened(await serve(source), window="3d", start="2026-11-14T12:00:00Z"))
    assert keys(pages) == [0, 1, 2, 3, 4]
    assert [(one["since"], one.get("until")) for one in source.requested] == [
        ("2026-11-14T12:00:00Z", "2026-11-17T12:00:01Z"),
        ("2026-11-17T12:00:00Z", "2026-11-20T12:00:01Z"),
        ("2026-11-20T12:00:00Z", None),
    ]


async def test_later_read_starts_at_the_bookmark_and_uses_windows_after_a_pause(serve: Serve) -> None:
    source = Source(days(9.5, 7, 0.5))
    url = await serve(source)
    cursor = (await read_all(opened(url, window="3d", start="2026-11-14T12:00:00Z")))[-1].cursor
    source.requested.clear()
    assert keys(await read_all(opened(url, window="3d", start="2026-11-14T12:00:00Z"), cursor)) == []
    assert source.requested == [{"since": "2026-11-24T00:00:00Z"}]
    clock = HeldClock(datetime(2026, 12, 1, 12, tzinfo=UTC))
    source.now += timedelta(days=7)
    source.change(1)
    source.requested.clear()
    context = RuntimeContext(clock=clock, random=Random(7))
    assert keys(await read_all(opened(url, context, window="3d", start="2026-11-14T12:00:00Z"), cursor)) == [1]
    assert [one.get("until") for one in source.requested] == ["2026-11-27T00:00:01Z", None]


@pytest.mark.parametrize("takes", [(True, True), (True, False), (False, True), (False, False)])
@pytest.mark.parametrize("write", NOTATIONS)
async def test_record_at_a_window_border_is_read_once(serve: Serve, takes: tuple[bool, bool], write: Write) -> None:
    ages = [9, 8, 8, 8, 6, 6, 4, 4, 4, 4, 4, 3]  # a window begins every second day
    source = Source(days(*ages), write, takes_since=takes[0], takes_until=takes[1])
    start = str(write(NOON - timedelta(days=10)))
    pages = await read_all(opened(await serve(source), window="2d", start=start))
    assert Counter(keys(pages)) == Counter(range(12))
    assert len({one.get("until") for one in source.requested}) > 2


async def test_windows_are_read_concurrently_and_delivered_in_order(serve: Serve) -> None:
    source = Source(days(*(20 - age / 4 for age in range(70))), pause=0.005)
    pages = await read_all(opened(await serve(source), concurrency=5, window="1d", start="2026-11-04T12:00:00Z"))
    assert keys(pages) == list(range(70))
    assert source.most_at_once == 5


async def test_long_window_waits_for_its_turn_after_a_limit(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("speclab.connectors.http.windows.MOST_WAITING", 1)
    source = Source(days(*(20 - age / 20 for age in range(380))))
    reader = opened(await serve(source), window="4d", start="2026-11-04T12:00:00Z")
    await read_pages(reader, None, 1)
    assert sum(one["since"] > "2026-11-09" for one in source.requested) <= 2 * 2
    pages = await read_all(opened(await serve(source), window="4d", start="2026-11-04T12:00:00Z"))
    assert keys(pages) == list(range(380))


async def test_short_windows_share_a_page(serve: Serve) -> None:
    source = Source(days(*(age + 0.5 for age in range(399, -1, -1))), size=50)
    pages = await read_all(opened(await serve(source), window="10d", start="2025-10-20T12:00:00Z"))
    assert keys(pages) == list(range(400))
    assert [len(page.records) for page in pages[:-1]] == [100, 100, 100, 90]
    assert pages[0].request.endswith("and 9 more")


async def test_record_that_changes_during_the_read_is_in_the_last_window(serve: Serve) -> None:
    source = Source(days(*(20 - age / 4 for age in range(70))), pause=0.002)
    source.changes = {2: [0, 30, 60], 5: [60, 69], 9: [3], 15: [3, 44], 24: [60]}
    pages = await read_all(opened(await serve(source), window="1d", start="2026-11-04T12:00:00Z"))
    assert set(keys(pages)) == set(range(70))
    last = {record["id"]: record["version"] for record in records_of(pages)}
    assert last == source.versions()


async def test_no_window_ends_in_the_future_of_a_source_whose_clock_is_behind(serve: Serve) -> None:
    source = Source(days(40, 35, 31), now=NOON - timedelta(days=30))
    pages = await read_all(opened(await serve(source), window="2d", start="2026-10-14T12:00:00Z"))
    ends = [one["until"] for one in source.requested if "until" in one]
    assert max(ends) < seconds(source.now - timedelta(days=2))
    assert keys(pages) == [0, 1, 2]


async def test_no_window_ends_in_the_future_by_the_date_of_a_gateway_that_is_ahead(serve: Serve) -> None:
    """The clock of the response may differ from the clock that dates the records."""
    source = Source(days(5, 4, 3), now=NOON + timedelta(days=30))
    pages = await read_all(opened(await serve(source), window="1d", start="2026-11-18T12:00:00Z"))
    ends = [one["until"] for one in source.requested if "until" in one]
    assert max(ends) == "2026-11-23T12:00:01Z"
    assert keys(pages) == [0, 1, 2]


async def test_no_window_ends_in_the_future_of_a_source_with_an_unknown_time_zone(
    serve: Serve,
) -> None:
    source = Source(days(3, 2), local)
    pages = await read_all(opened(await serve(source), window="6h", start=local(NOON - timedelta(days=4))))
    ends = [one["until"] for one in source.requested if "until" in one]
    assert ends[0] > local(NOON - timedelta(days=4))
    assert max(ends) < local(source.now)
    assert keys(pages) == [0, 1]


async def test_source_with_a_clock_far_behind_is_read_without_windows(serve: Serve) -> None:
    source = Source(days(40, 39), now=NOON - timedelta(days=38))
    url = await serve(source)
    pages = await read_all(opened(url, window="10d", start="2026-10-14T12:00:00Z"))
    assert (keys(pages), source.requested[-1]) == ([0, 1], {"since": "2026-10-14T12:00:00Z"})
    assert pages[-1].cursor == (await read_all(opened(url, window="10d", start="2026-10-14T12:00:00Z")))[-1].cursor


async def test_lookback_applies_to_the_bookmark_only(serve: Serve) -> None:
    source = Source(days(9, 4, 2))
    url = await serve(source)
    cursor = (await read_all(opened(url, window="1d", start="2026-11-14T12:00:00Z", lookback="36h")))[-1].cursor
    assert source.requested[0]["since"] == "2026-11-14T12:00:00Z"
    assert source.requested[-1] == {"since": "2026-11-21T12:00:00Z"}
    source.requested.clear()
    await read_all(opened(url, window="1d", start="2026-11-14T12:00:00Z", lookback="36h"), cursor)
    assert source.requested == [{"since": "2026-11-21T12:00:00Z"}]


async def test_empty_windows_move_the_bookmark(serve: Serve) -> None:
    source = Source({})
    url = await serve(source)
    pages = await read_all(opened(url, window="1d", start="2026-11-14T12:00:00Z"))
    assert (keys(pages), pages[-1].complete) == ([], True)
    source.requested.clear()
    await read_all(opened(url, window="1d", start="2026-11-14T12:00:00Z"), pages[-1].cursor)
    assert source.requested == [{"since": "2026-11-23T12:00:00Z"}]


async def test_full_read_uses_no_windows(serve: Serve) -> None:
    source = Source(days(900, 9, 8))
    pages = await read_all(opened(await serve(source), window="1d", start="2026-11-14T12:00:00Z"), full=True)
    assert (keys(pages), source.requested) == ([0, 1, 2], [{}])


async def test_ignored_until_parameter_is_reported(serve: Serve, context: RuntimeContext, reports: Reports) -> None:
    source = Source(days(*(5 - age / 10 for age in range(40))), knows_until=False, size=50)
    pages = await read_all(opened(await serve(source), context, window="1d", start="2026-11-14T12:00:00Z"))
    assert keys(pages) == list(range(40))
    (line,) = reports.lines
    assert "later than the requested window" in line
    assert line.endswith("check `read.since.until`")


async def test_records_without_a_time_are_read_once_although_every_window_has_them(
    serve: Serve, context: RuntimeContext, reports: Reports
) -> None:
    async def source(_: web.Request) -> web.Response:
        headers = {"Date": format_datetime(NOON, usegmt=True)}
        return web.json_response({"data": [{"id": 1, "at": None}, {"id": 2}], "next": None}, headers=headers)

    pages = await read_all(opened(await serve(source), context, window="1d", start="2026-11-14T12:00:00Z"))
    assert keys(pages) == [1, 2]
    assert reports.lines == ["warning: no record has `at`, so the next run cannot ask for changed records only"]


async def test_start_in_another_notation_is_reported(serve: Serve) -> None:
    source = Source(days(9, 8, 7), unix)
    source.read = lambda text: int(datetime.fromisoformat(text).timestamp())  # type: ignore[method-assign]
    _, error = await read_to_failure(opened(await serve(source), window="1d", start="2026-11-14T12:00:00Z"))
    assert isinstance(error, BadResponse)
    assert error.hint == "Write `read.since.start` in the notation of the field."


@pytest.mark.parametrize("value", [42, "v42"])
async def test_bookmark_that_is_not_a_time_cannot_have_windows(serve: Serve, value: Json) -> None:
    source = Source(days(9))
    mark: Json = {"page": None, "field": "at", "since": {"value": value, "ties": []}}
    reader = opened(await serve(source), window="1d", start="2026-11-14")
    with pytest.raises(SpecError, match=f"`window` needs times in the `since` field, not {value!r}"):
        await read_all(reader, mark)


def test_start_reference_without_a_time_is_an_error_of_the_spec() -> None:
    system = HttpSystem.model_validate(
        {
            "connector": "http",
            "base_url": "http://localhost",
            "key": "id",
            "read": {"path": "/", "since": {**SINCE, "window": "1d", "start": "${env:START}"}},
        }
    )
    references = References({"START": "yesterday"}, Path("/nowhere"))
    with pytest.raises(SpecError, match="expected the time at which windows start, not 'yesterday'"):
        open_reader(system, NoAuth(), references, RuntimeContext(clock=HeldClock(), random=Random(7)), RetrySettings())


async def test_bounds_are_in_the_body_of_a_search(serve: Serve) -> None:
    source = Source(days(3, 2.5))
    read: dict[str, Json] = {"path": None, "request": "POST /search", "body": {"size": 50}}
    pages = await read_all(opened(await serve(source), window="1d", start="2026-11-20T12:00:00Z", read=read))
    assert keys(pages) == [0, 1]
    assert source.requested[0] == {"size": "50", "since": "2026-11-20T12:00:00Z", "until": "2026-11-21T12:00:01Z"}
