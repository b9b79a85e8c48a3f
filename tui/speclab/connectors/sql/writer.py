"""The SQL target: a batch is one transaction, written as tuples with the driver's `executemany`.

A batch whose outcome is unknown after a crash may be written again: an upsert changes the row of its key, and an insert
is recorded in its transaction (see `ledger`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from itertools import chain, groupby
from math import inf
from typing import Final, TypeAlias

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError, IntegrityError

from speclab.connectors.api import MappedRecord, RuntimeContext, WriteError, WriteResult
from speclab.connectors.secrets.references import References
from speclab.connectors.sql import statements
from speclab.connectors.sql.database import Database
from speclab.connectors.sql.dialects import find_blamed_column, get_error_message
from speclab.connectors.sql.settings import SqlSystem
from speclab.connectors.sql.statements import KeyNormalizer, Spelling
from speclab.connectors.sql.tables import (
    Ledger,
    SqlTable,
    UnfitValue,
    add_columns,
    build_no_column_error,
    check_values,
    create_table,
    suggest_table,
)
from speclab.core.errors import BadResponse, EndpointError, SpecError, Unreachable
from speclab.core.json import Json, Record, encode, encode_canonical, to_json
from speclab.core.outcome import Effect, ErrorClass, Level
from speclab.mapping.fields import Field
from speclab.mapping.types import ValueKind
from speclab.spec.auth import Auth
from speclab.spec.settings import RetrySettings

Cell: TypeAlias = "bool | int | float | str | None"
Shape: TypeAlias = "tuple[str, ...] | None"
"""The columns of a record, in order; None for a delete."""

_NESTED: Final = frozenset({dict, list})
_CREATED: Final = WriteResult(effect=Effect.CREATED)
_UPDATED: Final = WriteResult(effect=Effect.UPDATED)
_DELETED: Final = WriteResult(effect=Effect.DELETED)
_ROWS: Final = (512, 256, 128, 64, 32, 16, 8, 4, 2, 1)
"""Rows per statement: fewer cost more, and each statement waits for Python's lock."""
_LOOK: Final = 500
"""Keys per query."""
_SYSTEM_COLUMNS: Final = frozenset({"xmin"})
"""Columns of every table of PostgreSQL that identify the version of a row."""


