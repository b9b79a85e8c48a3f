"""AWS Signature Version 4, as the AWS General Reference describes it ("Signing AWS API requests").

Own code: botocore does the same within 31 MB, and httpx-auth, which is light, encodes a path once where AWS does it
twice, and pins httpx. The tests hold it to AWS's published test suite and to botocore.
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
"""Headers that whoever passes a request on may change."""


class AwsSignature(Credentials):
    """Signs requests with AWS keys."""

    def __init__(self, auth: AwsAuth, clock: Clock) -> None:
        """Signatures with the keys of `auth`, references resolved. Raises `SpecError` for what no header can carry."""
        check_header_value("Authorization", auth.access_key)
        check_header_value("X-Amz-Security-Token", auth.session_token or "")
        self._auth = auth
        self._clock = clock

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Put date, session token and signature on `request`."""
        sign(request, self._auth, self._clock.now())
        yield request


def sign(request: httpx.Request, auth: AwsAuth, now: datetime) -> None:
    """Sign `request`, in place, as sent at `now`."""
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
    """Names in order and in small letters, values of one name together, blanks taken in."""
    found: dict[str, list[str]] = {}
    for name, value in headers.multi_items():
        if name.lower() not in _UNSIGNED:
            found.setdefault(name.lower(), []).append(" ".join(value.split()))
    return [(name, ",".join(values)) for name, values in sorted(found.items())]


def _path(path: str, service: str) -> str:
    """The path as it was sent, encoded once more; S3 takes it as it was sent, with every dot and slash."""
    if service == "s3":
        return "/".join(_encoded(step) for step in path.split("/"))
    plain = normpath("/" + path.lstrip("/"))
    if path.endswith("/") and plain != "/":
        plain += "/"
    return quote(plain, safe=f"/{_UNRESERVED}")


def _query(query: str) -> str:
    """The parameters in order, each encoded in the one way that AWS has for it."""
    parts = [part.partition("=") for part in query.split("&") if part]
    pairs = sorted((_encoded(name), _encoded(value)) for name, _, value in parts)
    return "&".join(f"{name}={value}" for name, value in pairs)


def _encoded(text: str) -> str:
    return quote(unquote(text), safe=_UNRESERVED)


def _hmac(key: bytes, text: str) -> bytes:
    return hmac.new(key, text.encode(), hashlib.sha256).digest()
