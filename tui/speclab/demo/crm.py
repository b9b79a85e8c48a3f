"""The demo's source: a CRM over HTTP, with the manners of a real one.

`GET /v3/contacts?cursor=&per_page=&updated_since=`: a bearer token, opaque cursors, a rate limit that answers 429 with
`Retry-After`, and a 503 now and then. Between incremental reads a few contacts change, as they do.
"""

from __future__ import annotations

import base64
import binascii
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from random import Random
from typing import Final

import orjson
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from speclab.demo.contacts import SEED, make_contacts
from speclab.jsonvalue import JsonView, Record

RATE: Final = 20  # requests a second
_UNWELL_EVERY: Final = 9  # every ninth request is answered 503
_CHANGES: Final = 12  # contacts that change before each incremental read


class Crm:
    """The CRM's contacts and its manners."""

    def __init__(self, token: str, now: Callable[[], float]) -> None:
        self._token = token
        self._now = now
        self._contacts = make_contacts()
        self._random = Random(SEED)  # noqa: S311 - a story, not a secret
        self._requests = 0
        self._recent: deque[float] = deque(maxlen=RATE)

    def app(self) -> Starlette:
        """The ASGI application."""
        return Starlette(routes=[Route("/v3/contacts", self._list)])

    async def _list(self, request: Request) -> Response:
        if request.headers.get("authorization") != f"Bearer {self._token}":
            return _answer({"error": "a bearer token is needed"}, 401, {"WWW-Authenticate": "Bearer"})
        now = self._now()
        if len(self._recent) == RATE and now - self._recent[0] < 1:
            return _answer({"error": f"at most {RATE} requests a second"}, 429, {"Retry-After": "1"})
        self._recent.append(now)
        self._requests += 1
        if self._requests % _UNWELL_EVERY == 0:
            return _answer({"error": "the CRM is a little tired, try again"}, 503)
        return self._page(request)

    def _page(self, request: Request) -> Response:
        query = request.query_params
        try:
            size = min(max(int(query.get("per_page", "100")), 1), 500)
            start = _offset(query["cursor"]) if "cursor" in query else 0
        except (ValueError, binascii.Error):
            return _answer({"error": "cursor and per_page must be what this API gave or allows"}, 400)
        since = query.get("updated_since", "")
        if since and not start:
            self._change()
        matching = [contact for contact in self._contacts if str(contact["updated_at"]) >= since]
        page = matching[start : start + size]
        following = _cursor(start + size) if start + size < len(matching) else None
        return _answer({"data": page, "meta": {"next_cursor": following, "total": len(matching)}})

    def _change(self) -> None:
        """Let a few good contacts earn something, so that an incremental read finds work."""
        good: list[Record] = [contact for contact in self._contacts if contact["id"] and contact["state"] != "9"]
        stamp = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        for contact in self._random.sample(good, _CHANGES):
            contact["turnover"] = f"{float(str(contact['turnover'])) + 100:.2f}"
            contact["updated_at"] = stamp
            self._contacts.remove(contact)
            self._contacts.append(contact)


def _cursor(offset: int) -> str:
    return base64.urlsafe_b64encode(f"o{offset}".encode()).decode().rstrip("=")


def _offset(cursor: str) -> int:
    return int(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode().removeprefix("o"))


def _answer(body: JsonView, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(orjson.dumps(body), status, headers, media_type="application/json")
