"""A read that may have missed records delivers what it has, keeps its cursor and does not look complete."""

from __future__ import annotations

from collections.abc import Callable
from email.utils import format_datetime

import pytest
from aiohttp import web
from pydantic import ValidationError
from tests.clocks import HeldClock
from tests.connectors.conftest import Handler, Reports, Serve, read_all, read_to_failure, records_of

from speclab.connectors.api import Page, Reader, RuntimeContext
from speclab.connectors.http.settings import HttpSystem, Pagination
from speclab.connectors.registry import open_reader, sample
from speclab.connectors.secrets.references import References
from speclab.core.errors import BadResponse, IncompleteRead
from speclab.core.json import Json
from speclab.spec.auth import NoAuth

Open = Callable[..., Reader]
Answer = Callable[[list[Json], Json], web.Response]
NUMBERED: dict[str, Json] = {"by": "page", "param": "page", "size": 10}
CURSOR: dict[str, Json] = {"by": "cursor", "param": "page", "next": "next"}


@pytest.fixture
def reader(references: References, context: RuntimeContext) -> Open:
    def opened(base_url: str, pagination: Json, **read: Json) -> Reader:
        read = {"path": "/p", "records": "data", "pagination": pagination, **read}
        system = HttpSystem.model_validate({"connector": "http", "base_url": base_url, "key": "id", "read": read})
        return open_reader(system, NoAuth(), references, context)

    return opened


def whole(rows: list[Json], following: Json) -> web.Response:
    return web.json_response({"data": rows, "next": following})


def no_content(_rows: list[Json], _following: Json) -> web.Response:
    return web.Response(status=204)


def partial_content(rows: list[Json], following: Json) -> web.Response:
    return web.json_response({"data": rows[:6], "next": following}, status=206)


def beside_errors(rows: list[Json], following: Json) -> web.Response:
    return web.json_response({"data": rows[:3], "next": following, "errors": [{"message": "shard 3 is down"}]})


def status_error(rows: list[Json], following: Json) -> web.Response:
    return web.json_response({"data": rows[:3], "next": following, "status": "error"})


def timed_out(rows: list[Json], following: Json) -> web.Response:
    return web.json_response({"data": rows[:3], "next": following, "timed_out": True})


def failed_shards(rows: list[Json], following: Json) -> web.Response:
    return web.json_response({"data": rows[:3], "next": following, "_shards": {"total": 5, "failed": 1}})


def empty(_rows: list[Json], following: Json) -> web.Response:
    return web.json_response({"data": [], "next": following})


def five_pages(third: Answer, requested: list[int] | None = None, size: int = 10) -> Handler:
    """Fifty records in five pages; the response to the third is `third`."""

    async def source(request: web.Request) -> web.Response:
        page = int(request.query.get("page", "1"))
        if requested is not None:
            requested.append(page)
        rows: list[Json] = [{"id": n} for n in range(page * size - size, page * size)] if page <= 5 else []
        return (third if page == 3 else whole)(rows, page + 1 if page < 5 else None)

    return source


def ids(pages: list[Page]) -> list[Json]:
    return [record["id"] for record in records_of(pages)]


@pytest.mark.parametrize("pagination", [NUMBERED, CURSOR])
@pytest.mark.parametrize(
    ("third", "output", "delivered"),
    [
        (beside_errors, "records, and an error: shard 3 is down", 43),
        (status_error, "records, and an error", 43),
        (timed_out, "records, and `timed_out` is true", 43),
        (failed_shards, "records, and `_shards.failed` is 1", 43),
        (partial_content, "partial content without a `Content-Range` header", 46),
    ],
)
async def test_partial_page_makes_the_read_incomplete(
    third: Answer, output: str, delivered: int, pagination: Json, serve: Serve, reader: Open, reports: Reports
) -> None:
    pages, failure = await read_to_failure(reader(await serve(five_pages(third)), pagination))
    assert isinstance(failure, IncompleteRead)
    assert output in failure.message
    assert failure.message.endswith("; records may be missing")
    assert failure.response
    assert len(ids(pages)) == delivered
    assert [page.complete for page in pages].count(True) == 0
    assert len(reports.lines) == 1


async def test_no_content_for_a_named_page_makes_the_read_incomplete(serve: Serve, reader: Open) -> None:
    pages, failure = await read_to_failure(reader(await serve(five_pages(no_content)), CURSOR))
    assert isinstance(failure, IncompleteRead)
    assert "204 No Content: no content, although the page before refers to this one" in failure.message
    assert len(ids(pages)) == 20


