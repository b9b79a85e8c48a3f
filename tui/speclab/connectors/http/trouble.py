"""What the errors of a transport mean: their class, a reason, and whether the other side may have seen the request."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import httpx

from speclab.outcome import ErrorClass


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why there is no answer, and what to do; `sent` is False only if surely nothing of the request was seen."""

    error_class: ErrorClass
    reason: str
    sent: bool
    hint: str = ""


_NO_CONNECTION_IN_TIME: Final = Trouble(ErrorClass.TIMEOUT, "no connection in time", sent=False)
_NO_ANSWER_IN_TIME: Final = Trouble(ErrorClass.TIMEOUT, "no answer in time", sent=True)
_CANNOT_CONNECT: Final = Trouble(
    ErrorClass.NETWORK, "cannot connect", sent=False, hint="Does the system run, and is its URL right, seen from here?"
)
_NO_URL: Final = Trouble(ErrorClass.NETWORK, "not a URL that can be asked", sent=False)
_NO_HTTP: Final = Trouble(ErrorClass.BAD_ANSWER, "the answer is not HTTP", sent=True)
_BROKEN: Final = Trouble(ErrorClass.NETWORK, "the connection was closed before the whole answer came", sent=True)

_MEANINGS: Final[tuple[tuple[type[Exception], Trouble], ...]] = (
    (httpx.ConnectTimeout, _NO_CONNECTION_IN_TIME),
    (httpx.PoolTimeout, _NO_CONNECTION_IN_TIME),
    (httpx.TimeoutException, _NO_ANSWER_IN_TIME),
    (TimeoutError, _NO_ANSWER_IN_TIME),
    (httpx.ConnectError, _CANNOT_CONNECT),
    (httpx.ProxyError, _CANNOT_CONNECT),
    (httpx.UnsupportedProtocol, _NO_URL),
    (httpx.RemoteProtocolError, _NO_HTTP),
)


def trouble(error: Exception) -> Trouble:
    """What `error`, raised by a transport or while an answer was read, means."""
    return next((meaning for kind, meaning in _MEANINGS if isinstance(error, kind)), _BROKEN)
