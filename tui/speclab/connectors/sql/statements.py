"""SQL statements, and the values in them; differences between dialects are only here and in `dialects`."""

from __future__ import annotations

import base64
import math
import sqlite3
from collections.abc import Callable, Hashable, Mapping, Sequence
from datetime import UTC, date, datetime, time
from decimal import Decimal
from functools import lru_cache
from math import inf
from typing import TYPE_CHECKING, Final, TypeAlias, TypeVar
from uuid import UUID

from sqlalchemy import Connection, Dialect, Insert, TableClause, column, table
from sqlalchemy.dialects import mysql, postgresql, sqlite

from speclab.connectors.api import MappedRecord
from speclab.core.json import Json, decode, encode, encode_canonical, to_json

if TYPE_CHECKING:
    from collections.abc import Callable

    from psycopg.abc import AdaptContext, Buffer, Loader
    from psycopg.adapt import AdaptersMap

Bound: TypeAlias = "str | int | float | bytes | None"
"""A value that can be bound as a parameter and matches the value that the database returned."""

_BEYOND_PYTHON: Final = ("date", "timestamp", "timestamptz", "time", "timetz")
_RANGES: Final = ("int4", "int8", "num", "date", "ts", "tstz")
_BYTES: Final = "base64"


def to_bound_value(value: object, dialect: Dialect) -> Bound:
    """Convert a `value` from a driver to a parameter that matches it."""
    if value is None or isinstance(value, bytes | str | int):
        return value
    if isinstance(value, float) and math.isfinite(value) and dialect.name != "postgresql":
        return value
    return str(to_json(value))  # 0.1 as `real` differs from 0.1 as `double precision`; text has the value of the column


def dump_key(key: Sequence[Bound]) -> Json:
    """Return the values of a key for a checkpoint; bytes are distinguished from text."""
    return [{_BYTES: to_json(value)} if isinstance(value, bytes) else value for value in key]


def load_key(held: Json) -> tuple[Bound, ...] | None:
    """Return the key from `dump_key`; None for anything else."""
    if not isinstance(held, list):
        return None
    key: list[Bound] = []
    for value in held:
        match value:
            case {"base64": str() as text}:
                key.append(base64.b64decode(text))
            case None | str() | int() | float():
                key.append(value)
            case _:
                return None
    return tuple(key)


def register_psycopg_loaders(adapters: AdaptersMap) -> None:
    """Load values that Python cannot represent as PostgreSQL's text."""
    from psycopg.pq import Format
    from psycopg.types.string import TextLoader

    for name in _BEYOND_PYTHON:
        oid = adapters.types[name].oid
        loader = adapters.get_loader(oid, Format.TEXT)
        if loader is not None:
            adapters.register_loader(oid, _or_text(loader))
    for name in ("interval", *(f"{kind}{end}" for kind in _RANGES for end in ("range", "multirange"))):
        adapters.register_loader(name, TextLoader)


@lru_cache
def _or_text(kind: type[Loader]) -> type[Loader]:
    """Return the loader `kind` with text for values that it cannot represent."""
    from psycopg import DataError, adapt

    class OrText(adapt.Loader):
        def __init__(self, oid: int, context: AdaptContext | None = None) -> None:
            super().__init__(oid, context)
            self._load = kind(oid, context).load

        def load(self, data: Buffer) -> object:
            try:
                return self._load(data)
            except DataError:
                return bytes(data).decode()

    return OrText


def get_pymysql_conversions() -> Mapping[object, Callable[..., object]]:
    """Return PyMySQL's conversions, with TIME as text and BIT as a number."""
    from pymysql.constants import FIELD_TYPE
    from pymysql.converters import conversions

    return {
        **{kind: convert for kind, convert in conversions.items() if kind != FIELD_TYPE.TIME},
        FIELD_TYPE.BIT: lambda data: int.from_bytes(data, "big"),
    }


Spelling: TypeAlias = "tuple[Hashable, ...]"


class Padded(str):
    """The value of a CHAR column in PostgreSQL: text padded with spaces."""

    __slots__ = ()


