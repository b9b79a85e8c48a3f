"""Logging in, where a person has to: in a browser that comes back to this machine, or on any other device with a code.

The first is the authorization code flow with PKCE on a loopback redirect (RFC 6749, 7636, 8252); the second the device
flow (RFC 8628), for a shell on a machine without a browser.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import httpx

from speclab.connectors.auth.browser import is_page
from speclab.connectors.auth.grants import GrantRefused, TokenEndpoint, seconds_in
from speclab.connectors.auth.redirect import listening
from speclab.connectors.auth.tokens import Token
from speclab.connectors.base import Seams
from speclab.connectors.redaction import Redactor
from speclab.errors import SpecError, Unauthorized, Unreachable
from speclab.spec.auth import OAuth2Auth
from speclab.spec.units import duration_text

_PATIENCE: Final = 600.0
"""Seconds a person has to log in, where the server does not say."""
_INTERVAL: Final = 5.0
"""Seconds between two questions, where the server does not say; and how many more after a `slow_down`."""
_DEVICE_CODE: Final = "urn:ietf:params:oauth:grant-type:device_code"


@dataclass(frozen=True, slots=True)
class Prompt:
    """What a person is to do: open `url` and, where there is one, enter `code` there.

    `direct` is an address that brings the code along. All is over in `seconds`.
    """

    url: str
    seconds: float
    code: str = ""
    direct: str = ""


Show = Callable[[Prompt], None]
"""Puts a prompt before the person; returns at once."""


async def log_in(auth: OAuth2Auth, redactor: Redactor, seams: Seams, show: Show) -> Token:
    """The token that a person logs in for, as `auth` (references resolved) says.

    Raises `Unauthorized` where they decline or do not do it in time, and `Unreachable`.
    """
    endpoint = TokenEndpoint(auth, redactor, seams)
    if auth.flow == "device_code":
        return await _with_a_code(auth, endpoint, seams, show)
    return await _in_a_browser(auth, endpoint, redactor, show)


def challenge(verifier: str) -> str:
    """The S256 code challenge of `verifier` (RFC 7636 section 4.2)."""
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode("ascii")).digest()).decode("ascii").rstrip("=")


async def _in_a_browser(auth: OAuth2Auth, endpoint: TokenEndpoint, redactor: Redactor, show: Show) -> Token:
    state, verifier = secrets.token_urlsafe(32), secrets.token_urlsafe(32)
    try:
        base = httpx.URL(auth.authorize_url or "")
    except httpx.InvalidURL as error:
        raise SpecError(f"authorize_url is no URL: {error}") from None
    if not is_page(str(base)):
        raise SpecError("authorize_url must be an http:// or https:// URL")
    async with listening(auth.redirect_port or 0, state) as redirect:
        url = base.copy_merge_params(
            {
                **endpoint.wanted,
                "response_type": "code",
                "client_id": auth.client_id,
                "redirect_uri": redirect.uri,
                "state": state,
                "code_challenge": challenge(verifier),
                "code_challenge_method": "S256",
            }
        )
        show(Prompt(str(url), _PATIENCE))
        try:
            async with asyncio.timeout(_PATIENCE):
                code = await redirect.code
        except TimeoutError:
            raise _too_late(_PATIENCE) from None
    redactor.add(code)
    return await endpoint.grant("authorization_code", code=code, redirect_uri=redirect.uri, code_verifier=verifier)


async def _with_a_code(auth: OAuth2Auth, endpoint: TokenEndpoint, seams: Seams, show: Show) -> Token:
    device = await endpoint.device(auth.device_url or "")
    seconds = seconds_in(device.get("expires_in")) or _PATIENCE
    interval = seconds_in(device.get("interval")) or _INTERVAL
    show(
        Prompt(
            url=str(device["verification_uri"]),
            seconds=seconds,
            code=str(device["user_code"]),
            direct=str(device.get("verification_uri_complete") or ""),
        )
    )
    end = seams.clock.monotonic() + seconds
    while seams.clock.monotonic() + interval <= end:
        await seams.clock.sleep(interval)
        try:
            return await endpoint.grant(_DEVICE_CODE, device_code=str(device["device_code"]))
        except GrantRefused as error:
            if error.code == "slow_down":
                interval += _INTERVAL
            elif error.code != "authorization_pending":
                raise
        except Unreachable:
            interval *= 2  # RFC 8628 section 3.5
    raise _too_late(seconds)


def _too_late(seconds: float) -> Unauthorized:
    return Unauthorized(f"nobody logged in within {duration_text(seconds)}")
