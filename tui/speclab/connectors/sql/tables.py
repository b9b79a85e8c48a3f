"""A table as records see it: its columns and keys, made or widened from the records where the spec allows that."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, inspect

from speclab.connectors.sql.dialects import DATABASES, DatabaseKind
from speclab.connectors.sql.statements import named, parts
from speclab.errors import BadAnswer
from speclab.jsonvalue import Json, Record
from speclab.spec.names import meant

_PARTIAL: Final = frozenset({"sqlite_where", "postgresql_where"})
"""What an index has that is unique among some rows only."""


@dataclass(frozen=True, slots=True)
class Table:
    """A table that is there. `keys` are the sets of columns that are unique in it."""

    name: str
    columns: frozenset[str]
    keys: frozenset[frozenset[str]]

    @classmethod
    def find(cls, connection: Connection, name: str) -> Table | None:
        """The table or view called `name`, or `schema.name`; None if there is none."""
        inspector = inspect(connection)
        *schemas, bare = parts(connection.dialect, name)
        schema = schemas[0] if schemas else None
        if not (inspector.has_table(bare, schema) or bare in inspector.get_view_names(schema)):
            return None
        keys = {frozenset(inspector.get_pk_constraint(bare, schema)["constrained_columns"])}
        keys |= {frozenset(found["column_names"]) for found in inspector.get_unique_constraints(bare, schema)}
        keys |= {
            frozenset(column for column in found["column_names"] if column is not None)
            for found in inspector.get_indexes(bare, schema)
            if found["unique"] and not _PARTIAL.intersection(found.get("dialect_options", {}))
        }
        columns = frozenset(column["name"] for column in inspector.get_columns(bare, schema))
        return cls(name, columns, frozenset(keys - {frozenset()}))

    def missing(self, names: Iterable[str]) -> list[str]:
        """Those of `names` that are no column."""
        return [name for name in names if name not in self.columns]


def nearest_table(connection: Connection, name: str) -> str:
    """A hint at the table that was probably meant, or nothing."""
    return meant(name, inspect(connection).get_table_names())


def create(connection: Connection, name: str, key: Sequence[str], records: Sequence[Record]) -> str:
    """Make the table `name` for `records`, with `key` as its primary key if it has one; gives what was done."""
    quote = connection.dialect.identifier_preparer.quote
    kind = DATABASES[connection.dialect.name]
    names = list(dict.fromkeys([*key, *(column for record in records for column in record)]))
    columns = [
        f"{quote(column)} {_spelt(kind, column_type(records, column), key=True)} NOT NULL"
        if column in key
        else f"{quote(column)} {_spelt(kind, column_type(records, column), key=False)}"
        for column in names
    ]
    if key:
        columns.append(f"PRIMARY KEY ({', '.join(map(quote, key))})")
    connection.exec_driver_sql(f"CREATE TABLE {named(connection.dialect, name)} ({', '.join(columns)})")
    return f"made the table {name} with {', '.join(names)}"


def widen(connection: Connection, name: str, columns: Sequence[str], records: Sequence[Record]) -> str:
    """Add `columns` to the table `name` for `records`; gives what was done."""
    quote = connection.dialect.identifier_preparer.quote
    for column in columns:
        kind = _spelt(DATABASES[connection.dialect.name], column_type(records, column), key=False)
        connection.exec_driver_sql(f"ALTER TABLE {named(connection.dialect, name)} ADD COLUMN {quote(column)} {kind}")
    return f"added to the table {name}: {', '.join(columns)}"


def column_type(records: Sequence[Record], column: str) -> str:
    """The SQL type that holds what `records` have in `column`; text where they differ or say nothing."""
    kinds = {_kind(record[column]) for record in records if record.get(column) is not None}
    if kinds == {"BIGINT", "DOUBLE PRECISION"}:
        return "DOUBLE PRECISION"
    return kinds.pop() if len(kinds) == 1 else "TEXT"


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


def no_such_column(table: Table, names: Sequence[str]) -> BadAnswer:
    """The error of a mapping that writes to columns a table has not."""
    return BadAnswer(
        f"the table {table.name} has no column '{names[0]}'{meant(names[0], table.columns)}",
        hint="Correct the target field in the mapping, add the column, or set `create_table: true` to have it added.",
    )
