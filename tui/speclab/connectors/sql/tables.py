"""Tables: columns, keys, values that a column would change silently, and the ledger of exactly-once inserts."""

from __future__ import annotations

import hashlib
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Final

from sqlalchemy import Connection, inspect
from sqlalchemy.dialects import mysql, postgresql
from sqlalchemy.engine.interfaces import ReflectedColumn
from sqlalchemy.exc import DBAPIError, SAWarning
from sqlalchemy.types import CHAR, JSON, NullType, Numeric, TypeEngine

from speclab.connectors.api import MappedRecord
from speclab.connectors.sql import statements
from speclab.connectors.sql.dialects import DATABASES, DatabaseKind, get_error_message
from speclab.connectors.sql.statements import KeyNormalizer, Padded, quote_table, split_table_name
from speclab.core.errors import BadResponse, SpecError
from speclab.core.json import Json, Record
from speclab.core.text import format_suggestion
from speclab.mapping.types import ValueKind

_PARTIAL: Final = frozenset({"sqlite_where", "postgresql_where"})
"""Dialect options of a unique index that covers only some rows."""
_TYPES: Final[Mapping[ValueKind | None, str]] = {
    ValueKind.INTEGER: "BIGINT",
    ValueKind.NUMBER: "DOUBLE PRECISION",
    ValueKind.INTEGER | ValueKind.NUMBER: "DOUBLE PRECISION",
    ValueKind.BOOLEAN: "BOOLEAN",
}


@dataclass(frozen=True, slots=True)
class SqlTable:
    """An existing table.

    `columns` have the Python types of their values, `object` if unknown. `keys` are the sets of unique columns; an
    index on expressions has an empty set. Of the columns, `loose` may be NULL; the database silently rounds fractions
    in `whole`, rounds to the given decimal places in `scaled`, and drops the offset in `zoneless`; `listed` are ordered
    by their list and not by comparison. `folds` if it may treat two texts as equal, such as `a` and `A`.
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
        """Find the table or view `name`, or `schema.name`; None if it does not exist."""
        inspector = inspect(connection)
        *schemas, bare = split_table_name(connection.dialect, name)
        schema = schemas[0] if schemas else None
        if schema is None and inspector.default_schema_name is None:
            raise SpecError("url names no database", hint="Expected one at its end: mysql://user:password@host/NAME")
        if not (inspector.has_table(bare, schema) or bare in inspector.get_view_names(schema)):
            return None
        if connection.dialect.name == "sqlite":  # SQLite ignores case, SQLAlchemy does not
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
        """Return the key normalizer for those columns."""
        return KeyNormalizer({column: self.columns[column] for column in key})

    def missing(self, names: Iterable[str]) -> list[str]:
        """Return those of `names` that are not columns."""
        return [name for name in names if name not in self.columns]


def get_columns(connection: Connection, name: str) -> list[ReflectedColumn]:
    """Return the columns of a table as SQLAlchemy describes them."""
    *schemas, bare = split_table_name(connection.dialect, name)
    with _quietly():
        return inspect(connection).get_columns(bare, schemas[0] if schemas else None)


def suggest_table(connection: Connection, name: str) -> str:
    """Return a suggestion for a table name, or nothing."""
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
    """Suppress SQLAlchemy's warnings about unknown types and indexes."""
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
    """Return the decimal places to which a column rounds numbers; None if it keeps all."""
    if isinstance(column, postgresql.MONEY):
        return 2
    return column.scale if isinstance(column, Numeric) else None


def _python_type(column: TypeEngine[object], connection: Connection) -> type:
    """Return the Python type of the values of a column; in SQLite it depends on the value for many columns."""
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
    """Create the table `name` for `records` with fields of `kinds`, and `key` as its primary key.

    Return a description of the change.
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
    """Add `columns` to the table `name` for `records` with fields of `kinds`. Return a description of the change."""
    quote = connection.dialect.identifier_preparer.quote
    for column in columns:
        kind = _spelt(DATABASES[connection.dialect.name], choose_column_type(records, column, kinds), key=False)
        connection.exec_driver_sql(
            f"ALTER TABLE {quote_table(connection.dialect, name)} ADD COLUMN {quote(column)} {kind}"
        )
    return f"added to the table {name}: {', '.join(columns)}"


def choose_column_type(records: Sequence[Record], column: str, kinds: Mapping[str, ValueKind]) -> str:
    """Return the SQL type for a column, from the `kinds` of the mapping or else from the values in `records`.

    It is text if these differ or are all null.
    """
    declared = kinds.get(column)
    if declared in _TYPES:
        return _TYPES[declared]
    seen = {_kind(record[column]) for record in records if record.get(column) is not None}
    if seen == {"BIGINT", "DOUBLE PRECISION"}:
        return "DOUBLE PRECISION"
    return seen.pop() if len(seen) == 1 else "TEXT"


def _spelt(database: DatabaseKind, kind: str, *, key: bool) -> str:
    """Return the database's name for the type `kind`."""
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
    """Return the error for a mapping to columns that the table does not have."""
    return BadResponse(
        f"the table {table.name} has no column '{names[0]}'{format_suggestion(names[0], table.columns)}",
        hint="Correct the target field in the mapping, add the column, or set `create_table: true` to have it added.",
    )


