"""Prefetched pages: how many, in which order they are delivered, and wrong predictions."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from aiohttp import web
from tests.connectors.conftest import Serve, read_all, read_to_failure, records_of

from speclab.connectors.api import Reader, RuntimeContext
from speclab.connectors.http.settings import HttpSystem
from speclab.connectors.registry import open_reader
from speclab.connectors.secrets.references import References
from speclab.core.errors import BadResponse, Unreachable
from speclab.core.json import Json
from speclab.spec.auth import NoAuth
from speclab.spec.settings import RetrySettings


class Book:
    """A list of numbered records that responds to all pending requests once `wait` is set."""

    def __init__(self, records: int = 40, size: int = 2) -> None:
        self.records, self.size = records, size
        self.requested: list[int] = []
        self.at_once = self.most_at_once = 0
        self.later: dict[int, float] = {}
        self.refuses: dict[int, int] = {}
        self.total: int | None = None

    async def __call__(self, request: web.Request) -> web.Response:
        name = "page" if "page" in request.query else "offset"
        number = int(request.query[name])
        self.requested.append(number)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await asyncio.sleep(self.later.get(number, 0.005))
        self.at_once -= 1
        if number in self.refuses:
            return web.Response(status=self.refuses[number])
        at = (number - 1) * self.size if name == "page" else number
        found = [{"id": one} for one in range(at, min(at + self.size, self.records))]
        total = self.records if self.total is None else self.total
        return web.json_response({"data": found, "total": total, "pages": -(-total // self.size)})


BY_PAGES: dict[str, Json] = {"by": "page", "param": "page", "pages": "pages"}
BY_TOTAL: dict[str, Json] = {"by": "page", "param": "page", "total": "total"}
BY_OFFSET: dict[str, Json] = {"by": "offset", "param": "offset", "total": "total"}


def reader_of(
    url: str, pagination: dict[str, Json], references: References, context: RuntimeContext, **more: Any
) -> Reader:
    settings = {
        "connector": "http",
        "base_url": url,
        "key": "id",
        "read": {"path": "/book", "records": "data", "pagination": pagination},
        **more,
    }
    return open_reader(HttpSystem.model_validate(settings), NoAuth(), references, context, RetrySettings(attempts=1))


async def wait_until_idle(book: Book) -> None:
    """Wait until no request is in flight."""
    before = -1
    while before != len(book.requested) or book.at_once:
        before = len(book.requested)
        await asyncio.sleep(0.05)


@pytest.mark.parametrize("pagination", [BY_PAGES, BY_TOTAL, BY_OFFSET])
async def test_known_pages_are_prefetched_and_delivered_in_order(
    serve: Serve, references: References, context: RuntimeContext, pagination: dict[str, Json]
) -> None:
    book = Book()
    book.later = {3: 0.05, 6: 0.04}
    pages = await read_all(reader_of(await serve(book), pagination, references, context))
    assert [record["id"] for record in records_of(pages)] == list(range(40))
    assert len(book.requested) == 20
    assert len(set(book.requested)) == 20
    assert 2 <= book.most_at_once <= 4
    assert [page.complete for page in pages] == [False] * 19 + [True]


@pytest.mark.parametrize(
    ("pagination", "ahead"), [(BY_PAGES, 3), ({"by": "page", "param": "page"}, 1), ({**BY_OFFSET, "total": None}, 1)]
)
async def test_prefetch_is_limited_by_concurrency_and_known_pages(
    serve: Serve, references: References, context: RuntimeContext, pagination: dict[str, Json], ahead: int
) -> None:
    book = Book()
    reader = reader_of(await serve(book), pagination, references, context, limits={"concurrency": 3})
    pages = reader.pages(None, full=False)
    assert isinstance(pages, AsyncGenerator)
    await anext(pages)
    await wait_until_idle(book)
    assert len(book.requested) == 1 + ahead
    await anext(pages)
    await wait_until_idle(book)
    assert len(book.requested) == 2 + ahead
    await pages.aclose()
    await reader.close()


async def test_large_pages_are_not_prefetched(
    serve: Serve, references: References, context: RuntimeContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("speclab.connectors.http.page_reader._MOST_AHEAD", 100)  # two responses of about fifty bytes
    book = Book()
    reader = reader_of(await serve(book), BY_PAGES, references, context, limits={"concurrency": 20})
    pages = reader.pages(None, full=False)
    assert isinstance(pages, AsyncGenerator)
    await anext(pages)
    await wait_until_idle(book)
    assert 2 <= len(book.requested) <= 3
    await pages.aclose()
    await reader.close()


async def test_wrong_prediction_stops_prefetch(serve: Serve, references: References, context: RuntimeContext) -> None:
    book = Book()

    async def moody(request: web.Request) -> web.Response:
        book.size = 1 if int(request.query["offset"]) >= 10 else 2
        return await book(request)

    pages = await read_all(reader_of(await serve(moody), BY_OFFSET, references, context))
    assert [record["id"] for record in records_of(pages)] == list(range(40))
    assert len(book.requested) - len(set(book.requested)) <= 4


async def test_failed_prefetch_fails_in_order(serve: Serve, references: References, context: RuntimeContext) -> None:
    book = Book()
    book.refuses = {5: 500}
    book.later = {3: 0.1}
    given, failure = await read_to_failure(reader_of(await serve(book), BY_PAGES, references, context))
    assert isinstance(failure, Unreachable)
    assert [record["id"] for record in records_of(given)] == list(range(8))
    book.refuses = {}
    rest = await read_all(reader_of(await serve(book), BY_PAGES, references, context), given[-1].cursor)
    assert [record["id"] for record in records_of(rest)] == list(range(8, 40))


async def test_pages_after_an_early_end_are_cancelled(
    serve: Serve, references: References, context: RuntimeContext
) -> None:
    book = Book(records=6)
    book.total = 40
    book.refuses = dict.fromkeys(range(6, 21), 404)
    with pytest.raises(BadResponse, match="the total at `total` is 40, but 6 records were read"):
        await read_all(reader_of(await serve(book), BY_TOTAL, references, context))
    assert max(book.requested) <= 8
