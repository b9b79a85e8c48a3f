"""An httpx transport over aiohttp, which is several times faster than httpcore with many connections.

The package httpx-aiohttp differs in three ways that matter here: it quotes URLs again, so that `%26` in a path arrives
as `&`; it reports a dropped connection as one that was never established, although the request may have been executed;
and it builds a timeout object and headers for each request.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final
from urllib.request import getproxies, proxy_bypass

import aiohttp
import httpx
from multidict import CIMultiDict
from yarl import URL

from speclab.core.outcome import ErrorClass

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
            self._proxy = _proxy(request.url)
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


def _proxy(url: httpx.URL) -> str | None:
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
