"""Reads in windows that end early: interrupted, failed, shifted, or under changed settings."""

from __future__ import annotations

from datetime import timedelta
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.clocks import HeldClock
from tests.connectors.changing import (
    BY_CURSOR,
    BY_PAGE,
    NOON,
    NOTATIONS,
    Source,
    days,
    kept,
    keys,
    opened,
    read_pages,
    served,
)
from tests.connectors.conftest import Reports, Serve, read_all, read_to_failure, records_of

from speclab.connectors.api import RuntimeContext
from speclab.core.errors import BadResponse, Unreachable
from speclab.core.json import Json


@pytest.fixture
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make each response a page."""
    monkeypatch.setattr("speclab.connectors.http.read_state._REQUESTS", 1)


@pytest.mark.usefixtures("small_pages")
async def test_interrupted_read_resumes_in_its_window(serve: Serve) -> None:
    source = Source(days(*(20 - age / 4 for age in range(70))))
    url = await serve(source)
    start = "2026-11-04T12:00:00Z"
    given, cursor = await read_pages(opened(url, window="4d", start=start), None, 8)
    source.requested.clear()
    rest = await read_all(opened(url, window="4d", start=start), cursor)
    assert keys(given) + keys(rest) == list(range(70))
    first = source.requested[0]
    assert (first["since"], first["until"]) == ("2026-11-08T12:00:00Z", "2026-11-12T12:00:01Z")
    assert "cursor" in first
    assert not rest[0].from_start
    assert given[0].from_start


@pytest.mark.usefixtures("small_pages")
async def test_changed_settings_restart_from_the_bookmark(
    serve: Serve, context: RuntimeContext, reports: Reports
) -> None:
    source = Source(days(9, 8, 7, 6, 5))
    url = await serve(source)
    _, cursor = await read_pages(opened(url, window="1d", start="2026-11-14T12:00:00Z"), None, 3)
    other = opened(url, context, window="1d", start="2026-11-14T12:00:00Z", read={"params": {"kind": "person"}})
    assert keys(await read_all(other, cursor)) == [0, 1, 2, 3, 4]
    assert reports.lines == ["warning: the `read` settings have changed since the last run; reading from the start"]


@pytest.mark.usefixtures("small_pages")
async def test_earlier_start_restarts_and_another_window_length_does_not(serve: Serve) -> None:
    source = Source(days(12, 9, 8, 7, 6, 5))
    url = await serve(source)
    _, cursor = await read_pages(opened(url, window="1d", start="2026-11-14T12:00:00Z"), None, 3)
    assert keys(await read_all(opened(url, window="2d", start="2026-11-14T12:00:00Z"), cursor)) == [4, 5]
    assert keys(await read_all(opened(url, window="1d", start="2026-11-04T12:00:00Z"), cursor)) == [0, 1, 2, 3, 4, 5]


@pytest.mark.usefixtures("small_pages")
async def test_read_without_windows_starts_at_the_bookmark_of_the_last_window(serve: Serve) -> None:
    source = Source(days(9, 8, 7, 6, 5))
    url = await serve(source)
    _, cursor = await read_pages(opened(url, window="1d", start="2026-11-14T12:00:00Z"), None, 3)
    source.requested.clear()
    plain = opened(url, start="2026-11-14T12:00:00Z", until=None)
    assert keys(await read_all(plain, cursor)) == [0, 1, 2, 3, 4]
    assert source.requested[0] == {"since": "2026-11-14T12:00:00Z"}


async def test_failed_window_ends_the_read_after_the_windows_before_it(serve: Serve) -> None:
    source = Source(days(*(20 - age / 4 for age in range(70))))
    source.refuses = lambda query: query["since"] == "2026-11-12T12:00:00Z"
    url = await serve(source)
    given, error = await read_to_failure(opened(url, window="4d", start="2026-11-04T12:00:00Z"))
    assert isinstance(error, Unreachable)
    assert keys(given) == list(range(33))
    source.refuses = lambda _: False
    rest = await read_all(opened(url, window="4d", start="2026-11-04T12:00:00Z"), kept(given[-1].cursor))
    assert keys(rest) == list(range(33, 70))


async def test_numbered_pages_that_shift_are_read_again(serve: Serve) -> None:
    source = Source(days(*(20 - age / 4 for age in range(70))), by_page=True)
    source.changes = {2: [0], 6: [1], 11: [30]}
    url = await serve(source)
    pages = await read_all(opened(url, window="4d", start="2026-11-04T12:00:00Z", read={"pagination": BY_PAGE}))
    assert {record["id"]: record["version"] for record in records_of(pages)} == source.versions()


async def test_pages_that_keep_shifting_end_the_read(serve: Serve) -> None:
    source = Source(days(*(20 - age / 40 for age in range(160))), by_page=True)
    source.changes = {request: [request] for request in range(160)}
    url = await serve(source)
    reader = opened(url, concurrency=1, window="8d", start="2026-11-04T12:00:00Z", read={"pagination": BY_PAGE})
    _, error = await read_to_failure(reader)
    assert isinstance(error, BadResponse)
    assert "the total decreased during the read" in error.message


@st.composite
def sources(draw: st.DrawFn) -> tuple[Source, dict[str, Json], int]:
    """A source with ties and records at boundaries that changes during reads, its settings, and a limit."""
    by_page = draw(st.booleans())
    write = draw(st.sampled_from(NOTATIONS))
    hours = draw(st.sampled_from([6, 24, 50]))
    age = draw(st.integers(1, 12)) * hours
    steps = st.one_of(st.integers(0, age * 60 - 1), st.integers(0, age // hours - 1).map(lambda n: n * hours * 60))
    made = draw(st.lists(steps, max_size=40))
    start = NOON - timedelta(hours=age)
    rows = {key: (start + timedelta(minutes=minutes), 0) for key, minutes in enumerate(sorted(made))}
    most = 4 if by_page else 40  # numbered pages of constantly changing records cannot be read
    changes = st.dictionaries(st.integers(1, 60), st.lists(st.integers(0, 45), max_size=3), max_size=most)
    source = Source(
        rows,
        write,
        size=draw(st.integers(1, 7)),
        takes_until=draw(st.booleans()),
        by_page=by_page,
        changes=draw(changes),
    )
    lookback = draw(st.sampled_from(["0s", "90m"]))
    since: dict[str, Json] = {"window": f"{hours}h", "start": str(write(start)), "lookback": lookback}
    return source, since, draw(st.integers(1, 6))


@settings(max_examples=150, deadline=None)
@given(sources(), st.lists(st.integers(1, 6), max_size=4))
async def test_windows_deliver_every_record_under_changes_and_interruptions(
    case: tuple[Source, dict[str, Json], int], breaks: list[int]
) -> None:
    source, since, concurrency = case
    read: dict[str, Json] = {"pagination": BY_PAGE if source.by_page else BY_CURSOR}
    existing = set(source.rows)
    target: dict[Json, Json] = {}
    cursor: Json = None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("speclab.connectors.http.read_state._REQUESTS", 1)
        async with served(source) as url:
            clock = HeldClock()
            context = RuntimeContext(clock=clock, random=Random(7))
            for pages in [*breaks, 0, 0]:
                reader = opened(url, context, concurrency=concurrency, read=read, **since)
                given, cursor = await read_pages(reader, cursor, pages)
                target.update({record["id"]: record["version"] for record in records_of(given)})
                if given[-1].complete and not pages:
                    assert existing <= set(target)
                if not pages:
                    source.changes = {}
            assert given[-1].complete
    assert target == source.versions()
    assert source.most_at_once <= concurrency
