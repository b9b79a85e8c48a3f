from __future__ import annotations

import gzip
import sys
import tracemalloc
import zlib
from collections.abc import Awaitable, Callable

import brotli
import httpx
import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st
from tests.connectors.conftest import Serve, item, read_all
from tests.connectors.test_third_party_auth import HTTPBIN, run_server

from speclab.connectors.api import Page, RuntimeContext
from speclab.connectors.http.settings import HttpSystem
from speclab.connectors.http_transport import Decoder, Unreadable, request_once
from speclab.connectors.registry import open_reader, open_writer
from speclab.connectors.secrets.references import References
from speclab.core.errors import BadResponse, Unreachable
from speclab.core.json import Json
from speclab.core.outcome import Effect, ErrorClass
from speclab.spec.auth import NoAuth
from speclab.spec.settings import RetrySettings

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

Read = Callable[..., Awaitable[list[Page]]]

PEOPLE = b'{"data": [{"id": "p1"}, {"id": "p2"}]}'


def bare(data: bytes) -> bytes:
    """Deflate without its header."""
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()


PACKED: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "br": brotli.compress,
    "zstd": zstd.compress,
}


def unpacked(encodings: str, packed: bytes, *, chunk: int = 65536, most: int = 10**9) -> bytes:
    decoder = Decoder(encodings, most)
    chunks = [packed[at : at + chunk] for at in range(0, len(packed), chunk)]
    whole = b"".join(piece for data in chunks for piece in decoder.feed(data))
    decoder.finish()
    return whole


def answering(body: bytes, encoding: str, *, status: int = 200) -> Callable[[web.Request], Awaitable[web.Response]]:
    """Return a handler that responds with `body` and declares `encoding`."""

    async def handler(_: web.Request) -> web.Response:
        return web.Response(body=body, status=status, headers={"Content-Encoding": encoding})

    return handler


def system(url: str, *, response: str = "50MB", **settings: Json) -> HttpSystem:
    limits: Json = {"response": response}
    return HttpSystem.model_validate(
        {"connector": "http", "base_url": url, "key": "id", "limits": limits, **settings},
    )


@pytest.fixture
def read(references: References, context: RuntimeContext) -> Read:
    async def pages(url: str, response: str = "50MB") -> list[Page]:
        source = system(url, response=response, read={"path": "/people", "records": "data"})
        retry = RetrySettings.model_validate({"attempts": 2})
        return await read_all(open_reader(source, NoAuth(), references, context, retry))

    return pages


@given(st.binary(), st.sampled_from(sorted(PACKED)), st.integers(1, 50))
def test_body_is_decoded_in_chunks_of_any_size(data: bytes, encoding: str, chunk: int) -> None:
    assert unpacked(encoding, PACKED[encoding](data), chunk=chunk) == data


@given(st.binary(min_size=1), st.sampled_from(sorted(PACKED)), st.data())
def test_truncated_body_is_never_accepted(data: bytes, encoding: str, draw: st.DataObject) -> None:
    packed = PACKED[encoding](data)
    cut = packed[: draw.draw(st.integers(1, len(packed) - 1))]
    with pytest.raises(Unreadable, match=f"the response is truncated: its {encoding} data is incomplete") as caught:
        unpacked(encoding, cut)
    assert caught.value.error_class is ErrorClass.NETWORK


@given(st.binary(max_size=300), st.sampled_from(sorted(PACKED)))
def test_any_bytes_are_decoded_or_rejected(data: bytes, encoding: str) -> None:
    try:
        unpacked(encoding, data)
    except Unreadable as error:
        assert encoding in error.message  # noqa: PT017 - bytes that happen to decode are fine


