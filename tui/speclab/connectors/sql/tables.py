"""A table as records see it: its columns and keys, made or widened from the records where the spec allows that."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from sqlalchemy import Connection, inspect
from sqlalchemy.dialects import mysql, postgresql
from sqlalchemy.engine.interfaces import ReflectedColumn
from sqlalchemy.exc import SAWarning
from sqlalchemy.types import CHAR, JSON, NullType, Numeric, TypeEngine

from speclab.connectors.sql.dialects import DATABASES, DatabaseKind
from speclab.connectors.sql.statements import quote_table, split_table_name
from speclab.connectors.sql.values import KeyNormalizer, Padded
from speclab.core.errors import BadResponse, SpecError
from speclab.core.json import Json, Record
from speclab.core.text import format_suggestion
from speclab.mapping.types import ValueKind

_PARTIAL: Final = frozenset({"sqlite_where", "postgresql_where"})
"""What an index has that is unique among some rows only."""
_TYPES: Final[Mapping[ValueKind | None, str]] = {
    ValueKind.INTEGER: "BIGINT",
    ValueKind.NUMBER: "DOUBLE PRECISION",
    ValueKind.INTEGER | ValueKind.NUMBER: "DOUBLE PRECISION",
    ValueKind.BOOLEAN: "BOOLEAN",
}


@dataclass(frozen=True, slots=True)
class SqlTable:
    """A table that is there.

    `columns` are of the Python types that their values have, `object` where that is not known. `keys` are the sets of
    columns that are unique in it; one of an index on expressions is empty. Of columns, `loose` may be NULL; in those of
    `whole` the database rounds a fraction, in those of `scaled` it rounds to so many decimal places, and in those of
    `zoneless` it drops an offset, in silence; those of `listed` it orders as their values are listed, and not as they
    compare. `folds` if it may take two texts for one, such as `a` and `A`.
    """

    name: str
    columns: Mapping[str, type]
    keys: frozenset[frozenset[str]]
    loose: frozenset[str]
    whole: frozenset[str]
    scaled: Mapping[str, int]
    zoneless: frozenset[str]
    listed: frozenset[str]
    folds: bool

    @classmethod
    def find(cls, connection: Connection, name: str) -> SqlTable | None:
        """The table or view called `name`, or `schema.name`; None if there is none."""
        inspector = inspect(connection)
        *schemas, bare = split_table_name(connection.dialect, name)
        schema = schemas[0] if schemas else None
        if schema is None and inspector.default_schema_name is None:
            raise SpecError("url names no database", hint="Expected one at its end: mysql://user:password@host/NAME")
        if not (inspector.has_table(bare, schema) or bare in inspector.get_view_names(schema)):
            return None
        if connection.dialect.name == "sqlite":  # which minds no case, and SQLAlchemy does
            names = inspector.get_table_names() + inspector.get_view_names()
            name = bare = next((each for each in names if each.lower() == name.lower()), name)
        columns = get_columns(connection, name)
        with _quietly():
            primary = inspector.get_pk_constraint(bare, schema)["constrained_columns"]
            unique: list[list[str]] = [
                found["column_names"] for found in inspector.get_unique_constraints(bare, schema)
            ]
            indexes = inspector.get_indexes(bare, schema)
        unique += [
            [] if None in found["column_names"] else [column for column in found["column_names"] if column is not None]
            for found in indexes
            if found["unique"] and not _PARTIAL.intersection(found.get("dialect_options", {}))
        ]
        keys = {frozenset(found) for found in ([primary] if primary else []) + unique}
        types = {column["name"]: _python_type(column["type"], connection) for column in columns}
        loose = frozenset(column["name"] for column in columns if column["nullable"])
        rounds = connection.dialect.name != "sqlite"
        whole = frozenset(column for column, kind in types.items() if rounds and kind is int)
        zoneless = frozenset(
            column["name"]
            for column in columns
            if isinstance(column["type"], postgresql.TIMESTAMP) and not column["type"].timezone
        )
        listed = frozenset(column["name"] for column in columns if isinstance(column["type"], mysql.ENUM | mysql.SET))
        folds = _folds(connection, name, columns)
        places = {column["name"]: _places(column["type"]) for column in columns} if rounds else {}
        scaled = {column: count for column, count in places.items() if count is not None}
        return cls(name, types, frozenset(keys), loose, whole, scaled, zoneless, listed, folds)

    def keyed_by(self, key: Sequence[str]) -> KeyNormalizer:
        """What keys of those columns are like."""
        return KeyNormalizer({column: self.columns[column] for column in key})

    def missing(self, names: Iterable[str]) -> list[str]:
        """Those of `names` that are no column."""
        return [name for name in names if name not in self.columns]


def get_columns(connection: Connection, name: str) -> list[ReflectedColumn]:
    """The columns of the table called `name`, as SQLAlchemy describes them."""
    *schemas, bare = split_table_name(connection.dialect, name)
    with _quietly():
        return inspect(connection).get_columns(bare, schemas[0] if schemas else None)


def suggest_table(connection: Connection, name: str) -> str:
    """A hint at the table that was probably meant, or nothing."""
    schemas = split_table_name(connection.dialect, name)[:-1]
    inspector = inspect(connection)
    if not schemas:
        return format_suggestion(name, inspector.get_table_names() + inspector.get_view_names())
    (schema,) = schemas
    known = inspector.get_schema_names()
    if schema not in known:
        return f": there is no schema '{schema}'{format_suggestion(schema, known)}"
    tables = inspector.get_table_names(schema) + inspector.get_view_names(schema)
    return format_suggestion(name, [f"{schema}.{table}" for table in tables])


@contextmanager
def _quietly() -> Iterator[None]:
    """Without SQLAlchemy's warnings of types and indexes that it does not know."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SAWarning)
        yield


