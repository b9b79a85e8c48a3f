"""HTTP transport: requests and responses of httpx, carried by aiohttp, decoded within bounds."""

from __future__ import annotations

import asyncio
import sys
import zlib
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Final, Protocol
from urllib.request import getproxies, proxy_bypass

import aiohttp
import httpx
from multidict import CIMultiDict
from yarl import URL

from speclab.core.errors import Unreachable
from speclab.core.json import Json, decode
from speclab.core.outcome import ErrorClass

_PIECE: Final = 256 * 1024
"""Bytes decompressed at once."""
_LAYERS: Final = 4
"""Largest number of nested encodings."""
_ZSTD_WINDOW: Final = 23
"""Binary logarithm of the largest zstd window: 8 MB (RFC 9659)."""


class Unreadable(Exception):
    """A body that cannot be decoded, or exceeds the size limit."""

    def __init__(self, error_class: ErrorClass, message: str) -> None:
        super().__init__(message)
        self.error_class = error_class
        self.message = message


class Decoder:
    """Decodes one body of at most `most` bytes, encoded or decoded; `limit` names the setting in messages."""

    def __init__(self, encodings: str, most: int, limit: str = "`limits.response`") -> None:
        """Create a decoder for a Content-Encoding header. Raises `Unreadable` for an unknown encoding."""
        names = [name.strip().lower() for name in encodings.split(",")] if encodings else []
        names = [name for name in names if name not in ("", "identity")]
        if len(names) > _LAYERS:
            raise Unreadable(
                ErrorClass.BAD_ANSWER, f"the response has {len(names)} nested encodings, expected at most {_LAYERS}"
            )
        self._layers = [_DecodingLayer(name) for name in reversed(names)]
        self._most = f"the {most:,} bytes of {limit}"
        self._left = [most] * (len(names) + 1)

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield the decoded pieces of `data`, the next part of the body. Raises `Unreadable`."""
        return self._decode(0, data)

    def finish(self) -> None:
        """Check that the body is complete. Raises `Unreadable` if it is truncated."""
        for layer in self._layers:
            layer.finish()

    def _decode(self, depth: int, data: bytes) -> Iterator[bytes]:
        """Yield `data` decoded by all layers from `depth` on."""
        self._left[depth] -= len(data)
        if self._left[depth] < 0:
            raise Unreadable(ErrorClass.BAD_ANSWER, f"the response is larger than {self._most}")
        if depth == len(self._layers):
            yield data
            return
        for piece in self._layers[depth].unpack(data):
            yield from self._decode(depth + 1, piece)


class _DecodingLayer:
    """One encoding of a body."""

    def __init__(self, name: str) -> None:
        opened = _KNOWN.get(name.removeprefix("x-"))  # x-gzip is gzip, RFC 9110 section 8.4.1.3
        if opened is None:
            message = f"the response is encoded as {name!r}, expected one of {ACCEPTED}, or none"
            raise Unreadable(ErrorClass.BAD_ANSWER, message)
        self._name = name
        self._stream = opened()
        self._started = False

    def unpack(self, data: bytes) -> Iterator[bytes]:
        self._started = self._started or bool(data)
        try:
            yield from self._stream.unpack(data)
        except self._stream.error as error:
            message = f"the response is not valid {self._name}: {error}"
            raise Unreadable(ErrorClass.BAD_ANSWER, message) from None

    def finish(self) -> None:
        if self._started and not self._stream.over:
            raise Unreadable(ErrorClass.NETWORK, f"the response is truncated: its {self._name} data is incomplete")


class _Stream(Protocol):
    error: type[Exception]
    """The error that `unpack` raises for invalid data."""

    @property
    def over(self) -> bool:
        """Whether the data may end here."""

    def unpack(self, data: bytes) -> Iterator[bytes]:
        """Yield the decoded `data` in pieces of about `_PIECE` bytes."""


class _Gzip:
    """RFC 1952: one or more members."""

    error: type[Exception] = zlib.error

    def __init__(self) -> None:
        self._member = zlib.decompressobj(zlib.MAX_WBITS | 16)

    @property
    def over(self) -> bool:
        return self._member.eof

    def unpack(self, data: bytes) -> Iterator[bytes]:
        while data:
            if self._member.eof:
                data = data.lstrip(b"\0")  # padding after a member
                if data:
                    self._member = zlib.decompressobj(zlib.MAX_WBITS | 16)
            yield from _inflate(self._member, data)
            data = self._member.unused_data


class _Deflate:
    """The zlib format (RFC 1950), or the raw format (RFC 1951) that some servers send under that name."""

    error: type[Exception] = zlib.error

    def __init__(self) -> None:
        self._head = b""
        self._inner: zlib._Decompress | None = None

    @property
    def over(self) -> bool:
        return self._inner is not None and self._inner.eof

    def unpack(self, data: bytes) -> Iterator[bytes]:
        if self._inner is None:
            data = self._head = self._head + data
            if len(data) < 2:
                return
            headed = data[0] & 0x0F == zlib.DEFLATED and int.from_bytes(data[:2]) % 31 == 0
            self._inner = zlib.decompressobj(zlib.MAX_WBITS if headed else -zlib.MAX_WBITS)
        yield from _inflate(self._inner, data)
        if self._inner.unused_data:
            raise zlib.error("there is data after its end")


class _Brotli:
    """RFC 7932."""

    def __init__(self) -> None:
        import brotli  # takes 5 MB, mostly a dictionary

        self.error: type[Exception] = brotli.error
        self._inner = brotli.Decompressor()

    @property
    def over(self) -> bool:
        return bool(self._inner.is_finished())

    def unpack(self, data: bytes) -> Iterator[bytes]:
        more = bool(data)
        while more:
            piece = self._inner.process(data, output_buffer_limit=_PIECE)
            yield piece
            data = b""
            more = len(piece) >= _PIECE or not self._inner.can_accept_more_data()
            more = more and not self._inner.is_finished()


class _Zstd:
    """RFC 8878: one or more frames."""

    def __init__(self) -> None:
        if sys.version_info >= (3, 14):
            from compression import zstd
        else:
            from backports import zstd

        self.error: type[Exception] = zstd.ZstdError
        options: dict[int, int] = {zstd.DecompressionParameter.window_log_max: _ZSTD_WINDOW}
        self._open = partial(zstd.ZstdDecompressor, options=options)
        self._frame = self._open()

    @property
    def over(self) -> bool:
        return self._frame.eof

    def unpack(self, data: bytes) -> Iterator[bytes]:
        while data or not (self._frame.eof or self._frame.needs_input):
            if self._frame.eof:
                self._frame = self._open()
            yield self._frame.decompress(data, _PIECE)
            data = self._frame.unused_data if self._frame.eof else b""


def _inflate(stream: zlib._Decompress, data: bytes) -> Iterator[bytes]:
    """Yield the inflated `data`, up to the end of `stream`."""
    full = False
    while (data or full) and not stream.eof:
        piece = stream.decompress(data, _PIECE)
        data = stream.unconsumed_tail
        full = len(piece) == _PIECE  # there may be more output without more input
        yield piece


_KNOWN: Final[Mapping[str, Callable[[], _Stream]]] = {
    "gzip": _Gzip,
    "deflate": _Deflate,
    "br": _Brotli,
    "zstd": _Zstd,
}
ACCEPTED: Final = ", ".join(_KNOWN)
"""The value of the Accept-Encoding header."""


_KEEPALIVE: Final = 4.0
"""Seconds to keep an idle connection: less than the 5 s after which common servers close theirs."""
_CHUNK: Final = 64 * 1024


class AiohttpTransport(httpx.AsyncBaseTransport):
    """Sends requests to one origin over at most `connections` connections, each established within `connect` seconds.

    Uses the proxy of the environment for that origin (`HTTPS_PROXY`, `NO_PROXY`), except for loopback. Does not follow
    redirects, keep cookies or decompress bodies.
    """

    def __init__(self, *, connections: int, connect: float, tls: bool) -> None:
        self._connections = connections
        self._timeout = aiohttp.ClientTimeout(total=None, sock_connect=connect)
        self._tls = tls
        self._session: aiohttp.ClientSession | None = None
        self._proxy: str | None = None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send `request` and return the response without its body. Raises `httpx.TransportError`."""
        if self._session is None:
            self._session = self._open()
            self._proxy = find_proxy(str(request.url))
        headers = CIMultiDict((name.decode("ascii"), value.decode("utf-8")) for name, value in request.headers.raw)
        with _as_httpx():
            response = await self._session.request(
                request.method,
                URL(str(request.url), encoded=True),
                headers=headers,
                data=request.content or None,
                allow_redirects=False,
                timeout=self._timeout,
                proxy=self._proxy,
            )
        return httpx.Response(
            response.status,
            headers=response.raw_headers,
            stream=_Body(response),
            extensions={"reason_phrase": (response.reason or "").encode("utf-8", "surrogateescape")},
        )

    async def aclose(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    def _open(self) -> aiohttp.ClientSession:
        # Certificates take 20 ms to load, and plain HTTP does not use them.
        ssl = httpx.create_ssl_context() if self._tls else False
        connector = aiohttp.TCPConnector(limit=self._connections, ssl=ssl, keepalive_timeout=_KEEPALIVE)
        return aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar(), auto_decompress=False)


