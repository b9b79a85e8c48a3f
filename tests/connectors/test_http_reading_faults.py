from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Iterator
from email.utils import format_datetime
from pathlib import Path

import pytest
from aiohttp import web
from tests.clocks import HeldClock
from tests.connectors.conftest import Reports, Serve, ServeRaw, read_all, records_of

from speclab.connectors.api import Page, RuntimeContext
from speclab.connectors.http.settings import HttpSystem
from speclab.connectors.registry import open_reader, sample
from speclab.connectors.secrets.references import References
from speclab.core.errors import BadResponse, SpecError, Unauthorized, Unreachable
from speclab.core.json import Json
from speclab.spec.auth import NoAuth
from speclab.spec.settings import RetrySettings

Read = Callable[..., Awaitable[list[Page]]]
PEOPLE: Json = [{"id": "p1"}, {"id": "p2"}]


def system(base_url: str, *, limits: Json = None, **read: Json) -> HttpSystem:
    return HttpSystem.model_validate(
        {
            "connector": "http",
            "base_url": base_url,
            "key": "id",
            "limits": limits or {},
            "read": {"path": "/people", "records": "data", **read},
        }
    )


@pytest.fixture
def read(references: References, context: RuntimeContext) -> Read:
    async def pages(base_url: str, *, attempts: int = 3, limits: Json = None, **settings: Json) -> list[Page]:
        retry = RetrySettings.model_validate({"attempts": attempts, "base": "2s", "cap": "1m"})
        return await read_all(
            open_reader(system(base_url, limits=limits, **settings), NoAuth(), references, context, retry)
        )

    return pages


def script(*responses: web.Response | Exception) -> tuple[Callable[[web.Request], Awaitable[web.Response]], list[str]]:
    """Return a handler that returns one response after another, and the list of requested paths."""
    requested: list[str] = []
    left: Iterator[web.Response | Exception] = iter(responses)

    async def handler(request: web.Request) -> web.Response:
        requested.append(request.path_qs)
        answer = next(left)
        if isinstance(answer, Exception):
            raise answer
        return answer

    return handler, requested


def good() -> web.Response:
    return web.json_response({"data": PEOPLE})


async def test_refused_connection_is_unreachable_and_names_the_address(read: Read) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
        with pytest.raises(Unreachable, match="cannot connect") as caught:
            await read(url)
    assert url in caught.value.message
    assert "(tried 3 times)" in caught.value.message
    assert caught.value.hint == "Check that the system is running and that its URL is correct from this machine."


@pytest.mark.parametrize(
    ("body", "output"),
    [
        ({"success": False, "message": "search timed out", "data": []}, "search timed out"),
        ({"data": [], "errors": [{"message": "shard 3 is down"}]}, "shard 3 is down"),
        ({"status": "error", "data": []}, "the response does not say which"),
    ],
)
async def test_empty_list_with_an_error_is_an_error(serve: Serve, read: Read, body: Json, output: str) -> None:
    handler, _ = script(web.json_response(body))
    with pytest.raises(BadResponse, match=f"an empty list, and an error: {output}"):
        await read(await serve(handler))


async def test_records_with_an_error_are_rejected_if_missing_ones_are_deleted(serve: Serve, read: Read) -> None:
    handler, _ = script(web.json_response({"data": PEOPLE, "error": "shard 3 is down"}))
    with pytest.raises(BadResponse, match="records, and an error: shard 3 is down"):
        await read(await serve(handler), missing="delete")


async def test_list_of_errors_may_be_the_records(serve: Serve, read: Read, reports: Reports) -> None:
    handler, _ = script(web.json_response({"errors": PEOPLE}))
    assert len(records_of(await read(await serve(handler), records="errors"))) == 2
    assert reports.lines == []


async def test_status_401_and_403_are_credential_errors_and_not_retried(serve: Serve, read: Read) -> None:
    for status in (401, 403):
        handler, requested = script(web.json_response({"message": "token expired"}, status=status))
        with pytest.raises(Unauthorized, match=f"{status} .*: token expired"):
            await read(await serve(handler))
        assert len(requested) == 1


async def test_invalid_json_body_is_shown(serve: Serve, read: Read) -> None:
    handler, _ = script(web.Response(text="<html>Login</html>", content_type="text/html"))
    with pytest.raises(BadResponse) as caught:
        await read(await serve(handler))
    assert "/people: 200 OK: found a body that is not JSON (text/html; charset=utf-8)" in caught.value.message
    assert "<html>Login</html>" in caught.value.response


