"""Writing rows: a batch is one transaction, its rows go through the driver's `executemany` as plain tuples."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Final, TypeAlias

from sqlalchemy import Connection
from sqlalchemy.exc import (
    DataError,
    DBAPIError,
    IntegrityError,
    InterfaceError,
    OperationalError,
    ProgrammingError,
)

from speclab.connectors.base import Answer, Item, Refusal, Seams
from speclab.connectors.jsontext import encode
from speclab.connectors.references import References
from speclab.connectors.sql import statements
from speclab.connectors.sql.database import Database
from speclab.connectors.sql.tables import Table, create, nearest_table, no_such_column, widen
from speclab.errors import BadAnswer, SpecError
from speclab.jsonvalue import Json, Record
from speclab.outcome import Effect, ErrorClass, Level
from speclab.spec.settings import Auth, RetrySettings, SqlSystem

Cell: TypeAlias = "bool | int | float | str | None"

_BLAMED: Final = re.compile(r"constraint failed: (?:[^\s.,]+\.)?([^\s.,]+)")
_PASSING: Final = ("locked", "busy", "disk is full", "disk i/o error")
"""What SQLite says when it is not the record's fault and may be over soon."""
_OF_A_ROW: Final = (IntegrityError, DataError, InterfaceError, ProgrammingError, OverflowError)
"""Errors that are about what a row holds; any other is about the table or the database."""
_LOOK: Final = 500
"""Keys asked for at once."""