class KeyNormalizer:
    """Normalizes the keys of one table; `types` are those of its key columns, `object` if unknown."""

    def __init__(self, types: Mapping[str, type]) -> None:
        self._columns = tuple(types)
        self._readings = tuple(map(_reading, types.values()))
        self._texts = [name for name, kind in types.items() if issubclass(kind, str)]
        self.exact = all(kind in _READINGS and kind is not float for kind in types.values())
        """Whether a key with different text is certainly a different key."""

    def spelt(self, key: Sequence[object]) -> Spelling:
        """Return the normalized form, which is equal for equal keys."""
        if len(key) == 1:
            return (self._readings[0](key[0]),)
        return tuple([read(value) for read, value in zip(self._readings, key, strict=True)])

    def as_texts(self, items: Sequence[MappedRecord]) -> Sequence[MappedRecord]:
        """Return `items` with keys as text where the column is text.

        PostgreSQL rejects comparing a number with a text column, and in MySQL `5` equals `05`.
        """
        if all({type(item.payload.get(name)) for item in items} == {str} for name in self._texts):
            return items
        return [item._replace(payload={**item.payload, **self._convert_key(item)}) for item in items]

    def _convert_key(self, item: MappedRecord) -> dict[str, Json]:
        return {name: _as_text(item.payload[name]) for name in self._texts if item.payload.get(name) is not None}


def is_same_value(kind: type, was: object, value: Json) -> bool:
    """Whether a column of type `kind` that contains `was` would be unchanged after writing `value`."""
    if was is None or value is None:
        return was is value
    read = _reading(kind)
    return read(was) == read(value)


def _as_text(value: Json) -> str:
    """Return a value as a text column stores it."""
    if isinstance(value, str):
        return value
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return encode(value).decode()


def _reading(kind: type) -> Callable[[object], Hashable]:
    read = _READINGS.get(kind, str)

    def spelling(value: object) -> Hashable:
        try:
            return read(value)
        except (ValueError, ArithmeticError, KeyError):  # not a value of this type: the database converts or rejects it
            return str(value)

    return str if read is str else spelling


def _number(value: object) -> Hashable:
    return value if isinstance(value, int) else Decimal(str(value))


def _time(value: object) -> Hashable:
    moment = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
    return moment.astimezone(UTC).replace(tzinfo=None) if moment.tzinfo is not None else moment


def _day(value: object) -> Hashable:
    return value if isinstance(value, date) else datetime.fromisoformat(str(value)).date()


def _hours(value: object) -> Hashable:
    return value if isinstance(value, time) else time.fromisoformat(str(value))


def _bytes(value: object) -> Hashable:
    return value if isinstance(value, bytes) else str(value).encode()


def _truth(value: object) -> Hashable:
    return value if isinstance(value, bool) else _TRUTHS[str(value).lower()]


def _json(value: object) -> Hashable:
    return encode_canonical(decode(value.encode()) if isinstance(value, str) else value)  # type: ignore[arg-type]


_TRUTHS: Final = {"true": True, "t": True, "1": True, "false": False, "f": False, "0": False}
_READINGS: Final[Mapping[type, Callable[[object], Hashable]]] = {
    str: str,
    Padded: lambda value: str(value).rstrip(" "),
    int: _number,
    Decimal: _number,
    datetime: _time,
    date: _day,
    UUID: lambda value: UUID(str(value)),
    bytes: _bytes,
    float: lambda value: float(str(value)),
    time: _hours,
    bool: _truth,
    dict: _json,
}


# ruff: noqa: S608 - see above: the rule cannot see that names are quoted


V = TypeVar("V")


def quote_table(dialect: Dialect, name: str) -> str:
    """Return the quoted table name; `schema.table` where there are schemas."""
    return ".".join(map(dialect.identifier_preparer.quote, split_table_name(dialect, name)))


def split_table_name(dialect: Dialect, name: str) -> list[str]:
    """Return the schema, if there is one, and the table of `name`."""
    return [name] if dialect.name == "sqlite" else name.split(".", maxsplit=1)


@lru_cache(maxsize=64)
def build_upsert(dialect: Dialect, name: str, columns: tuple[str, ...], key: tuple[str, ...], rows: int) -> str:
    """Build an upsert of `rows` rows: insert them, or update those whose `key` exists."""
    others = [each for each in columns if each not in key]
    into, values = _table(dialect, name, columns), dict.fromkeys(columns)
    if matches_any_unique_key(dialect):
        added = mysql.insert(into).values(values)
        added = added.on_duplicate_key_update({each: added.inserted[each] for each in others or key})
        return _of(rows, added, dialect, columns)
    new = (postgresql if dialect.name == "postgresql" else sqlite).insert(into).values(values)
    if others:
        new = new.on_conflict_do_update(index_elements=list(key), set_={each: new.excluded[each] for each in others})
    else:
        new = new.on_conflict_do_nothing(index_elements=list(key))
    return _of(rows, new, dialect, columns)