class SqlWriter:
    """Writes to one table, by key or by appending."""

    def __init__(
        self, system: SqlSystem, auth: Auth, references: References, context: RuntimeContext, retry: RetrySettings
    ) -> None:
        """Create a writer for settings as in the spec. Raise `SpecError` for settings that cannot work."""
        del auth  # the credentials are in the URL
        system = references.resolve_settings(system)
        if system.write is None:
            raise SpecError("a sql target needs `write`, such as `write: {upsert: customers}`")
        self._database = Database(system.url, references, system.limits, context, retry, writes=True)
        self._name = system.write.upsert or system.write.insert or ""
        self._key = ((system.key,) if isinstance(system.key, str) else tuple(system.key)) if system.write.upsert else ()
        self._row_version = system.write.row_version
        self._create_table = system.write.create_table
        self._report = context.report
        self._kinds: dict[str, ValueKind] = {}
        self._table: SqlTable | None = None
        self._longest: float | None = None
        self._all_new = False  # whether the previous batch had only new rows
        self.batch = system.write.size
        self._ledger = None if self._key else Ledger()
        self.idempotent = True
        self.deletes = bool(self._key)
        self.keyed = not self._key

    async def write(self, items: Sequence[MappedRecord]) -> Sequence[WriteResult]:
        """Return one result per record, in order: all valid rows are written, or none.

        A row without a key fails by itself. Raise `BadResponse` if the table lacks a column of the mapping.
        """
        results = [self._keyless(item) for item in items] if self._lacks_keys(items) else [None] * len(items)
        rows = [item for item, result in zip(items, results, strict=True) if result is None]
        known = self._table
        try:
            given = iter(await self._delivered(rows) if rows else ())
        except EndpointError:
            self._undone(known)
            raise
        except (DBAPIError, OverflowError, UnicodeError, UnfitValue) as error:
            self._undone(known)
            refused = WriteResult(error=self._refusal(error, rows))
            return [result or refused for result in results]
        return [result or next(given) for result in results]

    def declare_fields(self, fields: Sequence[Field]) -> None:
        """Set the field types of the mapping, for columns that are created."""
        self._kinds = {str(field.path.parts[0]): field.kind for field in fields if len(field.path.parts) == 1}

    def set_spec_id(self, spec_id: str) -> None:
        """Set the spec: each spec has its own ledger at the target."""
        if self._ledger is not None:
            self._ledger.spec_id = spec_id

    def acknowledge(self) -> None:
        """Mark all writes as recorded in the run log."""
        if self._ledger is not None:
            self._ledger.acknowledge()

    async def close(self) -> None:
        """Close the connection."""
        try:
            if self._ledger is not None:
                with suppress(DBAPIError, EndpointError):  # the rest of a page is deleted with the next one
                    await self._database.run(self._ledger.clear)
        finally:
            await self._database.close()

    async def _delivered(self, items: Sequence[MappedRecord]) -> list[WriteResult]:
        """Write `items` in one transaction and return the results; repeat it if an assumption was wrong."""
        known, granted = self._table, self._all_new

        def on_rollback() -> None:
            self._undone(known)

        try:
            return await self._database.run(lambda connection: self._write(connection, items), on_rollback)
        except IntegrityError:
            if not granted:
                raise
        on_rollback()
        self._all_new = False
        return await self._database.run(lambda connection: self._write(connection, items), on_rollback)

    def _undone(self, known: SqlTable | None) -> None:
        """Discard what was created or remembered in a transaction that was rolled back."""
        self._table = known
        if self._ledger is not None:
            self._ledger.forget()

    def _lacks_keys(self, items: Sequence[MappedRecord]) -> bool:
        for name in self._key:
            values = [item.payload.get(name) for item in items]
            if None in values or "" in values:
                return True
        return False

    def _keyless(self, item: MappedRecord) -> WriteResult | None:
        for name in self._key:
            if item.payload.get(name) in (None, ""):
                message = f"the key `{name}` is empty" if name in item.payload else f"the key `{name}` is not mapped"
                return WriteResult(error=WriteError(ErrorClass.REJECTED, message, self._line(), field=name, sent=False))
        return None

    def _write(self, connection: Connection, items: Sequence[MappedRecord]) -> list[WriteResult]:
        if self._ledger is not None:
            return self._write_once(connection, items, self._ledger)
        known = self._table
        runs = _runs(items)
        table = self._ready(connection, runs)
        keys = table.keyed_by(self._key)
        if (texts := keys.as_texts(items)) is not items:
            items, runs = texts, _runs(texts)
        results = self._upsert(connection, table, runs, items, keys, is_known=table is known)
        return self._identify(connection, items, keys, results)

    def _upsert(
        self,
        connection: Connection,
        table: SqlTable,
        runs: Sequence[tuple[Shape, list[MappedRecord]]],
        items: Sequence[MappedRecord],
        keys: KeyNormalizer,
        *,
        is_known: bool,
    ) -> list[WriteResult]:
        """Write and delete `items`, in `runs` by shape; `is_known` if `table` was found by an earlier batch."""
        first, _ = runs[0]
        if self._all_new and is_known and len(runs) == 1 and first is not None:
            count = self._put(
                connection, partial(statements.build_insert, connection.dialect, table.name, first), first, items
            )
            _check_count(connection, count, items)
            return [_CREATED] * len(items)
        present = {keys.spelt(key) for key in self._rows_of(connection, items)}
        self._all_new = not present
        results: list[WriteResult] = []
        for columns, run in runs:
            if columns is None:
                statement = statements.build_delete(connection.dialect, table.name, self._key)
                connection.exec_driver_sql(statement, self._keys(run))
                present.difference_update(map(keys.spelt, self._keys(run)))
                results += [_DELETED] * len(run)
                continue
            if statements.matches_any_unique_key(connection.dialect) and len(table.keys) > 1:
                self._write_by_hand(
                    connection, columns, [(item, keys.spelt(self._key_of(item))) for item in run], present
                )
            else:
                upsert = partial(statements.build_upsert, connection.dialect, table.name, columns, self._key)
                count = self._put(connection, upsert, columns, run)
                if not set(columns) <= set(self._key):  # otherwise an existing row needs no update
                    _check_count(connection, count, run)
            results += _answers(map(keys.spelt, self._keys(run)), present)
        if table.folds and keys.exact:
            self._look_for_merged(connection, items, keys)
        return results

    def _identify(
        self, connection: Connection, items: Sequence[MappedRecord], keys: KeyNormalizer, results: list[WriteResult]
    ) -> list[WriteResult]:
        """Return `results` with the target id of rows whose key is not that of the record, and with row versions."""
        ids = self._key_texts(items)
        versions = self._read_versions(connection, items, keys) if self._row_version is not None else {}
        if ids == [item.key for item in items] and not versions:
            return results
        return [
            WriteResult(
                result.effect,
                target_id=target_id if target_id != item.key else None,
                version=None if item.delete else versions.get(keys.spelt(self._key_of(item))),
            )
            for result, item, target_id in zip(results, items, ids, strict=True)
        ]

    def _key_texts(self, items: Sequence[MappedRecord]) -> list[str]:
        """Return the keys of rows as text, like the keys of records."""
        if len(self._key) > 1:
            return [encode_canonical(list(key)).decode() for key in self._keys(items)]
        (name,) = self._key
        values = [item.payload[name] for item in items]
        return [value if type(value) is str else encode_canonical(value).decode() for value in values]

    def _read_versions(
        self, connection: Connection, items: Sequence[MappedRecord], keys: KeyNormalizer
    ) -> dict[Spelling, str]:
        """Return the row version of `items`, by normalized key, in the transaction that wrote them."""
        assert self._row_version is not None  # noqa: S101 - the caller checks it
        rows = self._rows_of(connection, items, (self._row_version,))
        return {keys.spelt(key): str(to_json(version)) for *key, version in rows if version is not None}

    def _look_for_merged(self, connection: Connection, items: Sequence[MappedRecord], keys: KeyNormalizer) -> None:
        """Raise `UnfitValue` if a row was written over the row of another key.

        Most collations of MySQL treat `a` as `A`, and nearly all ignore trailing spaces; so do CITEXT in PostgreSQL and
        NOCASE in SQLite.
        """
        last = {keys.spelt(self._key_of(item)): item for item in items}
        written = [item for item in last.values() if not item.delete]
        kept = {keys.spelt(key) for key in self._rows_of(connection, written)}
        for key, item in last.items():
            if not item.delete and key not in kept:
                shown = ", ".join(map(str, self._key_of(item)))
                raise UnfitValue(
                    self._key[0], f"the database treats the key '{shown}' as equal to another existing key"
                )

    def _put(
        self,
        connection: Connection,
        statement: Callable[[int], str],
        columns: tuple[str, ...],
        items: Sequence[MappedRecord],
    ) -> int:
        """Write the `columns` of `items` with the `statement` for that many rows. Return the affected rows."""
        width = len(columns)
        most = max(1, statements.get_max_parameters(connection) // width) if width else 1
        cells = _cells(chain.from_iterable([item.payload.values() for item in items]))
        done = counted = 0
        for count in _ROWS:
            last = done + (len(items) - done) // count * count if count <= most else done
            rows = [cells[at * width : (at + count) * width] for at in range(done, last, count)]
            if rows:
                result = connection.exec_driver_sql(statement(count), rows, {"preserve_rowcount": True})
                counted += result.rowcount
            done = last
        return counted

    def _write_once(self, connection: Connection, items: Sequence[MappedRecord], ledger: Ledger) -> list[WriteResult]:
        """Append `items`, except those that a killed run already inserted."""
        missing = ledger.missing(connection, items)
        if missing:
            runs = _runs(missing)
            table = self._ready(connection, runs)
            for columns, run in runs:
                append = partial(statements.build_append, connection.dialect, table.name, columns or ())
                self._put(connection, append, columns or (), run)
            ledger.add(connection, missing)
        return [_CREATED] * len(items)

    def _write_by_hand(
        self,
        connection: Connection,
        columns: tuple[str, ...],
        items: Sequence[tuple[MappedRecord, Spelling]],
        present: set[Spelling],
    ) -> None:
        """Update existing rows and insert new ones, where the database's upsert would match any unique key.

        MySQL's would update the row of another key with the same e-mail address and report success.
        """
        seen = set(present)
        for item, key in items:
            row = _cells(item.payload.values())
            if key in seen:
                statement = statements.build_update(connection.dialect, self._name, columns, self._key)
                connection.exec_driver_sql(statement, (*row, *_cells(self._key_of(item))))
            else:
                connection.exec_driver_sql(statements.build_append(connection.dialect, self._name, columns, 1), row)
            seen.add(key)

    def _ready(self, connection: Connection, runs: Sequence[tuple[Shape, list[MappedRecord]]]) -> SqlTable:
        """Return the table, with a column for every field in `runs`."""
        table = self._table or SqlTable.find(connection, self._name)
        if table is None:
            if not self._create_table:
                near = suggest_table(connection, self._name)
                raise BadResponse(
                    f"{self._database.name}: there is no table '{self._name}'{near}",
                    hint="Correct its name, make it, or set `create_table: true` to have it made.",
                )
            self._report(Level.INFO, create_table(connection, self._name, self._key, _records(runs), self._kinds))
            table = SqlTable.find(connection, self._name)
            assert table is not None  # noqa: S101 - just made
        if self._key and frozenset(self._key) not in table.keys:
            names = ", ".join(self._key)
            raise BadResponse(
                f"{self._database.name}: an upsert into {table.name} needs a primary key or unique index on {names}",
                hint=statements.build_unique_index(connection.dialect, table.name, self._key),
            )
        missing = table.missing(dict.fromkeys(column for columns, _ in runs for column in columns or ()))
        if missing:
            if not self._create_table:
                raise build_no_column_error(table, missing)
            self._report(Level.INFO, add_columns(connection, table.name, missing, _records(runs), self._kinds))
            table = SqlTable.find(connection, self._name) or table
        self._check_row_version(connection, table)
        if self._longest is None:
            self._longest = statements.get_max_statement_size(connection)
        for columns, run in runs:
            _check_length(self._longest, run)
            check_values(table, columns or (), run)
        self._table = table
        return table

    def _check_row_version(self, connection: Connection, table: SqlTable) -> None:
        """Raise `BadResponse` if the table has no column of the row version."""
        if self._row_version is None or table is self._table:
            return
        is_system_column = connection.dialect.name == "postgresql" and self._row_version in _SYSTEM_COLUMNS
        if not is_system_column and (missing := table.missing([self._row_version])):
            raise build_no_column_error(table, missing)

    def _rows_of(
        self, connection: Connection, items: Sequence[MappedRecord], columns: tuple[str, ...] = ()
    ) -> set[tuple[object, ...]]:
        """Return the keys of `items` that have a row, as stored in the row, with the values of `columns`."""
        found: set[tuple[object, ...]] = set()
        for at in range(0, len(items), _LOOK):
            keys = self._keys(items[at : at + _LOOK])
            statement = statements.build_key_query(connection.dialect, self._name, self._key, len(keys), columns)
            found.update(map(tuple, connection.exec_driver_sql(statement, tuple(chain.from_iterable(keys)))))
        return found

    def _keys(self, items: Sequence[MappedRecord]) -> list[tuple[Json, ...]]:
        if len(self._key) == 1:
            (name,) = self._key
            return [(item.payload[name],) for item in items]
        return list(map(self._key_of, items))

    def _key_of(self, item: MappedRecord) -> tuple[Json, ...]:
        return tuple([item.payload[name] for name in self._key])

    def _refusal(
        self, error: DBAPIError | OverflowError | UnicodeError | UnfitValue, items: Sequence[MappedRecord]
    ) -> WriteError:
        """Return the write error for a failed batch.

        Raise `BadResponse` if no other row would succeed, and `Unreachable` for a full disk.
        """
        text = self._database.redactor.redact(get_error_message(error))
        if self._database.kind.is_full(error, text):
            hint = "Make room; the next run goes on from here."
            raise Unreachable(f"{self._line()}: {text}", request=self._line(), hint=hint) from None
        passing = self._database.kind.passes(error, text)
        if not (passing or isinstance(error, UnfitValue) or self._database.kind.blames_a_row(error)):
            raise BadResponse(f"{self._line()}: {text}", request=self._line()) from None
        return WriteError(
            error_class=ErrorClass.SERVER if passing else ErrorClass.REJECTED,
            message=text,
            request=f"{self._line()} ({len(items)} rows)",
            response=text,
            field=error.column
            if isinstance(error, UnfitValue)
            else find_blamed_column(error, text, list(items[0].payload)),
            sent=False,  # the transaction was rolled back, so nothing was written
        )

    def _line(self) -> str:
        return f"{'UPSERT' if self._key else 'INSERT'} {self._name} at {self._database.name}"


def _shape(item: MappedRecord) -> Shape:
    """Return the properties that records of one statement share."""
    return None if item.delete else tuple(item.payload)


def _runs(items: Sequence[MappedRecord]) -> list[tuple[Shape, list[MappedRecord]]]:
    """Return `items` in order, grouped by shape."""
    return [(shape, list(run)) for shape, run in groupby(items, key=_shape)]


def _answers(keys: Iterable[Spelling], present: set[Spelling]) -> list[WriteResult]:
    """Return the results of written items, whose keys are `present` from now on."""
    results: list[WriteResult] = []
    for key in keys:
        results.append(_UPDATED if key in present else _CREATED)
        present.add(key)
    return results


def _check_count(connection: Connection, count: int, items: Sequence[MappedRecord]) -> None:
    """Raise `UnfitValue` if fewer rows were written than `items`. MySQL counts differently, and skips none."""
    if count < len(items) and not statements.matches_any_unique_key(connection.dialect):
        missing = len(items) - count
        raise UnfitValue(
            None, f"the database left out {missing} of {len(items)} rows and gave no reason; a trigger may skip rows"
        )


def _check_length(longest: float, items: Sequence[MappedRecord]) -> None:
    """Raise `UnfitValue` for a record that exceeds the statement size, which would lose the connection."""
    if longest == inf:
        return
    for item in items:
        size = len(encode(item.payload))
        if size > longest:
            column = max(item.payload, key=lambda name: len(encode(item.payload[name])))
            raise UnfitValue(
                column,
                f"it is {size:,} bytes long, and the server takes {longest:,} (max_allowed_packet)",
            )


def _records(runs: Sequence[tuple[Shape, list[MappedRecord]]]) -> list[Record]:
    return [item.payload for shape, run in runs if shape is not None for item in run]


def _cells(values: Iterable[Json]) -> tuple[Cell, ...]:
    """Return `values` for the driver: values that are not scalar as JSON."""
    values = tuple(values)
    if _NESTED.isdisjoint(map(type, values)):
        return values  # type: ignore[return-value]  # just looked at
    return tuple([encode(value).decode() if isinstance(value, dict | list) else value for value in values])
