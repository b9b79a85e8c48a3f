"""REST to SQLite: 100,000 records through a whole run, beside a loop somebody would write by hand, and dlt.

Budget (DESIGN): at least 0.6 of the hand-written loop's records a second, and 6 times dlt's, with all bookkeeping on.
Every pass is a fresh process; its time is taken from after its imports to its end.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import multiprocessing
import os
import resource
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random
from statistics import median
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final, NamedTuple

import orjson

if TYPE_CHECKING:
    from speclab.sync.prepare import Prepared

RECORDS: Final = int(os.environ.get("BENCH_RECORDS", "100000"))
PAGE: Final = 1000
ROUNDS: Final = 5
COLUMNS: Final = (
    "external_id", "full_name", "email", "birth_date", "stage", "revenue", "phone", "city", "country", "origin",
)  # fmt: skip

SPEC: Final = """---
spec_id: bench
type: integration
status: in-progress
---

# Spec: Bench

## Integration Overview

### Source System

```yaml
connector: http
base_url: ${env:BENCH_URL}
key: id
read:
  path: /contacts
  records: data
  pagination: {by: cursor, next: meta.next, param: cursor}
```

### Target System

```yaml
connector: sql
url: ${env:BENCH_DB}
key: external_id
write: {upsert: customers, size: 1000}
```

### Integration Type

Batch sync

## Data Flow

### Direction

One-way (Source → Target)

### Frequency

Hourly

## Field Mapping

| Source Field | Target Field | Transformation | Notes |
|--------------|--------------|----------------|-------|
| source.id | target.external_id | Direct | |
| source.name.given, source.name.family | target.full_name | Trim, Concat(" ") | |
| source.email | target.email | Required, Trim, Lowercase | |
| source.born | target.birth_date | Date("%d/%m/%Y") | |
| source.state | target.stage | Lookup(stage) | |
| source.turnover | target.revenue | Decimal(2) | |
| source.tel | target.phone | Replace(" ", "") | |
| source.address.city | target.city | Trim | |
| source.address.country | target.country | Uppercase | |
| | target.origin | Constant("crm") | |

```yaml
lookups:
  stage: {"1": lead, "2": client, "3": former}
```

## Authentication

### Source System Auth

```yaml
type: none
```

### Target System Auth

```yaml
type: none
```
"""


def body(number: int) -> bytes:
    """One page of contacts, about 380 bytes each."""
    random = Random(number)
    contacts = [
        {
            "id": f"c_{random.randrange(10**12):012d}_{number * PAGE + offset}",
            "name": {"given": f"Ada{offset} ", "family": f"Lovelace{random.randrange(10**6)}"},
            "email": f"Ada.Lovelace{number * PAGE + offset}@Example.org",
            "born": f"{random.randrange(1, 29):02d}/{random.randrange(1, 13):02d}/{random.randrange(1940, 2005)}",
            "state": str(random.randrange(1, 4)),
            "turnover": f"{random.randrange(10**6)}.{random.randrange(100):02d}",
            "tel": f"+44 20 {random.randrange(10**4):04d} {random.randrange(10**4):04d}",
            "address": {"street": f"{random.randrange(300)} Station Road", "city": " London", "country": "gb"},
            "tags": ["newsletter", "b2b"],
            "updated_at": f"2026-11-{random.randrange(1, 29):02d}T10:00:00Z",
        }
        for offset in range(min(PAGE, RECORDS - number * PAGE))
    ]
    more = number + 1 if (number + 1) * PAGE < RECORDS else None
    return orjson.dumps({"data": contacts, "meta": {"next": more}})


def serve(ready: Connection) -> None:
    """The source: pages made beforehand, sent as fast as they are taken."""
    answers = []
    for number in range(-(-RECORDS // PAGE)):
        page = body(number)
        head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(page)}\r\n\r\n"
        answers.append(head.encode() + page)
    listener = socket.create_server(("127.0.0.1", 0))
    ready.send((listener.getsockname()[1], sum(map(len, answers)) / RECORDS))

    def talk(connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with connection:
            asked = b""
            while chunk := connection.recv(65536):
                asked += chunk
                if b"\r\n\r\n" in asked:
                    _, _, cursor = asked.split(b" ", 2)[1].partition(b"cursor=")
                    connection.sendall(answers[int(cursor or 0)])
                    asked = b""

    while True:
        connection, _ = listener.accept()
        threading.Thread(target=talk, args=(connection,), daemon=True).start()


@contextmanager
def source() -> Iterator[tuple[int, float]]:
    """The source in a process of its own; gives its port and what a record weighs."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=serve, args=(there,), daemon=True)
    process.start()
    try:
        yield here.recv()
    finally:
        process.terminate()
        process.join()


def by_speclab(port: int, directory: Path) -> Callable[[], None]:
    """A run as `speclab run` makes it."""
    from speclab.clock import SystemClock
    from speclab.connectors import References
    from speclab.connectors.base import Seams
    from speclab.runlog import RunLog
    from speclab.sync.run import run

    for late in ("speclab.connectors.http", "speclab.connectors.sql", "sqlite_utils"):  # imported at first use
        importlib.import_module(late)
    prepared = _prepared(directory)
    environ = {"BENCH_URL": f"http://127.0.0.1:{port}", "BENCH_DB": f"sqlite:///{directory / 'target.db'}"}

    def go() -> None:
        with RunLog.open(directory / "runlog.db") as log:
            seams = Seams(SystemClock(), Random())
            result = asyncio.run(run(prepared, log, References(environ, directory), seams))
            assert (result.row.state, result.row.written) == ("succeeded", RECORDS), result.row

    return go


