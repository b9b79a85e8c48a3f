"""Shared parts of the crash and fault tests: a faulty source and target in a separate process, and their specs."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from random import Random
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.pool import NullPool
from tests.conftest import service
from tests.proof.faulty import Faults, person

from speclab.connectors.api import RuntimeContext
from speclab.connectors.secrets.references import References
from speclab.core.clock import Clock, SystemClock
from speclab.core.outcome import Level, Outcome
from speclab.runlog import FailureRow, RunLog, RunLogReader, RunRow
from speclab.sync.prepare import prepare
from speclab.sync.run import RunOptions, RunResult, run

SPEC = """\
---
spec_id: people
type: integration
status: in-progress
---

# Spec: People

## Integration Overview

### Source System

```yaml
{source}
```

### Target System

```yaml
{target}
```

## Data Flow

### Volume

{volume}

## Field Mapping

| Source Field | Target Field | Transformation | Notes |
|--------------|--------------|----------------|-------|
{mapping}

## Authentication

### Source System Auth

```yaml
{auth}
```

### Target System Auth

```yaml
type: none
```

## Error Handling & Retry Strategy

### Retry Logic

```yaml
{retry}
```
"""

PEOPLE = """\
| source.id | target.id | Direct | |
| source.name | target.name | Trim, Uppercase | |
| source.age | target.age | Integer | |

```yaml
filter: source.test != true
```"""

BY_CURSOR = """\
connector: http
base_url: ${env:SYSTEMS}
key: id
limits: {timeout: 500ms}
read: {path: /people, records: data, pagination: {by: cursor, next: next, param: cursor, total: total}}"""

BY_PAGE = """\
connector: http
base_url: ${env:SYSTEMS}
key: id
read: {path: /numbered, records: data, pagination: {by: page, param: page, total: total}}"""

TO_SQLITE = """\
connector: sql
url: sqlite:///target.db
key: id
write: {upsert: people, size: 20, create_table: true}"""

TO_HTTP = """\
connector: http
base_url: ${env:SYSTEMS}
key: id
limits: {timeout: 500ms}
write: {upsert: "PUT /people/{id}"}"""

TO_FILE = """\
connector: file
path: out.jsonl
key: id"""

PLAIN = RunOptions()
QUICK = "attempts: 6\nbase: 5ms\ncap: 50ms"


def expected_row(record: dict[str, Any]) -> dict[str, Any] | None:
    """Return the row that the spec maps a person to; None if the person is filtered or becomes a dead letter."""
    if record["test"] or not record["age"].isdigit():
        return None
    return {"id": record["id"], "name": record["name"].strip().upper(), "age": int(record["age"])}


def expected_rows(people: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows expected at the target, sorted by id."""
    return sorted((made for one in people if (made := expected_row(one)) is not None), key=lambda row: str(row["id"]))


def make_people(count: int) -> list[dict[str, Any]]:
    """Return `count` people."""
    return [person(number) for number in range(count)]


@dataclass
class Systems:
    """The server of `faulty.py` in a separate process."""

    url: str
    ledger: Path

    def __call__(self, **orders: Any) -> None:
        """Set the faults from now on."""
        self._ask("/_faults", json.dumps(asdict(Faults(**orders))).encode())

    def reset(self, seed: int) -> None:
        """Clear all state."""
        self._ask("/_reset", str(seed).encode())

    def take_requests(self) -> list[str]:
        """Return the requests since the last call, as `METHOD TARGET AUTHORIZATION`."""
        requested: list[str] = self._ask("/_requests", b"")
        return requested

    def writes(self) -> list[dict[str, Any]]:
        """Return every completed write, in order."""
        return [json.loads(line) for line in self.ledger.read_text("utf-8").splitlines()]

    def put(self) -> list[dict[str, Any]]:
        """Return the rows at the target after all writes, sorted by id."""
        content = {entry["path"]: entry["body"] for entry in self.writes() if entry["method"] == "PUT"}
        return sorted(content.values(), key=lambda row: str(row["id"]))

    def _ask(self, path: str, body: bytes) -> Any:
        with urllib.request.urlopen(f"{self.url}{path}", data=body, timeout=60) as answer:
            return json.load(answer)