class SqlWriter:
    """Writes to one table, by key or by appending."""

    def __init__(
        self, system: SqlSystem, auth: Auth, references: References, seams: Seams, retry: RetrySettings
    ) -> None:
        """A writer for settings as the spec has them. Raises `SpecError` for those that cannot work."""
        del auth, retry  # credentials stand in the URL, and what is tried again is the caller's business
        system = references.resolve_settings(system)
        if system.write is None:
            raise SpecError("a sql target needs `write`, such as `write: {upsert: customers}`")
        self._database = Database(system.url, references, system.limits, writes=True)
        self._name = system.write.upsert or system.write.insert or ""
        self._key = ((system.key,) if isinstance(system.key, str) else system.key) if system.write.upsert else ()
        self._create_table = system.write.create_table
        self._report = seams.report
        self._table: Table | None = None
        self.batch = system.write.size
        self.idempotent = self.deletes = bool(self._key)
        self.keyed = False

    async def write(self, items: Sequence[Item]) -> Sequence[Answer]:
        """One answer an item, in order: all rows that can be written are, or none of them.

        A row without a key is refused by itself. Raises `BadAnswer` where the table has no room for what is mapped.
        """
        answers: list[Answer | None] = [self._keyless(item) for item in items]
        rows = [item for item, answer in zip(items, answers, strict=True) if answer is None]
        known = self._table
        try:
            effects = await self._database.run(lambda connection: self._write(connection, rows)) if rows else []
        except (DBAPIError, OverflowError) as error:
            self._table = known  # what was made in the transaction is undone with it
            refused = Answer(refusal=self._refusal(error, len(rows)))
            return [answer or refused for answer in answers]
        given = iter(effects)
        return [answer or Answer(effect=next(given)) for answer in answers]

    async def close(self) -> None:
        """Close the connection."""
        await self._database.close()

    def _keyless(self, item: Item) -> Answer | None:
        for name in self._key:
            if item.payload.get(name) in (None, ""):
                message = f"the key `{name}` is empty" if name in item.payload else f"the key `{name}` is not mapped"
                return Answer(refusal=Refusal(ErrorClass.REJECTED, message, self._line(), field=name, sent=False))
        return None

    def _write(self, connection: Connection, items: Sequence[Item]) -> list[Effect]:
        table = self._ready(connection, [item.payload for item in items if not item.delete])
        present = self._present(connection, items) if self._key else set()
        effects: list[Effect] = []
        for (delete, columns), run in groupby(items, key=_shape):
            group = list(run)
            if delete:
                statement = statements.remove(connection.dialect, table.name, self._key)
                connection.exec_driver_sql(statement, [self._key_of(item.payload) for item in group])
                effects += [Effect.DELETED] * len(group)
                continue
            if self._key:
                statement = statements.upsert(connection.dialect, table.name, columns, self._key)
            else:
                statement = statements.append(connection.dialect, table.name, columns)
            connection.exec_driver_sql(statement, _rows(group, columns))
            effects += self._effects(group, present)
        return effects

    def _ready(self, connection: Connection, records: Sequence[Record]) -> Table:
        """The table, with a column for all that `records` have."""
        table = self._table or Table.find(connection, self._name)
        if table is None:
            if not self._create_table:
                near = nearest_table(connection, self._name)
                raise BadAnswer(
                    f"{self._database.name}: there is no table '{self._name}'{near}",
                    hint="Correct its name, make it, or set `create_table: true` to have it made.",
                )
            self._report(Level.INFO, create(connection, self._name, self._key, records))
            table = Table.find(connection, self._name)
            assert table is not None  # noqa: S101 - just made
        if self._key and frozenset(self._key) not in table.keys:
            names = ", ".join(self._key)
            raise BadAnswer(
                f"{self._database.name}: an upsert into {table.name} needs a primary key or unique index on {names}",
                hint=f"CREATE UNIQUE INDEX {table.name}_key ON {table.name} ({names})",
            )
        missing = table.missing(dict.fromkeys(column for record in records for column in record))
        if missing:
            if not self._create_table:
                raise no_such_column(table, missing)
            self._report(Level.INFO, widen(connection, table.name, missing, records))
            table = Table(table.name, table.columns | set(missing), table.keys)
        self._table = table
        return table

    def _present(self, connection: Connection, items: Sequence[Item]) -> set[tuple[str, ...]]:
        """The keys of `items` that have a row already, as text: a column's type may differ from the record's."""
        keys = [self._key_of(item.payload) for item in items]
        found: set[tuple[str, ...]] = set()
        for at in range(0, len(keys), _LOOK):
            part = keys[at : at + _LOOK]
            statement = statements.present(connection.dialect, self._name, self._key, len(part))
            values = tuple(value for key in part for value in key)
            found.update(tuple(map(str, row)) for row in connection.exec_driver_sql(statement, values))
        return found

    def _effects(self, items: Sequence[Item], present: set[tuple[str, ...]]) -> Iterator[Effect]:
        if not self._key:
            yield from [Effect.CREATED] * len(items)
            return
        for item in items:
            key = tuple(map(str, self._key_of(item.payload)))
            yield Effect.UPDATED if key in present else Effect.CREATED
            present.add(key)

    def _key_of(self, record: Record) -> tuple[Cell, ...]:
        return tuple(_cell(record[name]) for name in self._key)

    def _refusal(self, error: DBAPIError | OverflowError, rows: int) -> Refusal:
        """What a failed batch is answered with. Raises `BadAnswer` for what no other row would change."""
        text = self._database.redactor.redact(str(error.orig) if isinstance(error, DBAPIError) else str(error))
        passing = isinstance(error, OperationalError) and any(sign in text.lower() for sign in _PASSING)
        if not (passing or isinstance(error, _OF_A_ROW)):
            raise BadAnswer(f"{self._line()}: {text}", request=self._line()) from None
        blamed = _BLAMED.search(text)
        return Refusal(
            error_class=ErrorClass.SERVER if passing else ErrorClass.REJECTED,
            message=text,
            request=f"{self._line()} ({rows} rows)",
            response=text,
            field=blamed[1] if blamed else None,
            sent=False,  # the transaction was rolled back: nothing of it is there
        )

    def _line(self) -> str:
        return f"{'UPSERT' if self._key else 'INSERT'} {self._name} at {self._database.name}"


def _shape(item: Item) -> tuple[bool, tuple[str, ...]]:
    """What items must share to go through one statement."""
    return (True, ()) if item.delete else (False, tuple(item.payload))


def _rows(items: Sequence[Item], columns: Sequence[str]) -> list[tuple[Cell, ...]]:
    return [tuple([_cell(item.payload[name]) for name in columns]) for item in items]


def _cell(value: Json) -> Cell:
    return encode(value).decode() if isinstance(value, dict | list) else value