@pytest.mark.parametrize("large", [200_000, 256 * 1024, 1_000_000])
@pytest.mark.parametrize("encoding", sorted(PACKED))
def test_body_larger_than_a_piece_is_decoded_completely(encoding: str, large: int) -> None:
    data = b"0123456789" * (large // 10)
    assert unpacked(encoding, PACKED[encoding](data)) == data


def test_gzip_may_have_several_members_and_zstd_several_frames() -> None:
    assert unpacked("gzip", gzip.compress(b"one, ") + b"\0" * 5 + gzip.compress(b"two")) == b"one, two"
    assert unpacked("zstd", zstd.compress(b"one, ") + zstd.compress(b"two")) == b"one, two"


def test_deflate_is_read_with_and_without_its_header() -> None:
    assert unpacked("deflate", zlib.compress(PEOPLE), chunk=1) == PEOPLE
    assert unpacked("deflate", bare(PEOPLE), chunk=1) == PEOPLE


@pytest.mark.parametrize("encoding", sorted(PACKED))
def test_data_after_the_end_is_rejected(encoding: str) -> None:
    with pytest.raises(Unreadable, match=f"the response is not valid {encoding}: "):
        unpacked(encoding, PACKED[encoding](PEOPLE) + b"<!-- served by -->")


def test_nested_encodings_are_decoded_from_the_last() -> None:
    assert unpacked("gzip, br", brotli.compress(gzip.compress(PEOPLE))) == PEOPLE
    assert unpacked("Identity, X-GZIP", gzip.compress(PEOPLE)) == PEOPLE
    assert unpacked("", PEOPLE) == PEOPLE
    with pytest.raises(Unreadable, match="the response has 5 nested encodings, expected at most 4"):
        Decoder("gzip, gzip, gzip, gzip, gzip", 10)


@pytest.mark.parametrize("encoding", sorted(PACKED))
def test_empty_body_is_empty_with_any_encoding(encoding: str) -> None:
    assert unpacked(encoding, b"") == b""


def test_limit_applies_to_every_layer() -> None:
    inner = b"".join(gzip.compress(b"") for _ in range(1000))  # nothing, at length
    assert unpacked("gzip, gzip", gzip.compress(inner), most=20_000) == b""
    with pytest.raises(Unreadable, match=r"larger than the 10,000 bytes of `limits\.response`"):
        unpacked("gzip, gzip", gzip.compress(inner), most=10_000)


async def test_accept_encoding_lists_supported_encodings(serve: Serve, read: Read) -> None:
    requested: list[str] = []

    async def packing(request: web.Request) -> web.Response:
        requested.append(request.headers["Accept-Encoding"])
        return await answering(PACKED[encoding](PEOPLE), encoding)(request)

    url = await serve(packing)
    for encoding in PACKED:  # noqa: B007 - the handler encodes so
        (page,) = await read(url)
        assert page.records == [{"id": "p1"}, {"id": "p2"}]
        assert page.bytes_in == len(PEOPLE)
    assert requested == ["gzip, deflate, br, zstd"] * len(PACKED)


def bombs() -> dict[str, bytes]:
    """Ten gigabytes of zeros in less than a megabyte, in every encoding; encodings that compress too little, twice."""
    zeros = bytes(16_000_000)
    packer = brotli.Compressor(quality=5)
    first, again = (packer.process(zeros) + packer.flush() for _ in range(2))
    member = gzip.compress(zeros, compresslevel=1)
    deflated = zlib.compressobj(1, wbits=-zlib.MAX_WBITS)
    block = deflated.compress(zeros) + deflated.flush(zlib.Z_FULL_FLUSH)
    return {
        "gzip, gzip": gzip.compress(member * 640),
        "deflate, deflate": bare(block * 640),
        "br": first + again * 640,
        "zstd": zstd.compress(zeros) * 640,
    }


async def test_compression_bomb_is_rejected_with_little_memory(serve: Serve, read: Read) -> None:
    for encoding, bomb in bombs().items():
        assert len(bomb) < 1_000_000
        url = await serve(answering(bomb, encoding))
        tracemalloc.start()
        try:
            with pytest.raises(BadResponse, match=r"larger than the 5,000,000 bytes of `limits\.response`"):
                await read(url, response="5MB")
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < 15_000_000, encoding


async def test_truncated_body_is_requested_again(serve: Serve, read: Read) -> None:
    responses = [gzip.compress(PEOPLE)[:-9], gzip.compress(PEOPLE)]

    async def flaky(request: web.Request) -> web.Response:
        return await answering(responses.pop(0), "gzip")(request)

    assert len(await read(await serve(flaky))) == 1
    with pytest.raises(Unreachable, match=r"/people: the response is truncated: its gzip data is incomplete"):
        await read(await serve(answering(gzip.compress(PEOPLE)[:-9], "gzip")))


async def test_bodies_of_common_encoders_are_decoded() -> None:
    flags = {"gzip": "gzipped", "deflate": "deflated", "brotli": "brotli"}
    with run_server(HTTPBIN) as url:
        replies = {path: await request_once(httpx.Request("GET", f"{url}/{path}"), None) for path in flags}
    bodies = {path: reply.body for path, reply in replies.items()}
    assert [isinstance(body, dict) and body[flags[path]] for path, body in bodies.items()] == [True] * 3


async def test_unknown_encoding_is_named(serve: Serve, read: Read) -> None:
    expected = (
        r"/people: the response is encoded as 'compress', "
        r"expected one of gzip, deflate, br, zstd, or none"
    )
    with pytest.raises(BadResponse, match=expected):
        await read(await serve(answering(PEOPLE, "compress")))


async def test_write_with_an_undecodable_response_has_unknown_outcome(
    serve: Serve, references: References, context: RuntimeContext
) -> None:
    url = await serve(answering(b"no brotli", "br"))
    writer = open_writer(system(url, write={"create": "POST /c"}), NoAuth(), references, context)
    (answer,) = await writer.write([item("a")])
    await writer.close()
    assert answer.error is not None
    assert (answer.error.error_class, answer.error.sent) == (ErrorClass.BAD_ANSWER, True)
    assert answer.error.message.startswith(f"{url}/c: the response is not valid br: ")
    assert answer.error.request.startswith(f"POST {url}/c\n")


async def test_error_status_counts_if_the_body_cannot_be_decoded(
    serve: Serve, references: References, context: RuntimeContext
) -> None:
    url = await serve(answering(b"no zstd", "zstd", status=422))
    writer = open_writer(system(url, write={"create": "POST /c"}), NoAuth(), references, context)
    (answer,) = await writer.write([item("a")])
    await writer.close()
    assert answer.error is not None
    assert (answer.error.error_class, answer.error.status) == (ErrorClass.REJECTED, 422)
    assert "(the response is not valid zstd: " in answer.error.response


async def test_encoded_response_to_a_write_is_decoded(
    serve: Serve, references: References, context: RuntimeContext
) -> None:
    denial = b'{"success": false, "message": "no such plan"}'
    url = await serve(answering(zstd.compress(denial), "zstd"))
    writer = open_writer(system(url, write={"upsert": "PUT /c/{id}"}), NoAuth(), references, context)
    (answer,) = await writer.write([item("a")])
    await writer.close()
    assert answer.effect is not Effect.UPDATED
    assert answer.error is not None
    assert "no such plan" in answer.error.message


async def test_token_response_may_be_encoded_within_the_limit(serve: Serve) -> None:
    reply = await request_once(
        httpx.Request("GET", await serve(answering(gzip.compress(b'{"token": 1}'), "gzip"))), None
    )
    assert reply.body == {"token": 1}
    url = await serve(answering(bombs()["gzip, gzip"], "gzip, gzip"))
    with pytest.raises(Unreachable, match="the response is larger than the 1,000,000 bytes of such a response"):
        await request_once(httpx.Request("GET", url), None)
