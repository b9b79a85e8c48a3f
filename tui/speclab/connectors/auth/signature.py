"""A signature of each request with a shared secret (HMAC, RFC 2104), over the parts of it that the spec names."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
from collections.abc import Generator
from typing import Final

import httpx

from speclab.clock import Clock
from speclab.connectors.auth.plain import Credentials, header_name, header_value
from speclab.spec.auth import HmacAuth

_PART: Final = re.compile(r"\{([a-z_]+)\}")


class HmacSignature(Credentials):
    """Signs requests as `auth` says; a request that is sent again is signed again."""

    def __init__(self, auth: HmacAuth, clock: Clock) -> None:
        """Signatures as `auth` (references resolved) says. Raises `SpecError` for what no header can carry."""
        for name in filter(None, (auth.header, auth.timestamp, auth.nonce)):
            header_name(name)
        header_value(auth.header, auth.prefix)
        self._auth = auth
        self._clock = clock
        self._secret = auth.secret.encode("utf-8", "surrogateescape")
        self._template = _PART.split(auth.over)  # texts and, between them, names of parts

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Put the signature on `request`, and the headers it is over."""
        parts = self._parts(request)
        for name in ("timestamp", "nonce"):
            header = getattr(self._auth, name)
            if header is not None:
                request.headers[header] = parts[name].decode("ascii")
        signed = b"".join(
            parts[piece] if index % 2 else piece.encode("utf-8") for index, piece in enumerate(self._template)
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