async def test_empty_body_is_reported(serve: Serve, read: Read) -> None:
    handler, _ = script(web.Response())
    with pytest.raises(BadResponse, match="found an empty body, expected JSON"):
        await read(await serve(handler))


async def test_no_content_has_no_records(serve: Serve, read: Read) -> None:
    handler, _ = script(web.Response(status=204))
    assert records_of(await read(await serve(handler))) == []


@pytest.mark.parametrize(
    ("records", "body", "message"),
    [
        (
            "dta",
            {"data": []},
            r"an object with `data` without `dta`, expected a list at `dta`. Did you mean 'data'\?",
        ),
        ("data.rows", {"data": {"row": []}}, r"in `data` without `rows`.*Did you mean 'row'\?"),
        ("data", {"data": {"items": []}}, "an object with `items` at `data`, expected a list"),
        ("data", {"data": None}, "null at `data`, expected a list"),
        ("data", {"data": [{"id": 1}, 7]}, "a number as entry 1 of the list, expected an object"),
        ("data", [{"id": 1}], "found a list without `data`"),
        (None, {"rows": [], "n": 1}, "an object with `rows`, `n`, expected a list; set `records` to `rows`"),
    ],
)
async def test_missing_records_path_is_reported_with_the_existing_ones(
    records: str | None, body: Json, message: str, serve: Serve, read: Read
) -> None:
    handler, _ = script(web.json_response(body))
    with pytest.raises(BadResponse, match=message):
        await read(await serve(handler), records=records)


async def test_retry_after_in_seconds_is_respected_and_not_shortened(
    serve: Serve, read: Read, clock: HeldClock
) -> None:
    handler, requested = script(web.Response(status=429, headers={"Retry-After": "17"}), good())
    assert len(records_of(await read(await serve(handler)))) == 2
    assert clock.naps == [17]
    assert len(requested) == 2


async def test_retry_after_as_a_date_uses_the_clock_of_the_server(serve: Serve, read: Read, clock: HeldClock) -> None:
    server_now = clock.now().replace(year=2031)
    later = server_now.replace(minute=server_now.minute + 1)
    headers = {
        "Date": format_datetime(server_now, usegmt=True),
        "Retry-After": format_datetime(later, usegmt=True),
    }
    handler, _ = script(web.Response(status=503, headers=headers), good())
    await read(await serve(handler))
    assert clock.naps == [60]


async def test_wait_longer_than_the_cap_parks_the_read(serve: Serve, read: Read, clock: HeldClock) -> None:
    handler, _ = script(web.Response(status=429, headers={"Retry-After": "3600"}))
    with pytest.raises(Unreachable, match="it asks to wait 1h, longer than the 1m of `cap`"):
        await read(await serve(handler))
    assert clock.naps == []


async def test_server_errors_are_retried_with_growing_jitter_and_reported(
    serve: Serve, read: Read, clock: HeldClock, reports: Reports
) -> None:
    handler, _ = script(web.Response(status=503), web.Response(status=500), good())
    assert len(records_of(await read(await serve(handler)))) == 2
    assert len(clock.naps) == 2
    assert 0 <= clock.naps[0] <= 2
    assert 0 <= clock.naps[1] <= 4
    assert [line.partition("/people: ")[2].partition(";")[0] for line in reports.lines] == [
        "503 Service Unavailable",
        "500 Internal Server Error",
    ]


async def test_read_fails_after_the_last_attempt(serve: Serve, read: Read) -> None:
    handler, requested = script(*(web.Response(status=502) for _ in range(3)))
    with pytest.raises(Unreachable, match=r"502 Bad Gateway \(tried 3 times\)"):
        await read(await serve(handler))
    assert len(requested) == 3


async def test_client_error_is_not_retried(serve: Serve, read: Read) -> None:
    handler, requested = script(web.json_response({"error": {"message": "no such list"}}, status=404))
    with pytest.raises(BadResponse, match="404 Not Found: no such list"):
        await read(await serve(handler))
    assert len(requested) == 1


async def test_redirect_is_reported_and_not_followed(serve: Serve, read: Read) -> None:
    handler, _ = script(web.Response(status=308, headers={"Location": "https://new.example.com/people"}))
    with pytest.raises(BadResponse, match=r"308 .*redirects are not followed \(to https://new\.example\.com/people\)"):
        await read(await serve(handler))


