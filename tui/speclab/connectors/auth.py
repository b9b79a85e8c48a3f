"""Credentials on a request: the Auth settings of a spec as `httpx.Auth`."""

from __future__ import annotations

import base64
from collections.abc import Generator

import httpx

from speclab.connectors.references import Redactor
from speclab.spec.settings import ApiKeyAuth, Auth, BasicAuth, BearerAuth


class HeaderAuth(httpx.Auth):
    """One header, the same on every request."""

    def __init__(self, name: str, value: str) -> None:
        self._name = name
        self._value = value

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Put the header on `request`."""
        request.headers[self._name] = self._value
        yield request


class ParamAuth(httpx.Auth):
    """One query parameter, the same on every request; it replaces one that a next-page URL brought along."""

    def __init__(self, name: str, value: str) -> None:
        self._name = name
        self._value = value

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Put the parameter on `request`."""
        request.url = request.url.copy_set_param(self._name, self._value)
        yield request


def http_auth(auth: Auth, redactor: Redactor) -> httpx.Auth:
    """The credentials `auth` (references resolved) asks for; forms made here are told to the `redactor`."""
    match auth:
        case ApiKeyAuth(header=str(header)):
            return HeaderAuth(header, auth.prefix + auth.key)
        case ApiKeyAuth(param=str(param)):
            return ParamAuth(param, auth.prefix + auth.key)
        case BasicAuth():
            return basic(auth.username, auth.password, redactor)
        case BearerAuth():
            return HeaderAuth("Authorization", f"Bearer {auth.token}")
        case _:
            return httpx.Auth()


def basic(username: str, password: str, redactor: Redactor) -> httpx.Auth:
    """RFC 7617, in UTF-8."""
    token = base64.b64encode(f"{username}:{password}".encode()).decode("ascii")
    redactor.add(token)
    return HeaderAuth("Authorization", f"Basic {token}")
