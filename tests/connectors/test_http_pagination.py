from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
from aiohttp import web
from tests.connectors.conftest import Reports, Serve, read_all, records_of

from speclab.connectors.api import Page, RuntimeContext
from speclab.connectors.http.settings import HttpSystem
from speclab.connectors.registry import open_reader
from speclab.connectors.secrets.references import References
from speclab.core.errors import BadResponse
from speclab.core.json import Json, Record
from speclab.spec.auth import NoAuth

PEOPLE: list[Record] = [{"id": f"p{number}", "name": f"Person {number}"} for number in range(7)]
KEYS = [record["id"] for record in PEOPLE]

Read = Callable[..., Awaitable[list[Page]]]


@pytest.fixture
def read(references: References, context: RuntimeContext) -> Read:
    async def pages(base_url: str, cursor: Json = None, **settings: Json) -> list[Page]:
        system = HttpSystem.model_validate(
            {"connector": "http", "base_url": base_url, "key": "id", "read": {"path": "/people", **settings}}
        )
        return await read_all(open_reader(system, NoAuth(), references, context), cursor)

    return pages


def keys(pages: list[Page]) -> list[Json]:
    return [record["id"] for record in records_of(pages)]


async def by_cursor(request: web.Request) -> web.Response:
    at = int(request.query.get("cursor", "0"))
    following = str(at + 3) if at + 3 < len(PEOPLE) else None
    return web.json_response(
        {"data": PEOPLE[at : at + 3], "meta": {"next_cursor": following}}, headers={"X-Next": following or ""}
    )


