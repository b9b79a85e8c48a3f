"""Auto pagination: which kinds are recognized, and what is reported otherwise."""

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

PEOPLE: list[Record] = [{"id": number} for number in range(7)]
SIZE = 3
PAGES = 3

Read = Callable[..., Awaitable[list[Page]]]
Answer = Callable[[int, list[Record]], web.Response]
"""What answers with the records of the page of that number, from 0."""


@pytest.fixture
def read(references: References, context: RuntimeContext) -> Read:
    async def pages(base_url: str, cursor: Json = None, path: str = "/people", **settings: Json) -> list[Page]:
        system = HttpSystem.model_validate(
            {"connector": "http", "base_url": base_url, "key": "id", "read": {"path": path, **settings}}
        )
        return await read_all(open_reader(system, NoAuth(), references, context), cursor)

    return pages


def paged(
    param: str, answer: Answer, *, first: int = 1, step: int = 1, pages: int = PAGES
) -> Callable[[web.Request], Awaitable[web.Response]]:
    """A server with numbered pages: `param` has the page number, which starts at `first` and grows by `step`.

    There are `pages` pages, and none beyond.
    """

    async def handler(request: web.Request) -> web.Response:
        page = (int(request.query.get(param, first)) - first) // step
        if page not in range(pages):
            raise web.HTTPNotFound
        return answer(page, PEOPLE[page * SIZE : page * SIZE + SIZE])

    return handler


def with_fields(**more: Callable[[int], Json]) -> Answer:
    """Return a response with the records in `data`, and each further field computed from the page number."""
    return lambda page, rows: web.json_response({"data": rows, **{name: of(page) for name, of in more.items()}})


def with_headers(**more: Callable[[int], str]) -> Answer:
    """Return a response that is a list, with headers."""
    return lambda page, rows: web.json_response(
        rows, headers={name.replace("_", "-"): of(page) for name, of in more.items()}
    )


def following(page: int) -> str:
    return str(page + 2) if page + 1 < PAGES else ""


BODIES = [
    paged("page", with_fields(page=lambda page: page + 1, total_pages=lambda _: PAGES)),
    paged("page", with_fields(meta=lambda page: {"current_page": page + 1, "last_page": PAGES, "from": page * SIZE})),
    paged("page", with_fields(page=lambda page: page + 1, total=lambda _: 7)),
    paged(
        "page",
        with_fields(page=lambda page: page + 1, count=lambda page: len(PEOPLE[page * SIZE :][:SIZE])),
        pages=PAGES + 1,
    ),
    paged("page", with_fields(meta=lambda page: {"next_page": page + 2 if page + 1 < PAGES else None})),
    paged("page", with_fields(page=lambda page: {"number": page, "totalPages": PAGES}), first=0),
    paged("pageNumber", with_fields(pageNumber=lambda page: page + 1, pageCount=lambda _: PAGES)),
    paged("offset", with_fields(offset=lambda page: page * SIZE, total=lambda _: 7), first=0, step=SIZE),
    paged(
        "skip", with_fields(skip=lambda page: page * SIZE, has_more=lambda page: page + 1 < PAGES), first=0, step=SIZE
    ),
    paged("startIndex", with_fields(startIndex=lambda page: 1 + page * SIZE, totalResults=lambda _: 7), step=SIZE),
    paged("offset", with_fields(next_offset=lambda page: [3, 6, None][page]), first=0, step=SIZE),
    paged("page", with_fields(next_page=lambda page: [2, 3, 0][page])),
    paged(
        "page",
        with_fields(meta=lambda page: {"current_page": page + 1, "next_page": [2, 3, None][page], "pages": PAGES}),
    ),
    paged("page", with_fields(page=lambda page: page + 1, next=lambda page: ["/?page=2", "/?page=3", None][page])),
]
HEADERS = [
    paged("page", with_headers(X_Next_Page=following)),
    paged("page", with_headers(X_Page=lambda page: str(page + 1), X_Total_Pages=lambda _: str(PAGES))),
    paged(
        "page",
        with_headers(X_Page=lambda page: str(page + 1), X_Next_Page=following, X_Total_Pages=lambda _: str(PAGES)),
    ),
    paged("cursor", with_headers(X_Next_Cursor=following)),
    paged("page_token", with_headers(Next_Page_Token=following)),
    paged("at", with_headers(Next_Page=lambda page: f"/people?at={page + 2}" if page + 1 < PAGES else "")),
]


