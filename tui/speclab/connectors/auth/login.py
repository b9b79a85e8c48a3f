"""Logging in: in the browser with PKCE and a local redirect, or with a device code."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qs

import httpx

from speclab.connectors.api import RuntimeContext
from speclab.connectors.auth.oauth2 import GrantRejected, Token, TokenEndpoint, is_web_url, parse_seconds
from speclab.connectors.secrets.redaction import Redactor
from speclab.core.errors import SpecError, Unauthorized, Unreachable
from speclab.spec.auth import OAuth2Auth
from speclab.spec.settings_types import format_duration

_HOST: Final = "127.0.0.1"
_PATH: Final = "/callback"
_IN_TIME: Final = 10.0
"""Seconds within which a browser must send its request."""


@dataclass(frozen=True, slots=True)
class RedirectListener:
    """The expected redirect: its address, and the code that it returns."""

    uri: str
    code: asyncio.Future[str]


@asynccontextmanager
async def listen_for_redirect(port: int, state: str) -> AsyncIterator[RedirectListener]:
    """Listen on `port` (0: any free port) for the block; only a redirect with this `state` is accepted.

    The code's future raises `Unauthorized` if the user declines. Raise `SpecError` if the port is in use.
    """
    code: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(_IN_TIME):
                head = await reader.readuntil(b"\r\n\r\n")
                status, text = _redirect_response(head.partition(b"\r\n")[0].decode("latin-1"), state, code)
                writer.write(_redirect_page(status, text))
                await writer.drain()
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # a browser that opens connections in advance, or a port scanner
        finally:
            writer.close()

    try:
        server = await asyncio.start_server(connected, _HOST, port)
    except OSError as error:
        raise SpecError(f"cannot listen on {_HOST}:{port} for the login: {error.strerror or error}") from None
    try:
        yield RedirectListener(f"http://{_HOST}:{server.sockets[0].getsockname()[1]}{_PATH}", code)
    finally:
        server.close()
        code.cancel()


def _redirect_response(line: str, state: str, code: asyncio.Future[str]) -> tuple[str, str]:
    """Return the response to a request line. The first valid redirect sets `code`."""
    method, _, rest = line.partition(" ")
    path, _, query = rest.partition(" ")[0].partition("?")
    if method != "GET" or path != _PATH:
        return "404 Not Found", "There is nothing here."
    parameters = {name: values[0] for name, values in parse_qs(query).items()}
    if not hmac.compare_digest(parameters.get("state", "").encode(), state.encode()):
        return "400 Bad Request", "This is not the login that is waited for."
    if code.done():
        return "200 OK", "This login is over. You can close this page."
    if "code" in parameters:
        code.set_result(parameters["code"])
        return "200 OK", "You are logged in. You can close this page and go back to the terminal."
    why = (
        ": ".join(parameters[name] for name in ("error", "error_description") if name in parameters)
        or "it did not say why"
    )
    code.set_exception(Unauthorized(f"the authorization server did not let us in: {why}"))
    return "200 OK", "You are not logged in. You can close this page and go back to the terminal."


def _redirect_page(status: str, text: str) -> bytes:
    body = f"<!doctype html><meta charset=utf-8><title>speclab</title><p>{text}</p>\n"
    head = [
        f"HTTP/1.1 {status}",
        "Content-Type: text/html; charset=utf-8",
        f"Content-Length: {len(body)}",
        "Cache-Control: no-store",
        "Referrer-Policy: no-referrer",
        "Connection: close",
    ]
    return ("\r\n".join(head) + "\r\n\r\n" + body).encode("ascii")


_PATIENCE: Final = 600.0
"""Default seconds for a login, if the server sends no lifetime."""
_INTERVAL: Final = 5.0
"""Default seconds between polls, and the seconds that `slow_down` adds."""
_DEVICE_CODE: Final = "urn:ietf:params:oauth:grant-type:device_code"


@dataclass(frozen=True, slots=True)
class LoginPrompt:
    """The instructions for a login: open `url` and, if there is one, enter `code`.

    `direct` is a URL that includes the code. The login expires in `seconds`.
    """

    url: str
    seconds: float
    code: str = ""
    direct: str = ""


Show = Callable[[LoginPrompt], None]
"""Shows a prompt to the user and returns at once."""


async def log_in(auth: OAuth2Auth, redactor: Redactor, context: RuntimeContext, show: Show) -> Token:
    """Log in interactively with `auth` (references resolved) and return the token.

    Raise `Unauthorized` if the user declines or does not respond in time, and `Unreachable`.
    """
    endpoint = TokenEndpoint(auth, redactor, context)
    if auth.flow == "device_code":
        return await _with_a_code(auth, endpoint, context, show)
    return await _in_a_browser(auth, endpoint, redactor, show)


def build_challenge(verifier: str) -> str:
    """Return the S256 code challenge of `verifier` (RFC 7636 section 4.2)."""
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode("ascii")).digest()).decode("ascii").rstrip("=")


async def _in_a_browser(auth: OAuth2Auth, endpoint: TokenEndpoint, redactor: Redactor, show: Show) -> Token:
    state, verifier = secrets.token_urlsafe(32), secrets.token_urlsafe(32)
    try:
        base = httpx.URL(auth.authorize_url or "")
    except httpx.InvalidURL as error:
        raise SpecError(f"authorize_url is no URL: {error}") from None
    if not is_web_url(str(base)):
        raise SpecError("authorize_url must be an http:// or https:// URL")
    async with listen_for_redirect(auth.redirect_port or 0, state) as redirect:
        url = base.copy_merge_params(
            {
                **endpoint.wanted,
                "response_type": "code",
                "client_id": auth.client_id,
                "redirect_uri": redirect.uri,
                "state": state,
                "code_challenge": build_challenge(verifier),
                "code_challenge_method": "S256",
            }
        )
        show(LoginPrompt(str(url), _PATIENCE))
        try:
            async with asyncio.timeout(_PATIENCE):
                code = await redirect.code
        except TimeoutError:
            raise _too_late(_PATIENCE) from None
    redactor.add(code)
    return await endpoint.grant("authorization_code", code=code, redirect_uri=redirect.uri, code_verifier=verifier)


async def _with_a_code(auth: OAuth2Auth, endpoint: TokenEndpoint, context: RuntimeContext, show: Show) -> Token:
    device = await endpoint.device(auth.device_url or "")
    seconds = parse_seconds(device.get("expires_in")) or _PATIENCE
    interval = parse_seconds(device.get("interval")) or _INTERVAL
    show(
        LoginPrompt(
            url=str(device["verification_uri"]),
            seconds=seconds,
            code=str(device["user_code"]),
            direct=str(device.get("verification_uri_complete") or ""),
        )
    )
    end = context.clock.monotonic() + seconds
    while context.clock.monotonic() + interval <= end:
        await context.clock.sleep(interval)
        try:
            return await endpoint.grant(_DEVICE_CODE, device_code=str(device["device_code"]))
        except GrantRejected as error:
            if error.code == "slow_down":
                interval += _INTERVAL
            elif error.code != "authorization_pending":
                raise
        except Unreachable:
            interval *= 2  # RFC 8628 section 3.5
    raise _too_late(seconds)


def _too_late(seconds: float) -> Unauthorized:
    return Unauthorized(f"no login within {format_duration(seconds)}")
