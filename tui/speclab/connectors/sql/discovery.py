"""Connection check, schema discovery, and lookup and list of the records of a database."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from datetime import date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Final

from sqlalchemy import Connection, CursorResult
from sqlalchemy.exc import CompileError, DBAPIError
from sqlalchemy.types import NullType, TypeEngine

from speclab.connectors.api import DiscoveredSchema, MappedRecord, RecordLister, RuntimeContext, WriteError
from speclab.connectors.secrets.references import References
from speclab.connectors.sql import statements
from speclab.connectors.sql.database import Database
from speclab.connectors.sql.dialects import get_error_message
from speclab.connectors.sql.settings import SqlSystem
from speclab.connectors.sql.statements import KeyNormalizer, Spelling, is_same_value
from speclab.connectors.sql.tables import SqlTable, get_columns, suggest_table
from speclab.core.errors import BadResponse, SpecError, SpeclabError
from speclab.core.json import Json, Record, decode, is_same_json, to_json
from speclab.core.paths import FieldPath
from speclab.mapping.fields import Field, build_field
from speclab.mapping.types import ValueKind
from speclab.spec.auth import Auth
from speclab.spec.settings import RetrySettings

if TYPE_CHECKING:
    from speclab.connectors.sql.settings import SqlSystem
    from speclab.spec.auth import Auth
    from speclab.spec.integration import Role


_KINDS: Final = (
    (bool, ValueKind.BOOLEAN),
    (int, ValueKind.INTEGER),
    (float, ValueKind.NUMBER),
    (datetime, ValueKind.TEXT),  # formatted by the database, not always ISO 8601
    (date, ValueKind.DATE),
    (dict, ValueKind.OBJECT),
    (list, ValueKind.LIST),
)
"""Kind of a column's values by Python type; all other types are text."""


async def discover(
    role: Role, system: SqlSystem, auth: Auth, references: References, context: RuntimeContext, limit: int
) -> DiscoveredSchema:
    """Return the columns of the table or query in the system's settings, with up to `limit` sample rows.

    Raise `Unreachable`, `Unauthorized`, `BadResponse`, `SpecError`, and `SpeclabError` if the table does not exist yet.
    """
    del auth  # the credentials of a database are in its URL
    system = references.resolve_settings(system)
    table, query = _what(role, system)
    database = Database(system.url, references, system.limits, context, RetrySettings(), writes=False)
    made = role == "target" and system.write is not None and system.write.create_table
    try:
        if made and database.absent:
            raise _not_there(database.name, table)
        if query is not None:
            return await database.run(lambda connection: _of_query(connection, query, limit))
        return await database.run(lambda connection: _of_table(connection, table, limit, database.name, made=made))
    except DBAPIError as error:
        raise BadResponse(database.redactor.redact(f"{database.name}: {get_error_message(error)}")) from None
    finally:
        await database.close()


def _what(role: Role, system: SqlSystem) -> tuple[str, str | None]:
    """Return the table or query that is read or written."""
    if role == "target":
        if system.write is None:
            raise SpecError("a sql target needs `write`, such as `write: {upsert: customers}`")
        return system.write.upsert or system.write.insert or "", None
    if system.read is None:
        raise SpecError("a sql source needs `read`, such as `read: {table: contacts}`")
    return system.read.table or "", system.read.query


def _of_table(connection: Connection, name: str, limit: int, where: str, *, made: bool) -> DiscoveredSchema:
    if SqlTable.find(connection, name) is None:
        if made:
            raise _not_there(where, name)
        raise BadResponse(f"{where}: there is no table '{name}'{suggest_table(connection, name)}")
    rows = _rows(
        connection.exec_driver_sql(
            statements.build_sample_query(statements.quote_table(connection.dialect, name), limit)
        )
    )
    fields = []
    for column in get_columns(connection, name):
        seen, kind = _column(column["name"], rows), column["type"]
        filled = column.get("default") is not None or column.get("identity") or column.get("autoincrement") is True
        required = not column["nullable"] and not filled
        fields.append(
            replace(seen, kind=seen.kind or _kind(kind), declared=_spelt(kind, connection), required=required)
        )
    return DiscoveredSchema(tuple(fields), f"the columns of {name}")


