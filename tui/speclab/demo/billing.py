"""The demo's target: a billing system over HTTP that keeps its customers in a SQLite file.

`PUT /customers/{external_id}` is idempotent: the same `Idempotency-Key` with the same body has one effect and one
answer. What it cannot take it refuses with 422 and problem details that name the field (RFC 9457). Some answers are
slow, and a few requests meet a 503 the first time.
"""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path
from typing import Final

import orjson
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from speclab.jsonvalue import JsonView

_COUNTRIES: Final = frozenset("GB DE FR NL SE PL IT ES IE AT".split())
_UNWELL_EVERY: Final = 150  # the customer that many others arrived before meets a 503, once
_SLOW_EVERY: Final = 97
_SLOW: Final = 0.4  # seconds


class Billing:
    """The billing system's customers, and its rules."""

    def __init__(self, key: str, database: Path) -> None:
        self._key = key
        self._requests = 0
        self._met_unwell: set[str] = set()
        self._db = sqlite3.connect(database, isolation_level=None)
        self._db.executescript(
            """
            pragma journal_mode = wal; pragma synchronous = off;
            create table if not exists customers (external_id text primary key, body text not null);
            create table if not exists answers (idempotency_key text primary key, body text not null);
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
        if self._requests % _UNWELL_EVERY == 0 and external_id not in self._met_unwell:
            self._met_unwell.add(external_id)
            return _problem(503, "Service Unavailable", "the ledger is being balanced, try again")
        body = await request.body()
        try:
            customer = orjson.loads(body)
        except orjson.JSONDecodeError:
            return _problem(400, "Bad Request", "the body is no JSON")
        if not isinstance(customer, dict) or (refused := _refused(customer)):
            return _problem(422, "Unprocessable Content", "the customer cannot be billed", refused)
        return self._store(external_id, body, request.headers.get("idempotency-key", ""))

    def _store(self, external_id: str, body: bytes, idempotency_key: str) -> Response:
        with self._db:
            self._db.execute("begin immediate")
            known = self._db.execute("select 1 from customers where external_id = ?", (external_id,)).fetchone()
            done = self._db.execute("select body from answers where idempotency_key = ?", (idempotency_key,)).fetchone()
            if done is not None and done[0] != body.decode():
                return _problem(422, "Unprocessable Content", "this Idempotency-Key came with another body before")
            if done is None:
                self._db.execute("insert or replace into customers values (?, ?)", (external_id, body.decode()))
                if idempotency_key:
                    self._db.execute("insert into answers values (?, ?)", (idempotency_key, body.decode()))
        return _answer({"external_id": external_id}, 200 if known else 201)

    async def _get(self, request: Request) -> Response:
        row = self._db.execute(
            "select body from customers where external_id = ?", (request.path_params["external_id"],)
        ).fetchone()
        return _answer(orjson.loads(row[0])) if row else _problem(404, "Not Found", "no such customer")

    async def _list(self, request: Request) -> Response:  # noqa: ARG002 - a route's signature
        rows = self._db.execute("select body from customers order by external_id").fetchall()
        return _answer({"customers": [orjson.loads(body) for (body,) in rows]})


def _refused(customer: dict[str, JsonView]) -> list[JsonView]:
    """The fields billing does not take, as problem details list them."""
    refused: list[JsonView] = []
    if customer.get("country") not in _COUNTRIES:
        refused.append({"field": "country", "detail": f"{customer.get('country')!r} is no country we bill in"})
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


def _answer(body: JsonView, status: int = 200) -> Response:
    return Response(orjson.dumps(body), status, media_type="application/json")
