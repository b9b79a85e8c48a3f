"""OAuth 2.0: token requests, refreshing, and the token cache."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import os
import re
import sys
import webbrowser
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Thread
from typing import Final
from urllib.parse import quote_plus, urlencode

import httpx

from speclab.connectors.api import RuntimeContext
from speclab.connectors.auth.credentials import Credentials
from speclab.connectors.http_transport import HttpReply, request_once
from speclab.connectors.secrets.redaction import Redactor
from speclab.core.clock import Clock
from speclab.core.errors import SpecError, Unauthorized, Unreachable
from speclab.core.files import replace_file
from speclab.core.json import Json, Record
from speclab.core.locks import try_lock
from speclab.core.outcome import Level
from speclab.spec.auth import OAuth2Auth

_LOOK_AGAIN: Final = 0.05
"""Seconds between attempts to take the lock of a process that is requesting a token."""


@dataclass(frozen=True, slots=True)
class Token:
    """A bearer token; times are POSIX seconds, and `expires_at` is None if the server sent no lifetime."""

    access: str = field(repr=False)
    refresh: str | None = field(repr=False)
    issued_at: float
    expires_at: float | None

    def good(self, now: float, margin: float) -> bool:
        """Whether the token is valid for `margin` more seconds; for a short-lived token, for half its lifetime."""
        if self.expires_at is None:
            return True
        return now < self.expires_at - min(margin, (self.expires_at - self.issued_at) / 2)


class TokenFile:
    """The token file of one login."""

    def __init__(self, directory: Path, auth: OAuth2Auth) -> None:
        self._directory = directory
        self._about = {"token_url": auth.token_url, "client_id": auth.client_id, "account": auth.account}
        self.path = directory / f"{_name(auth)}.json"

    @asynccontextmanager
    async def held(self, clock: Clock) -> AsyncIterator[None]:
        """Hold the lock on this token for the block: one process at a time refreshes it. Raise `OSError`."""
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._directory.chmod(0o700)
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        descriptor = os.open(self.path.with_suffix(".lock"), flags, 0o600)
        try:
            while not try_lock(descriptor):
                await clock.sleep(_LOOK_AGAIN)
            yield
        finally:
            os.close(descriptor)

    def read(self) -> Token | None:
        """Return the saved token; None if there is none or it cannot be read."""
        try:
            kept = json.loads(self.path.read_bytes())
            lifetime = kept["expires_at"] and float(kept["expires_at"])
            refresh = kept["refresh_token"] and str(kept["refresh_token"])
            return Token(str(kept["access_token"]), refresh, float(kept["issued_at"]), lifetime)
        except (OSError, ValueError, TypeError, KeyError):  # a damaged file is replaced
            return None

    def write(self, token: Token) -> None:
        """Save `token` atomically. Raise `OSError`."""
        text = json.dumps(
            {
                **self._about,
                "access_token": token.access,
                "refresh_token": token.refresh,
                "issued_at": token.issued_at,
                "expires_at": token.expires_at,
            }
        )
        replace_file(self.path, text.encode(), mode=0o600)


def get_token_directory() -> Path:
    """Return the directory of this user's tokens."""
    from platformdirs import user_state_path

    return user_state_path("speclab", appauthor=False) / "tokens"


def _name(auth: OAuth2Auth) -> str:
    """Return the file name: a hash of the token request, so that a spec with other settings has its own token.

    The client secret is included only for client credentials: a login stays valid after a new secret.
    """
    identity = [auth.flow, auth.token_url, auth.client_id, auth.scope, auth.audience, sorted(auth.params.items())]
    identity += [auth.account, auth.refresh_token]
    if auth.flow == "client_credentials":
        identity.append(auth.client_secret)
    return hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:32]


_PAGE: Final = re.compile(r"https?://[^\s/?#\\\x00-\x1f\x7f-\x9f]+(?:[/?#][^\s\x00-\x1f\x7f-\x9f]*)?", re.IGNORECASE)


def has_browser() -> bool:
    """Whether a graphical browser is available on this machine."""
    graphical = sys.platform == "darwin" or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    return bool(graphical) and not os.environ.get("SSH_CONNECTION")


def is_web_url(url: str) -> bool:
    """Whether `url` is a web page: a browser would run `javascript:`, open `file:`, or parse an option."""
    return _PAGE.fullmatch(url) is not None


def open_browser(url: str) -> None:
    """Open `url` in the browser and return at once. Raise `ValueError` if it is not a web page."""
    if not is_web_url(url):
        raise ValueError(f"not an http:// or https:// page: {url!r}")
    Thread(target=webbrowser.open, args=(url,), daemon=True).start()


_SECRET: Final = ("access_token", "refresh_token", "id_token", "device_code")
_LONGEST: Final = 100 * 365 * 86400.0
"""Seconds above which a lifetime counts as unlimited: its end would not be a valid date."""
_SHOWN: Final = 2048
"""Bytes of a response that an error shows."""