def _of_query(connection: Connection, query: str, limit: int) -> DiscoveredSchema:
    result = connection.exec_driver_sql(
        statements.build_sample_query(statements.build_subquery(connection.dialect, query), limit)
    )
    described = result.cursor.description or ()
    types = {column[0]: str(getattr(column, "type_display", "")) for column in described}  # psycopg provides them
    names, rows = list(result.keys()), _rows(result)
    fields = tuple(replace(_column(name, rows), declared=types.get(name, "")) for name in names)
    return DiscoveredSchema(fields, "the columns of the query")


def _rows(result: CursorResult[tuple[object, ...]]) -> list[Record]:
    names = list(result.keys())
    return [dict(zip(names, map(to_json, row), strict=True)) for row in result]


def _column(name: str, rows: Sequence[Record]) -> Field:
    """Return the field of one column, with its values in `rows`."""
    return build_field(FieldPath((name,)), (row[name] for row in rows), len(rows))


def _kind(column: TypeEngine[object]) -> ValueKind:
    if isinstance(column, NullType):
        return ValueKind(0)
    try:
        python = column.python_type
    except NotImplementedError:
        return ValueKind(0)
    return next((kind for each, kind in _KINDS if issubclass(python, each)), ValueKind.TEXT)


def _spelt(column: TypeEngine[object], connection: Connection) -> str:
    """Return the type as the database writes it; empty for a column without a type, as in SQLite."""
    if isinstance(column, NullType):
        return ""
    try:
        return column.compile(connection.dialect)
    except CompileError:
        return str(column)


def _not_there(where: str, table: str) -> SpeclabError:
    return SpeclabError(
        f"{where}: there is no table '{table}' yet", hint="A run makes it from the mapping (`create_table: true`)."
    )


_AT_ONCE: Final = 200
"""Keys per query."""


class SqlFinder:
    """Finds rows of the table in `write.upsert`."""

    per_record = False

    def __init__(
        self, system: SqlSystem, references: References, context: RuntimeContext, retry: RetrySettings, name: str
    ) -> None:
        self._database = Database(system.url, references, system.limits, context, retry, writes=False)
        self._name = name
        self._key = (system.key,) if isinstance(system.key, str) else system.key
        self._created = bool(system.write and system.write.create_table)

    async def find(self, items: Sequence[MappedRecord]) -> Sequence[Record | WriteError | None]:
        """Return the row of each record, in order; None if it does not exist, or the table does not.

        Raise `Unreachable` without a connection, and `BadResponse` for a missing table that a run would not create.
        """
        if self._created and self._database.absent:
            return [None] * len(items)
        try:
            return await self._database.run(lambda connection: self._find(connection, items))
        except DBAPIError as error:
            raise BadResponse(
                self._database.redactor.redact(f"{self._database.name}: {get_error_message(error)}")
            ) from None

    async def close(self) -> None:
        """Close the connection."""
        await self._database.close()

    def _find(self, connection: Connection, items: Sequence[MappedRecord]) -> list[Record | WriteError | None]:
        found = SqlTable.find(connection, self._name)
        if found is None:
            if self._created:
                return [None] * len(items)
            near = suggest_table(connection, self._name)
            raise BadResponse(f"{self._database.name}: there is no table '{self._name}'{near}")
        if missing := found.missing(self._key):
            raise BadResponse(f"{self._database.name}: the table {self._name} has no column '{missing[0]}'")
        keys = found.keyed_by(self._key)
        wanted = dict.fromkeys(name for item in items for name in item.payload)
        columns = [name for name in wanted if name in found.columns and name not in self._key]
        rows: dict[Spelling, dict[str, object]] = {}
        for at in range(0, len(items), _AT_ONCE):
            asked = keys.as_texts(items[at : at + _AT_ONCE])
            for row in self._rows(connection, columns, asked):
                rows[keys.spelt(row[: len(self._key)])] = dict(zip([*self._key, *columns], row, strict=True))
        there = (rows.get(keys.spelt([item.payload.get(name) for name in self._key])) for item in items)
        return [
            None if row is None else _like(item.payload, row, found.columns)
            for item, row in zip(items, there, strict=True)
        ]

    def _rows(
        self, connection: Connection, columns: Sequence[str], items: Sequence[MappedRecord]
    ) -> list[tuple[object, ...]]:
        values = tuple(_value(item.payload.get(name)) for item in items for name in self._key)
        statement = statements.build_key_query(connection.dialect, self._name, self._key, len(items), columns)
        return [tuple(row) for row in connection.exec_driver_sql(statement, values)]


