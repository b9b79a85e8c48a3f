"""A table as records see it: its columns and keys, made or widened from the records where the spec allows that."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from rapidfuzz import process
from sqlalchemy import Connection, inspect

from speclab.errors import BadAnswer
from speclab.jsonvalue import Json, Record


@dataclass(frozen=True, slots=True)
class Table:
    """A table that is there. `keys` are the sets of columns that are unique in it."""

    name: str
    columns: frozenset[str]
    keys: frozenset[frozenset[str]]

    @classmethod
    def find(cls, connection: Connection, name: str) -> Table | None:
        """The table or view called `name`; None if there is none."""
        inspector = inspect(connection)
        if not inspector.has_table(name):
            return None
        keys = {frozenset(inspector.get_pk_constraint(name)["constrained_columns"])}
        keys |= {frozenset(found["column_names"]) for found in inspector.get_unique_constraints(name)}
        keys |= {
            frozenset(column for column in found["column_names"] if column is not None)
            for found in inspector.get_indexes(name)
            if found["unique"] and not found.get("dialect_options", {}).get("sqlite_where")
        }
        return cls(name, frozenset(column["name"] for column in inspector.get_columns(name)), frozenset(keys))

    def missing(self, names: Iterable[str]) -> list[str]:
        """Those of `names` that are no column."""
        return [name for name in names if name not in self.columns]


def nearest_table(connection: Connection, name: str) -> str:
    """A hint at the table that was probably meant, or nothing."""
    return nearest(name, inspect(connection).get_table_names())


def nearest(name: str, names: Collection[str]) -> str:
    """A hint at the name that was probably meant, or nothing."""
    found = process.extractOne(name, list(names), score_cutoff=70)
    return f". Did you mean '{found[0]}'?" if found else ""


def create(connection: Connection, name: str, key: Sequence[str], records: Sequence[Record]) -> str:
    """Make the table `name` for `records`, with `key` as its primary key if it has one; gives what was done."""
    quote = connection.dialect.identifier_preparer.quote
    names = list(dict.fromkeys([*key, *(column for record in records for column in record)]))
    columns = [f"{quote(column)} {column_type(records, column)}{' NOT NULL' * (column in key)}" for column in names]
    if key:
        columns.append(f"PRIMARY KEY ({', '.join(map(quote, key))})")
    connection.exec_driver_sql(f"CREATE TABLE {quote(name)} ({', '.join(columns)})")
    return f"made the table {name} with {', '.join(names)}"


def widen(connection: Connection, name: str, columns: Sequence[str], records: Sequence[Record]) -> str:
    """Add `columns` to the table `name` for `records`; gives what was done."""
    quote = connection.dialect.identifier_preparer.quote
    for column in columns:
        kind = column_type(records, column)
        connection.exec_driver_sql(f"ALTER TABLE {quote(name)} ADD COLUMN {quote(column)} {kind}")
    return f"added to the table {name}: {', '.join(columns)}"


def column_type(records: Sequence[Record], column: str) -> str:
    """The SQL type that holds what `records` have in `column`; text where they differ or say nothing."""
    kinds = {_kind(record[column]) for record in records if record.get(column) is not None}
    if kinds == {"BIGINT", "DOUBLE PRECISION"}:
        return "DOUBLE PRECISION"
    return kinds.pop() if len(kinds) == 1 else "TEXT"


def _kind(value: Json) -> str:
    if isinstance(value, bool):
        return "BOOLEAN"
    if isinstance(value, int):
        return "BIGINT"
    return "DOUBLE PRECISION" if isinstance(value, float) else "TEXT"


def no_such_column(table: Table, names: Sequence[str]) -> BadAnswer:
    """The error of a mapping that writes to columns a table has not."""
    return BadAnswer(
        f"the table {table.name} has no column '{names[0]}'{nearest(names[0], table.columns)}",
        hint="Correct the target field in the mapping, add the column, or set `create_table: true` to have it added.",
    )
