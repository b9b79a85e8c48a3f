"""Any response to a read is a page or an endpoint error, to a write an effect or an error; never a traceback."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

import httpx
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.clocks import HeldClock
from tests.connectors.conftest import item

from speclab.connectors.api import RuntimeContext
from speclab.connectors.http.settings import HttpSystem
from speclab.connectors.registry import open_reader, open_writer
from speclab.connectors.secrets.references import References
from speclab.core.errors import SpeclabError
from speclab.core.json import Json
from speclab.spec.auth import NoAuth
from speclab.spec.settings import RetrySettings

NAMES = st.sampled_from(
    "data next total errors error field pointer loc status ok id at meta links has_more detail results".split()
)
ODD: list[Json] = [None, True, -1, 10**25, "", "\N{SUPERSCRIPT TWO}", "..", "\0", "x" * 70_000, "201 Created", "error"]
TIMES: list[Json] = ["0001-01-01", "9999-12-31T23:59:59-12:00", "20261120T000000Z", "2026-11-20", 1_763_596_800, "v2"]
PLACES: list[Json] = ["/p?page=2", "http://[::1/x", "http://h:99999/", "//", "#/a/\N{SUPERSCRIPT TWO}"]
VALUES = st.recursive(
    st.sampled_from([*ODD, *TIMES, *PLACES]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=8,
)
RECORDS = st.fixed_dictionaries({"id": VALUES, "at": st.sampled_from(TIMES)})
PAGES = st.builds(
    lambda rows, more: {"data": rows, **more},
    st.lists(RECORDS, max_size=3),
    st.dictionaries(NAMES, VALUES, max_size=3),
)
HEADERS = {
    "Link": ['</p?at=2>; rel="next"', "<http://[::1>; rel=next", "<>; rel=next"],
    "Retry-After": ["0", "Wed, 21 Oct 2015 07:28:00 GMT", "Thu, 01 Jan 99999999999999999999 00:00:00 GMT", "soon"],
    "Date": ["Wed, 21 Oct 2015 07:28:00 GMT", "Fri, 31 Dec 9999 23:59:59 -2300", ""],
    "RateLimit": ['"a";r=0;t=5', '"a";r=x'],
    "X-RateLimit-Remaining": ["0", "x"],
    "X-RateLimit-Reset": ["1", "nan", "9" * 20],
    "Content-Encoding": ["gzip", "none"],
    "ETag": ['W/"a"', ""],
}
ANSWERS = st.lists(
    st.tuples(
        st.sampled_from([200] * 9 + [201, 204, 304, 401, 403, 404, 410, 412, 422, 429, 503]),
        st.lists(st.sampled_from([(name, value) for name, values in HEADERS.items() for value in values]), max_size=2),
        st.builds(lambda body: json.dumps(body).encode(), PAGES | VALUES) | st.sampled_from([b"", b"<html>", b"\xff{"]),
    ),
    min_size=1,
    max_size=12,
)
PAGINATIONS: list[dict[str, Json]] = [
    {"by": "auto"},
    {"by": "link"},
    {"by": "cursor", "next": "next", "param": "at"},
    {"by": "next_url", "next": "next"},
    {"by": "offset", "param": "at", "total": "total"},
]
SINCE: dict[str, Json] = {"param": "since", "field": "at", "lookback": "5m"}
READS: list[dict[str, Json]] = [
    {"path": "/p"},
    {"path": "/p", "since": SINCE},
    {"path": "/p", "since": SINCE | {"until": "until", "window": "1d", "start": "2026-11-18"}},
    {"path": "/a/{account.id}/p", "since": SINCE, "for_each": {"path": "/a", "records": "data", "as": "account"}},
]
WRITES: list[dict[str, Json]] = [
    {
        "upsert": "PUT /c/{id}",
        "delete": "DELETE /c/{id}",
        "errors": {"at": "errors[*]", "field": "loc", "message": "ok"},
    },
    {"create": "POST /c", "update": "PUT /c/{found.id}", "lookup": "GET /c?id={id}", "found": "data[0]"},
    {"upsert": "PUT /c/{id}", "lookup": "GET /c/{id}", "headers": {"If-Match": "{lookup.etag}"}},
    {"batch": "POST /c", "results": "results", "message": "item.detail"},
    {"batch": "POST /c", "ok": "item.status < 300"},
]


class Answering(httpx.AsyncBaseTransport):
    """A system that returns one response after another, repeatedly."""

    def __init__(self, write_results: list[tuple[int, list[tuple[str, str]], bytes]]) -> None:
        def forever() -> Iterator[tuple[int, list[tuple[str, str]], bytes]]:
            while True:
                yield from write_results

        self._answers = forever()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        status, headers, body = next(self._answers)
        return httpx.Response(status, headers=headers, stream=httpx.ByteStream(body), request=request)


def opened(opener: Callable[..., Any], write_results: list[Any], **settings: Json | Mapping[str, Json]) -> Any:
    system = HttpSystem.model_validate(
        {"connector": "http", "base_url": "http://h", "key": "id", "limits": {"concurrency": 2}, **settings}
    )
    context = RuntimeContext(clock=HeldClock(), random=Random(7), transport=lambda: Answering(write_results))
    return opener(system, NoAuth(), References({}, Path("/nowhere")), context, RetrySettings(attempts=2))


@settings(max_examples=150, deadline=None)
@given(ANSWERS, st.sampled_from(PAGINATIONS), st.sampled_from(READS))
async def test_any_response_to_a_read_is_a_page_or_an_endpoint_error(
    write_results: list[Any], pagination: dict[str, Json], read: dict[str, Json]
) -> None:
    cursor: Json = None
    for _ in range(3):
        reader = opened(open_reader, write_results, read={"records": "data", "pagination": pagination, **read})
        pages = reader.pages(cursor, full=False)
        with suppress(StopAsyncIteration, SpeclabError):
            for _ in range(5):
                cursor = json.loads(json.dumps((await anext(pages)).cursor))
        await pages.aclose()
        await reader.close()


@settings(max_examples=150, deadline=None)
@given(ANSWERS, st.sampled_from(WRITES), st.lists(st.tuples(VALUES, st.booleans()), min_size=1, max_size=4))
async def test_any_response_to_a_write_is_an_effect_or_a_write_error(
    write_results: list[Any], write: dict[str, Json], records: list[tuple[Json, bool]]
) -> None:
    writer = opened(open_writer, write_results, write=write)
    items = [
        item(str(number), delete=delete)._replace(payload={"id": value})
        for number, (value, delete) in enumerate(records)
    ]
    results = await writer.write(items)
    assert len(results) == len(items)
    for answer in results:
        assert (answer.effect is None) != (answer.error is None)
        assert answer.error is None or answer.error.message
    await writer.close()