def get_max_parameters(connection: Connection) -> int:
    """Return the maximum number of parameters of a multi-row statement; 0 if rows are sent one at a time.

    That is the case where an upsert of several rows may not contain a key twice.
    """
    driver = connection.connection.driver_connection
    return driver.getlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER) if isinstance(driver, sqlite3.Connection) else 0


def get_max_statement_size(connection: Connection) -> float:
    """Return the maximum size of a statement in bytes, as far as the server reports it."""
    if not matches_any_unique_key(connection.dialect):
        return inf
    return int(connection.exec_driver_sql("SELECT @@max_allowed_packet").scalar_one())


def matches_any_unique_key(dialect: Dialect) -> bool:
    """Whether an upsert updates a row with any equal unique key, not only the given one."""
    return dialect.name in _BY_ANY_KEY


@lru_cache(maxsize=64)
def build_append(dialect: Dialect, name: str, columns: tuple[str, ...], rows: int) -> str:
    """Build an insert of `rows` rows."""
    return _of(rows, _table(dialect, name, columns).insert().values(dict.fromkeys(columns)), dialect, columns)


@lru_cache(maxsize=64)
def build_insert(dialect: Dialect, name: str, columns: tuple[str, ...], rows: int) -> str:
    """Build an insert of `rows` rows that fails for an existing key, whatever the table defines.

    The transaction must be rolled back on failure: SQLite may leave the statement half done, and so needs no statement
    journal.
    """
    statement = _table(dialect, name, columns).insert().values(dict.fromkeys(columns))
    return _of(rows, statement.prefix_with("OR FAIL", dialect="sqlite"), dialect, columns)


def build_update(dialect: Dialect, name: str, columns: Sequence[str], key: Sequence[str]) -> str:
    """Build an update of `columns`, in order, by `key`, whose values are bound last.

    Key columns are set to themselves.
    """
    quote = dialect.identifier_preparer.quote
    news = ", ".join(f"{quote(each)} = {get_parameter_marker(dialect)}" for each in columns)
    return f"UPDATE {quote_table(dialect, name)} SET {news} WHERE {_is(dialect, key)}"


def build_delete(dialect: Dialect, name: str, key: Sequence[str]) -> str:
    """Build a delete of the row with a key."""
    return f"DELETE FROM {quote_table(dialect, name)} WHERE {_is(dialect, key)}"


def build_unique_index(dialect: Dialect, name: str, key: Sequence[str]) -> str:
    """Build a unique index on `key`."""
    quote = dialect.identifier_preparer.quote
    index = quote(f"{split_table_name(dialect, name)[-1]}_key")
    return f"CREATE UNIQUE INDEX {index} ON {quote_table(dialect, name)} ({', '.join(map(quote, key))})"


def build_key_query(dialect: Dialect, name: str, key: Sequence[str], count: int, columns: Sequence[str] = ()) -> str:
    """Build a query for the rows of `count` keys, with `columns` if any are needed besides the key."""
    names = ", ".join(map(dialect.identifier_preparer.quote, key))
    wanted = ", ".join(map(dialect.identifier_preparer.quote, (*key, *columns)))
    marks = ", ".join([get_parameter_marker(dialect)] * len(key))
    row = marks if len(key) == 1 else f"({marks})"
    rows = ", ".join([row] * count)
    if len(key) > 1 and dialect.name == "sqlite":
        rows = f"VALUES {rows}"
    return f"SELECT {wanted} FROM {quote_table(dialect, name)} WHERE ({names}) IN ({rows})"


def get_parameter_marker(dialect: Dialect) -> str:
    """Return the marker of a parameter."""
    return "?" if dialect.paramstyle == "qmark" else "%s"


def build_page_query(
    dialect: Dialect,
    rows: str,
    terms: Sequence[str],
    *,
    loose: Sequence[str],
    since: str | None,
    after: Sequence[V] | None,
    limit: int,
) -> tuple[str, list[V]]:
    """Build a query for the next `limit` of `rows` (a table, or a `build_subquery`) by the `terms` of a key.

    Return it with its parameters. With `since`, only rows where that column is at least the first parameter, which the
    caller adds; with `after`, only rows after that key. Rows in which a `loose` column of the key is NULL have no place
    in the order and are left out.
    """
    quote = dialect.identifier_preparer.quote
    conditions = _since(dialect, since) + [f"{quote(name)} IS NOT NULL" for name in loose]
    values: list[V] = []
    if after is not None:
        condition, values = _after(dialect, terms, after)
        conditions.append(condition)
    return f"SELECT * FROM {rows}{_where(conditions)} ORDER BY {', '.join(terms)} LIMIT {limit}", values