@pytest.mark.parametrize(
    "answer",
    [
        b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 500\r\n\r\n{"data": [',
        b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{"dat\r\n',
        b"",
    ],
)
async def test_connection_lost_during_a_response_is_retried(
    answer: bytes, serve_raw: ServeRaw, read: Read, clock: HeldClock
) -> None:
    with pytest.raises(Unreachable, match=r"\(tried 3 times\)"):
        await read(await serve_raw(answer))
    assert len(clock.naps) == 2


async def test_response_that_is_not_http_is_a_bad_response(serve_raw: ServeRaw, read: Read) -> None:
    with pytest.raises(BadResponse, match="the response is not HTTP"):
        await read(await serve_raw(b"SSH-2.0-OpenSSH_9.6\r\n\r\n"))


async def test_wrong_compression_is_a_bad_response(serve_raw: ServeRaw, read: Read) -> None:
    answer = b'HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\n{"a"'
    with pytest.raises(BadResponse, match="the response is not valid"):
        await read(await serve_raw(answer))


async def test_missing_response_times_out(serve_raw: ServeRaw, read: Read) -> None:
    with pytest.raises(Unreachable, match=r"no response in time \(50ms\)"):
        await read(await serve_raw(None), attempts=1, limits={"timeout": "50ms"})


async def test_slow_response_times_out(serve: Serve, read: Read) -> None:
    async def drip(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b" ")
            await asyncio.sleep(0.01)

    with pytest.raises(Unreachable, match=r"no response in time \(100ms\)"):
        await read(await serve(drip), attempts=1, limits={"timeout": "100ms"})


async def test_response_that_is_too_large_is_not_read_to_its_end(serve: Serve, read: Read) -> None:
    async def flood(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b"x" * 100_000)

    with pytest.raises(BadResponse, match=r"larger than the 1,000,000 bytes of `limits\.response`"):
        await read(await serve(flood), limits={"response": "1MB"})


async def test_limit_applies_to_the_decompressed_size(serve: Serve, read: Read) -> None:
    async def bomb(_: web.Request) -> web.Response:
        response = web.json_response({"data": [{"id": "x" * 5_000_000}]})
        response.enable_compression(web.ContentCoding.gzip)
        return response

    url = await serve(bomb)
    assert len(records_of(await read(url))) == 1
    with pytest.raises(BadResponse, match=r"limits\.response"):
        await read(url, limits={"response": "1MB"})


async def test_exhausted_rate_limit_delays_the_next_page(
    serve: Serve, read: Read, clock: HeldClock, reports: Reports
) -> None:
    async def limited(request: web.Request) -> web.Response:
        if "cursor" in request.query:
            return web.json_response({"data": [{"id": "p3"}]})
        headers = {"RateLimit": '"default";r=0;t=11'}
        return web.json_response({"data": PEOPLE, "next_cursor": "2"}, headers=headers)

    assert len(records_of(await read(await serve(limited)))) == 3
    assert clock.naps == [11]
    assert reports.lines == ["info: rate limit: 0 left, resets in 11s"]


async def test_requests_respect_the_rate_limit_of_the_spec(serve: Serve, read: Read, clock: HeldClock) -> None:
    async def pages(request: web.Request) -> web.Response:
        page = int(request.query["page"])
        return web.json_response({"data": [{"id": f"p{page}"}], "pages": 5})

    await read(
        await serve(pages), limits={"rate": "2/min"}, pagination={"by": "page", "param": "page", "pages": "pages"}
    )
    assert clock.naps == [60, 60]


def test_reference_to_an_invalid_base_url_is_an_error_of_the_spec(context: RuntimeContext, tmp_path: Path) -> None:
    for url in ("example.com/api", "ftp://example.com", "http://", "https://example.com/api?key=1"):
        with pytest.raises(SpecError, match="base_url must"):
            open_reader(system("${env:URL}"), NoAuth(), References({"URL": url}, tmp_path), context)


async def test_sample_is_the_first_records_of_as_few_pages_as_needed(
    serve: Serve, references: References, context: RuntimeContext
) -> None:
    async def pages(request: web.Request) -> web.Response:
        page = int(request.query["page"])
        return web.json_response({"data": [{"id": f"p{page}a"}, {"id": f"p{page}b"}], "pages": 50})

    source = system(await serve(pages), pagination={"by": "page", "param": "page", "pages": "pages"})
    assert [record["id"] for record in await sample(source, NoAuth(), references, context, 3)] == ["p1a", "p1b", "p2a"]
