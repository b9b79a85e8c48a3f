"""A read cut into windows of time: what is asked, what is never lost or doubled, and what a cursor remembers."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from random import Random
from typing import Any

import pytest
from aiohttp import web
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.connectors.conftest import FakeClock, Reports, Serve, read_all, read_to_failure, records_of

from speclab.connectors import References, open_reader
from speclab.connectors.base import Page, Reader, Seams
from speclab.errors import BadAnswer, SpecError, Unreachable
from speclab.jsonvalue import Json
from speclab.spec.auth import NoAuth
from speclab.spec.settings import RetrySettings
from speclab.spec.systems.http import HttpSystem

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
SINCE: dict[str, Json] = {"param": "since", "until": "until", "field": "at"}
BY_CURSOR: dict[str, Json] = {"by": "cursor", "next": "next", "param": "cursor"}
BY_PAGE: dict[str, Json] = {"by": "page", "param": "page", "total": "total"}

Write = Callable[[datetime], Any]
"""How a source writes a time."""


def seconds(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def milliseconds(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"


def elsewhere(moment: datetime) -> str:
    """In local time of a place that says so."""
    return (moment + timedelta(hours=2)).strftime("%Y-%m-%dT%H:%M:%S+02:00")


def local(moment: datetime) -> str:
    """In local time, of a place that does not say which: half a day behind all others."""
    return (moment - timedelta(hours=12)).strftime("%Y-%m-%d %H:%M:%S")


def day(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%d")


def unix(moment: datetime) -> int:
    return int(moment.timestamp())


NOTATIONS: list[Write] = [seconds, milliseconds, elsewhere, local, day, unix]


@dataclass
class Source:
    """Records by id, each with the time of its last change; a request takes a second, and `changes` happen at some."""

    rows: dict[int, tuple[datetime, int]]
    write: Write = seconds
    size: int = 3
    takes_since: bool = True  # what changed at the very `since`
    takes_until: bool = False
    knows_until: bool = True
    by_page: bool = False
    changes: dict[int, list[int]] = field(default_factory=dict)
    now: datetime = NOON
    asked: list[dict[str, str]] = field(default_factory=list)
    at_once: int = 0
    most_at_once: int = 0
    refuses: Callable[[dict[str, str]], bool] = lambda _: False
    pause: float = 0.0

    async def __call__(self, request: web.Request) -> web.Response:
        body = await request.json() if request.method == "POST" else {}
        query = {name: str(value) for name, value in {**request.query, **body}.items()}
        self.asked.append(query)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        self.now += timedelta(seconds=1)
        for key in self.changes.get(len(self.asked), []):
            self.change(key)
        await asyncio.sleep(self.pause)
        self.at_once -= 1
        if self.refuses(query):
            return web.json_response({}, status=503)
        headers = {"Date": format_datetime(self.now, usegmt=True)}
        return web.json_response(self.answer(query), headers=headers)

    def change(self, key: int) -> None:
        """Give a record, old or new, a new version."""
        self.now += timedelta(seconds=1)
        self.rows[key] = (self.now, self.rows.get(key, (self.now, -1))[1] + 1)

    def answer(self, query: dict[str, str]) -> dict[str, Any]:
        """The page that is asked for: by a key that stays where it is when others leave, or by number."""
        listed = sorted((moment, key, version) for key, (moment, version) in self.rows.items())
        found = [
            {"id": key, "at": self.write(moment), "version": version, "place": f"{unix(moment):012d} {key:06d}"}
            for moment, key, version in listed
        ]
        since, until = query.get("since"), query.get("until")
        if since:
            found = [
                row
                for row in found
                if row["at"] > self.read(since) or (self.takes_since and row["at"] == self.read(since))
            ]
        if until and self.knows_until:
            found = [
                row
                for row in found
                if row["at"] < self.read(until) or (self.takes_until and row["at"] == self.read(until))
            ]
        if self.by_page:
            at = (int(query["page"]) - 1) * self.size
            return {"data": found[at : at + self.size], "total": len(found)}
        after = [row for row in found if row["place"] > query.get("cursor", "")]
        return {"data": after[: self.size], "next": after[self.size - 1]["place"] if len(after) > self.size else None}

    def read(self, text: str) -> Any:
        return int(text) if self.write is unix else text

    def versions(self) -> dict[int, int]:
        """The version of each record."""
        return {key: version for key, (_, version) in self.rows.items()}


@asynccontextmanager
async def served(source: Source) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", source.__call__)
    runner = web.AppRunner(app, shutdown_timeout=0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield "http://{}:{}".format(*runner.addresses[0][:2])
    await runner.cleanup()


def opened(
    url: str, seams: Seams | None = None, *, concurrency: int = 4, read: dict[str, Json] | None = None, **since: Json
) -> Reader:
    system = {
        "connector": "http",
        "base_url": url,
        "key": "id",
        "limits": {"concurrency": concurrency},
        "read": {"path": "/rows", "records": "data", "pagination": BY_CURSOR, "since": SINCE | since, **(read or {})},
    }
    seams = seams or Seams(clock=FakeClock(), random=Random(7))
    references = References({}, Path("/nowhere"))
    return open_reader(HttpSystem.model_validate(system), NoAuth(), references, seams, RetrySettings(attempts=1))


def days(*ages: float) -> dict[int, tuple[datetime, int]]:
    """Records so many days old, from 0 on."""
    return {key: (NOON - timedelta(days=age), 0) for key, age in enumerate(ages)}


def keys(pages: list[Page]) -> list[Json]:
    return [record["id"] for record in records_of(pages)]


def kept(cursor: Json) -> Json:
    """A cursor through JSON, as the run log keeps it."""
    loaded: Json = json.loads(json.dumps(cursor))
    return loaded


async def stopped_after(reader: Reader, cursor: Json, pages: int) -> tuple[list[Page], Json]:
    """So many pages at most, and the cursor after them."""
    given: list[Page] = []
    reading = reader.pages(cursor, full=False)
    assert isinstance(reading, AsyncGenerator)
    async for page in reading:
        given.append(page)
        if len(given) == pages:
            break
    await reading.aclose()
    await reader.close()
    return given, kept(given[-1].cursor)


@pytest.fixture
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every request is a page."""
    monkeypatch.setattr("speclab.connectors.http.lanes._REQUESTS", 1)


