"""The token endpoint's side of OAuth 2.0: what is sent to it, and what its answers mean (RFC 6749 sections 4 to 6).

Own code, as the libraries there are do not fit one seam to the network: Authlib's client is for httpx's successor,
sends the secret of `client_secret_basic` unencoded and waits for nobody but itself; oauthlib refuses plain HTTP, as on
loopback, but for a process-wide environment variable. What is left of them is a form and a hash.
"""

from __future__ import annotations

import base64
from typing import Final
from urllib.parse import quote_plus, urlencode

import httpx

from speclab.connectors.auth.browser import is_page
from speclab.connectors.auth.tokens import Token
from speclab.connectors.backchannel import Reply, ask
from speclab.connectors.base import Seams
from speclab.connectors.redaction import Redactor
from speclab.errors import SpecError, Unauthorized, Unreachable
from speclab.jsonvalue import Json, Record
from speclab.spec.auth import OAuth2Auth

_SECRET: Final = ("access_token", "refresh_token", "id_token", "device_code")
_LONGEST: Final = 100 * 365 * 86400.0
"""Seconds beyond which a lifetime is taken for none, as no date could be told for its end."""
_SHOWN: Final = 2048
"""Bytes of an answer that an error shows."""


class GrantRefused(Unauthorized):
    """The authorization server refuses, with one of the error codes of RFC 6749 section 5.2 or RFC 8628 section 3.5."""

    def __init__(self, message: str, *, code: str, request: str, response: str) -> None:
        super().__init__(message, request=request, response=response)
        self.code = code


class TokenEndpoint:
    """Asks for tokens as one client; every secret it is given is told to the redactor."""

    def __init__(self, auth: OAuth2Auth, redactor: Redactor, seams: Seams) -> None:
        self._auth = auth
        self._redactor = redactor
        self._seams = seams
        self._headers = {"Accept": "application/json", "Accept-Encoding": "identity"}
        self._client: dict[str, str] = {"client_id": auth.client_id}
        if auth.client_secret is not None and auth.client_auth == "post":
            self._client["client_secret"] = auth.client_secret
        elif auth.client_secret is not None:
            # RFC 6749 section 2.3.1: both are form-encoded first, so that a colon in one does not end it.
            pair = (quote_plus(part, errors="surrogateescape") for part in (auth.client_id, auth.client_secret))
            encoded = base64.b64encode(":".join(pair).encode("ascii")).decode("ascii")
            redactor.add(encoded)
            self._headers["Authorization"] = f"Basic {encoded}"
            self._client = {}

    @property
    def wanted(self) -> dict[str, str]:
        """What is asked for, in the request that begins a flow."""
        told = {"scope": self._auth.scope, "audience": self._auth.audience}
        return {name: value for name, value in told.items() if value is not None} | self._auth.params

    async def grant(self, grant_type: str, **params: str) -> Token:
        """The token for a grant. Raises `GrantRefused`, `Unauthorized` or `Unreachable`."""
        issued_at = self._seams.clock.now().timestamp()
        url = self._auth.token_url
        answer, reply = await self._post(url, {"grant_type": grant_type, **self._auth.params, **params})
        access, kind = answer.get("access_token"), answer.get("token_type", "Bearer")
        if not isinstance(access, str) or not (access and access.isascii() and access.isprintable()):
            raise self._useless(url, reply, "gave no token")
        if not isinstance(kind, str) or kind.lower() != "bearer":
            raise self._useless(url, reply, f"gave a token of the type {kind!r}, which is not known here")
        refresh, lifetime = answer.get("refresh_token"), seconds_in(answer.get("expires_in"))
        return Token(
            access=access,
            refresh=refresh if isinstance(refresh, str) and refresh else None,
            issued_at=issued_at,
            expires_at=None if lifetime is None else issued_at + lifetime,
        )

    async def device(self, url: str) -> Record:
        """The answer to a device authorization request (RFC 8628 section 3.1). Raises as `grant` does."""
        answer, reply = await self._post(url, self.wanted | {"client_id": self._auth.client_id})
        needed = ("device_code", "user_code", "verification_uri")
        if not all(isinstance(answer.get(name), str) for name in needed):
            raise self._useless(url, reply, f"gave no {', '.join(needed)}")
        for name in ("verification_uri", "verification_uri_complete"):
            page = answer.get(name)
            if page and not is_page(str(page)):
                raise self._useless(url, reply, f"gave a {name} that is not an http:// or https:// page: {page!r}")
        return answer

    async def _post(self, url: str, params: dict[str, str]) -> tuple[Record, Reply]:
        form = urlencode({**self._client, **params}, errors="surrogateescape").encode("ascii")
        headers = {**self._headers, "Content-Type": "application/x-www-form-urlencoded"}
        try:
            request = httpx.Request("POST", url, headers=headers, content=form)
        except httpx.InvalidURL as error:
            raise SpecError(f"the URL that gives out tokens is none: {error}") from None
        try:
            reply = await ask(request, self._seams.transport)
        except Unreachable as error:
            raise Unreachable(self._redactor.redact(f"no token: {error.message}"), request=error.request) from None
        answer = reply.body if isinstance(reply.body, dict) else {}
        for name in _SECRET:
            if isinstance(value := answer.get(name), str):
                self._redactor.add(value)
        line, response = self._shown(url, reply)
        if reply.status in (408, 429) or reply.status >= 500:
            raise Unreachable(f"no token: {line}: {reply.status}", request=line, response=response)
        if isinstance(code := answer.get("error"), str):
            said = answer.get("error_description")
            why = f"{code}: {said}" if isinstance(said, str) and said else code
            message = self._redactor.redact(f"{line} refuses to give a token: {why}")
            raise GrantRefused(message, code=code, request=line, response=response)
        if not 200 <= reply.status < 300 or not answer:
            raise self._useless(url, reply, f"answered {reply.status} and gave no token")
        return answer, reply

    def _useless(self, url: str, reply: Reply, what: str) -> Unauthorized:
        line, response = self._shown(url, reply)
        hint = "Check the URLs of the Auth section; the answer is not one of an authorization server."
        return Unauthorized(self._redactor.redact(f"{line} {what}"), request=line, response=response, hint=hint)

    def _shown(self, url: str, reply: Reply) -> tuple[str, str]:
        """The request and the answer as a person reads them, secrets taken out."""
        line = self._redactor.redact(f"POST {url.partition('?')[0]}")
        return line, f"{reply.status}\n\n{self._redactor.excerpt(reply.text, _SHOWN)}"


def seconds_in(value: Json) -> float | None:
    """A lifetime or an interval, which some servers write as a text; None for what is none, or without end."""
    try:
        seconds = float(value) if isinstance(value, int | float | str) else 0.0
    except ValueError:
        return None
    return seconds if 0 < seconds <= _LONGEST else None
