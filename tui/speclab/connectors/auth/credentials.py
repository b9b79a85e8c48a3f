"""Credentials on requests: basic, bearer, API keys, and AWS signatures (version 4)."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
from collections.abc import Generator, Sequence
from datetime import UTC, datetime
from posixpath import normpath
from typing import Final
from urllib.parse import quote, unquote

import httpx

from speclab.connectors.secrets.redaction import Redactor
from speclab.core.clock import Clock
from speclab.core.errors import SpecError
from speclab.core.text import split_template
from speclab.spec.auth import AwsAuth, HmacAuth

_NAME: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")


class Credentials(httpx.Auth):
    """Adds credentials to requests. The base class adds none."""

    async def close(self) -> None:
        """Wait for operations in flight."""


class HeaderAuth(Credentials):
    """One header with the same value on every request."""

    def __init__(self, name: str, value: str) -> None:
        """Create the header `name`. Raise `SpecError` for a value that a header cannot contain."""
        self._name = check_header_name(name)
        self._value = check_header_value(name, value)

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Add the header to `request`."""
        request.headers[self._name] = self._value
        yield request


class ParamAuth(Credentials):
    """One query parameter on every request; it replaces the parameter of a next-page URL."""

    def __init__(self, name: str, value: str) -> None:
        """Create the parameter `name`. Raise `SpecError` for a value that a URL cannot contain."""
        self._name = name
        self._value = _header_text(value, f"the parameter {name}")

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Add the parameter to `request`."""
        request.url = request.url.copy_set_param(self._name, self._value)
        yield request


def build_basic_auth(username: str, password: str, redactor: Redactor) -> Credentials:
    """Return HTTP Basic credentials (RFC 7617) in UTF-8; bytes that are not UTF-8 are sent unchanged."""
    token = base64.b64encode(f"{username}:{password}".encode("utf-8", "surrogateescape")).decode("ascii")
    redactor.add(token)
    return HeaderAuth("Authorization", f"Basic {token}")


def check_header_name(name: str) -> str:
    """Return `name` if it is a valid header name (RFC 9110 section 5.1). Raise `SpecError`."""
    if not _NAME.fullmatch(name):
        raise SpecError(f"{name!r} is not a header name; expected one such as X-Api-Key")
    return name


def check_header_value(name: str, value: str) -> str:
    """Return `value` if the header `name` can contain it. Raise `SpecError`, which does not show the value."""
    where = f"the header {name}"
    if any(ord(character) < 32 or character == "\x7f" for character in _header_text(value, where)):
        raise SpecError(
            f"{where} must not contain line breaks or other control characters",
            hint="Often the line end was copied along with the value.",
        )
    return value


def _header_text(value: str, where: str) -> str:
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        raise SpecError(f"{where}: expected text in UTF-8") from None
    return value


class HmacSignature(Credentials):
    """Signs requests with an HMAC; a request that is sent again is signed again."""

    def __init__(self, auth: HmacAuth, clock: Clock) -> None:
        """Create signatures for `auth` (references resolved).

        Raise `SpecError` for values that a header cannot contain.
        """
        for name in filter(None, (auth.header, auth.timestamp, auth.nonce)):
            check_header_name(name)
        check_header_value(auth.header, auth.prefix)
        self._auth = auth
        self._clock = clock
        self._secret = auth.secret.encode("utf-8", "surrogateescape")
        self._template = tuple(split_template(auth.over))

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Add the signature and the headers that it covers to `request`."""
        parts = self._parts(request)
        for name in ("timestamp", "nonce"):
            header = getattr(self._auth, name)
            if header is not None:
                request.headers[header] = parts[name].decode("ascii")
        signed = b"".join(
            literal.encode("utf-8") + (parts[part] if part is not None else b"") for literal, part in self._template
        )
        digest = hmac.new(self._secret, signed, self._auth.algorithm).digest()
        text = digest.hex() if self._auth.encoding == "hex" else base64.b64encode(digest).decode("ascii")
        request.headers[self._auth.header] = self._auth.prefix + text
        yield request

    def _parts(self, request: httpx.Request) -> dict[str, bytes]:
        target, body = request.url.raw_path, request.content
        path, _, query = target.partition(b"?")
        return {
            "method": request.method.encode("ascii"),
            "url": str(request.url).encode("ascii"),
            "host": request.headers["host"].encode("ascii"),
            "path": path,
            "query": query,
            "target": target,
            "timestamp": str(int(self._clock.now().timestamp())).encode("ascii"),
            "nonce": secrets.token_hex(16).encode("ascii"),
            "body": body,
            "body_hash": hashlib.new(self._auth.algorithm, body).hexdigest().encode("ascii"),
        }


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
