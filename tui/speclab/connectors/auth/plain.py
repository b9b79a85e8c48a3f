"""Credentials that are the same on every request: a header, a parameter, a user name and a password."""

from __future__ import annotations

import base64
from collections.abc import Generator

import httpx

from speclab.connectors.references import Redactor
from speclab.errors import SpecError


class Credentials(httpx.Auth):
    """What puts credentials on requests; as it is, none."""

    async def close(self) -> None:
        """Let what is under way come to its end."""


class HeaderAuth(Credentials):
    """One header, the same on every request."""

    def __init__(self, name: str, value: str) -> None:
        """The header `name`. Raises `SpecError` for a value that no header can carry."""
        self._name = name
        self._value = sendable(name, value)

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Put the header on `request`."""
        request.headers[self._name] = self._value
        yield request


class ParamAuth(Credentials):
    """One query parameter, the same on every request; it replaces one that a next-page URL brought along."""

    def __init__(self, name: str, value: str) -> None:
        self._name = name
        self._value = value

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Put the parameter on `request`."""
        request.url = request.url.copy_set_param(self._name, self._value)
        yield request


def basic(username: str, password: str, redactor: Redactor) -> Credentials:
    """RFC 7617, in UTF-8."""
    token = base64.b64encode(f"{username}:{password}".encode()).decode("ascii")
    redactor.add(token)
    return HeaderAuth("Authorization", f"Basic {token}")


def sendable(name: str, value: str) -> str:
    """`value`, if the header `name` can carry it. Raises `SpecError`, which does not show it."""
    if not any(ord(character) < 32 or character == "\x7f" for character in value):
        try:
            value.encode()
        except UnicodeEncodeError:
            raise SpecError(f"the secret for the header {name} is no text in UTF-8") from None
        return value
    raise SpecError(
        f"the secret for the header {name} has a line break or another control character in it",
        hint="Often it is the end of a line that was copied along.",
    )
