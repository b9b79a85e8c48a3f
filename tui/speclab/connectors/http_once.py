"""Single HTTP requests to token endpoints and secret stores, over the same transport as all others."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from speclab.core.errors import Unreachable
from speclab.core.json import Json, decode

if TYPE_CHECKING:
    import httpx


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


async def request_once(request: httpx.Request, transports: Transports | None) -> HttpReply:
    """Send `request` and return the response of any status; redirects are not followed.

    Raises `Unreachable` if there is no response in time, or none that can be decoded.
    """
    import httpx

    from speclab.connectors.http_decoding import Unreadable
    from speclab.connectors.http_transport import map_error

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
    return HttpReply(response.status_code, body, text)


async def _text(response: httpx.Response) -> bytes:
    from speclab.connectors.http_decoding import Decoder

    try:
        decoder = Decoder(response.headers.get("content-encoding", ""), _LARGEST, "such a response")
        text = b"".join([piece async for raw in response.aiter_raw() for piece in decoder.feed(raw)])
        decoder.finish()
    finally:
        await response.aclose()
    return text


def _transport(*, tls: bool) -> httpx.AsyncBaseTransport:
    from speclab.connectors.http_transport import AiohttpTransport

    return AiohttpTransport(connections=1, connect=_CONNECT, tls=tls)