def build_null_key_query(dialect: Dialect, rows: str, loose: Sequence[str], *, since: str | None, limit: int) -> str:
    """Build a query for up to `limit` of the rows that `build_page_query` leaves out."""
    quote = dialect.identifier_preparer.quote
    nulls = " OR ".join(f"{quote(name)} IS NULL" for name in loose)
    return f"SELECT * FROM {rows}{_where([*_since(dialect, since), f'({nulls})'])} LIMIT {limit}"


def build_order_term(dialect: Dialect, column: str, *, listed: bool) -> str:
    """Return the ORDER BY term for a column of a key.

    MySQL orders values of an ENUM as they are `listed`, and compares them as text.
    """
    quoted = dialect.identifier_preparer.quote(column)
    return f"CAST(CONVERT({quoted} USING utf8mb4) AS BINARY)" if listed else quoted


def build_order_check(
    dialect: Dialect, rows: str, terms: Sequence[str], after: Sequence[V], one: Sequence[V]
) -> tuple[str, list[V]]:
    """Build a query for rows equal to the key `one` and not after the key `after`. Return it with its parameters."""
    condition, values = _after(dialect, terms, after)
    same = " AND ".join(f"{each} = {get_parameter_marker(dialect)}" for each in terms)
    return f"SELECT * FROM {rows} WHERE {same} AND NOT {condition}", [*one, *values]


def build_max_query(dialect: Dialect, rows: str, field: str) -> str:
    """Build a query for the largest value of `field` in `rows`."""
    return f"SELECT MAX({dialect.identifier_preparer.quote(field)}) FROM {rows}"


def build_sample_query(rows: str, count: int) -> str:
    """Build a query for `count` of `rows`, unordered; with 0 it returns the column names."""
    return f"SELECT * FROM {rows} LIMIT {count}"


def build_subquery(dialect: Dialect, query: str) -> str:
    """Return a query of the spec as a subquery."""
    text = query.strip().rstrip(";")
    if get_parameter_marker(dialect) == "%s":
        text = text.replace("%", "%%")
    return f"({text}\n) AS speclab_source"  # the query may end in a comment, which ends with the line


_BY_ANY_KEY: Final = ("mysql", "mariadb")


def _since(dialect: Dialect, since: str | None) -> list[str]:
    return (
        [f"{dialect.identifier_preparer.quote(since)} >= {get_parameter_marker(dialect)}"] if since is not None else []
    )


def _where(conditions: Sequence[str]) -> str:
    return f" WHERE {' AND '.join(conditions)}" if conditions else ""


def _after(dialect: Dialect, terms: Sequence[str], after: Sequence[V]) -> tuple[str, list[V]]:
    """Return the condition that a row's key comes after the key `after`, and its parameters.

    MySQL scans the whole table for `(a, b) > (1, 2)`, and uses the index for the expanded form.
    """
    one = get_parameter_marker(dialect)
    if not matches_any_unique_key(dialect):
        return f"({', '.join(terms)}) > ({', '.join([one] * len(terms))})", list(after)
    condition, values = f"{terms[-1]} > {one}", [after[-1]]
    for each, value in zip(reversed(terms[:-1]), reversed(after[:-1]), strict=True):
        condition, values = f"{each} > {one} OR ({each} = {one} AND ({condition}))", [value, value, *values]
    return f"({condition})", values


def _table(dialect: Dialect, name: str, columns: Sequence[str]) -> TableClause:
    *schema, bare = split_table_name(dialect, name)
    return table(bare, *map(column, columns), schema=schema[0] if schema else None)


def _of(rows: int, insert: Insert, dialect: Dialect, columns: Sequence[str]) -> str:
    """Return `insert`, a single-row statement, for `rows` rows; SQLAlchemy needs 30 ms to compile 500."""
    values = f"({', '.join([get_parameter_marker(dialect)] * len(columns))})"
    before, row, after = str(insert.compile(dialect=dialect)).rpartition(values)
    return f"{before}{', '.join([row] * rows)}{after}"


def _is(dialect: Dialect, key: Sequence[str]) -> str:
    return " AND ".join(f"{dialect.identifier_preparer.quote(each)} = {get_parameter_marker(dialect)}" for each in key)
