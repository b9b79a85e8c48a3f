from __future__ import annotations

from collections.abc import Awaitable, Callable
from email.utils import format_datetime

import pytest
from aiohttp import web
from tests.clocks import HeldClock
from tests.connectors.conftest import Reports, Serve, read_all, records_of

from speclab.connectors.api import Page, RuntimeContext
from speclab.connectors.http.settings import HttpSystem
from speclab.connectors.registry import open_reader
from speclab.connectors.secrets.references import References
from speclab.core.errors import BadResponse, SpecError, Unreachable
from speclab.core.json import Json, Record
from speclab.spec.auth import NoAuth
from speclab.spec.settings import RetrySettings

Read = Callable[..., Awaitable[list[Page]]]
BY_CURSOR: Json = {"by": "cursor", "next": "next", "param": "cursor"}


class Contacts:
    """A source of changes at or after `since`, two per page, in order of the changes."""

    def __init__(self, clock: HeldClock, *rows: tuple[str, str]) -> None:
        self.rows = list(rows)
        self.requested: list[str | None] = []
        self._clock = clock

    async def __call__(self, request: web.Request) -> web.Response:
        since, at = request.query.get("since"), int(request.query.get("cursor", "0"))
        if at == 0:
            self.requested.append(since)
        rows: list[Record] = [{"id": key, "at": moment} for key, moment in self.rows if moment >= (since or "")]
        body = {"data": rows[at : at + 2], "next": str(at + 2) if at + 2 < len(rows) else None}
        return web.json_response(body, headers={"Date": format_datetime(self._clock.now(), usegmt=True)})


@pytest.fixture
def read(references: References, context: RuntimeContext) -> Read:
    async def pages(
        base_url: str, cursor: Json = None, *, full: bool = False, pagination: Json = BY_CURSOR, **since: Json
    ) -> list[Page]:
        system = HttpSystem.model_validate(
            {
                "connector": "http",
                "base_url": base_url,
                "key": "id",
                "read": {
                    "path": "/contacts",
                    "records": "data",
                    "pagination": pagination,
                    "since": {"param": "since", "field": "at", **since},
                },
            }
        )
        return await read_all(open_reader(system, NoAuth(), references, context), cursor, full=full)

    return pages


def keys(pages: list[Page]) -> list[Json]:
    return [record["id"] for record in records_of(pages)]


async def test_next_run_requests_inclusively_and_does_not_deliver_ties_again(
    serve: Serve, read: Read, clock: HeldClock
) -> None:
    source = Contacts(clock, ("a", "2024-01-01T00:00:00Z"), ("b", "2024-01-02T00:00:00Z"))
    url = await serve(source)
    first = await read(url)
    source.rows += [("c", "2024-01-02T00:00:00Z"), ("d", "2024-01-03T00:00:00Z")]
    second = await read(url, first[-1].cursor)
    third = await read(url, second[-1].cursor)
    assert (keys(first), keys(second), keys(third)) == (["a", "b"], ["c", "d"], [])
    assert source.requested == [None, "2024-01-02T00:00:00Z", "2024-01-03T00:00:00Z"]
    assert third[-1].cursor == second[-1].cursor


async def test_record_changed_again_at_the_same_time_is_delivered_again(
    serve: Serve, read: Read, clock: HeldClock
) -> None:
    names = {"a": "Ada"}

    async def source(_: web.Request) -> web.Response:
        rows = [{"id": key, "name": name, "at": "2024-01-01T00:00:00Z"} for key, name in names.items()]
        return web.json_response({"data": rows}, headers={"Date": format_datetime(clock.now(), usegmt=True)})

    url = await serve(source)
    first = await read(url)
    names["a"] = "Ada Lovelace"
    assert [record["name"] for record in records_of(await read(url, first[-1].cursor))] == ["Ada Lovelace"]


async def test_bookmark_moves_only_after_a_complete_read(serve: Serve, read: Read, clock: HeldClock) -> None:
    source = Contacts(clock, *((key, f"2024-01-0{9 - at}T00:00:00Z") for at, key in enumerate("abcdef")))
    url = await serve(source)
    first = await read(url)
    broken_off = first[0].cursor
    source.rows.append(("g", "2024-01-01T00:00:00Z"))
    resumed = await read(url, broken_off)
    assert keys(resumed) == ["c", "d", "e", "f", "g"]
    assert source.requested == [None]
    after = await read(url, resumed[-1].cursor)
    assert source.requested[-1] == "2024-01-09T00:00:00Z"
    assert keys(after) == []