def _like(payload: Record, row: Mapping[str, object], columns: Mapping[str, type]) -> Record:
    """Return `row` as a record; values equal to those in `payload` are formatted the same, so they are no change."""
    return {
        name: payload[name] if name in payload and is_same_value(columns[name], was, payload[name]) else to_json(was)
        for name, was in row.items()
    }


def _value(value: Json) -> Json:
    return None if isinstance(value, dict | list) else value


def open_lookup(
    system: SqlSystem, auth: Auth, references: References, context: RuntimeContext, retry: RetrySettings
) -> SqlFinder | None:
    """Create a lookup for a table that is written by key. Raise `SpecError` for settings that cannot work."""
    del auth  # the credentials are in the URL
    system = references.resolve_settings(system)
    if system.write is None:
        raise SpecError("a sql target needs `write`, such as `write: {upsert: customers}`")
    return SqlFinder(system, references, context, retry, system.write.upsert) if system.write.upsert else None


_PAGE: Final = 1000
"""Rows per page of a list."""
_PATIENCE: Final = 0.1
"""Seconds after which the thread that reads a list looks whether it is still wanted."""
_TRUTHS: Final = {True: ("true", "t", "1"), False: ("false", "f", "0")}


class SqlLister(RecordLister):
    """Lists the rows of the table that is written, from one query, so that all are of the same moment."""

    def __init__(
        self, system: SqlSystem, references: References, context: RuntimeContext, retry: RetrySettings, name: str
    ) -> None:
        self._database = Database(system.url, references, system.limits, context, retry, writes=False)
        self._name = name
        self._key = [system.key] if isinstance(system.key, str) else list(system.key)
        self._created = bool(system.write and system.write.create_table)
        self._table: SqlTable | None = None
        self._normalizer: KeyNormalizer | None = None
        self._stops = False
        self._is_sqlite = False

    async def pages(self, fields: Sequence[str]) -> AsyncIterator[Sequence[Record]]:
        """Yield all rows; none if the table does not exist and a run would create it.

        Raise `Unreachable` without a connection, and `BadResponse` for a missing table.
        """
        if self._created and self._database.absent:
            return
        loop = asyncio.get_running_loop()
        pages: asyncio.Queue[list[Record]] = asyncio.Queue(1)

        def send(page: list[Record]) -> None:
            sending = asyncio.run_coroutine_threadsafe(pages.put(page), loop)
            while not self._stops:
                try:
                    return sending.result(_PATIENCE)
                except TimeoutError:
                    continue
            sending.cancel()
            return None

        reading = asyncio.ensure_future(self._database.run(lambda connection: self._read(connection, fields, send)))
        try:
            while not (reading.done() and pages.empty()):
                following = asyncio.ensure_future(pages.get())
                await asyncio.wait({following, reading}, return_when=asyncio.FIRST_COMPLETED)
                if following.done():
                    yield following.result()
                else:
                    following.cancel()
            await reading
        except DBAPIError as error:
            message = f"{self._database.name}: {get_error_message(error)}"
            raise BadResponse(self._database.redactor.redact(message)) from None
        finally:
            self._stops = True
            await asyncio.wait({reading})

    def normalize_key(self, key: Sequence[Json]) -> Sequence[str]:
        """Return the key as the columns of the table compare it."""
        if self._normalizer is None:
            return super().normalize_key(key)
        parts = self._normalizer.spelt(key)
        return [format(part.normalize(), "f") if isinstance(part, Decimal) else str(part) for part in parts]

    def is_same(self, field: str, stored: Json, mapped: Json) -> bool:
        """Compare as the type of the column does."""
        kind = self._table.columns.get(field) if self._table is not None else None
        if kind is None or stored is None or mapped is None:
            return is_same_json(stored, mapped)
        if isinstance(mapped, dict | list) and isinstance(stored, str):
            return _parse(stored) == mapped
        if kind is object and self._is_sqlite:  # such a column keeps the type of each value, and has no booleans
            return is_same_json(stored, int(mapped) if isinstance(mapped, bool) else mapped)
        if isinstance(mapped, bool) and isinstance(stored, str):
            return stored.lower() in _TRUTHS[mapped]
        return is_same_value(kind, stored, mapped)

    async def close(self) -> None:
        """Close the connection."""
        await self._database.close()

    def _read(self, connection: Connection, fields: Sequence[str], send: Callable[[list[Record]], None]) -> None:
        table = SqlTable.find(connection, self._name)
        if table is None and self._created:
            return
        if table is None:
            near = suggest_table(connection, self._name)
            raise BadResponse(f"{self._database.name}: there is no table '{self._name}'{near}")
        if missing := table.missing(self._key):
            raise BadResponse(f"{self._database.name}: the table {self._name} has no column '{missing[0]}'")
        self._normalizer = table.keyed_by(self._key)
        self._table, self._is_sqlite = table, connection.dialect.name == "sqlite"
        columns = [*self._key, *(name for name in fields if name in table.columns and name not in self._key)]
        quote = connection.dialect.identifier_preparer.quote
        rows = statements.quote_table(connection.dialect, self._name)
        statement = f"SELECT {', '.join(map(quote, columns))} FROM {rows}"  # noqa: S608 - names are quoted
        with closing(connection.exec_driver_sql(statement, execution_options={"stream_results": True})) as result:
            for part in result.partitions(_PAGE):
                if self._stops:
                    return
                send([dict(zip(columns, map(_convert, row), strict=True)) for row in part])


