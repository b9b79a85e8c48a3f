"""A source and a target on loopback with configurable faults: one asyncio process with seeded randomness.

Started by path, without the package: `python faulty.py SEED LEDGER`. It prints its port and runs until its
standard input is closed. Every completed write is appended to LEDGER as a JSON line before the response is sent.

`GET /people` lists people in cursor pages, with `since=` only changed ones; `GET /numbered?page=` by page number.
`PUT /people/ID` writes a record. `POST /people` appends one, once for each Idempotency-Key. `POST /_faults` sets the
faults from then on: the fields of `Faults`.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import IO, Any
from urllib.parse import parse_qs, urlsplit

TRANSIENT = ("reset", "hang-up", "long", "503", "429", "429-silent", "slow")
"""Faults that a client survives by retrying."""
FATAL = ("truncated", "error-200", "401", "empty")
"""Faults that end a run; the next run continues."""
WRITE_FAULTS = ("reset", "hang-up", "lost", "lost-503", "503", "429", "429-silent", "slow")
"""Faults of a target; with `lost` and `lost-503` the record is written and only the response is lost."""


@dataclass(frozen=True)
class Faults:
    """The faults of the next requests, in order ("" for no fault), and those of later requests, by chance."""

    source: Sequence[str] = ()
    target: Sequence[str] = ()
    source_chance: float = 0.0
    target_chance: float = 0.0
    source_faults: Sequence[str] = TRANSIENT
    target_faults: Sequence[str] = WRITE_FAULTS
    people: Sequence[Mapping[str, Any]] | None = None
    size: int = 50
    total: int | None = None
    total_moves: int = 0
    loop: bool = False
    failing_id: str = ""
    empty_pages: Sequence[int] = ()
    omit_next: bool = False
    pause: float = 0.0
    redirect_to: str = ""
    token: str = ""
    retry_after: str = "0"


def person(number: int) -> dict[str, Any]:
    """Return a source record. Some have an invalid age, some are tests."""
    return {
        "id": f"p{number}",
        "name": f" ada {number} é ",
        "age": "old" if number % 97 == 5 else str(number % 100),
        "test": number % 89 == 7,
        "updated": f"2026-03-01T{number // 3600 % 24:02d}:{number // 60 % 60:02d}:{number % 60:02d}Z",
    }


@dataclass
class Request:
    """A parsed request."""

    method: str
    target: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes


@dataclass
class Response:
    """A response."""

    status: int
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)

    def wire(self, length: int | None = None) -> bytes:
        """Return the response as bytes; `length` replaces the true content length."""
        content_length = len(self.body) if length is None else length
        lines = [f"HTTP/1.1 {self.status} X", f"Content-Length: {content_length}", "Content-Type: application/json"]
        lines += [f"{name}: {value}" for name, value in self.headers.items()]
        return "\r\n".join(lines).encode() + b"\r\n\r\n" + self.body


class Server:
    """The source and the target with their faults."""

    def __init__(self, seed: int, ledger: IO[bytes]) -> None:
        self.ledger = ledger
        self.reset(seed)

    def reset(self, seed: int) -> None:
        """Clear all state and faults."""
        self.random = Random(seed)
        self.faults = Faults()
        self.queues: dict[str, deque[str]] = {"source": deque(), "target": deque()}
        self.people: list[dict[str, Any]] = []
        self.appended: set[str] = set()
        self.last: Response | None = None
        self.requests: list[str] = []

    def apply(self, faults: Faults) -> None:
        """Apply `faults` from now on."""
        self.faults = faults
        self.queues = {"source": deque(faults.source), "target": deque(faults.target)}
        if faults.people is not None:
            self.people = [dict(one) for one in faults.people]

    async def handle_connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Respond to the requests of one connection until it closes."""
        try:
            while (request := await read_request(reader)) is not None:
                if not await self.serve(request, writer):
                    break
        except (ConnectionError, asyncio.IncompleteReadError):
            return
        finally:
            writer.close()

    async def serve(self, request: Request, writer: asyncio.StreamWriter) -> bool:
        """Respond to one request; return whether the connection stays open."""
        if request.path.startswith("/_"):
            writer.write(self.control(request).wire())
            return True
        side = "target" if request.method != "GET" else "source"
        self.requests.append(f"{request.method} {request.target} {request.headers.get('authorization', '')}")
        if side == "source" and self.faults.pause:
            await asyncio.sleep(self.faults.pause)
        fault = self.fault(side)
        if self.faults.token and request.headers.get("authorization") != f"Bearer {self.faults.token}":
            fault = "401"
        if side == "target" and request.path.endswith(f"/{self.faults.failing_id}"):
            fault = "500"
        if side == "target" and fault in ("", "lost", "lost-503", "slow"):
            response = self.write(request)
        else:
            response = self.read(request) if side == "source" else Response(200, b"{}")
        kept = await self.send(fault, response, writer)
        await writer.drain()
        return kept

    def fault(self, side: str) -> str:
        """Return the fault of the next response of an endpoint."""
        queue = self.queues[side]
        if queue:
            return queue.popleft()
        source = side == "source"
        chance = self.faults.source_chance if source else self.faults.target_chance
        choices = self.faults.source_faults if source else self.faults.target_faults
        return self.random.choice(choices) if self.random.random() < chance else ""

    async def send(  # noqa: C901 - a list of faults
        self, fault: str, response: Response, writer: asyncio.StreamWriter
    ) -> bool:
        """Send `response` with `fault`; return whether the connection stays open."""
        half = Response(response.status, response.body[: len(response.body) // 2], response.headers)
        match fault:
            case "reset" | "hang-up" | "lost":
                if fault == "reset":
                    writer.write(half.wire(len(response.body)))
                    await writer.drain()
                writer.transport.abort()
                return False
            case "long":
                writer.write(response.wire(len(response.body) + 7))
                return False
            case "short":
                writer.write(response.wire(len(response.body) - 7))
            case "truncated":
                writer.write(half.wire())
            case "drip" | "slow":
                pause = 0.05 if fault == "drip" else 0.001
                wire = response.wire()
                for at in range(0, len(wire), 40):
                    writer.write(wire[at : at + 40])
                    await writer.drain()
                    await asyncio.sleep(pause)
            case "429":
                headers = {"Retry-After": self.faults.retry_after}
                writer.write(Response(429, b'{"message": "slow down"}', headers).wire())
            case "429-silent" | "503" | "401" | "lost-503" | "500":
                status = int(fault.removeprefix("lost-").partition("-")[0])
                writer.write(Response(status, b'{"message": "not now"}').wire())
            case "invalid-utf8":
                writer.write(Response(200, response.body.replace(b"ada", b"\xff\xfea", 1)).wire())
            case "error-200":
                writer.write(Response(200, b'{"error": {"message": "the quota of the tenant is used up"}}').wire())
            case "empty":
                writer.write(Response(200, b"").wire())
            case "redirect":
                writer.write(Response(302, b"", {"Location": self.faults.redirect_to}).wire())
            case "again" if self.last is not None:
                writer.write(self.last.wire())
            case _:
                writer.write(response.wire())
        self.last = response
        return True

    def read(self, request: Request) -> Response:
        """Return a page of the source."""
        people, size = self.people, self.faults.size
        if (since := request.query.get("since")) is not None:
            people = [one for one in people if one["updated"] >= since]
        total = (len(people) if self.faults.total is None else self.faults.total) + self.faults.total_moves * len(
            self.requests
        )
        if request.path == "/numbered":
            at = (int(request.query.get("page", "1")) - 1) * size
            return Response(200, encode({"data": people[at : at + size], "total": total}))
        at = int(request.query.get("cursor", "0"))
        following = at + size if at + size < len(people) else None
        if self.faults.loop and at:
            following = 0
        page = [] if at // size in self.faults.empty_pages else people[at : at + size]
        body: dict[str, Any] = {"data": page, "next": following, "total": total}
        if self.faults.omit_next:
            del body["next"]
        if self.faults.redirect_to and following is not None:
            body["url"] = self.faults.redirect_to
        return Response(200, encode(body))

    def write(self, request: Request) -> Response:
        """Apply a write to the target and append it to the ledger."""
        key = request.headers.get("idempotency-key", "")
        if request.method == "POST" and key:
            if key in self.appended:
                return Response(200, b"{}")
            self.appended.add(key)
        entry = {
            "method": request.method,
            "path": request.path,
            "key": key,
            "body": json.loads(request.body or b"null"),
        }
        self.ledger.write(encode(entry) + b"\n")
        self.ledger.flush()
        os.fsync(self.ledger.fileno())
        return Response(201 if request.method == "POST" else 200, b"{}")

    def control(self, request: Request) -> Response:
        """Respond to a control request of the tests."""
        if request.path == "/_reset":
            self.ledger.truncate(0)
            self.reset(int(request.body))
            return Response(200, b"{}")
        if request.path == "/_faults":
            self.apply(replace(Faults(), **json.loads(request.body)))
            return Response(200, b"{}")
        requests, self.requests = self.requests, []
        return Response(200, encode(requests))


def encode(value: object) -> bytes:
    """Return `value` as UTF-8 JSON."""
    return json.dumps(value, ensure_ascii=False).encode()


async def read_request(reader: asyncio.StreamReader) -> Request | None:
    """Read the next request of a connection; None at its end."""
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    except asyncio.IncompleteReadError:
        return None
    first, *rest = head.rstrip().split("\r\n")
    method, target, _ = first.split(" ")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in rest)}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    parts = urlsplit(target)
    query = {name: values[0] for name, values in parse_qs(parts.query).items()}
    return Request(method, target, parts.path, query, headers, body)


async def main() -> None:
    """Serve until standard input is closed."""
    with Path(sys.argv[2]).open("ab") as ledger:  # noqa: ASYNC230 - a slow disk is a slow target
        made = Server(int(sys.argv[1]), ledger)
        server = await asyncio.start_server(made.handle_connection, "127.0.0.1", 0)
        print(server.sockets[0].getsockname()[1], flush=True)  # noqa: T201 - the parent process reads it
        await asyncio.to_thread(sys.stdin.read)
        server.close()


if __name__ == "__main__":
    asyncio.run(main())
