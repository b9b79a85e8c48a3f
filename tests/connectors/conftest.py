"""Real systems to connect to, on loopback; only time and randomness are replaced."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import pytest
from aiohttp import web
from tests.clocks import HeldClock
from tests.connectors.databases import Database, Databases
from tests.connectors.taps import Taps

from speclab.connectors.api import MappedRecord, Page, Reader, RuntimeContext
from speclab.connectors.secrets.references import References
from speclab.connectors.singer import process
from speclab.core.errors import EndpointError
from speclab.core.json import Json, Record
from speclab.core.outcome import Level

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Serve = Callable[[Handler], Awaitable[str]]
ServeRaw = Callable[[bytes | None], Awaitable[str]]


@dataclass
class Reports:
    """What a connector reports to the run log."""

    lines: list[str] = field(default_factory=list)

    def __call__(self, level: Level, message: str) -> None:
        self.lines.append(f"{level}: {message}")


@pytest.fixture
def clock() -> HeldClock:
    return HeldClock()


@pytest.fixture
def reports() -> Reports:
    return Reports()


@pytest.fixture
def context(clock: HeldClock, reports: Reports) -> RuntimeContext:
    return RuntimeContext(clock=clock, random=Random(7), report=reports)


@pytest.fixture
def references(tmp_path: Path) -> References:
    return References({}, tmp_path)


@pytest.fixture(scope="session")
def databases(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Databases]:
    """Databases that are created on first use, for all tests."""
    with ExitStack() as stack:
        yield Databases(tmp_path_factory.mktemp("databases"), stack)


@pytest.fixture(params=["postgresql", "mariadb", "sqlite"])
def db(request: pytest.FixtureRequest, databases: Databases, context: RuntimeContext) -> Database:
    """Each kind of database in turn."""
    return databases.open(request.param, context)


@pytest.fixture
def postgresql(databases: Databases, context: RuntimeContext) -> Database:
    return databases.open("postgresql", context)


@pytest.fixture
def mariadb(databases: Databases, context: RuntimeContext) -> Database:
    return databases.open("mariadb", context)


@pytest.fixture
def singer_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The directory for the files of taps and targets; all of them are deleted when their process ends."""
    private = tmp_path / "tmp"
    private.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(private))
    monkeypatch.setattr(process, "_GRACE", 0.3)
    yield private
    assert list(private.iterdir()) == []


@pytest.fixture
def tap(tmp_path: Path, context: RuntimeContext) -> Taps:
    """Return readers of taps that execute a script."""
    return Taps(tmp_path, context)


@pytest.fixture
def witness(tmp_path: Path) -> Path:
    """The file in which a tap logs how it was started."""
    return tmp_path / "witness.jsonl"


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """Start a server that answers every request with `handler`; return its base URL."""
    runners: list[web.AppRunner] = []

    async def start(handler: Handler) -> str:
        app = web.Application()

        async def handle(request: web.Request) -> web.StreamResponse:
            return await handler(request)

        app.router.add_route("*", "/{path:.*}", handle)
        runner = web.AppRunner(app, shutdown_timeout=0)
        runners.append(runner)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        return f"http://{host}:{port}"

    yield start
    for runner in runners:
        await runner.cleanup()


@pytest.fixture
async def serve_raw() -> AsyncIterator[ServeRaw]:
    """Start a server that sends the given bytes to every connection and closes it, or (None) never responds."""
    servers: list[asyncio.Server] = []

    async def start(answer: bytes | None) -> str:
        async def handle_connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            if answer is None:
                await reader.read()
            else:
                writer.write(answer)
                await writer.drain()
            writer.close()

        server = await asyncio.start_server(handle_connection, "127.0.0.1", 0)
        servers.append(server)
        host, port = server.sockets[0].getsockname()[:2]
        return f"http://{host}:{port}"

    yield start
    for server in servers:
        server.close()
        await server.wait_closed()


async def read_all(reader: Reader, cursor: Json = None, *, full: bool = False) -> list[Page]:
    """Return all pages of a read, and close the reader."""
    try:
        return [page async for page in reader.pages(cursor, full=full)]
    finally:
        await reader.close()


async def read_to_failure(reader: Reader, cursor: Json = None) -> tuple[list[Page], EndpointError]:
    """Return the pages of a read that fails, and its error; close the reader."""
    given: list[Page] = []
    try:
        async for page in reader.pages(cursor, full=False):
            given.append(page)  # noqa: PERF401 - the pages before the failure are kept
    except EndpointError as error:
        return given, error
    finally:
        await reader.close()
    pytest.fail("the read did not fail")


def records_of(pages: list[Page]) -> list[Record]:
    """Return the records of all pages."""
    return [record for page in pages for record in page.records]


def item(key: str, *, delete: bool = False, source: Record | None = None, **payload: Json) -> MappedRecord:
    """Return an item with `payload` and an idempotency key derived from its key."""
    return MappedRecord(key, {"id": key, **payload}, source or {}, f"idempotency-of-{key}", delete=delete)