@contextmanager
def run_systems(directory: Path, seed: int) -> Iterator[Systems]:
    """Run the faulty server; `seed` determines its random faults."""
    ledger = directory / "ledger.jsonl"
    command = [sys.executable, str(Path(__file__).with_name("faulty.py")), str(seed), str(ledger)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield Systems(f"http://127.0.0.1:{int(process.stdout.readline())}", ledger)
        finally:
            process.stdin.close()
            process.wait(60)


@dataclass
class Job:
    """A spec in a separate directory; its runs are started in this process or in another."""

    directory: Path
    systems: Systems
    environ: dict[str, str] = field(default_factory=dict)
    reported: list[str] = field(default_factory=list)
    store: Store | None = None

    def write(
        self,
        source: str = BY_CURSOR,
        target: str = TO_SQLITE,
        *,
        retry: str = QUICK,
        auth: str = "type: none",
        volume: str = "",
        edit: Callable[[str], str] = lambda text: text,
    ) -> None:
        """Write the spec."""
        text = SPEC.format(source=source, target=target, mapping=PEOPLE, retry=retry, auth=auth, volume=volume)
        self.spec.write_text(edit(text))

    @property
    def spec(self) -> Path:
        return self.directory / "people.md"

    @property
    def log(self) -> Path:
        return self.directory / ".speclab" / "runlog.db"

    def line_of(self, text: str) -> int:
        """Return the line number of `text` in the spec."""
        return self.spec.read_text().splitlines().index(text) + 1

    async def run(self, options: RunOptions = PLAIN, clock: Clock | None = None) -> RunResult:
        """Run the spec in this process and assert that its counts match."""
        context = RuntimeContext(clock or SystemClock(), Random(0), report=self._report)
        references = References({"SYSTEMS": self.systems.url, **self.environ}, self.directory)
        with RunLog.open(self.log, context.clock) as log:
            result = await run(prepare(self.spec), log, references, context, options, asyncio.Event())
        assert_balanced(result.row)
        return result

    def start(self, *args: str, **more: Any) -> subprocess.Popen[str]:
        """Start a run in a separate process."""
        command = [sys.executable, "-P", "-m", "speclab", "run", str(self.spec), "--json", *args]
        environ = {**os.environ, "SYSTEMS": self.systems.url, **self.environ}
        return subprocess.Popen(
            command,
            cwd=self.directory,
            env=environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **more,
        )

    def runs(self) -> list[RunRow]:
        """Return all runs, oldest first."""
        with RunLogReader.open(self.log) as reader:
            return list(reversed(reader.runs(limit=1000)))

    def failures(self) -> list[FailureRow]:
        """Return all open failures."""
        with RunLogReader.open(self.log) as reader:
            return list(reader.failures(limit=10_000))

    def events(self, kind: str) -> list[str]:
        """Return the messages of one kind of event, oldest first."""
        with RunLogReader.open(self.log) as reader:
            return [event.message for event in reader.events() if event.kind == kind]

    def _report(self, level: Level, message: str) -> None:
        self.reported.append(f"{level}: {message}")


def assert_balanced(row: RunRow) -> None:
    """Assert that every record read has one outcome."""
    assert row.read == sum(getattr(row, outcome) for outcome in Outcome), row


def rows_of(path: Path, table: str = "people") -> list[dict[str, Any]]:
    """Return the rows of an SQLite table, sorted by id."""
    with closing(sqlite3.connect(path)) as db:
        db.row_factory = sqlite3.Row
        return [dict(row) for row in db.execute(f"SELECT id, name, age FROM {table} ORDER BY id")]


@dataclass
class Store:
    """A database for one test; `url` is in the form that a spec uses."""

    kind: str
    url: str
    engine: Engine

    def rows(self, sql: str) -> list[dict[str, Any]]:
        """Return the rows of a SELECT."""
        with self.engine.begin() as connection:
            return [dict(row) for row in connection.execute(text(sql)).mappings()]

    def do(self, *statements: str) -> None:
        """Execute `statements` in one transaction."""
        with self.engine.begin() as connection:
            for statement in statements:
                connection.execute(text(statement))

    def people(self) -> list[dict[str, Any]]:
        """Return the rows of the table people, sorted by id."""
        return sorted(self.rows("SELECT id, name, age FROM people"), key=lambda row: str(row["id"]))


@contextmanager
def database(kind: str, directory: Path) -> Iterator[Store]:
    """Create an empty database on the server of that `kind`, or in a file in `directory`."""
    if kind == "sqlite":
        engine = create_engine(f"sqlite:///{directory / 'target.db'}", poolclass=NullPool)
        yield Store(kind, "sqlite:///target.db", engine)
        return
    service(kind)
    plain, driver, user = {
        "postgresql": ("postgresql", "postgresql+psycopg", "postgres"),
        "mariadb": ("mysql", "mysql+pymysql", "root"),
    }[kind]
    name, server = f"speclab_{uuid4().hex[:12]}", f"{user}@127.0.0.1"
    admin = create_engine(f"{driver}://{server}/test", poolclass=NullPool, isolation_level="AUTOCOMMIT")

    def administer(statement: str) -> None:
        with admin.connect() as connection:
            connection.execute(text(statement))

    administer(f"CREATE DATABASE {name}")
    try:
        engine = create_engine(f"{driver}://{server}/{name}", poolclass=NullPool)
        yield Store(kind, f"{plain}://{server}/{name}", engine)
    finally:
        administer(f"DROP DATABASE {name}" + (" WITH (FORCE)" if kind == "postgresql" else ""))


@pytest.fixture(scope="session")
def both_systems(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Systems]:
    """Start one process for all tests: a start takes longer than most of them."""
    with run_systems(tmp_path_factory.mktemp("systems"), seed=0) as made:
        yield made


@pytest.fixture
def systems(both_systems: Systems) -> Systems:
    """A source and a target without faults until the test sets some."""
    both_systems.reset(seed=0)
    return both_systems


@pytest.fixture
def job(tmp_path: Path, systems: Systems) -> Job:
    """A spec from the source of `systems` to an SQLite file."""
    made = Job(tmp_path, systems)
    made.write()
    return made