async def test_a_first_read_is_cut_from_its_start_on_and_the_last_window_has_no_end(serve: Serve) -> None:
    source = Source(days(9.5, 7, 6.5, 3, 0.5))
    pages = await read_all(opened(await serve(source), window="3d", start="2026-11-14T12:00:00Z"))
    assert keys(pages) == [0, 1, 2, 3, 4]
    assert [(one["since"], one.get("until")) for one in source.asked] == [
        ("2026-11-14T12:00:00Z", "2026-11-17T12:00:01Z"),
        ("2026-11-17T12:00:00Z", "2026-11-20T12:00:01Z"),
        ("2026-11-20T12:00:00Z", None),
    ]


async def test_a_later_read_goes_by_the_mark_and_is_cut_only_after_a_pause(serve: Serve) -> None:
    source = Source(days(9.5, 7, 0.5))
    url = await serve(source)
    cursor = (await read_all(opened(url, window="3d", start="2026-11-14T12:00:00Z")))[-1].cursor
    source.asked.clear()
    assert keys(await read_all(opened(url, window="3d", start="2026-11-14T12:00:00Z"), cursor)) == []
    assert source.asked == [{"since": "2026-11-24T00:00:00Z"}]
    clock = FakeClock()
    clock.slept.append(7 * 86_400)
    source.now += timedelta(days=7)
    source.change(1)
    source.asked.clear()
    seams = Seams(clock=clock, random=Random(7))
    assert keys(await read_all(opened(url, seams, window="3d", start="2026-11-14T12:00:00Z"), cursor)) == [1]
    assert [one.get("until") for one in source.asked] == ["2026-11-27T00:00:01Z", None]


@pytest.mark.parametrize("takes", [(True, True), (True, False), (False, True), (False, False)])
@pytest.mark.parametrize("write", NOTATIONS)
async def test_what_is_at_a_boundary_is_read_once_whatever_a_source_takes_as_in_or_out(
    serve: Serve, takes: tuple[bool, bool], write: Write
) -> None:
    ages = [9, 8, 8, 8, 6, 6, 4, 4, 4, 4, 4, 3]  # a window begins every second day
    source = Source(days(*ages), write, takes_since=takes[0], takes_until=takes[1])
    start = str(write(NOON - timedelta(days=10)))
    pages = await read_all(opened(await serve(source), window="2d", start=start))
    assert Counter(keys(pages)) == Counter(range(12))
    assert len({one.get("until") for one in source.asked}) > 2


