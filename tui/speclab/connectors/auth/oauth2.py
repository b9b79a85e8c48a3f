"""OAuth 2.0 on a request: a bearer token that is there when it is needed and renewed once, whoever else asks for it.

Renewed before its end and after a 401; never twice at once, neither here nor in another process: a refresh token that
is used twice is, to many servers, stolen.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import replace

import httpx

from speclab.connectors.auth.grants import GrantRefused, TokenEndpoint
from speclab.connectors.auth.plain import Credentials
from speclab.connectors.auth.tokens import Token, TokenFile, token_directory
from speclab.connectors.base import Seams
from speclab.connectors.redaction import Redactor
from speclab.errors import SpecError, Unauthorized
from speclab.outcome import Level
from speclab.spec.auth import OAuth2Auth

INTERACTIVE = frozenset({"authorization_code", "device_code"})
"""Flows that a person begins."""


class OAuth2(Credentials):
    """Puts the token on requests, and a new one on a request that was refused with 401, once."""

    def __init__(self, auth: OAuth2Auth, redactor: Redactor, seams: Seams) -> None:
        self._tokens = Tokens(auth, redactor, seams)

    async def async_auth_flow(self, request: httpx.Request) -> AsyncGenerator[httpx.Request, httpx.Response]:
        """Send `request` with a token. Raises `Unauthorized` or `Unreachable` where none can be had."""
        token = await self._tokens.current()
        request.headers["Authorization"] = f"Bearer {token.access}"
        response = yield request
        if response.status_code == 401:
            token = await self._tokens.current(refused=token)
            request.headers["Authorization"] = f"Bearer {token.access}"
            yield request

    async def close(self) -> None:
        """Wait for a renewal that is under way: what it brings may be the only refresh token that is still good."""
        await self._tokens.close()


class Tokens:
    """The token of one login: kept in memory and in a file, asked for where neither is good."""

    def __init__(self, auth: OAuth2Auth, redactor: Redactor, seams: Seams) -> None:
        """Tokens for `auth`, references resolved."""
        self._auth = auth
        self._redactor = redactor
        self._seams = seams
        self._endpoint = TokenEndpoint(auth, redactor, seams)
        self._file = TokenFile(seams.tokens or token_directory(), auth)
        self._token: Token | None = None
        self._renewal: asyncio.Task[Token] | None = None

    async def current(self, *, refused: Token | None = None) -> Token:
        """A token that is good now, and not the `refused` one.

        Raises `Unauthorized` where the authorization server refuses, `Unreachable` where it does not answer, and
        `SpecError` where a new token could not be kept.
        """
        if self._token is not None and self._serves(self._token, refused):
            return self._token
        if self._renewal is None:
            self._renewal = asyncio.create_task(self._renewed(refused))
            self._renewal.add_done_callback(self._over)
        # Shielded: one request that is given up must not take the renewal with it that others wait for, nor its answer.
        return await asyncio.shield(self._renewal)

    async def renewed(self) -> Token:
        """A new token, though one that is kept may still be good. Raises as `current` does."""
        return await self.current(refused=self._token or self._kept())

    async def take(self, token: Token) -> None:
        """Keep `token`, which somebody logged in for."""
        try:
            async with self._file.held(self._seams.clock):
                self._file.write(token)
        except OSError as error:
            raise self._unkept(error) from None
        self._token = token

    async def close(self) -> None:
        """Wait for a renewal that is under way."""
        if self._renewal is not None:
            await asyncio.wait([self._renewal])

    def _over(self, _: asyncio.Task[Token]) -> None:
        self._renewal = None

    async def _renewed(self, refused: Token | None) -> Token:
        try:
            async with self._file.held(self._seams.clock):
                token = self._kept()  # another process may have been faster
                if token is None or not self._serves(token, refused):
                    token = await self._asked(token)
                    self._file.write(token)
        except OSError as error:
            if self._auth.flow != "client_credentials":
                raise self._unkept(error) from None
            self._seams.report(Level.WARNING, f"tokens are not kept: {error.strerror or error}: {self._file.path}")
            token = await self._asked(None)
        self._token = token
        return token

    async def _asked(self, kept: Token | None) -> Token:
        """A new token from the server."""
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
        except GrantRefused as error:
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
        return token.good(self._seams.clock.now().timestamp(), self._auth.refresh_margin)

    def _unkept(self, error: OSError) -> SpecError:
        return SpecError(
            f"the login cannot be kept: {self._file.path}: {error.strerror or error}",
            hint="A refresh token that is not kept is lost; make the directory writable, or set XDG_STATE_HOME.",
        )
