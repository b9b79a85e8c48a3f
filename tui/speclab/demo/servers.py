"""The two systems of the demo, on loopback: a CRM as the source and a billing system as the target."""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import secrets
import socket
import sqlite3
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Final

import orjson
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from speclab.core.errors import SpeclabError
from speclab.core.json import JsonView, Record
from speclab.core.processes import attach_child, detach_child, start_module
from speclab.demo import SEED, make_contacts

RATE: Final = 20  # requests a second
_CRM_ERROR_EVERY: Final = 9  # every ninth request fails with 503
_CHANGES: Final = 12  # contacts that change before each incremental read


class Crm:
    """The CRM: its contacts, rate limit and faults."""

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
            return _crm_response({"error": "a bearer token is needed"}, 401, {"WWW-Authenticate": "Bearer"})
        now = self._now()
        if len(self._recent) == RATE and now - self._recent[0] < 1:
            return _crm_response({"error": f"at most {RATE} requests a second"}, 429, {"Retry-After": "1"})
        self._recent.append(now)
        self._requests += 1
        if self._requests % _CRM_ERROR_EVERY == 0:
            return _crm_response({"error": "temporarily unavailable, try again"}, 503)
        return self._page(request)

    def _page(self, request: Request) -> Response:
        query = request.query_params
        try:
            size = min(max(int(query.get("per_page", "100")), 1), 500)
            start = _offset(query["cursor"]) if "cursor" in query else 0
        except (ValueError, binascii.Error):
            return _crm_response({"error": "invalid cursor or per_page"}, 400)
        since = query.get("updated_since", "")
        if since and not start:
            self._change()
        matching = [contact for contact in self._contacts if str(contact["updated_at"]) >= since]
        page = matching[start : start + size]
        following = _cursor(start + size) if start + size < len(matching) else None
        return _crm_response({"data": page, "meta": {"next_cursor": following, "total": len(matching)}})

    def _change(self) -> None:
        """Change a few valid contacts, so that an incremental read finds some."""
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