def by_hand(port: int, directory: Path) -> Callable[[], None]:
    """The loop somebody would write: a socket, orjson, the very same mapping function, executemany."""
    map_ = _prepared(directory).mapper.map

    def go() -> None:
        db = sqlite3.connect(directory / "target.db", isolation_level=None)
        upsert = (
            f"INSERT INTO customers ({', '.join(COLUMNS)}) VALUES ({', '.join('?' * len(COLUMNS))}) "
            f"ON CONFLICT (external_id) DO UPDATE SET {', '.join(f'{name} = excluded.{name}' for name in COLUMNS[1:])}"
        )
        connection = socket.create_connection(("127.0.0.1", port))
        cursor: int | None = 0
        while cursor is not None:
            connection.sendall(f"GET /contacts?cursor={cursor} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            page = orjson.loads(_answer(connection))
            db.execute("BEGIN")
            db.executemany(upsert, [tuple(map_(record).values()) for record in page["data"]])
            db.execute("COMMIT")
            cursor = page["meta"]["next"]
        db.close()

    return go


def _prepared(directory: Path) -> Prepared:
    from speclab.sync.prepare import prepare

    spec = directory / "bench.md"
    spec.write_text(SPEC)
    return prepare(spec)


def _answer(connection: socket.socket) -> bytes:
    received = bytearray()
    while (end := received.find(b"\r\n\r\n")) < 0:
        received += connection.recv(1 << 20)
    length = int(received[received.index(b"Content-Length: ") + 16 : end])
    while len(received) < end + 4 + length:
        received += connection.recv(1 << 20)
    return bytes(received[end + 4 :])


def by_dlt(port: int, directory: Path) -> Callable[[], None]:
    """The same records by dlt's REST source and its merge into SQLite, without a mapping."""
    import dlt
    from dlt.sources.rest_api import rest_api_source

    paginator = {"type": "cursor", "cursor_path": "meta.next", "cursor_param": "cursor"}
    resource_ = {
        "name": "customers",
        "primary_key": "id",
        "write_disposition": "merge",
        "endpoint": {"path": "contacts", "data_selector": "data", "paginator": paginator},
    }

    def go() -> None:
        destination = dlt.destinations.sqlalchemy(f"sqlite:///{directory / 'target.db'}")
        pipeline = dlt.pipeline("bench", pipelines_dir=str(directory), destination=destination, dataset_name="main")
        pipeline.run(rest_api_source({"client": {"base_url": f"http://127.0.0.1:{port}"}, "resources": [resource_]}))

    return go


class Pass(NamedTuple):
    """What one pass took: seconds on the wall, seconds of the processor, and bytes of memory at its peak."""

    seconds: float
    processor: float
    memory: int


SIDES: Final = {"speclab": by_speclab, "by hand": by_hand, "dlt": by_dlt}


def one_pass(side: str, port: int, directory: Path) -> None:
    """A child's work: one side, once; prints seconds, those of the processor, and the most memory it had, in bytes."""
    with sqlite3.connect(directory / "target.db") as db:  # the same for all: a table that is there, in WAL mode
        db.execute("PRAGMA journal_mode = WAL")
        if side != "dlt":
            db.execute(f"CREATE TABLE customers ({', '.join(COLUMNS)}, PRIMARY KEY (external_id))")
    db.close()
    go = SIDES[side](port, directory)
    start, busy = time.perf_counter(), time.process_time()
    go()
    seconds = time.perf_counter() - start
    processor = time.process_time() - busy
    with sqlite3.connect(directory / "target.db") as db:
        (count,) = db.execute("SELECT count(*) FROM customers").fetchone()
    assert count == RECORDS, f"{side} wrote {count}"
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    print(json.dumps([seconds, processor, memory]))


def measured(side: str, port: int) -> Pass:
    """One side in a fresh process and directory."""
    with TemporaryDirectory(prefix="speclab-bench-") as directory:
        command = [sys.executable, "-m", "tests.bench.rest_to_sqlite", side, str(port), directory]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        return Pass(*json.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    """Measure the sides in turn, so that all see the same machine, and print what they did."""
    sides = [side for side in SIDES if side != "dlt" or importlib.util.find_spec("dlt")]
    passes: dict[str, list[Pass]] = {side: [] for side in sides}
    with source() as (port, weight):
        print(f"REST to SQLite, {RECORDS:,} records of {weight:.0f} bytes, pages of {PAGE:,}, {ROUNDS} rounds in turn")
        for _ in range(ROUNDS):
            for side in sides:
                passes[side].append(measured(side, port))
    speed = {side: RECORDS / median(one.seconds for one in passes[side]) for side in sides}
    for side in sides:
        processor = median(one.processor for one in passes[side]) / RECORDS * 1e6
        memory = max(one.memory for one in passes[side]) / 1e6
        print(f"  {side:8} {speed[side]:>9,.0f} records/s   {processor:5.1f} µs of CPU a record   peak {memory:.0f} MB")
    print(f"  speclab is {speed['speclab'] / speed['by hand']:.2f} of the loop by hand (budget: 0.6)")
    if "dlt" in speed:
        print(f"  speclab is {speed['speclab'] / speed['dlt']:.1f} times dlt (budget: 6)")
    else:
        print("  dlt is not installed here, so not beside it (`pip install dlt[sqlalchemy]` to see)")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        one_pass(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
    else:
        main()
