"""Records per second to a server with one PUT each, over 20 connections: in a whole run, and by the writer alone.

Budget (DESIGN): 1,000 records a second.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random
from typing import Final

from tests.bench.budget import at_least
from tests.bench.contacts import Source, serving
from tests.bench.passes import Job, measured

from speclab.connectors.api import MappedRecord, RuntimeContext
from speclab.connectors.http.settings import HttpSystem
from speclab.connectors.registry import open_writer
from speclab.connectors.secrets.references import References
from speclab.core.clock import SystemClock
from speclab.spec.auth import ApiKeyAuth

RECORDS: Final = 10_000
CONNECTIONS: Final = 20
_ANSWER: Final = b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 11\r\n\r\n{"ok":true}'


class TrivialServer(asyncio.Protocol):
    """Sends the same response to every request, to measure the writer alone."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._buffer = b""

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head = self._buffer[:end].lower()
            _, _, length = head.partition(b"content-length:")
            whole = end + 4 + int(length.split(b"\r\n", 1)[0] or 0)
            if len(self._buffer) < whole:
                return
            self._buffer = self._buffer[whole:]
            self._transport.write(_ANSWER)


def serve(ready: Connection) -> None:
    """Listen on a free loopback port, send its number, and serve until terminated."""

    async def run() -> None:
        server = await asyncio.get_running_loop().create_server(TrivialServer, "127.0.0.1", 0)
        ready.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(run())


def item(number: int) -> MappedRecord:
    """Return a mapped record of typical size."""
    key = f"c_{number}"
    payload: dict[str, object] = {
        "external_id": key,
        "full_name": "Ada Lovelace",
        "email": "ada@example.org",
        "birth_date": "1815-12-10",
        "stage": "client",
        "revenue_cents": 123450,
        "phone": "+442079460000",
        "city": "London",
        "country": "GB",
        "origin": "crm",
    }
    return MappedRecord(key, payload, {"id": key}, f"00000000-0000-5000-8000-{number:012d}")  # type: ignore[arg-type]


async def write(port: int) -> tuple[float, float]:
    """Return wall and CPU seconds for all records."""
    system = HttpSystem.model_validate(
        {
            "connector": "http",
            "base_url": f"http://127.0.0.1:{port}",
            "key": "external_id",
            "limits": {"concurrency": CONNECTIONS},
            "write": {"upsert": "PUT /customers/{external_id}", "idempotency": "Idempotency-Key"},
        }
    )
    auth = ApiKeyAuth(type="api_key", header="X-Api-Key", key="k" * 32)
    writer = open_writer(system, auth, References({}, Path()), RuntimeContext(SystemClock(), Random(1)))
    items = [item(number) for number in range(RECORDS)]
    try:
        await writer.write(items[: CONNECTIONS * 2])  # connections are made before the clock starts
        began, used = time.perf_counter(), time.process_time()
        for at in range(0, RECORDS, writer.batch):
            results = await writer.write(items[at : at + writer.batch])
            assert all(result.error is None for result in results)
        return time.perf_counter() - began, time.process_time() - used
    finally:
        await writer.close()


@contextmanager
def taking() -> Iterator[int]:
    """Run the server in a separate process; yield its port."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    server = context.Process(target=serve, args=(there,), daemon=True)
    server.start()
    try:
        yield here.recv()
    finally:
        server.terminate()
        server.join()


def main() -> None:
    """Measure and print the results."""
    with taking() as target:
        with serving(Source(RECORDS)) as port:
            run = measured("speclab", Job(port, RECORDS, to="rest", target=target))
        wall, cpu = asyncio.run(write(target))
    each = f"{run.processor / RECORDS * 1e6:,.0f} µs of CPU a record, {cpu / RECORDS * 1e6:,.0f} of them the writer's"
    print(f"REST to REST: {RECORDS:,} records over {CONNECTIONS} connections; {each}")
    at_least("a whole run", RECORDS / run.seconds, 1000, " records/s")
    print(f"    the writer alone: {RECORDS / wall:,.0f} records/s")


if __name__ == "__main__":
    main()