class GrantRejected(Unauthorized):
    """The authorization server rejected the grant (error codes of RFC 6749 section 5.2 and RFC 8628 section 3.5)."""

    def __init__(self, message: str, *, code: str, request: str, response: str) -> None:
        super().__init__(message, request=request, response=response)
        self.code = code


class TokenEndpoint:
    """Requests tokens as one client; every secret in a response is added to the redactor."""

    def __init__(self, auth: OAuth2Auth, redactor: Redactor, context: RuntimeContext) -> None:
        self._auth = auth
        self._redactor = redactor
        self._context = context
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
        """The scope, audience and parameters of the request that starts a flow."""
        parameters = {"scope": self._auth.scope, "audience": self._auth.audience}
        return {name: value for name, value in parameters.items() if value is not None} | self._auth.params

    async def grant(self, grant_type: str, **params: str) -> Token:
        """Request a token for a grant. Raise `GrantRejected`, `Unauthorized` or `Unreachable`."""
        issued_at = self._context.clock.now().timestamp()
        url = self._auth.token_url
        result, reply = await self._post(url, {"grant_type": grant_type, **self._auth.params, **params})
        access, kind = result.get("access_token"), result.get("token_type", "Bearer")
        if not isinstance(access, str) or not (access and access.isascii() and access.isprintable()):
            raise self._useless(url, reply, "gave no token")
        if not isinstance(kind, str) or kind.lower() != "bearer":
            raise self._useless(url, reply, f"gave a token of the type {kind!r}, which is not known here")
        refresh, lifetime = result.get("refresh_token"), parse_seconds(result.get("expires_in"))
        return Token(
            access=access,
            refresh=refresh if isinstance(refresh, str) and refresh else None,
            issued_at=issued_at,
            expires_at=None if lifetime is None else issued_at + lifetime,
        )

    async def device(self, url: str) -> Record:
        """Send a device authorization request (RFC 8628 section 3.1). Raise the errors of `grant`."""
        result, reply = await self._post(url, self.wanted | {"client_id": self._auth.client_id})
        needed = ("device_code", "user_code", "verification_uri")
        if not all(isinstance(result.get(name), str) for name in needed):
            raise self._useless(url, reply, f"gave no {', '.join(needed)}")
        for name in ("verification_uri", "verification_uri_complete"):
            page = result.get(name)
            if page and not is_web_url(str(page)):
                raise self._useless(url, reply, f"gave a {name} that is not an http:// or https:// page: {page!r}")
        return result

    async def _post(self, url: str, params: dict[str, str]) -> tuple[Record, HttpReply]:
        form = urlencode({**self._client, **params}, errors="surrogateescape").encode("ascii")
        headers = {**self._headers, "Content-Type": "application/x-www-form-urlencoded"}
        try:
            request = httpx.Request("POST", url, headers=headers, content=form)
        except httpx.InvalidURL as error:
            raise SpecError(f"the URL that gives out tokens is none: {error}") from None
        try:
            reply = await request_once(request, self._context.transport)
        except Unreachable as error:
            raise Unreachable(self._redactor.redact(f"no token: {error.message}"), request=error.request) from None
        result = reply.body if isinstance(reply.body, dict) else {}
        for name in _SECRET:
            if isinstance(value := result.get(name), str):
                self._redactor.add(value)
        line, response = self._shown(url, reply)
        if reply.status in (408, 429) or reply.status >= 500:
            raise Unreachable(f"no token: {line}: {reply.status}", request=line, response=response)
        if isinstance(code := result.get("error"), str):
            said = result.get("error_description")
            why = f"{code}: {said}" if isinstance(said, str) and said else code
            message = self._redactor.redact(f"{line} refuses to give a token: {why}")
            raise GrantRejected(message, code=code, request=line, response=response)
        if not 200 <= reply.status < 300 or not result:
            raise self._useless(url, reply, f"answered {reply.status} and gave no token")
        return result, reply

    def _useless(self, url: str, reply: HttpReply, what: str) -> Unauthorized:
        line, response = self._shown(url, reply)
        hint = "Check the URLs of the Auth section; the answer is not one of an authorization server."
        return Unauthorized(self._redactor.redact(f"{line} {what}"), request=line, response=response, hint=hint)

    def _shown(self, url: str, reply: HttpReply) -> tuple[str, str]:
        """Return the request and the response as text, secrets redacted."""
        line = self._redactor.redact(f"POST {url.partition('?')[0]}")
        return line, f"{reply.status}\n\n{self._redactor.excerpt(reply.text, _SHOWN)}"


def parse_seconds(value: Json) -> float | None:
    """Return a lifetime or an interval in seconds; some servers send text. None if invalid or unlimited."""
    try:
        seconds = float(value) if isinstance(value, int | float | str) else 0.0
    except ValueError:
        return None
    return seconds if 0 < seconds <= _LONGEST else None


INTERACTIVE = frozenset({"authorization_code", "device_code"})
"""Flows that need a login."""


