"""What the errors of a transport mean: their class, a reason, and whether the other side may have seen the request."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import aiohttp
import httpx

from speclab.outcome import ErrorClass


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why there is no answer; `sent` is False only if surely nothing of the request was seen."""

    error_class: ErrorClass
    reason: str
    sent: bool


_NO_CONNECTION_IN_TIME: Final = Trouble(ErrorClass.TIMEOUT, "no connection in time", sent=False)
_NO_ANSWER_IN_TIME: Final = Trouble(ErrorClass.TIMEOUT, "no answer in time", sent=True)
_CANNOT_CONNECT: Final = Trouble(ErrorClass.NETWORK, "cannot connect", sent=False)
_CLOSED: Final = Trouble(ErrorClass.NETWORK, "the connection was closed before an answer came", sent=True)
_BROKEN: Final = Trouble(ErrorClass.NETWORK, "the connection broke in the answer", sent=True)
_NO_URL: Final = Trouble(ErrorClass.NETWORK, "not a URL that can be asked", sent=False)
_ENCODING: Final = Trouble(ErrorClass.BAD_ANSWER, "the answer is not encoded as it says", sent=True)
_NO_HTTP: Final = Trouble(ErrorClass.BAD_ANSWER, "the answer is not HTTP", sent=True)

_BY_CAUSE: Final[tuple[tuple[type[BaseException], Trouble], ...]] = (
    (aiohttp.ConnectionTimeoutError, _NO_CONNECTION_IN_TIME),
    (aiohttp.ClientConnectorError, _CANNOT_CONNECT),
    (aiohttp.ServerTimeoutError, _NO_ANSWER_IN_TIME),
    (aiohttp.ClientConnectionError, _CLOSED),
)
"""The aiohttp transport maps a refused and a dropped connection both to ConnectTimeout; their causes differ."""
_BY_ERROR: Final[tuple[tuple[type[BaseException], Trouble], ...]] = (
    (httpx.ConnectTimeout, _NO_CONNECTION_IN_TIME),
    (httpx.PoolTimeout, _NO_CONNECTION_IN_TIME),
    (httpx.TimeoutException, _NO_ANSWER_IN_TIME),
    (TimeoutError, _NO_ANSWER_IN_TIME),
    (httpx.ConnectError, _CANNOT_CONNECT),
    (httpx.ProxyError, _CANNOT_CONNECT),
    (httpx.UnsupportedProtocol, _NO_URL),
    (httpx.InvalidURL, _NO_URL),
    (httpx.DecodingError, _ENCODING),
    (aiohttp.ClientError, _NO_HTTP),
)


def trouble(error: Exception) -> Trouble:
    """What `error`, raised by a transport, means."""
    cause = error.__cause__
    for kind, meaning in _BY_CAUSE:
        if isinstance(cause, kind):
            return meaning
    return next((meaning for kind, meaning in _BY_ERROR if isinstance(error, kind)), _BROKEN)


def detail(error: Exception) -> str:
    """What the system or the library says of `error`, where that tells more."""
    cause = error.__cause__
    if isinstance(cause, aiohttp.ClientConnectorError):
        return cause.strerror or str(cause.os_error)
    return "" if isinstance(cause, aiohttp.ClientConnectionError) else str(error)