class _Body(httpx.AsyncByteStream):
    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response

    async def __aiter__(self) -> AsyncIterator[bytes]:
        with _as_httpx():
            async for chunk in self._response.content.iter_chunked(_CHUNK):
                yield chunk

    async def aclose(self) -> None:
        self._response.release()


def find_proxy(address: str) -> str | None:
    """Return the proxy that the environment names for `address`; None for loopback, and if there is none."""
    url = httpx.URL(address)
    if url.host == "localhost" or url.host.startswith("127.") or url.host == "::1" or proxy_bypass(url.host):
        return None
    return getproxies().get(url.scheme)


@contextmanager
def _as_httpx() -> Iterator[None]:
    """Convert errors of aiohttp to those of httpx."""
    try:
        yield
    except aiohttp.ConnectionTimeoutError as error:
        raise httpx.ConnectTimeout(str(error)) from error
    except aiohttp.ClientConnectorError as error:
        raise httpx.ConnectError(error.strerror or str(error.os_error)) from error
    except aiohttp.ClientHttpProxyError as error:
        raise httpx.ProxyError(f"the proxy responded with {error.status} {error.message}") from error
    except aiohttp.InvalidURL as error:
        raise httpx.UnsupportedProtocol(str(error)) from error
    except aiohttp.ClientResponseError as error:
        # The lines after the first show the invalid bytes, with an arrow to one of them.
        raise httpx.RemoteProtocolError(error.message.partition("\n")[0].rstrip(":")) from error
    except aiohttp.ClientError as error:  # dropped while sending, waiting or reading
        raise httpx.ReadError(str(error)) from error