def _parse(text: str) -> Json:
    try:
        return decode(text.encode())
    except ValueError:
        return None


def _convert(value: object) -> Json:
    """Return a value of the database as JSON; bytes as text if they are UTF-8."""
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return to_json(value)
    return to_json(value)


def open_lister(
    system: SqlSystem, auth: Auth, references: References, context: RuntimeContext, retry: RetrySettings
) -> SqlLister:
    """Create a lister of the table that is written. Raise `SpecError` for settings that cannot work."""
    del auth  # the credentials are in the URL
    system = references.resolve_settings(system)
    if system.write is None:
        raise SpecError("a sql target needs `write`, such as `write: {upsert: customers}`")
    return SqlLister(system, references, context, retry, system.write.upsert or system.write.insert or "")


async def check_target(
    system: SqlSystem, auth: Auth, references: References, context: RuntimeContext, retry: RetrySettings
) -> str:
    """Return the result of a connection attempt. Raise `Unauthorized`, `Unreachable` and `SpecError`."""
    del auth  # the credentials of a database are in its URL
    system = references.resolve_settings(system)
    database = Database(system.url, references, system.limits, context, retry, writes=False)
    try:
        if database.absent:
            return f"{database.name}: not there yet; a run makes it"
        await database.run(lambda _: None)
        return f"{database.name}: connected"
    finally:
        await database.close()
