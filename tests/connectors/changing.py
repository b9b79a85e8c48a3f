"""A source that changes during a read and filters by time of change, and readers of it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from random import Random
from typing import Any

from aiohttp import web
from tests.clocks import HeldClock
from tests.connectors.conftest import records_of

from speclab.connectors.api import Page, Reader, RuntimeContext
from speclab.connectors.http.settings import HttpSystem
from speclab.connectors.registry import open_reader
from speclab.connectors.secrets.references import References
from speclab.core.json import Json
from speclab.spec.auth import NoAuth
from speclab.spec.settings import RetrySettings

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
SINCE: dict[str, Json] = {"param": "since", "until": "until", "field": "at"}
BY_CURSOR: dict[str, Json] = {"by": "cursor", "next": "next", "param": "cursor"}
BY_PAGE: dict[str, Json] = {"by": "page", "param": "page", "total": "total"}

Write = Callable[[datetime], Any]
"""How a source writes a time."""


def seconds(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def milliseconds(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"


def other_zone(moment: datetime) -> str:
    """Format in local time with the offset of a zone."""
    return (moment + timedelta(hours=2)).strftime("%Y-%m-%dT%H:%M:%S+02:00")


def local(moment: datetime) -> str:
    """Format in local time without an offset, half a day behind UTC."""
    return (moment - timedelta(hours=12)).strftime("%Y-%m-%d %H:%M:%S")


def day(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%d")


def unix(moment: datetime) -> int:
    return int(moment.timestamp())


NOTATIONS: list[Write] = [seconds, milliseconds, other_zone, local, day, unix]


@dataclass
class Source:
    """Records by id with the time of their last change; a request takes a second, and some come with `changes`."""

    rows: dict[int, tuple[datetime, int]]
    write: Write = seconds
    size: int = 3
    takes_since: bool = True  # changed exactly at `since`
    takes_until: bool = False
    knows_until: bool = True
    by_page: bool = False
    changes: dict[int, list[int]] = field(default_factory=dict)
    now: datetime = NOON
    requested: list[dict[str, str]] = field(default_factory=list)
    at_once: int = 0
    most_at_once: int = 0
    refuses: Callable[[dict[str, str]], bool] = lambda _: False
    pause: float = 0.0

    async def __call__(self, request: web.Request) -> web.Response:
        body = await request.json() if request.method == "POST" else {}
        query = {name: str(value) for name, value in {**request.query, **body}.items()}
        self.requested.append(query)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        self.now += timedelta(seconds=1)
        for key in self.changes.get(len(self.requested), []):
            self.change(key)
        await asyncio.sleep(self.pause)
        self.at_once -= 1
        if self.refuses(query):
            return web.json_response({}, status=503)
        headers = {"Date": format_datetime(self.now, usegmt=True)}
        return web.json_response(self.answer(query), headers=headers)

    def change(self, key: int) -> None:
        """Write a new version of a record, which may be new."""
        self.now += timedelta(seconds=1)
        self.rows[key] = (self.now, self.rows.get(key, (self.now, -1))[1] + 1)

    def answer(self, query: dict[str, str]) -> dict[str, Any]:
        """Return the requested page, by a key that is stable under changes, or by number.

        Numbered pages are sorted by id: sorted by change, records that move to the end would shift others.
        """
        listed = sorted((moment, key, version) for key, (moment, version) in self.rows.items())
        if self.by_page:
            listed.sort(key=lambda row: row[1])
        found = [
            {"id": key, "at": self.write(moment), "version": version, "place": f"{unix(moment):012d} {key:06d}"}
            for moment, key, version in listed
        ]
        since, until = query.get("since"), query.get("until")
        if since:
            found = [
                row
                for row in found
                if row["at"] > self.read(since) or (self.takes_since and row["at"] == self.read(since))
            ]
        if until and self.knows_until:
            found = [
                row
                for row in found
                if row["at"] < self.read(until) or (self.takes_until and row["at"] == self.read(until))
            ]
        if self.by_page:
            at = (int(query["page"]) - 1) * self.size
            return {"data": found[at : at + self.size], "total": len(found)}
        after = [row for row in found if row["place"] > query.get("cursor", "")]
        return {"data": after[: self.size], "next": after[self.size - 1]["place"] if len(after) > self.size else None}

    def read(self, text: str) -> Any:
        return int(text) if self.write is unix else text

    def versions(self) -> dict[int, int]:
        """Return the version of each record."""
        return {key: version for key, (_, version) in self.rows.items()}


@asynccontextmanager
async def served(source: Source) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", source.__call__)
    runner = web.AppRunner(app, shutdown_timeout=0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield "http://{}:{}".format(*runner.addresses[0][:2])
    await runner.cleanup()


def opened(
    url: str,
    context: RuntimeContext | None = None,
    *,
    concurrency: int = 4,
    read: dict[str, Json] | None = None,
    **since: Json,
) -> Reader:
    system = {
        "connector": "http",
        "base_url": url,
        "key": "id",
        "limits": {"concurrency": concurrency},
        "read": {"path": "/rows", "records": "data", "pagination": BY_CURSOR, "since": SINCE | since, **(read or {})},
    }
    context = context or RuntimeContext(clock=HeldClock(), random=Random(7))
    references = References({}, Path("/nowhere"))
    return open_reader(HttpSystem.model_validate(system), NoAuth(), references, context, RetrySettings(attempts=1))


def days(*ages: float) -> dict[int, tuple[datetime, int]]:
    """Return records of ages from 0 to `count` days."""
    return {key: (NOON - timedelta(days=age), 0) for key, age in enumerate(ages)}


def keys(pages: list[Page]) -> list[Json]:
    return [record["id"] for record in records_of(pages)]


def kept(cursor: Json) -> Json:
    """Convert a cursor to JSON and back, as the run log does."""
    loaded: Json = json.loads(json.dumps(cursor))
    return loaded


async def read_pages(reader: Reader, cursor: Json, pages: int) -> tuple[list[Page], Json]:
    """Read at most that many pages; return them and the cursor after them."""
    given: list[Page] = []
    reading = reader.pages(cursor, full=False)
    assert isinstance(reading, AsyncGenerator)
    async for page in reading:
        given.append(page)
        if len(given) == pages:
            break
    await reading.aclose()
    await reader.close()
    return given, kept(given[-1].cursor)