async def by_page(request: web.Request) -> web.Response:
    page, size = int(request.query["page"]), int(request.query.get("per_page", "3"))
    body = {
        "data": PEOPLE[(page - 1) * size : page * size],
        "meta": {"pages": -(-len(PEOPLE) // size), "total": len(PEOPLE)},
    }
    return web.json_response(body)


async def by_offset(request: web.Request) -> web.Response:
    at, limit = int(request.query["offset"]), int(request.query.get("limit", "3"))
    return web.json_response({"data": PEOPLE[at : at + limit], "total": len(PEOPLE)})


async def by_link(request: web.Request) -> web.Response:
    at = int(request.query.get("at", "0"))
    headers = {"Link": f'</people?at={at + 3}>; rel="prefetch next", </people?at=0>; rel="first"'}
    return web.json_response(PEOPLE[at : at + 3], headers=headers if at + 3 < len(PEOPLE) else {})


async def by_next_url(request: web.Request) -> web.Response:
    at = int(request.query.get("at", "0"))
    following = f"people?at={at + 3}" if at + 3 < len(PEOPLE) else None
    return web.json_response({"data": PEOPLE[at : at + 3], "links": {"next": following}})


@pytest.mark.parametrize(
    ("handler", "settings"),
    [
        (
            by_cursor,
            {"records": "data", "pagination": {"by": "cursor", "next": "meta.next_cursor", "param": "cursor"}},
        ),
        (by_cursor, {"records": "data", "pagination": {"by": "cursor", "header": "X-Next", "param": "cursor"}}),
        (by_cursor, {"records": "data"}),
        (by_page, {"records": "data", "pagination": {"by": "page", "param": "page", "pages": "meta.pages"}}),
        (by_page, {"records": "data", "pagination": {"by": "page", "param": "page", "total": "meta.total"}}),
        (
            by_page,
            {"records": "data", "pagination": {"by": "page", "param": "page", "size_param": "per_page", "size": 2}},
        ),
        (
            by_page,
            {"records": "data", "pagination": {"by": "page", "param": "page", "size_param": "per_page", "size": 7}},
        ),
        (by_offset, {"records": "data", "pagination": {"by": "offset", "param": "offset", "total": "total"}}),
        (
            by_offset,
            {"records": "data", "pagination": {"by": "offset", "param": "offset", "size_param": "limit", "size": 2}},
        ),
        (by_link, {"pagination": {"by": "link"}}),
        (by_link, {}),
        (by_next_url, {"records": "data", "pagination": {"by": "next_url", "next": "links.next"}}),
        (by_next_url, {"records": "data", "pagination": {"by": "auto"}}),
    ],
)
async def test_every_style_reads_all_records_once_and_in_order(
    handler: Callable[[web.Request], Awaitable[web.Response]], settings: dict[str, Json], serve: Serve, read: Read
) -> None:
    pages = await read(await serve(handler), **settings)
    assert keys(pages) == KEYS
    assert [page.complete for page in pages] == [False] * (len(pages) - 1) + [True]


@pytest.mark.parametrize(
    ("handler", "settings"),
    [
        (
            by_cursor,
            {"records": "data", "pagination": {"by": "cursor", "next": "meta.next_cursor", "param": "cursor"}},
        ),
        (by_page, {"records": "data", "pagination": {"by": "page", "param": "page", "total": "meta.total"}}),
        (by_offset, {"records": "data", "pagination": {"by": "offset", "param": "offset", "total": "total"}}),
        (by_link, {"pagination": {"by": "link"}}),
        (by_next_url, {"records": "data", "pagination": {"by": "next_url", "next": "links.next"}}),
    ],
)
async def test_read_resumes_after_any_page(
    handler: Callable[[web.Request], Awaitable[web.Response]], settings: dict[str, Json], serve: Serve, read: Read
) -> None:
    url = await serve(handler)
    pages = await read(url, **settings)
    for index, page in enumerate(pages[:-1]):
        again = await read(url, page.cursor, **settings)
        assert keys(pages[: index + 1]) + keys(again) == KEYS


async def test_cursor_of_other_settings_is_not_used(serve: Serve, read: Read, reports: Reports) -> None:
    url = await serve(by_cursor)
    settings: dict[str, Json] = {
        "records": "data",
        "pagination": {"by": "cursor", "next": "meta.next_cursor", "param": "cursor"},
    }
    first = (await read(url, **settings))[0]
    again = await read(url, first.cursor, params={"team": "blue"}, **settings)
    assert keys(again) == KEYS
    assert reports.lines == ["warning: the `read` settings have changed since the last run; reading from the start"]


async def test_page_numbers_start_as_the_spec_says(serve: Serve, read: Read) -> None:
    async def from_zero(request: web.Request) -> web.Response:
        page = int(request.query["page"])
        return web.json_response({"data": PEOPLE[page * 3 : page * 3 + 3], "pages": 3})

    settings = {"by": "page", "param": "page", "start": 0, "pages": "pages"}
    assert keys(await read(await serve(from_zero), records="data", pagination=settings)) == KEYS


async def test_short_page_is_not_the_last(serve: Serve, read: Read) -> None:
    async def at_most_two(request: web.Request) -> web.Response:
        at = (int(request.query["page"]) - 1) * 2
        return web.json_response({"data": PEOPLE[at : at + 2]})

    settings: Json = {"by": "page", "param": "page", "size_param": "per_page", "size": 100}
    assert keys(await read(await serve(at_most_two), records="data", pagination=settings)) == KEYS


async def test_server_that_repeats_its_last_short_page_has_ended(serve: Serve, read: Read) -> None:
    async def clamped(request: web.Request) -> web.Response:
        at = min(int(request.query["page"]) - 1, 2) * 3
        return web.json_response({"data": PEOPLE[at : at + 3]})

    settings: Json = {"by": "page", "param": "page", "size_param": "per_page", "size": 3}
    assert keys(await read(await serve(clamped), records="data", pagination=settings)) == KEYS


async def test_ignored_page_parameter_is_detected(serve: Serve, read: Read) -> None:
    async def deaf(_: web.Request) -> web.Response:
        return web.json_response({"data": PEOPLE})

    with pytest.raises(BadResponse, match="the same records as the page before"):
        await read(await serve(deaf), records="data", pagination={"by": "page", "param": "seite"})


async def test_repeated_cursor_is_an_error(serve: Serve, read: Read) -> None:
    async def circle(request: web.Request) -> web.Response:
        at = request.query.get("cursor", "a")
        return web.json_response({"data": [{"id": at}], "next": {"a": "b", "b": "c", "c": "b"}[at]})

    settings = {"by": "cursor", "next": "next", "param": "cursor"}
    with pytest.raises(BadResponse, match="the next page has been read already"):
        await read(await serve(circle), records="data", pagination=settings)


async def test_empty_page_that_points_to_itself_is_the_end(serve: Serve, read: Read) -> None:
    async def feed(request: web.Request) -> web.Response:
        rows = [] if request.query.get("cursor") == "end" else PEOPLE
        return web.json_response({"data": rows, "next": "end"})

    settings = {"by": "cursor", "next": "next", "param": "cursor"}
    assert keys(await read(await serve(feed), records="data", pagination=settings)) == KEYS


async def test_empty_page_in_the_middle_is_not_the_end(serve: Serve, read: Read) -> None:
    async def sparse(request: web.Request) -> web.Response:
        at = int(request.query.get("cursor", "0"))
        rows = [] if at in (1, 2) else PEOPLE[at : at + 1]
        return web.json_response({"data": rows, "next": str(at + 1) if at < 4 else None})

    settings = {"by": "cursor", "next": "next", "param": "cursor"}
    assert keys(await read(await serve(sparse), records="data", pagination=settings)) == ["p0", "p3", "p4"]


async def test_total_that_is_not_reached_is_an_error(serve: Serve, read: Read) -> None:
    async def short(request: web.Request) -> web.Response:
        rows = PEOPLE[:5] if request.query["page"] == "1" else []
        return web.json_response({"data": rows, "total": 7})

    with pytest.raises(BadResponse, match="the total at `total` is 7, but 5 records were read"):
        await read(await serve(short), records="data", pagination={"by": "page", "param": "page", "total": "total"})


async def test_more_records_than_the_total_are_reported(serve: Serve, read: Read, reports: Reports) -> None:
    async def generous(request: web.Request) -> web.Response:
        return web.json_response({"data": PEOPLE if request.query["page"] == "1" else [], "total": 6})

    pages = await read(
        await serve(generous), records="data", pagination={"by": "page", "param": "page", "total": "total"}
    )
    assert keys(pages) == KEYS
    assert reports.lines == ["warning: 7 records were read, 1 more than the total"]


@pytest.mark.parametrize(
    ("body", "sign"),
    [
        ({"data": PEOPLE, "has_more": True}, "`has_more` is true"),
        ({"data": PEOPLE, "total": 5000}, "`total` is 5,000 and 7 were read"),
        ({"data": PEOPLE, "meta": {"totalCount": 8}}, "`meta.totalCount` is 8 and 7 were read"),
    ],
)
async def test_single_page_that_reports_more_is_an_error_unless_the_spec_says_none(
    body: Json, sign: str, serve: Serve, read: Read
) -> None:
    async def first_page(_: web.Request) -> web.Response:
        return web.json_response(body)

    url = await serve(first_page)
    with pytest.raises(BadResponse, match=sign):
        await read(url, records="data")
    assert keys(await read(url, records="data", pagination={"by": "none"})) == KEYS


async def test_mistyped_cursor_path_does_not_end_the_read_early(serve: Serve, read: Read) -> None:
    settings = {"by": "cursor", "next": "meta.nxt_cursor", "param": "cursor"}
    with pytest.raises(BadResponse, match=r"has no `meta\.nxt_cursor`, but it has `meta\.next_cursor`"):
        await read(await serve(by_cursor), records="data", pagination=settings)


async def test_next_page_at_another_origin_is_not_requested(serve: Serve, read: Read) -> None:
    requested: list[str] = []

    async def thief(request: web.Request) -> web.Response:
        requested.append(request.path)
        return web.json_response([])

    other_zone = await serve(thief)

    async def lured(_: web.Request) -> web.Response:
        return web.json_response({"data": PEOPLE, "next": f"{other_zone}/people?page=2"})

    with pytest.raises(BadResponse, match="another origin; credentials are not sent there"):
        await read(await serve(lured), records="data", pagination={"by": "next_url", "next": "next"})
    assert requested == []


@pytest.mark.parametrize(
    "following",
    ["http://[::1/people", "http://localhost:http/people", "http://localhost:99999/", "/\x00", "/" * 70_000],
)
async def test_invalid_next_url_is_a_bad_response(serve: Serve, read: Read, following: str) -> None:
    async def garbled(_: web.Request) -> web.Response:
        return web.json_response({"data": PEOPLE, "next": following})

    with pytest.raises(BadResponse, match="the next page is not a valid URL") as caught:
        await read(await serve(garbled), records="data", pagination={"by": "next_url", "next": "next"})
    assert caught.value.response.startswith("200 OK")


async def test_cursor_too_long_for_a_url_is_a_bad_response(serve: Serve, read: Read) -> None:
    async def endless(_: web.Request) -> web.Response:
        return web.json_response({"data": PEOPLE, "next": "x" * 70_000})

    with pytest.raises(BadResponse, match="URL too long"):
        await read(await serve(endless), records="data", pagination={"by": "cursor", "next": "next", "param": "cursor"})


async def test_invalid_total_is_a_bad_response(serve: Serve, read: Read) -> None:
    async def squared(_: web.Request) -> web.Response:
        return web.json_response({"data": PEOPLE, "total": "\u00b2"})

    with pytest.raises(BadResponse, match="expected a number at `total`, found a text"):
        await read(await serve(squared), records="data", pagination={"by": "page", "param": "page", "total": "total"})


async def test_search_has_the_cursor_in_its_body(serve: Serve, references: References, context: RuntimeContext) -> None:
    bodies: list[Json] = []

    async def search(request: web.Request) -> web.Response:
        body = await request.json()
        bodies.append(body)
        at = body["page"].get("cursor", 0)
        return web.json_response({"hits": PEOPLE[at : at + 4], "next": at + 4 if at == 0 else None})

    system = HttpSystem.model_validate(
        {
            "connector": "http",
            "base_url": await serve(search),
            "key": "id",
            "read": {
                "request": "POST /search",
                "body": {"filter": {"kind": "person"}, "page": {"size": 4}},
                "records": "hits",
                "pagination": {"by": "cursor", "next": "next", "param": "page.cursor"},
            },
        }
    )
    pages = await read_all(open_reader(system, NoAuth(), references, context))
    assert keys(pages) == KEYS
    assert bodies == [
        {"filter": {"kind": "person"}, "page": {"size": 4}},
        {"filter": {"kind": "person"}, "page": {"size": 4, "cursor": 4}},
    ]
