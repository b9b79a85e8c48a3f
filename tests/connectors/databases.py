"""Test tables on PostgreSQL, MariaDB and SQLite; each database is created once for all tests."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

from sqlalchemy import Connection
from tests.proof.conftest import Store, database

from speclab.connectors.api import MappedRecord, Page, Reader, RuntimeContext, Writer, WriteResult
from speclab.connectors.registry import open_lookup, open_reader, open_writer
from speclab.connectors.secrets.references import References
from speclab.connectors.sql.settings import SqlSystem
from speclab.core.json import Json, Record
from speclab.spec.auth import NoAuth


@dataclass
class Databases:
    """The databases by kind, created on first use."""

    directory: Path
    stack: ExitStack
    made: dict[str, Store] = field(default_factory=dict)

    def open(self, kind: str, context: RuntimeContext) -> Database:
        """Return the database of a kind."""
        if kind not in self.made:
            self.made[kind] = self.stack.enter_context(database(kind, self.directory))
        return Database(self.made[kind], References({}, self.directory), context)


_numbers = count()


@dataclass
class Database:
    """A database that is used as a source and as a target."""

    store: Store
    references: References
    context: RuntimeContext

    @property
    def kind(self) -> str:
        return self.store.kind

    def table(self, columns: str, *rows: str) -> str:
        """Create a table with `rows`, each in SQL notation without parentheses; return its name."""
        name = f"t{next(_numbers)}"
        self.sql(f"CREATE TABLE {name} ({columns})", *(f"INSERT INTO {name} VALUES ({row})" for row in rows))
        return name

    def sql(self, *statements: str) -> list[tuple[Any, ...]]:
        """Execute `statements` and return the rows of the last."""

        def execute(connection: Connection) -> list[tuple[Any, ...]]:
            result = None
            for statement in statements:
                result = connection.exec_driver_sql(statement)
            return [tuple(row) for row in result] if result is not None and result.returns_rows else []

        with self.store.engine.begin() as connection:
            return execute(connection)

    def system(self, key: str | list[str] = "id", timeout: str = "20s", url: str = "", **more: Any) -> SqlSystem:
        return SqlSystem.model_validate(
            {"connector": "sql", "url": url or self.store.url, "key": key, "limits": {"timeout": timeout}, **more}
        )

    def reader(self, **settings: Any) -> Reader:
        """Open a reader; `settings` are those of `read`, and `key`, `timeout` and `url`."""
        own = {name: settings.pop(name) for name in ("key", "timeout", "url") if name in settings}
        return open_reader(self.system(**own, read=settings), NoAuth(), self.references, self.context)

    async def pages(self, cursor: Json = None, *, full: bool = False, **settings: Any) -> list[Page]:
        """Return the pages of a read, with `settings` as for `reader`."""
        reader = self.reader(**settings)
        try:
            return [page async for page in reader.pages(cursor, full=full)]
        finally:
            await reader.close()

    async def read(self, **settings: Any) -> list[Record]:
        """Return all records of a read."""
        return [record for page in await self.pages(**settings) for record in page.records]

    def writer(self, **settings: Any) -> Writer:
        """Open a writer; `settings` are those of `write`, and `key`, `timeout` and `url`."""
        own = {name: settings.pop(name) for name in ("key", "timeout", "url") if name in settings}
        return open_writer(self.system(**own, write=settings), NoAuth(), self.references, self.context)

    async def write(self, *items: MappedRecord, **settings: Any) -> list[WriteResult]:
        """Write `items` with a new writer and return the results."""
        writer = self.writer(**settings)
        try:
            return list(await writer.write(items))
        finally:
            await writer.close()

    async def find(self, *items: MappedRecord, **settings: Any) -> list[Any]:
        """Look up `items` in the table."""
        own = {name: settings.pop(name) for name in ("key",) if name in settings}
        finder = open_lookup(self.system(**own, write=settings), NoAuth(), self.references, self.context)
        assert finder is not None
        try:
            return list(await finder.find(items))
        finally:
            await finder.close()


def row(key: Json = "a", **fields: Json) -> MappedRecord:
    """Return a record with that `id`."""
    return MappedRecord(str(key), {"id": key, **fields}, {}, "")


def deletion(key: Json) -> MappedRecord:
    """Return the delete of the record with that `id`."""
    return MappedRecord(str(key), {"id": key}, {}, "", delete=True)


def outcomes(results: Sequence[WriteResult]) -> list[str]:
    """Return the outcome of each record: its effect, or its error."""
    return [str(each.effect) if each.effect else each.error.message if each.error else "" for each in results]
