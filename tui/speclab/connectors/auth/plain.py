"""Credentials that are the same on every request: a header, a parameter, a user name and a password."""

from __future__ import annotations

import base64
import re
from collections.abc import Generator
from typing import Final

import httpx

from speclab.connectors.redaction import Redactor
from speclab.errors import SpecError

_NAME: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")


class Credentials(httpx.Auth):
    """What puts credentials on requests; as it is, none."""

    async def close(self) -> None:
        """Let what is under way come to its end."""


class HeaderAuth(Credentials):
    """One header, the same on every request."""

    def __init__(self, name: str, value: str) -> None:
        """The header `name`. Raises `SpecError` for a value that no header can carry."""
        self._name = header_name(name)
        self._value = header_value(name, value)

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Put the header on `request`."""
        request.headers[self._name] = self._value
        yield request


class ParamAuth(Credentials):
    """One query parameter, the same on every request; it replaces one that a next-page URL brought along."""

    def __init__(self, name: str, value: str) -> None:
        """The parameter `name`. Raises `SpecError` for a value that no URL can carry."""
        self._name = name
        self._value = _text(value, f"the parameter {name}")

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Put the parameter on `request`."""
        request.url = request.url.copy_set_param(self._name, self._value)
        yield request


def basic(username: str, password: str, redactor: Redactor) -> Credentials:
    """RFC 7617, in UTF-8; other bytes of the environment's go out as they came in."""
    token = base64.b64encode(f"{username}:{password}".encode("utf-8", "surrogateescape")).decode("ascii")
    redactor.add(token)
    return HeaderAuth("Authorization", f"Basic {token}")


def header_name(name: str) -> str:
    """`name`, if a header can be called so (RFC 9110 section 5.1). Raises `SpecError`."""
    if not _NAME.fullmatch(name):
        raise SpecError(f"{name!r} is no name of a header; expected one such as X-Api-Key")
    return name


def header_value(name: str, value: str) -> str:
    """`value`, if the header `name` can carry it. Raises `SpecError`, which does not show it."""
    where = f"the header {name}"
    if any(ord(character) < 32 or character == "\x7f" for character in _text(value, where)):
        raise SpecError(
            f"what is to go into {where} has a line break or another control character in it",
            hint="Often it is the end of a line that was copied along.",
        )
    return value


def _text(value: str, where: str) -> str:
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        raise SpecError(f"what is to go into {where} is no text in UTF-8") from None
    return value
