"""An authorization server that is strict where the RFCs are, with a list of people that needs its tokens."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote_plus, urlencode

from aiohttp import web

from speclab.connectors.http.settings import HttpSystem
from speclab.core.json import Json
from speclab.spec.auth import OAuth2Auth

CLIENT_ID = "speclab:test"
CLIENT_SECRET = "client s3cret/+:é"


@dataclass
class Issuer:
    """Issues tokens to one client. Refresh tokens are valid once, as RFC 9700 requires for public clients."""

    url: str = ""
    lifetime: int | str | None = 3600
    rotates: bool = True
    confidential: bool = True
    interval: float = 7  # seconds between two polls of a device
    pending: list[str] = field(default_factory=list)  # errors for a device before the login is approved
    declines: bool = False  # what the user does in the browser
    delay: float = 0
    odd: web.Response | None = None  # replaces every token
    requested: list[dict[str, str]] = field(default_factory=list)
    authorizations: list[str] = field(default_factory=list)  # Authorization headers at the token endpoint
    good: set[str] = field(default_factory=set)  # valid access tokens
    refresh: set[str] = field(default_factory=set)  # valid refresh tokens
    read: int = 0  # successful requests of the list
    rejected: int = 0  # rejected requests of the list
    written: list[Json] = field(default_factory=list)
    challenges: dict[str, str] = field(default_factory=dict)  # challenge and redirect URI by code
    was_asked: asyncio.Event = field(default_factory=asyncio.Event)
    arrived: int = 0
    everyone: asyncio.Event = field(default_factory=asyncio.Event)
    serial: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        match request.path:
            case "/oauth/token":
                return await self.token(request)
            case "/oauth/device":
                return await self.device(request)
            case "/oauth/authorize":
                return self.authorize(request)
            case "/both-are-here":
                self.arrived += 1
                if self.arrived == 2:
                    self.everyone.set()
                await self.everyone.wait()
                return web.Response()
        return await self.people(request)

    def count(self, grant_type: str) -> int:
        """Return how often a token was requested with that grant."""
        return sum(form["grant_type"].endswith(grant_type) for form in self.requested)

    def revoke(self) -> None:
        """Revoke all access tokens."""
        self.good.clear()

    def seed(self, name: str = "seed-refresh-token") -> str:
        """Return a valid refresh token, as if it had been issued before."""
        self.refresh.add(name)
        return name

    async def people(self, request: web.Request) -> web.StreamResponse:
        authorization = request.headers.get("Authorization", "")
        if authorization.removeprefix("Bearer ") not in self.good:
            self.rejected += 1
            return web.json_response({"message": f"no good: {authorization}"}, status=401)
        if request.method != "GET":
            self.written.append(await request.json())
            return web.json_response({}, status=201)
        self.read += 1
        return web.json_response({"data": [{"id": 1}]})

    async def token(self, request: web.Request) -> web.StreamResponse:
        form = {name: str(value) for name, value in (await request.post()).items()}
        self.requested.append(form)
        self.was_asked.set()
        self.authorizations.append(request.headers.get("Authorization", ""))
        await asyncio.sleep(self.delay)
        if self.odd is not None:
            return web.Response(status=self.odd.status, body=self.odd.body, headers=self.odd.headers)
        if self.confidential and not self._is_client(request, form):
            return write_error("invalid_client", f"unknown client, it said {form}", 401)
        if not self.confidential and form.get("client_id") != CLIENT_ID:
            return write_error("invalid_client", "a public client says who it is", 401)
        match form["grant_type"].rpartition(":")[2]:
            case "client_credentials":
                return self._given(refresh=False)
            case "refresh_token":
                return self._refreshed(form["refresh_token"])
            case "device_code":
                return self._polled(form["device_code"])
            case "authorization_code":
                return self._redeemed(form)
        return write_error("unsupported_grant_type")

    def _refreshed(self, token: str) -> web.StreamResponse:
        if token not in self.refresh:
            return write_error("invalid_grant", f"{token} is revoked")
        if self.rotates:
            self.refresh.discard(token)
        return self._given(refresh=self.rotates)

    def _polled(self, code: str) -> web.StreamResponse:
        error = self.pending.pop(0) if self.pending else ""
        if error.isdigit():
            return web.Response(status=int(error))
        if error or code != "the-device-code":
            return write_error(error or "invalid_grant")
        return self._given(refresh=True)

    def _redeemed(self, form: Mapping[str, str]) -> web.StreamResponse:
        verifier = hashlib.sha256(form["code_verifier"].encode()).digest()
        challenge = f"{base64.urlsafe_b64encode(verifier).decode().rstrip('=')} {form['redirect_uri']}"
        if self.challenges.pop(form["code"], None) != challenge:
            return write_error("invalid_grant", "wrong code, verifier or redirection")
        return self._given(refresh=True)

    async def device(self, request: web.Request) -> web.StreamResponse:
        form = {name: str(value) for name, value in (await request.post()).items()}
        assert form["client_id"] == CLIENT_ID
        return web.json_response(
            {
                "device_code": "the-device-code",
                "user_code": "WDJB-MJHT",
                "verification_uri": f"{self.url}/activate",
                "verification_uri_complete": f"{self.url}/activate?user_code=WDJB-MJHT",
                "expires_in": 60,
                "interval": self.interval,
            }
        )

    def authorize(self, request: web.Request) -> web.StreamResponse:
        """Return the response for a browser with a logged-in user: an immediate redirect."""
        requested = request.query
        assert requested["response_type"] == "code"
        assert requested["client_id"] == CLIENT_ID
        assert requested["code_challenge_method"] == "S256"
        result = (
            {"error": "access_denied", "error_description": "the person said no"} if self.declines else {"code": "c0de"}
        )
        self.challenges["c0de"] = f"{requested['code_challenge']} {requested['redirect_uri']}"
        return web.Response(
            status=302,
            headers={"Location": f"{requested['redirect_uri']}?{urlencode({**result, 'state': requested['state']})}"},
        )

    def _is_client(self, request: web.Request, form: Mapping[str, str]) -> bool:
        kind, _, encoded = request.headers.get("Authorization", "").partition(" ")
        if kind == "Basic":
            name, _, secret = base64.b64decode(encoded).decode().partition(":")
            return (unquote_plus(name), unquote_plus(secret)) == (CLIENT_ID, CLIENT_SECRET)
        return (form.get("client_id"), form.get("client_secret")) == (CLIENT_ID, CLIENT_SECRET)

    def _given(self, *, refresh: bool) -> web.StreamResponse:
        number = next(self.serial)
        access = f"access-token-{number}"
        self.good.add(access)
        body: dict[str, Json] = {"access_token": access, "token_type": "bearer", "expires_in": self.lifetime}
        if self.lifetime is None:
            del body["expires_in"]
        if refresh:
            body["refresh_token"] = f"refresh-token-{number}"
            self.refresh.add(f"refresh-token-{number}")
        return web.json_response(body)

    def system(self) -> HttpSystem:
        """Return the settings of a system that reads and writes the list."""
        return HttpSystem.model_validate(
            {
                "connector": "http",
                "base_url": self.url,
                "key": "id",
                "limits": {"concurrency": 8},
                "read": {"path": "/people", "records": "data", "pagination": {"by": "none"}},
                "write": {"create": "POST /people"},
            }
        )

    def auth(self, flow: str = "client_credentials", **settings: Json) -> OAuth2Auth:
        """Return the auth settings for this server."""
        secret: dict[str, Json] = {"client_secret": CLIENT_SECRET} if self.confidential else {}
        urls: dict[str, dict[str, Json]] = {
            "authorization_code": {"authorize_url": f"{self.url}/oauth/authorize"},
            "device_code": {"device_url": f"{self.url}/oauth/device"},
        }
        return OAuth2Auth.model_validate(
            {
                "type": "oauth2",
                "flow": flow,
                "token_url": f"{self.url}/oauth/token",
                "client_id": CLIENT_ID,
                **secret,
                **urls.get(flow, {}),
                **settings,
            }
        )


def write_error(code: str, description: str = "", status: int = 400) -> web.Response:
    return web.json_response({"error": code, "error_description": description}, status=status)