async def test_bookmark_never_passes_the_start_of_the_read(serve: Serve, read: Read, clock: HeldClock) -> None:
    later = "2026-11-24T12:00:30Z"  # the read begins at 12:00:00
    source = Contacts(clock, ("a", "2024-01-01T00:00:00Z"), ("b", later))
    url = await serve(source)
    first = await read(url)
    source.rows[0] = ("a", "2026-11-24T12:00:10Z")  # changed after its page was read
    second = await read(url, first[-1].cursor)
    assert source.requested[-1] == "2026-11-24T11:59:59Z"
    assert keys(second) == ["a"]  # and b, seen before, is recognized by its digest


async def test_lookback_is_subtracted_from_the_requested_time(serve: Serve, read: Read, clock: HeldClock) -> None:
    source = Contacts(clock, ("a", "2024-01-01T00:00:00.000+01:00"))
    url = await serve(source)
    first = await read(url, lookback="90m")
    await read(url, first[-1].cursor, lookback="90m")
    assert source.requested == [None, "2023-12-31T22:30:00.000+01:00"]


async def test_lookback_of_a_value_that_is_not_a_time_is_an_error(serve: Serve, read: Read, clock: HeldClock) -> None:
    url = await serve(Contacts(clock, ("a", "version 7")))
    first = await read(url)
    with pytest.raises(SpecError, match="`lookback` needs times"):
        await read(url, first[-1].cursor, lookback="5m")


async def test_changed_notation_of_times_is_a_bad_response(serve: Serve, read: Read, clock: HeldClock) -> None:
    source = Contacts(clock, ("a", "2024-01-01"))
    url = await serve(source)
    first = await read(url)
    source.rows = [("a", "version 7")]
    with pytest.raises(
        BadResponse, match=r"the `since` field has both version 7 \(a text\) and 2024-01-01 .* \(a time\)"
    ):
        await read(url, first[-1].cursor)


async def test_first_run_starts_at_the_start_of_the_spec(serve: Serve, read: Read, clock: HeldClock) -> None:
    source = Contacts(clock, ("a", "2023-01-01"), ("b", "2024-05-05"))
    assert keys(await read(await serve(source), start="2024-01-01")) == ["b"]
    assert source.requested == ["2024-01-01"]


async def test_full_read_requests_everything_and_sets_a_bookmark(serve: Serve, read: Read, clock: HeldClock) -> None:
    source = Contacts(clock, ("a", "2024-01-01"), ("b", "2024-01-02"), ("c", "2024-01-03"))
    url = await serve(source)
    first = await read(url)
    again = await read(url, first[-1].cursor, full=True)
    assert keys(again) == ["a", "b", "c"]
    resumed = await read(url, again[0].cursor, full=True)
    assert keys(resumed) == ["c"]
    await read(url, resumed[-1].cursor)
    assert source.requested == [None, None, "2024-01-03"]


async def test_expired_page_cursor_restarts_the_read(
    serve: Serve, read: Read, clock: HeldClock, reports: Reports
) -> None:
    source = Contacts(clock, ("a", "2024-01-01"), ("b", "2024-01-02"), ("c", "2024-01-03"))
    url = await serve(source)
    broken_off = (await read(url))[0].cursor

    async def forgetful(request: web.Request) -> web.Response:
        if request.query.get("cursor") == "2" and len(source.requested) == 1:
            return web.json_response({"error": "cursor expired"}, status=410)
        return await source(request)

    assert keys(await read(await serve(forgetful), broken_off)) == ["a", "b", "c"]
    assert reports.lines == [
        "warning: the source no longer has the page at which the last run stopped (410 Gone); reading from the start"
    ]


async def test_sorted_source_restarts_at_the_reached_value(serve: Serve, read: Read, clock: HeldClock) -> None:
    source = Contacts(clock, ("a", "2024-01-01"), ("b", "2024-01-02"), ("c", "2024-01-03"))
    broken_off = (await read(await serve(source), sorted=True))[0].cursor

    async def forgetful(request: web.Request) -> web.Response:
        if "cursor" in request.query:
            return web.json_response({"error": "cursor expired"}, status=400)
        return await source(request)

    assert keys(await read(await serve(forgetful), broken_off, sorted=True)) == ["c"]
    assert source.requested == [None, "2024-01-02"]


async def test_source_that_is_not_sorted_is_reported(
    serve: Serve, read: Read, clock: HeldClock, reports: Reports
) -> None:
    source = Contacts(clock, ("a", "2024-01-02"), ("b", "2024-01-01"))
    await read(await serve(source), sorted=True)
    assert reports.lines == ["warning: the records are not sorted by `at`; set `sorted: false`"]