@pytest.mark.parametrize("by", [NUMBERED, {"by": "page", "param": "page"}])
@pytest.mark.parametrize("third", [no_content, empty])
async def test_empty_numbered_page_within_the_list_makes_the_read_incomplete(
    third: Answer, by: Json, serve: Serve, reader: Open
) -> None:
    pages, failure = await read_to_failure(reader(await serve(five_pages(third)), by))
    assert isinstance(failure, IncompleteRead)
    assert "the page before this one was empty, although the list continues" in failure.message
    assert len(ids(pages)) == 40


async def test_page_after_an_empty_offset_page_is_requested(serve: Serve, reader: Open) -> None:
    async def source(request: web.Request) -> web.Response:
        offset = int(request.query["offset"])
        rows: list[Json] = [{"id": n} for n in range(offset, min(offset + 10, 50))]
        return whole([] if offset == 20 else rows, None)

    pages, failure = await read_to_failure(reader(await serve(source), {"by": "offset", "param": "offset"}))
    assert isinstance(failure, IncompleteRead)
    assert len(ids(pages)) == 40


async def test_page_after_an_empty_one_is_requested_only_after_a_full_page(serve: Serve, reader: Open) -> None:
    async def source(request: web.Request) -> web.Response:
        requested.append(page := int(request.query["page"]))
        rows: list[Json] = [{"id": n} for n in range(page * 10 - 10, min(page * 10, held))]
        return whole(rows, None)

    url = await serve(source)
    for held, expected in ((20, [1, 2, 3, 4]), (25, [1, 2, 3, 4]), (0, [1])):
        requested: list[int] = []
        assert len(ids(await read_all(reader(url, NUMBERED)))) == held
        assert requested == expected


@pytest.mark.parametrize("end", ["empty", "short"])
async def test_no_page_is_requested_after_the_end_that_the_spec_names(end: str, serve: Serve, reader: Open) -> None:
    requested: list[int] = []
    pages = await read_all(reader(await serve(five_pages(empty, requested)), {**NUMBERED, "end": end}))
    assert requested == [1, 2, 3]
    assert pages[-1].complete


async def test_short_page_ends_a_list_only_with_end_short(serve: Serve, reader: Open) -> None:
    def short(rows: list[Json], following: Json) -> web.Response:
        return whole(rows[:4], following)

    url = await serve(five_pages(short))
    assert len(ids(await read_all(reader(url, NUMBERED)))) == 44
    for by in (NUMBERED, {**CURSOR, "size": 10, "size_param": "n"}):
        assert len(ids(await read_all(reader(url, {**by, "end": "short"})))) == 24


async def test_empty_page_ends_a_list_whose_cursor_never_ends(serve: Serve, reader: Open) -> None:
    async def source(request: web.Request) -> web.Response:
        page = int(request.query.get("page", "1"))
        return whole([{"id": page}] if page <= 3 else [], page + 1)

    url = await serve(source)
    assert ids(await read_all(reader(url, {**CURSOR, "end": "empty"}))) == [1, 2, 3]
    with pytest.raises(BadResponse, match="has no next page, but with `end: empty`"):
        await read_all(reader(await serve(five_pages(whole)), {**CURSOR, "end": "empty"}))


