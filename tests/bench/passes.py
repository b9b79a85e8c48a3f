"""One pass of the job: by speclab, by a hand-written loop, and by other tools.

Every pass is a fresh process with a new directory, timed from the end of its imports to its end.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import resource
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final, NamedTuple

import orjson
from tests.bench.contacts import COLUMNS, TARGETS, spec

if TYPE_CHECKING:
    from speclab.sync.prepare import PreparedSpec

DLT: Final = Path(sys.prefix) / "bench" / "dlt" / "bin" / "python"
"""The Python of an environment with dlt, which `make bench` makes."""


@dataclass(frozen=True, slots=True)
class Job:
    """The work: `records` of the source at `port`, paged as `pagination` says, to one of `TARGETS`.

    `target` is the port of a REST target.
    """

    port: int
    records: int
    pagination: str = "{by: cursor, next: meta.next, param: cursor}"
    at_once: int = 4
    to: str = "sqlite"
    target: int | None = None


class Pass(NamedTuple):
    """The costs of one pass: wall-clock seconds, CPU seconds, and peak memory in bytes."""

    seconds: float
    processor: float
    memory: int


Side = Callable[[Job, Path], Callable[[], None]]
"""Prepares a job in a directory and returns the function that runs it."""


def by_speclab(job: Job, directory: Path) -> Callable[[], None]:
    """Run speclab as `speclab run` does."""
    from speclab.cli.run import tuned_interpreter
    from speclab.connectors.api import RuntimeContext
    from speclab.connectors.secrets.references import References
    from speclab.core.clock import SystemClock
    from speclab.runlog import RunLog
    from speclab.sync.run import run

    connectors = [f"speclab.connectors.{name}" for name in ("http.reader", "http.writer", "sql.writer")]
    for late in (*connectors, "sqlite_utils"):  # imported at first use
        importlib.import_module(late)
    prepared = _prepared(job, directory)
    environ = {
        "BENCH_URL": f"http://127.0.0.1:{job.port}",
        "BENCH_DB": f"sqlite:///{directory / 'target.db'}",
        "BENCH_TARGET": f"http://127.0.0.1:{job.target}",
    }

    def go() -> None:
        with tuned_interpreter(), RunLog.open(directory / "runlog.db") as log:
            context = RuntimeContext(SystemClock(), Random())
            result = asyncio.run(run(prepared, log, References(environ, directory), context))
            assert (result.row.state, result.row.written) == ("succeeded", job.records), result.row

    return go


def by_hand(job: Job, directory: Path) -> Callable[[], None]:
    """Run a hand-written loop: a socket, orjson, the same mapping function, executemany."""
    map_ = _prepared(job, directory).mapper.map

    def go() -> None:
        db = sqlite3.connect(directory / "target.db", isolation_level=None)
        upsert = (
            f"INSERT INTO customers ({', '.join(COLUMNS)}) VALUES ({', '.join('?' * len(COLUMNS))}) "
            f"ON CONFLICT (external_id) DO UPDATE SET {', '.join(f'{name} = excluded.{name}' for name in COLUMNS[1:])}"
        )
        connection = socket.create_connection(("127.0.0.1", job.port))
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


def by_dlt(job: Job, directory: Path) -> Callable[[], None]:
    """Run the same records through dlt's REST source and its merge into SQLite, without a mapping."""
    import dlt
    from dlt.sources.rest_api import rest_api_source

    os.environ["LOAD__WORKERS"] = "1"  # several workers block each other in SQLite: "database is locked"
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
        pipeline.run(
            rest_api_source({"client": {"base_url": f"http://127.0.0.1:{job.port}"}, "resources": [resource_]})
        )

    return go


SIDES: Final[dict[str, Side]] = {"speclab": by_speclab, "by hand": by_hand, "dlt": by_dlt}


def installed() -> list[str]:
    """Return the tools that can be measured here."""
    return [side for side in SIDES if side != "dlt" or DLT.exists()]


def measured(side: str, job: Job) -> Pass:
    """Return one pass of `side`."""
    with TemporaryDirectory(prefix="speclab-bench-") as directory:
        python = str(DLT) if side == "dlt" else sys.executable
        command = [python, "-m", "tests.bench.passes", side, json.dumps(asdict(job)), directory]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{side} failed:\n{done.stderr[-4000:]}")
        return Pass(*json.loads(done.stdout.splitlines()[-1]))


def one_pass(side: str, job: Job, directory: Path) -> Pass:
    """Run one pass in this process, which is a child process."""
    with sqlite3.connect(directory / "target.db") as db:  # the same for all: an existing table in WAL mode
        db.execute("PRAGMA journal_mode = WAL")
        if side != "dlt":
            db.execute(f"CREATE TABLE customers ({', '.join(COLUMNS)}, PRIMARY KEY (external_id))")
    db.close()
    go = SIDES[side](job, directory)
    start, busy = time.perf_counter(), time.process_time()
    go()
    seconds, processor = time.perf_counter() - start, time.process_time() - busy
    if job.to == "sqlite":
        with sqlite3.connect(directory / "target.db") as db:
            (count,) = db.execute("SELECT count(*) FROM customers").fetchone()
        assert count == job.records, f"{side} wrote {count}"
    unit = 1 if sys.platform == "darwin" else 1024
    return Pass(seconds, processor, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit)


def _prepared(job: Job, directory: Path) -> PreparedSpec:
    from speclab.sync.prepare import prepare

    file = directory / "bench.md"
    file.write_text(spec(TARGETS[job.to], job.pagination, job.at_once))
    return prepare(file)


def _answer(connection: socket.socket) -> bytes:
    received = bytearray()
    while (end := received.find(b"\r\n\r\n")) < 0:
        received += connection.recv(1 << 20)
    length = int(received[received.index(b"Content-Length: ") + 16 : end])
    while len(received) < end + 4 + length:
        received += connection.recv(1 << 20)
    return bytes(received[end + 4 :])


if __name__ == "__main__":
    print(json.dumps(one_pass(sys.argv[1], Job(**json.loads(sys.argv[2])), Path(sys.argv[3]))))
