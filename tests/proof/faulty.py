"""A source and a target on loopback that misbehave as they are told: one asyncio process, its chance seeded.

Started by path, so that it stands alone: `python faulty.py SEED LEDGER`. It prints its port, and goes on until its
standard input is closed. Every write that is done goes into the file LEDGER, a JSON line each, before it is answered.

`GET /people` is a list of pages by cursor, with `since=` of those changed since, and `GET /numbered?page=` by number.
`PUT /people/ID` writes a record, `POST /people` appends one, once for each Idempotency-Key. `POST /_orders` says what
is wrong from then on, in the words of `Orders`.
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

HEALING = ("reset", "hang-up", "long", "503", "429", "429-silent", "slow")
"""What a client gets over by asking again."""
STOPPING = ("truncated", "error-200", "401", "empty")
"""What ends a run, which the next one goes on from."""
WRITING = ("reset", "hang-up", "lost", "lost-503", "503", "429", "429-silent", "slow")
"""What goes wrong at a target; of the `lost` ones only the answer is, the record is written."""


@dataclass(frozen=True)
class Orders:
    """What is wrong: faults of the next requests in turn ("" is none), and of later ones by `chance`."""

    source: Sequence[str] = ()
    target: Sequence[str] = ()
    source_chance: float = 0.0
    target_chance: float = 0.0
    source_faults: Sequence[str] = HEALING
    target_faults: Sequence[str] = WRITING
    people: Sequence[Mapping[str, Any]] | None = None
    size: int = 50
    total: int | None = None
    total_moves: int = 0
    loop: bool = False
    poison: str = ""
    holes: Sequence[int] = ()
    hides_next: bool = False
    pause: float = 0.0
    elsewhere: str = ""
    token: str = ""
    retry_after: str = "0"


def person(number: int) -> dict[str, Any]:
    """One record of the source. Some are bad, some are tests."""
    return {
        "id": f"p{number}",
        "name": f" ada {number} é ",
        "age": "old" if number % 97 == 5 else str(number % 100),
        "test": number % 89 == 7,
        "updated": f"2026-03-01T{number // 3600 % 24:02d}:{number // 60 % 60:02d}:{number % 60:02d}Z",
    }


@dataclass
class Request:
    """What was asked."""

    method: str
    target: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes


@dataclass
class Answer:
    """What is said to it."""

    status: int
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)

    def wire(self, length: int | None = None) -> bytes:
        """The answer as bytes; with a `length` that is not so."""
        said = len(self.body) if length is None else length
        lines = [f"HTTP/1.1 {self.status} X", f"Content-Length: {said}", "Content-Type: application/json"]
        lines += [f"{name}: {value}" for name, value in self.headers.items()]
        return "\r\n".join(lines).encode() + b"\r\n\r\n" + self.body


class Server:
    """Both systems, and what is wrong with them."""

    def __init__(self, seed: int, ledger: IO[bytes]) -> None:
        self.ledger = ledger
        self.begin(seed)

    def begin(self, seed: int) -> None:
        """Begin with nothing, and nothing wrong."""
        self.random = Random(seed)
        self.orders = Orders()
        self.queues: dict[str, deque[str]] = {"source": deque(), "target": deque()}
        self.people: list[dict[str, Any]] = []
        self.appended: set[str] = set()
        self.last: Answer | None = None
        self.asked: list[str] = []

    def obey(self, orders: Orders) -> None:
        """Do as told from now on."""
        self.orders = orders
        self.queues = {"source": deque(orders.source), "target": deque(orders.target)}
        if orders.people is not None:
            self.people = [dict(one) for one in orders.people]

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the requests of one connection, until it ends."""
        try:
            while (request := await read_request(reader)) is not None:
                if not await self.serve(request, writer):
                    break
        except (ConnectionError, asyncio.IncompleteReadError):
            return
        finally:
            writer.close()

    async def serve(self, request: Request, writer: asyncio.StreamWriter) -> bool:
        """Answer one request; whether the connection may go on."""
        if request.path.startswith("/_"):
            writer.write(self.control(request).wire())
            return True
        side = "target" if request.method != "GET" else "source"
        self.asked.append(f"{request.method} {request.target} {request.headers.get('authorization', '')}")
        if side == "source" and self.orders.pause:
            await asyncio.sleep(self.orders.pause)
        fault = self.fault(side)
        if self.orders.token and request.headers.get("authorization") != f"Bearer {self.orders.token}":
            fault = "401"
        if side == "target" and request.path.endswith(f"/{self.orders.poison}"):
            fault = "500"
        if side == "target" and fault in ("", "lost", "lost-503", "slow"):
            answer = self.write(request)
        else:
            answer = self.read(request) if side == "source" else Answer(200, b"{}")
        kept = await self.misbehave(fault, answer, writer)
        await writer.drain()
        return kept

    def fault(self, side: str) -> str:
        """What is wrong with the next answer of a side."""
        queue = self.queues[side]
        if queue:
            return queue.popleft()
        source = side == "source"
        chance = self.orders.source_chance if source else self.orders.target_chance
        choices = self.orders.source_faults if source else self.orders.target_faults
        return self.random.choice(choices) if self.random.random() < chance else ""

    async def misbehave(  # noqa: C901 - a list of faults
        self, fault: str, answer: Answer, writer: asyncio.StreamWriter
    ) -> bool:
        """Send `answer`, as wrong as `fault` says; whether the connection may go on."""
        half = Answer(answer.status, answer.body[: len(answer.body) // 2], answer.headers)
        match fault:
            case "reset" | "hang-up" | "lost":
                if fault == "reset":
                    writer.write(half.wire(len(answer.body)))
                    await writer.drain()
                writer.transport.abort()
                return False
            case "long":
                writer.write(answer.wire(len(answer.body) + 7))
                return False
            case "short":
                writer.write(answer.wire(len(answer.body) - 7))
            case "truncated":
                writer.write(half.wire())
            case "drip" | "slow":
                pause = 0.05 if fault == "drip" else 0.001
                wire = answer.wire()
                for at in range(0, len(wire), 40):
                    writer.write(wire[at : at + 40])
                    await writer.drain()
                    await asyncio.sleep(pause)
            case "429":
                headers = {"Retry-After": self.orders.retry_after}
                writer.write(Answer(429, b'{"message": "slow down"}', headers).wire())
            case "429-silent" | "503" | "401" | "lost-503" | "500":
                status = int(fault.removeprefix("lost-").partition("-")[0])
                writer.write(Answer(status, b'{"message": "not now"}').wire())
            case "invalid-utf8":
                writer.write(Answer(200, answer.body.replace(b"ada", b"\xff\xfea", 1)).wire())
            case "error-200":
                writer.write(Answer(200, b'{"error": {"message": "the quota of the tenant is used up"}}').wire())
            case "empty":
                writer.write(Answer(200, b"").wire())
            case "redirect":
                writer.write(Answer(302, b"", {"Location": self.orders.elsewhere}).wire())
            case "again" if self.last is not None:
                writer.write(self.last.wire())
            case _:
                writer.write(answer.wire())
        self.last = answer
        return True

    def read(self, request: Request) -> Answer:
        """A page of the source."""
        people, size = self.people, self.orders.size
        if (since := request.query.get("since")) is not None:
            people = [one for one in people if one["updated"] >= since]
        total = (len(people) if self.orders.total is None else self.orders.total) + self.orders.total_moves * len(
            self.asked
        )
        if request.path == "/numbered":
            at = (int(request.query.get("page", "1")) - 1) * size
            return Answer(200, encoded({"data": people[at : at + size], "total": total}))
        at = int(request.query.get("cursor", "0"))
        following = at + size if at + size < len(people) else None
        if self.orders.loop and at:
            following = 0
        page = [] if at // size in self.orders.holes else people[at : at + size]
        body: dict[str, Any] = {"data": page, "next": following, "total": total}
        if self.orders.hides_next:
            del body["next"]
        if self.orders.elsewhere and following is not None:
            body["url"] = self.orders.elsewhere
        return Answer(200, encoded(body))

    def write(self, request: Request) -> Answer:
        """Do what is asked of the target, and put it down."""
        key = request.headers.get("idempotency-key", "")
        if request.method == "POST" and key:
            if key in self.appended:
                return Answer(200, b"{}")
            self.appended.add(key)
        entry = {
            "method": request.method,
            "path": request.path,
            "key": key,
            "body": json.loads(request.body or b"null"),
        }
        self.ledger.write(encoded(entry) + b"\n")
        self.ledger.flush()
        os.fsync(self.ledger.fileno())
        return Answer(201 if request.method == "POST" else 200, b"{}")

    def control(self, request: Request) -> Answer:
        """What the tests ask for."""
        if request.path == "/_reset":
            self.ledger.truncate(0)
            self.begin(int(request.body))
            return Answer(200, b"{}")
        if request.path == "/_orders":
            self.obey(replace(Orders(), **json.loads(request.body)))
            return Answer(200, b"{}")
        asked, self.asked = self.asked, []
        return Answer(200, encoded(asked))


def encoded(value: object) -> bytes:
    """`value` as JSON, its text as it is."""
    return json.dumps(value, ensure_ascii=False).encode()


async def read_request(reader: asyncio.StreamReader) -> Request | None:
    """The next request of a connection; None at its end."""
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
    """Serve until standard input ends."""
    with Path(sys.argv[2]).open("ab") as ledger:  # noqa: ASYNC230 - a disk that is slow is a slow target
        made = Server(int(sys.argv[1]), ledger)
        server = await asyncio.start_server(made.connected, "127.0.0.1", 0)
        print(server.sockets[0].getsockname()[1], flush=True)  # noqa: T201 - to whoever started it
        await asyncio.to_thread(sys.stdin.read)
        server.close()


if __name__ == "__main__":
    asyncio.run(main())
