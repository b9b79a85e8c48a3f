"""Fixtures for tests of the engine: a clock that jumps, and configurable in-memory sources and targets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from random import Random

import pytest
from tests.clocks import HeldClock

from speclab.connectors.api import MappedRecord, Page, Reader, RuntimeContext, WriteError, WriteResult
from speclab.connectors.secrets.references import References
from speclab.core.errors import EndpointError
from speclab.core.json import Json, Record
from speclab.core.outcome import Effect, ErrorClass, Level, Outcome
from speclab.runlog import RunLog, RunLogReader, RunRow
from speclab.sync.prepare import prepare
from speclab.sync.run import RunOptions, RunResult, run

SPEC = """---
spec_id: people
type: integration
status: in-progress
---

# Spec: People

## Integration Overview

### Source System

```yaml
connector: http
base_url: https://source.example
key: id
read: {path: /people, deleted: source.gone == true}
```

### Target System

```yaml
connector: http
base_url: https://target.example
key: id
write: {upsert: "PUT /people/{id}"}
```

## Data Flow

### Frequency

Hourly

## Field Mapping

| Source Field | Target Field | Transformation | Notes |
|--------------|--------------|----------------|-------|
| source.id | target.id | Direct | |
| source.name | target.name | Trim | |
| source.age | target.age | Integer | |

