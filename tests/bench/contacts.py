"""The measured job: contacts of a REST source, the spec that maps them, and a source with little overhead.

The source is a separate process. It builds its pages from templates, so that a million records need no memory.
"""

from __future__ import annotations

import multiprocessing
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from random import Random
from typing import Final

import orjson

COLUMNS: Final = (
    "external_id", "full_name", "email", "birth_date", "stage", "revenue", "phone", "city", "country", "origin",
)  # fmt: skip

_CURSOR: Final = "{by: cursor, next: meta.next, param: cursor}"
PAGES: Final = "{by: page, param: page, start: 0, total: meta.total}"
"""Pagination by which all pages are known from the first on."""

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
  pagination: %(pagination)s
limits: {concurrency: %(at_once)d}
```

### Target System

```yaml
%(target)s
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
| source.born | target.birth_date | Date("%%d/%%m/%%Y") | |
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
TO_SQLITE: Final = """connector: sql
url: ${env:BENCH_DB}
key: external_id
write: {upsert: customers, size: 1000}"""
TO_REST: Final = """connector: http
base_url: ${env:BENCH_TARGET}
key: external_id
limits: {concurrency: 20}
write: {upsert: "PUT /customers/{external_id}", idempotency: Idempotency-Key}"""
TO_FILE: Final = """connector: file
path: out/customers.jsonl
key: external_id
mode: append"""
TARGETS: Final = {"sqlite": TO_SQLITE, "rest": TO_REST, "file": TO_FILE}

_TEMPLATES: Final = 20
_NUMBER: Final = b"@@@@@@"


def spec(target: str = TO_SQLITE, pagination: str = _CURSOR, at_once: int = 4) -> str:
    """Return the spec of the job."""
    return SPEC % {"target": target, "pagination": pagination, "at_once": at_once}


@dataclass(frozen=True, slots=True)
class Source:
    """The number of records, the page size, and the seconds before each response."""

    records: int
    page: int = 1000
    delay: float = 0.0

    def answer(self, number: int, templates: list[list[bytes]]) -> bytes:
        """Return the page of that number."""
        count = min(self.page, self.records - number * self.page)
        chosen = templates[number % len(templates)][:count]
        following = number + 1 if (number + 1) * self.page < self.records else None
        rest = orjson.dumps({"next": following, "total": self.records})
        body = b'{"data":[' + b",".join(chosen).replace(_NUMBER, b"%06d" % number) + b'],"meta":' + rest + b"}"
        head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        return head.encode() + body


def contact(random: Random, offset: int) -> bytes:
    """Return a contact of about 340 bytes, with a placeholder for the page number. Keys are in pseudo-random order."""
    number = f"{_NUMBER.decode()}{offset:04d}"
    return orjson.dumps(
        {
            "id": f"c_{random.randrange(10**12):012d}_{number}",
            "name": {"given": f"Ada{offset} ", "family": f"Lovelace{random.randrange(10**6)}"},
            "email": f"Ada.Lovelace{number}@Example.org",
            "born": f"{random.randrange(1, 29):02d}/{random.randrange(1, 13):02d}/{random.randrange(1940, 2005)}",
            "state": str(random.randrange(1, 4)),
            "turnover": f"{random.randrange(10**6)}.{random.randrange(100):02d}",
            "tel": f"+44 20 {random.randrange(10**4):04d} {random.randrange(10**4):04d}",
            "address": {"street": f"{random.randrange(300)} Station Road", "city": " London", "country": "gb"},
            "tags": ["newsletter", "b2b"],
            "updated_at": f"2026-11-{random.randrange(1, 29):02d}T10:00:00Z",
        }
    )


def serve(source: Source, ready: Connection) -> None:
    """Listen on a free loopback port, send its number, and serve requests until terminated."""
    random = Random(1)
    templates = [[contact(random, offset) for offset in range(source.page)] for _ in range(_TEMPLATES)]
    listener = socket.create_server(("127.0.0.1", 0))
    ready.send(listener.getsockname()[1])

    def handle_connection(connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with connection:
            requested = b""
            while chunk := connection.recv(65536):
                requested += chunk
                if b"\r\n\r\n" in requested:
                    _, _, number = requested.split(b" ", 2)[1].partition(b"=")
                    time.sleep(source.delay)
                    connection.sendall(source.answer(int(number or 0), templates))
                    requested = b""

    while True:
        connection, _ = listener.accept()
        threading.Thread(target=handle_connection, args=(connection,), daemon=True).start()


@contextmanager
def serving(source: Source) -> Iterator[int]:
    """Run the source in a separate process; yield its port."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=serve, args=(source, there), daemon=True)
    process.start()
    try:
        yield here.recv()
    finally:
        process.terminate()
        process.join()