class OAuth2(Credentials):
    """Adds the token to requests. A request rejected with 401 is repeated once with a new token."""

    def __init__(self, auth: OAuth2Auth, redactor: Redactor, context: RuntimeContext) -> None:
        self._tokens = Tokens(auth, redactor, context)

    async def async_auth_flow(self, request: httpx.Request) -> AsyncGenerator[httpx.Request, httpx.Response]:
        """Send `request` with a token. Raise `Unauthorized` or `Unreachable` if no token is available."""
        token = await self._tokens.current()
        request.headers["Authorization"] = f"Bearer {token.access}"
        response = yield request
        if response.status_code == 401:
            token = await self._tokens.current(refused=token)
            request.headers["Authorization"] = f"Bearer {token.access}"
            yield request

    async def close(self) -> None:
        """Wait for a refresh in flight: its response may contain the only valid refresh token."""
        await self._tokens.close()


class Tokens:
    """The token of one login: cached in memory and in a file, refreshed when it expires."""

    def __init__(self, auth: OAuth2Auth, redactor: Redactor, context: RuntimeContext) -> None:
        """Create the tokens for `auth`, references resolved."""
        self._auth = auth
        self._redactor = redactor
        self._context = context
        self._endpoint = TokenEndpoint(auth, redactor, context)
        self._file = TokenFile(context.tokens or get_token_directory(), auth)
        self._token: Token | None = None
        self._renewal: asyncio.Task[Token] | None = None

    async def current(self, *, refused: Token | None = None) -> Token:
        """Return a valid token other than the `refused` one.

        Raise `Unauthorized` if the authorization server rejects the request, `Unreachable` if it does not respond, and
        `SpecError` if a new token cannot be saved.
        """
        if self._token is not None and self._serves(self._token, refused):
            return self._token
        if self._renewal is None:
            self._renewal = asyncio.create_task(self._renewed(refused))
            self._renewal.add_done_callback(self._over)
        # Shielded: a cancelled request must not cancel the refresh that others wait for, or lose its response.
        return await asyncio.shield(self._renewal)

    async def renewed(self) -> Token:
        """Refresh the token even if the cached one may be valid. Raise the errors of `current`."""
        return await self.current(refused=self._token or self._kept())

    async def take(self, token: Token) -> None:
        """Save the `token` of a login."""
        try:
            async with self._file.held(self._context.clock):
                self._file.write(token)
        except OSError as error:
            raise self._unkept(error) from None
        self._token = token

    async def close(self) -> None:
        """Wait for a refresh in flight."""
        if self._renewal is not None:
            await asyncio.wait([self._renewal])

    def _over(self, _: asyncio.Task[Token]) -> None:
        self._renewal = None

    async def _renewed(self, refused: Token | None) -> Token:
        try:
            async with self._file.held(self._context.clock):
                token = self._kept()  # another process may have refreshed it
                if token is None or not self._serves(token, refused):
                    token = await self._asked(token)
                    self._file.write(token)
        except OSError as error:
            if self._auth.flow != "client_credentials":
                raise self._unkept(error) from None
            self._context.report(Level.WARNING, f"tokens are not kept: {error.strerror or error}: {self._file.path}")
            token = await self._asked(None)
        self._token = token
        return token

    async def _asked(self, kept: Token | None) -> Token:
        """Request a new token from the server."""
        if self._auth.flow == "client_credentials":
            return await self._endpoint.grant("client_credentials", **self._endpoint.wanted)
        refresh = kept.refresh if kept is not None else self._auth.refresh_token
        if refresh is None:
            what = "has expired and cannot be renewed" if kept is not None else "is not there yet"
            raise Unauthorized(
                f"the login at {self._auth.token_url} {what}; `speclab auth` with the spec's name makes a new one"
            )
        params = self._endpoint.wanted if self._auth.flow == "refresh_token" else {}
        try:
            token = await self._endpoint.grant("refresh_token", refresh_token=refresh, **params)
        except GrantRejected as error:
            if error.code == "invalid_grant":
                error.hint = (
                    "The login is over; `speclab auth` with the spec's name makes a new one."
                    if self._auth.flow in INTERACTIVE
                    else "The refresh token is used up, expired or revoked; put a new one where the Auth section says."
                )
            raise
        return token if token.refresh is not None else replace(token, refresh=refresh)

    def _kept(self) -> Token | None:
        token = self._file.read()
        if token is not None:
            self._redactor.add(token.access)
            self._redactor.add(token.refresh or "")
        return token

    def _serves(self, token: Token, refused: Token | None) -> bool:
        if refused is not None and token.access == refused.access:
            return False
        return token.good(self._context.clock.now().timestamp(), self._auth.refresh_margin)

    def _unkept(self, error: OSError) -> SpecError:
        return SpecError(
            f"the login cannot be kept: {self._file.path}: {error.strerror or error}",
            hint="A refresh token that is not kept is lost; make the directory writable, or set XDG_STATE_HOME.",
        )
