"""The fields of a table or a query: its columns with their types, and the values that some rows have in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import date, datetime
from typing import TYPE_CHECKING, Final

from sqlalchemy import Connection, CursorResult
from sqlalchemy.exc import CompileError, DBAPIError
from sqlalchemy.types import NullType, TypeEngine

from speclab.connectors.base import Description, Seams
from speclab.connectors.jsontext import as_json
from speclab.connectors.references import References
from speclab.connectors.sql import statements
from speclab.connectors.sql.database import Database
from speclab.connectors.sql.dialects import words
from speclab.connectors.sql.tables import Table, columns_of, nearest_table
from speclab.errors import BadAnswer, SpecError, SpeclabError
from speclab.jsonvalue import Record
from speclab.mapping.fields import Field, field_of
from speclab.mapping.kinds import Kind
from speclab.paths import FieldPath
from speclab.spec.settings import RetrySettings

if TYPE_CHECKING:
    from speclab.spec.auth import Auth
    from speclab.spec.integration import Role
    from speclab.spec.systems.sql import SqlSystem

_KINDS: Final = (
    (bool, Kind.BOOLEAN),
    (int, Kind.INTEGER),
    (float, Kind.NUMBER),
    (datetime, Kind.TEXT),  # as the database writes it, which need not be ISO 8601
    (date, Kind.DATE),
    (dict, Kind.OBJECT),
    (list, Kind.LIST),
)
"""What a column's values are in a record, by their Python type; all others are text."""


async def sql_fields(
    role: Role, system: SqlSystem, auth: Auth, references: References, seams: Seams, limit: int
) -> Description:
    """The columns of what the system's settings name at that end, with the values of no more than `limit` rows.

    Raises `Unreachable`, `Unauthorized`, `BadAnswer`, `SpecError`, and `SpeclabError` where there is no table yet.
    """
    del auth  # a database's credentials are in its URL
    system = references.resolve_settings(system)
    table, query = _what(role, system)
    database = Database(system.url, references, system.limits, seams, RetrySettings(), writes=False)
    made = role == "target" and system.write is not None and system.write.create_table
    try:
        if made and database.absent:
            raise _not_there(database.name, table)
        if query is not None:
            return await database.run(lambda connection: _of_query(connection, query, limit))
        return await database.run(lambda connection: _of_table(connection, table, limit, database.name, made=made))
    except DBAPIError as error:
        raise BadAnswer(database.redactor.redact(f"{database.name}: {words(error)}")) from None
    finally:
        await database.close()


def _what(role: Role, system: SqlSystem) -> tuple[str, str | None]:
    """The table, or the query, that is read or written at that end."""
    if role == "target":
        if system.write is None:
            raise SpecError("a sql target needs `write`, such as `write: {upsert: customers}`")
        return system.write.upsert or system.write.insert or "", None
    if system.read is None:
        raise SpecError("a sql source needs `read`, such as `read: {table: contacts}`")
    return system.read.table or "", system.read.query


def _of_table(connection: Connection, name: str, limit: int, where: str, *, made: bool) -> Description:
    if Table.find(connection, name) is None:
        if made:
            raise _not_there(where, name)
        raise BadAnswer(f"{where}: there is no table '{name}'{nearest_table(connection, name)}")
    rows = _rows(connection.exec_driver_sql(statements.first(statements.named(connection.dialect, name), limit)))
    fields = []
    for column in columns_of(connection, name):
        seen, kind = _column(column["name"], rows), column["type"]
        filled = column.get("default") is not None or column.get("identity") or column.get("autoincrement") is True
        required = not column["nullable"] and not filled
        fields.append(
            replace(seen, kind=seen.kind or _kind(kind), declared=_spelt(kind, connection), required=required)
        )
    return Description(tuple(fields), f"the columns of {name}")


def _of_query(connection: Connection, query: str, limit: int) -> Description:
    result = connection.exec_driver_sql(statements.first(statements.subquery(connection.dialect, query), limit))
    described = result.cursor.description or ()
    types = {column[0]: str(getattr(column, "type_display", "")) for column in described}  # psycopg knows them
    names, rows = list(result.keys()), _rows(result)
    fields = tuple(replace(_column(name, rows), declared=types.get(name, "")) for name in names)
    return Description(fields, "the columns of the query")


def _rows(result: CursorResult[tuple[object, ...]]) -> list[Record]:
    names = list(result.keys())
    return [dict(zip(names, map(as_json, row), strict=True)) for row in result]


def _column(name: str, rows: Sequence[Record]) -> Field:
    """The field of one column, by what `rows` have in it."""
    return field_of(FieldPath((name,)), (row[name] for row in rows), len(rows))


def _kind(column: TypeEngine[object]) -> Kind:
    if isinstance(column, NullType):
        return Kind(0)
    try:
        python = column.python_type
    except NotImplementedError:
        return Kind(0)
    return next((kind for each, kind in _KINDS if issubclass(python, each)), Kind.TEXT)


def _spelt(column: TypeEngine[object], connection: Connection) -> str:
    """The type as the database writes it; empty where a column has none, as SQLite's may."""
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