```yaml
filter: source.test != true
check: {age: {minimum: 0}}
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

## Error Handling & Retry Strategy

### Error Types

| Error | Action | Notes |
|-------|--------|-------|
| 418 | skip | |
| 402 | stop | |

### Retry Logic

```yaml
attempts: 3
base: 2s
cap: 1m
give_up_after: 1h
```
"""


PLAIN = RunOptions()


def error_result(
    error_class: ErrorClass = ErrorClass.REJECTED,
    status: int | None = None,
    *,
    message: str = "",
    retry_after: float | None = None,
    field: str | None = None,
    sent: bool = True,
) -> WriteResult:
    """Return a write result with an error."""
    text = message or f"{status or ''} {error_class}".strip()
    return WriteResult(
        error=WriteError(error_class, text, "PUT /x", "so", status, retry_after, field, sent),
    )


Behaviour = Callable[[MappedRecord, int], WriteResult | None]
"""The result of a target for an item at its nth attempt (from 1); None: it accepts the item."""


@dataclass
class MemoryTarget:
    """A writer into a dictionary, by the payload's id; `behaviour` decides which records it rejects.

    With `whole`, a batch that contains a rejected record is rejected as a whole, with the first error.
    """

    behaviour: Behaviour = lambda _item, _try: None
    batch: int = 10
    idempotent: bool = True
    keyed: bool = True
    deletes: bool = True
    whole: bool = False
    content: dict[str, Record] = field(default_factory=dict)
    calls: list[list[str]] = field(default_factory=list)
    tries: dict[str, int] = field(default_factory=dict)
    keys: dict[str, list[str]] = field(default_factory=dict)
    closed: bool = False

    async def write(self, items: Sequence[MappedRecord]) -> Sequence[WriteResult]:
        await asyncio.sleep(0)
        self.calls.append([item.key for item in items])
        results = [self._result(item) for item in items]
        rejected = next((result for result in results if result.error), None)
        if self.whole and rejected is not None:
            return [rejected] * len(items)
        for item, answer in zip(items, results, strict=True):
            if answer.error is None and item.delete:
                self.content.pop(item.key, None)
            elif answer.error is None:
                self.content[item.key] = item.payload
        return results

    def _result(self, item: MappedRecord) -> WriteResult:
        self.tries[item.key] = self.tries.get(item.key, 0) + 1
        self.keys.setdefault(item.key, []).append(item.idempotency_key)
        rejected = self.behaviour(item, self.tries[item.key])
        if rejected is not None:
            return rejected
        if item.delete:
            return WriteResult(effect=Effect.DELETED, bytes_out=1)
        return WriteResult(effect=Effect.UPDATED if item.key in self.content else Effect.CREATED, bytes_out=10)

    async def close(self) -> None:
        self.closed = True


@dataclass
class MemorySource(Reader):
    """A reader of a list of pages; its cursor is the number of pages read. `fails_at` raises before that page.

    Without `whole`, the list contains only changes.
    """

    content: list[list[Record]]
    fails_at: int | None = None
    error: EndpointError | None = None
    whole: bool = True
    requests: list[int] = field(default_factory=list)
    closed: bool = False

    async def pages(self, cursor: Json, *, full: bool) -> AsyncIterator[Page]:
        start = 0 if full or not isinstance(cursor, int) else cursor
        if start >= len(self.content):
            yield Page([], start, 0, "GET /x", complete=True, from_start=start == 0, whole=self.whole)
        for number in range(start, len(self.content)):
            self.requests.append(number)
            await asyncio.sleep(0)
            if self.fails_at == number and self.error is not None:
                raise self.error
            records = self.content[number]
            total = sum(map(len, self.content))
            last = number == len(self.content) - 1
            size = 100 * len(records)
            yield Page(
                records,
                number + 1,
                size,
                "GET /x",
                total=total,
                complete=last,
                from_start=start == 0,
                whole=self.whole,
            )

    async def close(self) -> None:
        self.closed = True


def person(key: str | int | None, name: str = "Ada ", age: Json = "36", **more: Json) -> Record:
    """Return a source record."""
    return {"id": key, "name": name, "age": age, "test": False, "gone": False, **more}


def expected_row(record: Record) -> Record:
    """Return the row that the spec maps a person to."""
    return {"id": record["id"], "name": str(record["name"]).strip(), "age": int(str(record["age"]))}


class World:
    """A spec, its run log and two systems; the systems and the clock are in memory, the rest is real."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.directory = directory
        self.spec = directory / "people.md"
        self.spec.write_text(SPEC)
        self.clock = HeldClock(datetime(2026, 11, 24, 10, tzinfo=UTC))
        self.log = RunLog.open(directory / ".speclab" / "runlog.db", self.clock)
        self.source = MemorySource([])
        self.target = MemoryTarget()
        self.reported: list[str] = []
        self.cancelled = asyncio.Event()
        monkeypatch.setattr("speclab.sync.run.open_reader", lambda *_: self.source)
        monkeypatch.setattr("speclab.sync.run.open_writer", lambda *_: self.target)

    def edit(self, old: str, new: str) -> None:
        """Replace `old` in the spec."""
        text = self.spec.read_text()
        assert text.count(old) == 1
        self.spec.write_text(text.replace(old, new))

    async def run(
        self,
        pages: list[list[Record]] | None = None,
        behaviour: Behaviour | None = None,
        options: RunOptions = PLAIN,
    ) -> RunResult:
        """Run the spec once; `pages` replaces the content of the source, `behaviour` that of the target."""
        if pages is not None:
            self.source = MemorySource(pages)
        if behaviour is not None:
            self.target.behaviour = behaviour
        context = RuntimeContext(self.clock, Random(0), report=self._report)
        references = References({}, self.directory)
        return await run(prepare(self.spec), self.log, references, context, options, self.cancelled)

    def _report(self, level: Level, message: str) -> None:
        self.reported.append(f"{level}: {message}")

    @property
    def reader(self) -> RunLogReader:
        """Open the run log for reading."""
        return RunLogReader.open(self.log.path)

    def events(self, kind: str) -> list[str]:
        """Return the messages of all events of a kind."""
        with self.reader as reader:
            return [event.message for event in reader.events() if event.kind == kind]

    def failures(self) -> dict[str, str]:
        """Return the state of the latest failure of each key, open or closed."""
        with self.reader as reader:
            return {
                failure.key: failure.state.value for failure in reversed(reader.failures(closed=True, limit=10_000))
            }


def counts(row: RunRow) -> dict[str, int]:
    """Return the outcomes of a run that are not zero."""
    return {outcome.value: n for outcome in Outcome if (n := getattr(row, outcome.value))}


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """A spec `people` between two systems in memory."""
    made = World(tmp_path, monkeypatch)
    with made.log:
        yield made
