"""Looking rows up by key, in a connection that only reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from speclab.connectors.base import Item, Refusal, Seams
from speclab.connectors.jsontext import as_json
from speclab.connectors.references import References
from speclab.connectors.sql import statements
from speclab.connectors.sql.database import Database
from speclab.connectors.sql.dialects import words
from speclab.connectors.sql.spelling import Spelling, same
from speclab.connectors.sql.tables import Table, nearest_table
from speclab.errors import BadAnswer, SpecError
from speclab.jsonvalue import Json, Record
from speclab.spec.auth import Auth
from speclab.spec.settings import RetrySettings
from speclab.spec.systems.sql import SqlSystem

_AT_ONCE: Final = 200
"""Keys in one question."""


class SqlFinder:
    """Finds rows of the table that `write.upsert` names."""

    dear = False

    def __init__(
        self, system: SqlSystem, references: References, seams: Seams, retry: RetrySettings, name: str
    ) -> None:
        self._database = Database(system.url, references, system.limits, seams, retry, writes=False)
        self._name = name
        self._key = (system.key,) if isinstance(system.key, str) else system.key
        self._created = bool(system.write and system.write.create_table)

    async def find(self, items: Sequence[Item]) -> Sequence[Record | Refusal | None]:
        """The row of each item, in order; None where there is none, be it for want of the table.

        Raises `Unreachable` without a connection, and `BadAnswer` without a table that a run would not make.
        """
        if self._created and self._database.absent:
            return [None] * len(items)
        try:
            return await self._database.run(lambda connection: self._find(connection, items))
        except DBAPIError as error:
            raise BadAnswer(self._database.redactor.redact(f"{self._database.name}: {words(error)}")) from None

    async def close(self) -> None:
        """Close the connection."""
        await self._database.close()

    def _find(self, connection: Connection, items: Sequence[Item]) -> list[Record | Refusal | None]:
        found = Table.find(connection, self._name)
        if found is None:
            if self._created:
                return [None] * len(items)
            near = nearest_table(connection, self._name)
            raise BadAnswer(f"{self._database.name}: there is no table '{self._name}'{near}")
        if missing := found.missing(self._key):
            raise BadAnswer(f"{self._database.name}: the table {self._name} has no column '{missing[0]}'")
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

    def _rows(self, connection: Connection, columns: Sequence[str], items: Sequence[Item]) -> list[tuple[object, ...]]:
        values = tuple(_value(item.payload.get(name)) for item in items for name in self._key)
        statement = statements.present(connection.dialect, self._name, self._key, len(items), columns)
        return [tuple(row) for row in connection.exec_driver_sql(statement, values)]


def _like(payload: Record, row: Mapping[str, object], columns: Mapping[str, type]) -> Record:
    """`row` as a record: what is the same as in `payload` is spelt as there, so that it is no change."""
    return {
        name: payload[name] if name in payload and same(columns[name], was, payload[name]) else as_json(was)
        for name, was in row.items()
    }


def _value(value: Json) -> Json:
    return None if isinstance(value, dict | list) else value


def sql_finder(
    system: SqlSystem, auth: Auth, references: References, seams: Seams, retry: RetrySettings
) -> SqlFinder | None:
    """The finder of a table that is written by key. Raises `SpecError` for settings that cannot work."""
    del auth  # credentials stand in the URL
    system = references.resolve_settings(system)
    if system.write is None:
        raise SpecError("a sql target needs `write`, such as `write: {upsert: customers}`")
    return SqlFinder(system, references, seams, retry, system.write.upsert) if system.write.upsert else None
