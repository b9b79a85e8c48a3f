"""AWS Signature Version 4, as in the AWS General Reference ("Signing AWS API requests").

Implemented here because botocore needs 31 MB for it, and httpx-auth encodes a path once where AWS encodes it twice, and
pins httpx. The tests compare it with AWS's published test suite and with botocore.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Generator, Sequence
from datetime import UTC, datetime
from posixpath import normpath
from typing import Final
from urllib.parse import quote, unquote

import httpx

from speclab.connectors.auth.credentials import Credentials, check_header_value
from speclab.core.clock import Clock
from speclab.spec.auth import AwsAuth

_ALGORITHM: Final = "AWS4-HMAC-SHA256"
_UNRESERVED: Final = "-_.~"
_UNSIGNED: Final = frozenset(
    {"authorization", "accept-encoding", "connection", "content-length", "expect", "transfer-encoding", "user-agent"}
    | {"x-amzn-trace-id"}
)
"""Headers that a proxy may change."""


class AwsSignature(Credentials):
    """Signs requests with AWS keys."""

    def __init__(self, auth: AwsAuth, clock: Clock) -> None:
        """Create signatures with the keys of `auth`, references resolved.

        Raise `SpecError` for values that a header cannot contain.
        """
        check_header_value("Authorization", auth.access_key)
        check_header_value("X-Amz-Security-Token", auth.session_token or "")
        self._auth = auth
        self._clock = clock

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Add the date, the session token and the signature to `request`."""
        sign(request, self._auth, self._clock.now())
        yield request


def sign(request: httpx.Request, auth: AwsAuth, now: datetime) -> None:
    """Sign `request` in place, with the time `now`."""
    moment = now.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")
    payload = hashlib.sha256(request.content).hexdigest()
    request.headers["X-Amz-Date"] = moment
    if auth.session_token is not None:
        request.headers["X-Amz-Security-Token"] = auth.session_token
    if auth.service == "s3":
        request.headers["X-Amz-Content-SHA256"] = payload
    headers = _headers(request.headers)
    names = ";".join(name for name, _ in headers)
    path, _, query = request.url.raw_path.partition(b"?")
    canonical = "\n".join(
        [
            request.method,
            _path(path.decode("ascii"), auth.service),
            _query(query.decode("ascii")),
            *(f"{name}:{value}" for name, value in headers),
            "",
            names,
            payload,
        ]
    )
    scope = [moment[:8], auth.region, auth.service, "aws4_request"]
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    to_sign = "\n".join([_ALGORITHM, moment, "/".join(scope), digest])
    key = f"AWS4{auth.secret_key}".encode("utf-8", "surrogateescape")
    for part in scope:
        key = _hmac(key, part)
    request.headers["Authorization"] = (
        f"{_ALGORITHM} Credential={auth.access_key}/{'/'.join(scope)}, SignedHeaders={names}, "
        f"Signature={_hmac(key, to_sign).hex()}"
    )


def _headers(headers: httpx.Headers) -> Sequence[tuple[str, str]]:
    """Return the headers sorted, with lower-case names, joined values and trimmed whitespace."""
    found: dict[str, list[str]] = {}
    for name, value in headers.multi_items():
        if name.lower() not in _UNSIGNED:
            found.setdefault(name.lower(), []).append(" ".join(value.split()))
    return [(name, ",".join(values)) for name, values in sorted(found.items())]


def _path(path: str, service: str) -> str:
    """Return the path encoded once more; for S3 unchanged, with every dot and slash."""
    if service == "s3":
        return "/".join(_encoded(step) for step in path.split("/"))
    plain = normpath("/" + path.lstrip("/"))
    if path.endswith("/") and plain != "/":
        plain += "/"
    return quote(plain, safe=f"/{_UNRESERVED}")


def _query(query: str) -> str:
    """Return the parameters sorted, in the encoding that AWS requires."""
    parts = [part.partition("=") for part in query.split("&") if part]
    pairs = sorted((_encoded(name), _encoded(value)) for name, _, value in parts)
    return "&".join(f"{name}={value}" for name, value in pairs)


def _encoded(text: str) -> str:
    return quote(unquote(text), safe=_UNRESERVED)


def _hmac(key: bytes, text: str) -> bytes:
    return hmac.new(key, text.encode(), hashlib.sha256).digest()