@pytest.mark.parametrize(
    ("handler", "settings"),
    [*((handler, {"records": "data"}) for handler in BODIES), *((handler, dict[str, Json]()) for handler in HEADERS)],
)
async def test_auto_pagination_reads_and_resumes_pages_with_known_hints(
    handler: Callable[[web.Request], Awaitable[web.Response]],
    settings: dict[str, Json],
    serve: Serve,
    read: Read,
    reports: Reports,
) -> None:
    url = await serve(handler)
    pages = await read(url, **settings)
    assert records_of(pages) == PEOPLE
    assert reports.lines == []
    for index, page in enumerate(pages[:-1]):
        assert records_of(pages[: index + 1]) + records_of(await read(url, page.cursor, **settings)) == PEOPLE


@pytest.mark.parametrize(
    ("answer", "sign"),
    [
        (with_headers(X_Total_Count=lambda _: "7"), "the header `x-total-count` is 7 and 3 were read"),
        (with_headers(Content_Range=lambda _: "0-2/7"), "the header `content-range` is 7 and 3 were read"),
        (with_headers(X_Next=lambda _: "abc"), "it has the header `x-next`"),
        (with_fields(count=lambda _: 7), "`count` is 7 and 3 were read"),
        (with_fields(pages=lambda _: PAGES), "it reports 3 pages"),
    ],
)
@pytest.mark.parametrize("by", ["auto", "link"])
async def test_hint_of_more_pages_without_a_next_page_is_an_error(
    answer: Answer, sign: str, by: str, serve: Serve, read: Read
) -> None:
    url = await serve(paged("seite", answer))
    records: Json = "data" if "header" not in sign else None
    with pytest.raises(BadResponse, match=sign):
        await read(url, records=records, pagination={"by": by})


async def test_page_with_an_empty_next_field_is_the_last(serve: Serve, read: Read) -> None:
    only = with_fields(page=lambda page: page + 1, next_page=lambda _: None)
    assert records_of(await read(await serve(paged("page", only)), records="data")) == PEOPLE[:SIZE]


async def test_list_of_a_common_page_size_is_reported(serve: Serve, read: Read, reports: Reports) -> None:
    async def some(request: web.Request) -> web.Response:
        return web.json_response([{"id": number} for number in range(int(request.query.get("limit", "10")))])

    url = await serve(some)
    await read(url, path="/people?limit=7")
    await read(url)
    assert [line.partition(": ")[2].partition(", and nothing")[0] for line in reports.lines] == [
        f"GET {url}/people?limit=7: 7 records, as many as `limit` requests",
        f"GET {url}/people: 10 records, a common page size",
    ]
    await read(url, pagination={"by": "none"})
    await read(url, path="/people?limit=8", pagination={"by": "none"})
    assert len(reports.lines) == 2


@pytest.mark.parametrize("by", [{"by": "auto"}, {"by": "page", "param": "page"}])
async def test_empty_list_next_to_a_list_of_records_is_an_error(by: Json, serve: Serve, read: Read) -> None:
    async def moved(_: web.Request) -> web.Response:
        return web.json_response({"data": [], "page": {"links": [{"rel": "self"}], "results": PEOPLE}})

    says = r"an empty list at `data`, and 7 records at `page\.results`"
    with pytest.raises(BadResponse, match=says):
        await read(await serve(moved), records="data", pagination=by)


async def test_empty_list_next_to_other_lists_is_accepted(serve: Serve, read: Read) -> None:
    async def nothing(_: web.Request) -> web.Response:
        return web.json_response({"data": [], "links": [{"rel": "self"}], "facets": [1, 2], "included": []})

    assert records_of(await read(await serve(nothing), records="data")) == []


async def test_numbered_pages_that_end_before_a_reported_total_are_reported(
    serve: Serve, read: Read, reports: Reports
) -> None:
    async def short(request: web.Request) -> web.Response:
        return web.json_response({"data": PEOPLE if request.query["page"] == "1" else [], "total": 9})

    await read(await serve(short), records="data", pagination={"by": "page", "param": "page"})
    (line,) = reports.lines
    assert "the pages end here, but `total` is 9 and 7 were read; set `total` or `pages`" in line
