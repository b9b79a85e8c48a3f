"""Credentials that need no token: API key, basic, bearer and HMAC signatures."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
from collections.abc import Generator
from typing import Final

import httpx

from speclab.connectors.secrets.redaction import Redactor
from speclab.core.clock import Clock
from speclab.core.errors import SpecError
from speclab.core.placeholders import split_template
from speclab.spec.auth import HmacAuth

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