async def test_numbered_pages_that_are_not_sorted_by_change_are_read_completely(
    serve: Serve, read: Read, clock: HeldClock, reports: Reports
) -> None:
    rows = {key: f"2024-01-0{day}T00:00:00Z" for day, key in enumerate("fedcba", 1)}

    async def source(request: web.Request) -> web.Response:
        if (page := int(request.query["page"])) == 2:
            rows["f"] = "2026-11-24T12:00:30Z"
        listed = sorted(({"id": key, "at": at} for key, at in rows.items()), key=lambda row: row["id"])
        headers = {"Date": format_datetime(clock.now(), usegmt=True)}
        return web.json_response({"data": listed[page * 2 - 2 : page * 2]}, headers=headers)

    assert (await read(await serve(source), pagination={"by": "page", "param": "page"}))[-1].complete
    assert reports.lines == []


async def test_records_without_the_field_are_delivered_and_reported(serve: Serve, read: Read, reports: Reports) -> None:
    async def source(_: web.Request) -> web.Response:
        return web.json_response({"data": [{"id": "a"}, {"id": "b", "at": None}]})

    assert keys(await read(await serve(source))) == ["a", "b"]
    assert reports.lines == ["warning: no record has `at`, so the next run cannot ask for changed records only"]


async def test_bookmark_of_another_field_is_not_used(serve: Serve, read: Read, clock: HeldClock) -> None:
    source = Contacts(clock, ("a", "2024-01-01"))
    url = await serve(source)
    cursor = (await read(url))[-1].cursor
    assert isinstance(cursor, dict)
    await read(url, {**cursor, "field": "created_at"})
    assert source.requested == [None, None]


@pytest.mark.parametrize("changed", [{"start": "2024-01-01"}, {"lookback": "1h"}, {"param": "updated_since"}])
async def test_interrupted_read_restarts_if_start_has_changed(
    serve: Serve, read: Read, clock: HeldClock, reports: Reports, changed: dict[str, Json]
) -> None:
    source = Contacts(clock, *((str(day), f"2024-01-0{day}") for day in range(1, 9)))
    url = await serve(source)
    began = await read(url, start="2024-01-05")
    given = await read(url, began[0].cursor, **({"start": "2024-01-05"} | changed))
    assert keys(given)[0] == ("1" if "lookback" not in changed else "5")
    assert reports.lines == ["warning: the `read` settings have changed since the last run; reading from the start"]


async def test_interrupted_read_resumes_if_only_sorted_has_changed(serve: Serve, read: Read, clock: HeldClock) -> None:
    source = Contacts(clock, *((str(day), f"2024-01-0{day}") for day in range(1, 9)))
    url = await serve(source)
    began = await read(url)
    assert keys(await read(url, began[0].cursor, sorted=True)) == ["3", "4", "5", "6", "7", "8"]


async def test_interrupted_read_leaves_a_cursor_to_resume(
    serve: Serve, references: References, context: RuntimeContext, clock: HeldClock
) -> None:
    source = Contacts(clock, *((key, "2024-01-01") for key in "abcde"))
    failing = True

    async def flaky(request: web.Request) -> web.Response:
        if failing and request.query.get("cursor") == "4":
            return web.Response(status=500)
        return await source(request)

    system = HttpSystem.model_validate(
        {
            "connector": "http",
            "base_url": await serve(flaky),
            "key": "id",
            "read": {
                "path": "/contacts",
                "records": "data",
                "pagination": {"by": "cursor", "next": "next", "param": "cursor"},
                "since": {"param": "since", "field": "at"},
            },
        }
    )
    cursor: Json = None
    delivered: list[Json] = []
    reader = open_reader(system, NoAuth(), references, context, RetrySettings(attempts=1))

    async def go_on() -> None:
        nonlocal cursor
        async for page in reader.pages(cursor, full=False):
            delivered.extend(record["id"] for record in page.records)
            cursor = page.cursor

    with pytest.raises(Unreachable):
        await go_on()
    failing = False
    await go_on()
    await reader.close()
    assert delivered == list("abcde")
    assert source.requested == [None]
    assert isinstance(cursor, dict)
    mark = cursor["since"]
    assert isinstance(mark, dict)
    assert isinstance(mark["ties"], list)
    assert (mark["value"], len(mark["ties"])) == ("2024-01-01", 5)