def _crm_response(body: JsonView, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(orjson.dumps(body), status, headers, media_type="application/json")


_COUNTRIES: Final = frozenset("GB DE FR NL SE PL IT ES IE AT".split())
_BILLING_ERROR_EVERY: Final = 150  # every such request fails with 503, once per customer
_SLOW_EVERY: Final = 97
_SLOW: Final = 0.4  # seconds


class Billing:
    """The billing system: its customers, validation and faults."""

    def __init__(self, key: str, database: Path) -> None:
        self._key = key
        self._requests = 0
        self._failed_once: set[str] = set()
        self._db = sqlite3.connect(database, isolation_level=None)
        self._db.executescript(
            """
            pragma journal_mode = wal; pragma synchronous = off;
            create table if not exists customers (external_id text primary key, body text not null);
            create table if not exists responses (idempotency_key text primary key, body text not null);
            """
        )

    def app(self) -> Starlette:
        """The ASGI application."""
        return Starlette(
            routes=[
                Route("/customers/{external_id}", self._put, methods=["PUT"]),
                Route("/customers/{external_id}", self._get, methods=["GET"]),
                Route("/customers", self._list, methods=["GET"]),
            ]
        )

    async def _put(self, request: Request) -> Response:
        if request.headers.get("x-api-key") != self._key:
            return _problem(401, "Unauthorized", "an X-Api-Key is needed")
        external_id = str(request.path_params["external_id"])
        self._requests += 1
        if self._requests % _SLOW_EVERY == 0:
            await asyncio.sleep(_SLOW)
        if self._requests % _BILLING_ERROR_EVERY == 0 and external_id not in self._failed_once:
            self._failed_once.add(external_id)
            return _problem(503, "Service Unavailable", "the ledger is being closed, try again")
        body = await request.body()
        try:
            customer = orjson.loads(body)
        except orjson.JSONDecodeError:
            return _problem(400, "Bad Request", "the body is not valid JSON")
        if not isinstance(customer, dict) or (refused := _find_errors(customer)):
            return _problem(422, "Unprocessable Content", "the customer cannot be billed", refused)
        return self._store(external_id, body, request.headers.get("idempotency-key", ""))

    def _store(self, external_id: str, body: bytes, idempotency_key: str) -> Response:
        with self._db:
            self._db.execute("begin immediate")
            known = self._db.execute("select 1 from customers where external_id = ?", (external_id,)).fetchone()
            done = self._db.execute(
                "select body from responses where idempotency_key = ?", (idempotency_key,)
            ).fetchone()
            if done is not None and done[0] != body.decode():
                return _problem(422, "Unprocessable Content", "this Idempotency-Key was used with another body")
            if done is None:
                self._db.execute("insert or replace into customers values (?, ?)", (external_id, body.decode()))
                if idempotency_key:
                    self._db.execute("insert into responses values (?, ?)", (idempotency_key, body.decode()))
        return _billing_response({"external_id": external_id}, 200 if known else 201)

    async def _get(self, request: Request) -> Response:
        row = self._db.execute(
            "select body from customers where external_id = ?", (request.path_params["external_id"],)
        ).fetchone()
        return _billing_response(orjson.loads(row[0])) if row else _problem(404, "Not Found", "no such customer")

    async def _list(self, request: Request) -> Response:  # noqa: ARG002 - a route's signature
        rows = self._db.execute("select body from customers order by external_id").fetchall()
        return _billing_response({"customers": [orjson.loads(body) for (body,) in rows]})


def _find_errors(customer: dict[str, JsonView]) -> list[JsonView]:
    """Return the invalid fields, as in problem details."""
    refused: list[JsonView] = []
    if customer.get("country") not in _COUNTRIES:
        refused.append({"field": "country", "detail": f"{customer.get('country')!r} is not a supported country"})
    if not isinstance(customer.get("revenue_cents"), int):
        refused.append({"field": "revenue_cents", "detail": "expected whole cents"})
    if not customer.get("full_name"):
        refused.append({"field": "full_name", "detail": "expected a name"})
    return refused


def _problem(status: int, title: str, detail: str, errors: list[JsonView] | None = None) -> Response:
    body: dict[str, JsonView] = {"type": "about:blank", "title": title, "status": status, "detail": detail}
    if errors:
        body["errors"] = errors
    return Response(orjson.dumps(body), status, media_type="application/problem+json")


def _billing_response(body: JsonView, status: int = 200) -> Response:
    return Response(orjson.dumps(body), status, media_type="application/json")


_GRACE: Final = 1
"""Seconds to finish open requests when the demo ends."""


@contextmanager
def run_servers(database: Path) -> Iterator[dict[str, str]]:
    """Start both systems, yield the environment variables of the demo's spec, and stop the systems at the end.

    `database` is the SQLite file of the billing system. Raises `SpeclabError` if the systems do not start.
    """
    process = start_module(__name__, str(database), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=None)
    attach_child(process.pid)
    assert process.stdin is not None  # noqa: S101 - asked for above
    assert process.stdout is not None  # noqa: S101
    try:
        line = process.stdout.readline()
        if not line:
            raise SpeclabError(
                f"the demo's two systems did not start (exit code {process.wait()}); see their messages above"
            )
        yield json.loads(line)
    finally:
        process.stdin.close()
        process.wait()
        detach_child(process.pid)
        process.stdout.close()


def _listen() -> socket.socket:
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    return listener


async def _serve(database: Path) -> None:
    import uvicorn

    token, key = secrets.token_hex(16), secrets.token_hex(16)
    apps = (Crm(token, time.monotonic).app(), Billing(key, database).app())
    listeners = [_listen(), _listen()]
    servers = [
        uvicorn.Server(
            uvicorn.Config(
                app,
                log_level="warning",
                access_log=False,
                lifespan="off",
                loop="asyncio",
                timeout_graceful_shutdown=_GRACE,
            )
        )
        for app in apps
    ]
    tasks = [asyncio.create_task(server.serve([listener])) for server, listener in zip(servers, listeners, strict=True)]
    while not all(server.started for server in servers):
        await asyncio.sleep(0.01)
        for task in tasks:
            if task.done():
                task.result()
    crm, billing = (f"http://127.0.0.1:{listener.getsockname()[1]}" for listener in listeners)
    print(json.dumps({"CRM_URL": crm, "CRM_TOKEN": token, "BILLING_URL": billing, "BILLING_KEY": key}), flush=True)  # noqa: T201 - the line the demo waits for
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    for server in servers:
        server.should_exit = True
    await asyncio.gather(*tasks)


if __name__ == "__main__":
    asyncio.run(_serve(Path(sys.argv[1])))
