"""The SQL that readers and writers say, as text for the driver itself; here alone dialects differ.

Names are quoted by the dialect, values are always bound.
"""

# ruff: noqa: S608 - see above: the rule cannot see that names are quoted

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from sqlalchemy import Dialect, column, table
from sqlalchemy.dialects.sqlite import insert


@lru_cache(maxsize=64)
def upsert(dialect: Dialect, name: str, columns: tuple[str, ...], key: tuple[str, ...], rows: int) -> str:
    """Insert `columns` of so many rows or, where `key` is there already, update them."""
    statement = insert(table(name, *map(column, columns))).values([dict.fromkeys(columns)] * rows)
    others = [each for each in columns if each not in key]
    if others:
        statement = statement.on_conflict_do_update(
            index_elements=list(key), set_={each: statement.excluded[each] for each in others}
        )
    else:
        statement = statement.on_conflict_do_nothing(index_elements=list(key))
    return str(statement.compile(dialect=dialect))


@lru_cache(maxsize=64)
def append(dialect: Dialect, name: str, columns: tuple[str, ...], rows: int) -> str:
    """Insert `columns` of so many rows."""
    statement = insert(table(name, *map(column, columns))).values([dict.fromkeys(columns)] * rows)
    return str(statement.compile(dialect=dialect))


def remove(dialect: Dialect, name: str, key: Sequence[str]) -> str:
    """Delete the row of a key."""
    quote = dialect.identifier_preparer.quote
    return f"DELETE FROM {quote(name)} WHERE {' AND '.join(f'{quote(each)} = ?' for each in key)}"


def present(dialect: Dialect, name: str, key: Sequence[str], count: int) -> str:
    """Which of `count` keys have a row."""
    quote = dialect.identifier_preparer.quote
    names = ", ".join(map(quote, key))
    row = f"({', '.join('?' * len(key))})"
    return f"SELECT {names} FROM {quote(name)} WHERE ({names}) IN (VALUES {', '.join([row] * count)})"


def page(dialect: Dialect, rows: str, key: Sequence[str], *, since: str | None, after: bool, limit: int) -> str:
    """The next `limit` of `rows` (a table, or what `subquery` gives) in the order of `key`.

    With `since`, only where that column is at least the first value bound; with `after`, only after the key bound next.
    """
    quote = dialect.identifier_preparer.quote
    names = ", ".join(map(quote, key))
    conditions = [f"{quote(since)} >= ?"] if since is not None else []
    conditions += [f"({names}) > ({', '.join('?' * len(key))})"] if after else []
    where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
    return f"SELECT * FROM {rows}{where} ORDER BY {names} LIMIT {limit}"


def highest(dialect: Dialect, rows: str, field: str) -> str:
    """The largest value of `field` in `rows`."""
    return f"SELECT MAX({dialect.identifier_preparer.quote(field)}) FROM {rows}"


def none_of(rows: str) -> str:
    """No row at all, for the names of the columns."""
    return f"SELECT * FROM {rows} LIMIT 0"


def subquery(query: str) -> str:
    """A SELECT of the spec's as something to select from."""
    return f"({query.strip().rstrip(';')}) AS speclab_source"