async def test_total_ends_a_list_whose_cursor_never_ends(serve: Serve, reader: Open) -> None:
    async def source(request: web.Request) -> web.Response:
        page = int(request.query.get("page", "1"))
        return web.json_response({"data": [{"id": page}], "next": page + 1, "n": 3})

    by = {**CURSOR, "end": "total", "total": "n"}
    assert ids(await read_all(reader(await serve(source), by))) == [1, 2, 3]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({**NUMBERED, "end": "none"}, "is for pagination by cursor, next_url, link"),
        ({"by": "auto", "end": "empty"}, "not by auto"),
        ({**CURSOR, "end": "short"}, "needs `size`"),
        ({**CURSOR, "end": "total"}, "needs `total`"),
        ({**NUMBERED, "end": "empty", "pages": "pages"}, "not both"),
    ],
)
def test_end_without_its_setting_is_an_error_of_the_spec(settings: Json, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Pagination.model_validate(settings)


async def test_endless_empty_pages_end_the_read(serve: Serve, reader: Open) -> None:
    async def source(request: web.Request) -> web.Response:
        requested.append(page := int(request.query.get("page", "1")))
        return empty([], page + 1)

    requested: list[int] = []
    url = await serve(source)
    pages, failure = await read_to_failure(reader(url, CURSOR))
    assert "50 empty pages in a row, each with another next page" in failure.message
    assert len(requested) == 50
    await read_to_failure(reader(url, CURSOR), pages[-1].cursor)  # sparse results make progress from run to run
    assert len(requested) == 100 - 1
    assert requested[50] == 50


async def test_page_of_a_stated_range_is_complete(serve: Serve, reader: Open) -> None:
    async def source(request: web.Request) -> web.Response:
        start = int(request.query["offset"])
        rows: list[Json] = [{"id": n} for n in range(start, min(start + 2, 5))]
        content_range = f"{unit}{start}-{start + len(rows) - 1}/5" if rows else "*/5"
        body = {"data": rows[lost if start == 2 else 0 :], "n": 5 - lost}
        return web.json_response(body, status=206 if rows else 200, headers={"Content-Range": content_range})

    url = await serve(source)
    by: Json = {"by": "offset", "param": "offset", "total": "n"}
    unit, lost = "", 0
    assert len(ids(await read_all(reader(url, by)))) == 5
    unit = "items "
    assert len(ids(await read_all(reader(url, by)))) == 5
    lost = 1
    _, failure = await read_to_failure(reader(url, by))
    assert "`Content-Range` is 'items 2-3/5', but there are 1 records" in failure.message


async def test_ok_decides_whether_a_page_is_complete(serve: Serve, reader: Open) -> None:
    async def source(_: web.Request) -> web.Response:
        return web.json_response({"data": [{"id": 1}], "errors": [{"message": "deprecated"}], "state": state})

    url, state = await serve(source), "done"
    assert (await read_all(reader(url, {"by": "none"}, ok="item.state == 'done'")))[-1].complete
    state = "running"
    _, failure = await read_to_failure(reader(url, {"by": "none"}, ok="item.state == 'done'"))
    assert "records, and `read.ok` is false: deprecated; records may be missing" in failure.message


async def test_incomplete_read_keeps_its_cursor_when_resumed(serve: Serve, reader: Open) -> None:
    def source(third: Answer) -> Handler:
        async def answer(request: web.Request) -> web.Response:
            page = int(request.query.get("page", "1"))
            since.append(request.query.get("since"))
            rows: list[Json] = [{"id": n, "at": f"2024-01-{n + 1:02}"} for n in range(page * 5 - 5, page * 5)]
            return (third if page == 3 else whole)(rows, page + 1 if page < 5 else None)

        return answer

    since: list[str | None] = []
    changed: Json = {"param": "since", "field": "at"}
    url = await serve(source(beside_errors))
    pages, failure = await read_to_failure(reader(url, CURSOR, since=changed))
    assert isinstance(failure, IncompleteRead)
    resumed, failure = await read_to_failure(reader(url, CURSOR, since=changed), pages[2].cursor)
    assert isinstance(failure, IncompleteRead)
    assert "shard 3 is down" in failure.message
    since.clear()
    whole_url = await serve(source(whole))
    for last in (pages[-1], resumed[-1]):
        again = await read_all(reader(whole_url, CURSOR, since=changed), last.cursor)
        assert len(ids(again)) == 25
        assert again[-1].complete
    assert set(since) == {None}


async def test_moved_record_makes_a_numbered_read_incomplete(serve: Serve, reader: Open, clock: HeldClock) -> None:
    rows = {key: f"2024-01-0{day}T00:00:00Z" for day, key in enumerate("fedcba", 1)}
    changes = {2: ("f", "2026-11-24T12:00:30Z")}

    async def source(request: web.Request) -> web.Response:
        if change := changes.pop(int(request.query["page"]), None):
            rows[change[0]] = change[1]
        page = int(request.query["page"])
        requested = request.query.get("since", "")
        listed = sorted(
            ({"id": key, "at": at} for key, at in rows.items() if at >= requested),
            key=lambda row: (row["at"], row["id"]),
        )
        headers = {"Date": format_datetime(clock.now(), usegmt=True)}
        return web.json_response({"data": listed[page * 2 - 2 : page * 2]}, headers=headers)

    since: Json = {"param": "since", "field": "at"}
    url = await serve(source)
    pages, failure = await read_to_failure(reader(url, {"by": "page", "param": "page"}, since=since))
    assert isinstance(failure, IncompleteRead)
    assert "records changed while numbered pages sorted by `at` were read" in failure.message
    assert "d" not in ids(pages)
    again = await read_all(reader(url, {"by": "page", "param": "page"}, since=since), pages[-1].cursor)
    assert "d" in ids(again)
    changes[1] = ("g", "2026-11-24T12:00:40Z")  # a new record does not move others
    assert (await read_all(reader(url, {"by": "page", "param": "page"}, since=since)))[-1].complete


async def test_sample_of_an_incomplete_read_has_the_records_read(
    serve: Serve, references: References, context: RuntimeContext
) -> None:
    read: Json = {"path": "/p", "records": "data", "pagination": CURSOR}
    url = await serve(five_pages(beside_errors))
    system = HttpSystem.model_validate({"connector": "http", "base_url": url, "key": "id", "read": read})
    assert len(await sample(system, NoAuth(), references, context, 100)) == 43
