"""Conformance checks: speclab's connectors pass them, and each violation is reported."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from speclab.connectors.api import (
    Connector,
    ConnectorParts,
    MappedRecord,
    Page,
    Reader,
    RecordLookup,
    RuntimeContext,
    WriteError,
    WriteResult,
)
from speclab.connectors.file import CONNECTOR as FILES
from speclab.connectors.file.settings import FileSystem
from speclab.connectors.secrets.references import References
from speclab.connectors.sql import CONNECTOR as DATABASES
from speclab.connectors.sql.settings import SqlSystem
from speclab.connectors.testing import check_reader, check_writer
from speclab.core.json import Json, Record
from speclab.core.outcome import Effect, ErrorClass
from speclab.spec.auth import Auth
from speclab.spec.settings import RetrySettings, System

PEOPLE: list[Record] = [{"id": number, "name": f"Person {number}"} for number in range(25)]


class Shelf(System):
    """Records in memory; `flaw` is the defect of its reader or writer."""

    flaw: str = ""


class ShelfReader(Reader):
    def __init__(
        self, system: Shelf, auth: Auth, references: References, context: RuntimeContext, retry: RetrySettings
    ) -> None:
        del auth, references, context, retry
        self.flaw = system.flaw

    async def pages(self, cursor: Json, *, full: bool) -> AsyncIterator[Page]:
        at, done = (int(cursor["at"]), cursor["done"]) if isinstance(cursor, dict) else (0, False)  # type: ignore[arg-type]  # it is
        if done and full and self.flaw != "a full read that is none":
            at = 0
        if self.flaw == "it skips" and at:
            at += 1
        while True:
            records = PEOPLE[at : at + 10]
            if self.flaw == "it forgets" and not records:
                records = [{"id": 99}]
            if self.flaw == "it gives lists":
                records = [list(record.values()) for record in records]  # type: ignore[misc]  # the flaw
            at += len(records)
            last = at >= len(PEOPLE)
            mark: Json = {"at": at, "done": last}
            if self.flaw == "no JSON":
                mark = {"at": at, "done": last, "of": (1, 2)}  # type: ignore[dict-item]  # the flaw
            yield Page(records, mark, 0, "look", complete=last and self.flaw != "no end")
            if last:
                break

    async def close(self) -> None:
        """Close nothing."""


class ShelfWriter:
    batch, idempotent, keyed, deletes = 10, True, True, False

    def __init__(
        self, system: Shelf, auth: Auth, references: References, context: RuntimeContext, retry: RetrySettings
    ) -> None:
        del auth, references, context, retry
        self.flaw = system.flaw

    async def write(self, items: Sequence[MappedRecord]) -> Sequence[WriteResult]:
        if self.flaw == "it refuses":
            return [WriteResult(error=WriteError(ErrorClass.REJECTED, "too wide", "put"))] * len(items)
        assert all(item.idempotency_key for item in items)
        return [WriteResult(Effect.CREATED)] * (len(items) - (self.flaw == "too few"))

    async def close(self) -> None:
        """Close nothing."""


class ShelfLookup:
    per_record = False

    def __init__(self, system: Shelf) -> None:
        self.flaw = system.flaw

    async def find(self, items: Sequence[MappedRecord]) -> Sequence[Record | WriteError | None]:
        return [None if self.flaw == "it loses" else item.payload for item in items]

    async def close(self) -> None:
        """Close nothing."""


def open_shelf_lookup(
    system: Shelf, auth: Auth, references: References, context: RuntimeContext, retry: RetrySettings
) -> RecordLookup | None:
    del auth, references, context, retry
    return ShelfLookup(system)


SHELF = Connector(Shelf, lambda: ConnectorParts(ShelfReader, ShelfWriter, lookup=open_shelf_lookup))


def shelf(flaw: str = "") -> Shelf:
    return Shelf(connector="shelf", key="id", flaw=flaw)


def test_correct_connector_passes(tmp_path: Path) -> None:
    assert check_reader(SHELF, shelf(), tmp_path) == PEOPLE
    assert [result.effect for result in check_writer(SHELF, shelf(), tmp_path, PEOPLE)] == [Effect.CREATED] * 25


@pytest.mark.parametrize(
    ("flaw", "message"),
    [
        ("no end", r"expected only the last page to be `complete`, got \[False, False, False\]"),
        ("no JSON", "page 1: the cursor is not plain JSON"),
        ("it gives lists", r"page 1: expected records as dicts, got \[\[0, 'Person 0'\]\]"),
        ("it skips", r"a read resumed after page 1 misses 1 of \d+ records, such as \[\{'id': 10, "),
        ("it forgets", r"the full read misses 1 of 26 records, such as \[\{'id': 99\}\]"),
        ("a full read that is none", "a full read after a complete one misses 25 of 25 records"),
    ],
)
def test_broken_rule_of_a_reader_is_reported(flaw: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=message):
        check_reader(SHELF, shelf(flaw), tmp_path)


@pytest.mark.parametrize(
    ("flaw", "message"),
    [
        ("too few", "expected 10 results, got 9"),
        ("it refuses", "0 was not written: put: too wide"),
        ("it loses", r"\{'id': 0, 'name': 'Person 0'\} was written, but the lookup found None"),
    ],
)
def test_broken_rule_of_a_writer_is_reported(flaw: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=message):
        check_writer(SHELF, shelf(flaw), tmp_path, PEOPLE)


def test_file_connector_passes(tmp_path: Path) -> None:
    system = FileSystem(connector="file", path="people.jsonl", key="id")
    many: list[Record] = [{"id": number, "name": "x" * 10} for number in range(1200)]
    check_writer(FILES, system, tmp_path, many)
    assert [json.loads(line) for line in (tmp_path / "people.jsonl").read_text().splitlines()] == many
    assert check_reader(FILES, system, tmp_path) == many


def test_databases_pass(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "crm.db") as db:
        db.execute("CREATE TABLE people (id INTEGER PRIMARY KEY, name TEXT)")
    settings = {"connector": "sql", "url": f"sqlite:///{tmp_path / 'crm.db'}", "key": "id"}
    system = SqlSystem.model_validate(
        {**settings, "read": {"table": "people", "size": 10}, "write": {"upsert": "people", "size": 10}}
    )
    check_writer(DATABASES, system, tmp_path, PEOPLE)
    assert check_reader(DATABASES, system, tmp_path) == PEOPLE