async def test_windows_are_asked_for_at_once_as_far_as_the_limit_allows_and_given_in_order(serve: Serve) -> None:
    source = Source(days(*(20 - age / 4 for age in range(70))), pause=0.005)
    pages = await read_all(opened(await serve(source), concurrency=5, window="1d", start="2026-11-04T12:00:00Z"))
    assert keys(pages) == list(range(70))
    assert source.most_at_once == 5


async def test_a_window_of_many_pages_waits_for_its_turn_when_it_has_read_enough(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("speclab.connectors.http.windows.MOST_WAITING", 1)
    source = Source(days(*(20 - age / 20 for age in range(380))))
    reader = opened(await serve(source), window="4d", start="2026-11-04T12:00:00Z")
    await stopped_after(reader, None, 1)
    assert sum(one["since"] > "2026-11-09" for one in source.asked) <= 2 * 2
    pages = await read_all(opened(await serve(source), window="4d", start="2026-11-04T12:00:00Z"))
    assert keys(pages) == list(range(380))


async def test_short_windows_share_a_page(serve: Serve) -> None:
    source = Source(days(*(age + 0.5 for age in range(399, -1, -1))), size=50)
    pages = await read_all(opened(await serve(source), window="10d", start="2025-10-20T12:00:00Z"))
    assert keys(pages) == list(range(400))
    assert [len(page.records) for page in pages[:-1]] == [100, 100, 100, 90]
    assert pages[0].request.endswith("and 9 more")


async def test_a_record_that_changes_while_windows_are_read_is_seen_in_the_last(serve: Serve) -> None:
    source = Source(days(*(20 - age / 4 for age in range(70))), pause=0.002)
    source.changes = {2: [0, 30, 60], 5: [60, 69], 9: [3], 15: [3, 44], 24: [60]}
    pages = await read_all(opened(await serve(source), window="1d", start="2026-11-04T12:00:00Z"))
    assert set(keys(pages)) == set(range(70))
    last = {record["id"]: record["version"] for record in records_of(pages)}
    assert last == source.versions()


async def test_no_window_ends_in_the_future_of_a_source_whose_clock_is_behind(serve: Serve) -> None:
    source = Source(days(40, 35, 31), now=NOON - timedelta(days=30))
    pages = await read_all(opened(await serve(source), window="2d", start="2026-10-14T12:00:00Z"))
    ends = [one["until"] for one in source.asked if "until" in one]
    assert max(ends) < seconds(source.now - timedelta(days=2))
    assert keys(pages) == [0, 1, 2]


async def test_no_window_ends_in_the_future_of_a_source_that_does_not_say_in_which_time_zone_it_is(
    serve: Serve,
) -> None:
    source = Source(days(3, 2), local)
    pages = await read_all(opened(await serve(source), window="6h", start=local(NOON - timedelta(days=4))))
    ends = [one["until"] for one in source.asked if "until" in one]
    assert ends[0] > local(NOON - timedelta(days=4))
    assert max(ends) < local(source.now)
    assert keys(pages) == [0, 1]


async def test_a_source_of_this_week_by_our_clock_and_none_by_its_own_is_read_as_one(serve: Serve) -> None:
    source = Source(days(40, 39), now=NOON - timedelta(days=38))
    url = await serve(source)
    pages = await read_all(opened(url, window="10d", start="2026-10-14T12:00:00Z"))
    assert (keys(pages), source.asked[-1]) == ([0, 1], {"since": "2026-10-14T12:00:00Z"})
    assert pages[-1].cursor == (await read_all(opened(url, window="10d", start="2026-10-14T12:00:00Z")))[-1].cursor


async def test_the_lookback_comes_off_the_mark_and_off_no_boundary(serve: Serve) -> None:
    source = Source(days(9, 4, 2))
    url = await serve(source)
    cursor = (await read_all(opened(url, window="1d", start="2026-11-14T12:00:00Z", lookback="36h")))[-1].cursor
    assert source.asked[0]["since"] == "2026-11-14T12:00:00Z"
    assert source.asked[-1] == {"since": "2026-11-21T12:00:00Z"}
    source.asked.clear()
    await read_all(opened(url, window="1d", start="2026-11-14T12:00:00Z", lookback="36h"), cursor)
    assert source.asked == [{"since": "2026-11-21T12:00:00Z"}]


async def test_windows_without_a_record_move_the_mark_too(serve: Serve) -> None:
    source = Source({})
    url = await serve(source)
    pages = await read_all(opened(url, window="1d", start="2026-11-14T12:00:00Z"))
    assert (keys(pages), pages[-1].complete) == ([], True)
    source.asked.clear()
    await read_all(opened(url, window="1d", start="2026-11-14T12:00:00Z"), pages[-1].cursor)
    assert source.asked == [{"since": "2026-11-23T12:00:00Z"}]


@pytest.mark.usefixtures("small_pages")
async def test_a_read_that_is_broken_off_goes_on_in_its_window(serve: Serve) -> None:
    source = Source(days(*(20 - age / 4 for age in range(70))))
    url = await serve(source)
    start = "2026-11-04T12:00:00Z"
    given, cursor = await stopped_after(opened(url, window="4d", start=start), None, 8)
    source.asked.clear()
    rest = await read_all(opened(url, window="4d", start=start), cursor)
    assert keys(given) + keys(rest) == list(range(70))
    first = source.asked[0]
    assert (first["since"], first["until"]) == ("2026-11-08T12:00:00Z", "2026-11-12T12:00:01Z")
    assert "cursor" in first
    assert not rest[0].from_start
    assert given[0].from_start


@pytest.mark.usefixtures("small_pages")
async def test_other_settings_begin_anew_from_the_mark(serve: Serve, seams: Seams, reports: Reports) -> None:
    source = Source(days(9, 8, 7, 6, 5))
    url = await serve(source)
    _, cursor = await stopped_after(opened(url, window="1d", start="2026-11-14T12:00:00Z"), None, 3)
    other = opened(url, seams, window="1d", start="2026-11-14T12:00:00Z", read={"params": {"kind": "person"}})
    assert keys(await read_all(other, cursor)) == [0, 1, 2, 3, 4]
    assert reports.lines == ["warning: the `read` settings are not those of the last run; reading anew"]


@pytest.mark.usefixtures("small_pages")
async def test_without_windows_a_read_that_was_cut_begins_at_its_mark(serve: Serve) -> None:
    source = Source(days(9, 8, 7, 6, 5))
    url = await serve(source)
    _, cursor = await stopped_after(opened(url, window="1d", start="2026-11-14T12:00:00Z"), None, 3)
    source.asked.clear()
    plain = opened(url, start="2026-11-14T12:00:00Z", until=None)
    assert keys(await read_all(plain, cursor)) == [0, 1, 2, 3, 4]
    assert source.asked[0] == {"since": "2026-11-14T12:00:00Z"}


async def test_a_full_read_is_not_cut_and_finds_what_is_older_than_the_start(serve: Serve) -> None:
    source = Source(days(900, 9, 8))
    pages = await read_all(opened(await serve(source), window="1d", start="2026-11-14T12:00:00Z"), full=True)
    assert (keys(pages), source.asked) == ([0, 1, 2], [{}])


async def test_a_window_that_fails_ends_the_read_after_those_before_it(serve: Serve) -> None:
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


async def test_numbered_pages_that_never_stand_still_are_given_up(serve: Serve) -> None:
    source = Source(days(*(20 - age / 40 for age in range(160))), by_page=True)
    source.changes = {request: [request] for request in range(160)}
    url = await serve(source)
    reader = opened(url, concurrency=1, window="8d", start="2026-11-04T12:00:00Z", read={"pagination": BY_PAGE})
    _, error = await read_to_failure(reader)
    assert isinstance(error, BadAnswer)
    assert "the total fell while it was read" in error.message


async def test_a_source_that_does_not_know_the_end_of_a_window_is_told(
    serve: Serve, seams: Seams, reports: Reports
) -> None:
    source = Source(days(*(5 - age / 10 for age in range(40))), knows_until=False, size=50)
    pages = await read_all(opened(await serve(source), seams, window="1d", start="2026-11-14T12:00:00Z"))
    assert keys(pages) == list(range(40))
    (line,) = reports.lines
    assert "later than the window that was asked for" in line
    assert line.endswith("check `read.since.until`")


async def test_records_without_a_time_are_read_once_though_every_window_has_them(
    serve: Serve, seams: Seams, reports: Reports
) -> None:
    async def source(_: web.Request) -> web.Response:
        headers = {"Date": format_datetime(NOON, usegmt=True)}
        return web.json_response({"data": [{"id": 1, "at": None}, {"id": 2}], "next": None}, headers=headers)

    pages = await read_all(opened(await serve(source), seams, window="1d", start="2026-11-14T12:00:00Z"))
    assert keys(pages) == [1, 2]
    assert reports.lines == ["warning: no record has `at`, so the next run cannot ask for what changed only"]


async def test_a_start_in_another_notation_than_the_field_is_told(serve: Serve) -> None:
    source = Source(days(9, 8, 7), unix)
    source.read = lambda text: int(datetime.fromisoformat(text).timestamp())  # type: ignore[method-assign]
    _, error = await read_to_failure(opened(await serve(source), window="1d", start="2026-11-14T12:00:00Z"))
    assert isinstance(error, BadAnswer)
    assert error.hint == "Write `read.since.start` in the notation of the field."


async def test_a_mark_that_is_no_time_cannot_be_cut(serve: Serve) -> None:
    source = Source(days(9))
    mark: Json = {"page": None, "field": "at", "since": {"value": 42, "ties": []}}
    reader = opened(await serve(source), window="1d", start="2026-11-14")
    with pytest.raises(SpecError, match="`window` needs times in the `since` field, not 42"):
        await read_all(reader, mark)


def test_a_start_that_is_resolved_to_no_time_is_an_error_of_the_spec() -> None:
    system = HttpSystem.model_validate(
        {
            "connector": "http",
            "base_url": "http://localhost",
            "key": "id",
            "read": {"path": "/", "since": {**SINCE, "window": "1d", "start": "${env:START}"}},
        }
    )
    references = References({"START": "yesterday"}, Path("/nowhere"))
    with pytest.raises(SpecError, match="expected a time for windows to begin at, not 'yesterday'"):
        open_reader(system, NoAuth(), references, Seams(clock=FakeClock(), random=Random(7)), RetrySettings())


async def test_the_bounds_go_into_the_body_of_a_search(serve: Serve) -> None:
    source = Source(days(3, 2.5))
    read: dict[str, Json] = {"path": None, "request": "POST /search", "body": {"size": 50}}
    pages = await read_all(opened(await serve(source), window="1d", start="2026-11-20T12:00:00Z", read=read))
    assert keys(pages) == [0, 1]
    assert source.asked[0] == {"size": "50", "since": "2026-11-20T12:00:00Z", "until": "2026-11-21T12:00:01Z"}


@st.composite
def sources(draw: st.DrawFn) -> tuple[Source, dict[str, Json], int]:
    """A source with ties and records at boundaries that changes while it is read, settings for it, and a limit."""
    by_page = draw(st.booleans())
    write = draw(st.sampled_from(NOTATIONS))
    hours = draw(st.sampled_from([6, 24, 50]))
    age = draw(st.integers(1, 12)) * hours
    steps = st.one_of(st.integers(0, age * 60 - 1), st.integers(0, age // hours - 1).map(lambda n: n * hours * 60))
    made = draw(st.lists(steps, max_size=40))
    start = NOON - timedelta(hours=age)
    rows = {key: (start + timedelta(minutes=minutes), 0) for key, minutes in enumerate(sorted(made))}
    most = 4 if by_page else 40  # numbered pages of what changes all the time cannot be read
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
async def test_what_windows_give_is_the_source_whatever_changes_and_wherever_it_is_broken_off(
    case: tuple[Source, dict[str, Json], int], breaks: list[int]
) -> None:
    source, since, concurrency = case
    read: dict[str, Json] = {"pagination": BY_PAGE if source.by_page else BY_CURSOR}
    existing = set(source.rows)
    target: dict[Json, Json] = {}
    cursor: Json = None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("speclab.connectors.http.lanes._REQUESTS", 1)
        async with served(source) as url:
            clock = FakeClock()
            seams = Seams(clock=clock, random=Random(7))
            for pages in [*breaks, 0, 0]:
                reader = opened(url, seams, concurrency=concurrency, read=read, **since)
                given, cursor = await stopped_after(reader, cursor, pages)
                target.update({record["id"]: record["version"] for record in records_of(given)})
                if given[-1].complete and not pages:
                    assert existing <= set(target)
                if not pages:
                    source.changes = {}
            assert given[-1].complete
    assert target == source.versions()
    assert source.most_at_once <= concurrency