NAME: Final = "speclab_delivered"
_MAKE: Final = (
    f"CREATE TABLE {NAME} (spec_id VARCHAR(200) NOT NULL, record CHAR(32) NOT NULL, delivered CHAR(36) NOT NULL, "
    "PRIMARY KEY (spec_id, record))"
)
_COLUMNS: Final = ("spec_id", "record", "delivered")
_KEY: Final = _COLUMNS[:2]


class Ledger:
    """The ledger of one spec. Its memory matches what the database has committed after each successful batch."""

    def __init__(self) -> None:
        self.spec_id = ""
        self._known: dict[str, str] | None = None
        self._done = False

    def acknowledge(self) -> None:
        """Mark all deliveries as recorded in the run log: the next run continues after them."""
        self._done = True

    def forget(self) -> None:
        """Discard the memory after a rollback; it is read from the database again."""
        self._known = None

    def missing(self, connection: Connection, items: Sequence[MappedRecord]) -> list[MappedRecord]:
        """Return those of `items` that are not in the ledger. Raise `BadResponse` without a ledger."""
        if self._known is None:
            self._known = self._load(connection)
        self.clear(connection)
        known = self._known
        return [item for item in items if known.get(_digest(item.key)) != item.idempotency_key]

    def clear(self, connection: Connection) -> None:
        """Delete the acknowledged deliveries, if there are any."""
        if not self._done:
            return
        if self._known:
            statement = statements.build_delete(connection.dialect, NAME, _COLUMNS[:1])
            connection.exec_driver_sql(statement, (self.spec_id,))
            self._known.clear()
        self._done = False

    def add(self, connection: Connection, items: Sequence[MappedRecord]) -> None:
        """Record `items` as delivered, in the transaction that inserts them."""
        new = {_digest(item.key): item.idempotency_key for item in items}
        statement = statements.build_upsert(connection.dialect, NAME, _COLUMNS, _KEY, 1)
        connection.exec_driver_sql(statement, [(self.spec_id, record, delivered) for record, delivered in new.items()])
        assert self._known is not None  # noqa: S101 - `missing` was asked first
        self._known.update(new)

    def _load(self, connection: Connection) -> dict[str, str]:
        if not inspect(connection).has_table(NAME):
            try:
                connection.exec_driver_sql(_MAKE)
            except DBAPIError as error:
                raise BadResponse(
                    f"the table {NAME} cannot be made: {get_error_message(error)}",
                    hint=f"An insert needs it, so that no row is written twice. Have it made: {_MAKE}",
                ) from None
            return {}
        one = statements.get_parameter_marker(connection.dialect)
        rows = connection.exec_driver_sql(
            f"SELECT record, delivered FROM {NAME} WHERE spec_id = {one}",  # noqa: S608 - values are bound
            (self.spec_id,),
        )
        return {str(record): str(delivered) for record, delivered in rows}


def _digest(key: str) -> str:
    """Return a fixed-length hash of a record's key."""
    return hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


_OFFSET: Final = re.compile(r":\d\d(?:\.\d+)?\s*([+-]\d\d(?::?\d\d)?)$")


class UnfitValue(Exception):
    """The database would silently change a value; with the column, if one is the cause."""

    def __init__(self, column: str | None, message: str) -> None:
        super().__init__(message)
        self.column = column


def check_values(table: SqlTable, columns: Sequence[str], items: Sequence[MappedRecord]) -> None:
    """Raise `UnfitValue` for a value that a column would change silently."""
    for column in table.whole.intersection(columns):
        _check_whole(column, items)
    for column in table.scaled.keys() & columns:
        _check_places(column, table.scaled[column], items)
    for column in table.zoneless.intersection(columns):
        _check_zone(column, items)


def _check_whole(column: str, items: Sequence[MappedRecord]) -> None:
    """Raise `UnfitValue` for a fraction in a column of whole numbers."""
    for item in items:
        value = item.payload[column]
        if (type(value) is float or type(value) is str) and _has_fraction(value):
            raise UnfitValue(column, f"{value} would be rounded, for the column '{column}' holds whole numbers only")


def _check_places(column: str, places: int, items: Sequence[MappedRecord]) -> None:
    """Raise `UnfitValue` for a number with more decimal places than its column."""
    for item in items:
        value = item.payload[column]
        numeric = type(value) in (float, str) or (type(value) is int and places < 0)
        if numeric and isinstance(value, int | float | str) and _places_of(value) > places:
            raise UnfitValue(
                column,
                f"{value} would be rounded, for the column '{column}' keeps {places} decimal places; Round({places}) "
                "in its mapping row rounds it",
            )


def _places_of(value: float | str) -> int:
    """Return the decimal places of a number, which may be negative; 0 if it is not a number."""
    try:
        _, digits, exponent = Decimal(str(value)).as_tuple()
    except InvalidOperation:
        return 0
    zeros = len(digits) - len("".join(map(str, digits)).rstrip("0"))
    return -exponent - zeros if isinstance(exponent, int) and any(digits) else 0


def _check_zone(column: str, items: Sequence[MappedRecord]) -> None:
    """Raise `UnfitValue` for a time with an offset in a column without one."""
    for item in items:
        value = item.payload[column]
        if type(value) is str and (offset := _OFFSET.search(value)) and offset[1].strip("+-0:"):
            raise UnfitValue(
                column,
                f"{value} would lose its offset, for the column '{column}' has no time zone; DateTime makes it UTC",
            )


def _has_fraction(value: float | str) -> bool:
    try:
        number = Decimal(value)
        return number.is_finite() and number % 1 != 0
    except InvalidOperation:  # not a number, or too large for any column: the database reports it
        return False