def _folds(connection: Connection, name: str, columns: Sequence[ReflectedColumn]) -> bool:
    match connection.dialect.name:
        case "sqlite":
            said = "SELECT 1 FROM sqlite_master WHERE tbl_name = ? AND sql LIKE '%collate%'"
            return connection.exec_driver_sql(said, (name,)).first() is not None
        case "postgresql":
            return any(isinstance(column["type"], postgresql.CITEXT) for column in columns)
        case _:
            return True


def _places(column: TypeEngine[object]) -> int | None:
    """Return the decimal places that a column keeps of a number, and rounds the others; None where it keeps all."""
    if isinstance(column, postgresql.MONEY):
        return 2
    return column.scale if isinstance(column, Numeric) else None


def _python_type(column: TypeEngine[object], connection: Connection) -> type:
    """What values of a `column` are; SQLite goes by the value and not by the column for many."""
    if isinstance(column, JSON):
        return dict
    try:
        kind: type = object if isinstance(column, NullType) else column.python_type
    except NotImplementedError:
        return object
    match connection.dialect.name:
        case "sqlite":
            return kind if kind in (int, float, Decimal, str) else object
        case "postgresql" if isinstance(column, CHAR):
            return Padded
        case _:
            return kind


def create_table(
    connection: Connection, name: str, key: Sequence[str], records: Sequence[Record], kinds: Mapping[str, ValueKind]
) -> str:
    """Make the table `name` for `records` whose fields are of `kinds`, with `key` as its primary key if it has one.

    Gives what was done.
    """
    quote = connection.dialect.identifier_preparer.quote
    database = DATABASES[connection.dialect.name]
    names = list(dict.fromkeys([*key, *(column for record in records for column in record)]))
    columns = [
        f"{quote(column)} {_spelt(database, choose_column_type(records, column, kinds), key=True)} NOT NULL"
        if column in key
        else f"{quote(column)} {_spelt(database, choose_column_type(records, column, kinds), key=False)}"
        for column in names
    ]
    if key:
        columns.append(f"PRIMARY KEY ({', '.join(map(quote, key))})")
    connection.exec_driver_sql(f"CREATE TABLE {quote_table(connection.dialect, name)} ({', '.join(columns)})")
    return f"made the table {name} with {', '.join(names)}"


def add_columns(
    connection: Connection, name: str, columns: Sequence[str], records: Sequence[Record], kinds: Mapping[str, ValueKind]
) -> str:
    """Add `columns` to the table `name` for `records` whose fields are of `kinds`; gives what was done."""
    quote = connection.dialect.identifier_preparer.quote
    for column in columns:
        kind = _spelt(DATABASES[connection.dialect.name], choose_column_type(records, column, kinds), key=False)
        connection.exec_driver_sql(
            f"ALTER TABLE {quote_table(connection.dialect, name)} ADD COLUMN {quote(column)} {kind}"
        )
    return f"added to the table {name}: {', '.join(columns)}"


def choose_column_type(records: Sequence[Record], column: str, kinds: Mapping[str, ValueKind]) -> str:
    """The SQL type that holds what is of one of the `kinds` that a mapping makes or, where it tells none, as `records`.

    It is text where these differ or say nothing.
    """
    declared = kinds.get(column)
    if declared in _TYPES:
        return _TYPES[declared]
    seen = {_kind(record[column]) for record in records if record.get(column) is not None}
    if seen == {"BIGINT", "DOUBLE PRECISION"}:
        return "DOUBLE PRECISION"
    return seen.pop() if len(seen) == 1 else "TEXT"


def _spelt(database: DatabaseKind, kind: str, *, key: bool) -> str:
    """The type `kind` as the database has it."""
    if kind != "TEXT":
        return kind
    return database.key_text if key else database.text


def _kind(value: Json) -> str:
    if isinstance(value, bool):
        return "BOOLEAN"
    if isinstance(value, int):
        return "BIGINT"
    return "DOUBLE PRECISION" if isinstance(value, float) else "TEXT"


def build_no_column_error(table: SqlTable, names: Sequence[str]) -> BadResponse:
    """The error of a mapping that writes to columns a table has not."""
    return BadResponse(
        f"the table {table.name} has no column '{names[0]}'{format_suggestion(names[0], table.columns)}",
        hint="Correct the target field in the mapping, add the column, or set `create_table: true` to have it added.",
    )