@dataclass(frozen=True, slots=True)
class MappedError:
    """Why there is no response, and what to do; `sent` is False only if the server certainly received nothing."""

    error_class: ErrorClass
    reason: str
    sent: bool
    hint: str = ""


_NO_CONNECTION_IN_TIME: Final = MappedError(ErrorClass.TIMEOUT, "no connection in time", sent=False)
_NO_RESPONSE_IN_TIME: Final = MappedError(ErrorClass.TIMEOUT, "no response in time", sent=True)
_CANNOT_CONNECT: Final = MappedError(
    ErrorClass.NETWORK,
    "cannot connect",
    sent=False,
    hint="Check that the system is running and that its URL is correct from this machine.",
)
_NO_URL: Final = MappedError(ErrorClass.NETWORK, "not a URL that can be requested", sent=False)
_NO_HTTP: Final = MappedError(ErrorClass.BAD_ANSWER, "the response is not HTTP", sent=True)
_BROKEN: Final = MappedError(
    ErrorClass.NETWORK, "the connection was closed before the response was complete", sent=True
)

_MEANINGS: Final[tuple[tuple[type[Exception], MappedError], ...]] = (
    (httpx.ConnectTimeout, _NO_CONNECTION_IN_TIME),
    (httpx.PoolTimeout, _NO_CONNECTION_IN_TIME),
    (httpx.TimeoutException, _NO_RESPONSE_IN_TIME),
    (TimeoutError, _NO_RESPONSE_IN_TIME),
    (httpx.ConnectError, _CANNOT_CONNECT),
    (httpx.ProxyError, _CANNOT_CONNECT),
    (httpx.UnsupportedProtocol, _NO_URL),
    (httpx.RemoteProtocolError, _NO_HTTP),
)


def map_error(error: Exception) -> MappedError:
    """Return the meaning of `error`, which a transport or reading a response raised."""
    return next((meaning for describe_kind, meaning in _MEANINGS if isinstance(error, describe_kind)), _BROKEN)


_TIMEOUT: Final = 30.0
_CONNECT: Final = 10.0
_LARGEST: Final = 1_000_000
"""Largest size of a reply in bytes; tokens and secrets are small."""

Transports = Callable[[], "httpx.AsyncBaseTransport"]


@dataclass(frozen=True, slots=True)
class HttpReply:
    """A complete response; `body` is None if it is not JSON."""

    status: int
    body: Json
    text: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


async def request_once(request: httpx.Request, transports: Transports | None) -> HttpReply:
    """Send `request` and return the response of any status; redirects are not followed.

    Raises `Unreachable` if there is no response in time, or none that can be decoded.
    """
    import httpx

    url = str(request.url.copy_with(query=None))
    transport = transports() if transports else _transport(tls=request.url.scheme == "https")
    try:
        async with asyncio.timeout(_TIMEOUT):
            response = await transport.handle_async_request(request)
            text = await _text(response)
    except (httpx.RequestError, TimeoutError) as error:
        raise Unreachable(f"{url}: {map_error(error).reason}", request=f"{request.method} {url}") from None
    except Unreadable as error:
        raise Unreachable(f"{url}: {error.message}", request=f"{request.method} {url}") from None
    finally:
        await transport.aclose()
    try:
        body = decode(text)
    except ValueError:
        body = None
    return HttpReply(response.status_code, body, text, response.headers)


async def _text(response: httpx.Response) -> bytes:

    try:
        decoder = Decoder(response.headers.get("content-encoding", ""), _LARGEST, "such a response")
        text = b"".join([piece async for raw in response.aiter_raw() for piece in decoder.feed(raw)])
        decoder.finish()
    finally:
        await response.aclose()
    return text


def _transport(*, tls: bool) -> httpx.AsyncBaseTransport:

    return AiohttpTransport(connections=1, connect=_CONNECT, tls=tls)
