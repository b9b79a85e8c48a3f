"""The SQL source: pages by key, so that each page is found by index and concurrent changes skip no row.

The bookmark of an incremental read is the largest value of the `since` field when the read began: rows that change
during the read are at or after it, and are read again.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias, TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from speclab.connectors.api import Page, Reader, RuntimeContext
from speclab.connectors.incremental import (
    Bookmark,
    IncomparableValues,
    Scalar,
    Watermark,
    build_value_ceiling,
    subtract_seconds,
)
from speclab.connectors.secrets.references import References
from speclab.connectors.sql import statements
from speclab.connectors.sql.database import Database
from speclab.connectors.sql.dialects import get_error_message
from speclab.connectors.sql.settings import SqlSystem
from speclab.connectors.sql.statements import Bound, dump_key, load_key, to_bound_value
from speclab.connectors.sql.tables import SqlTable, suggest_table
from speclab.core.errors import BadResponse, SpecError, Unreachable
from speclab.core.json import Json, Record, encode, encode_canonical, to_json
from speclab.core.outcome import Level
from speclab.core.paths import FieldPath
from speclab.core.text import format_suggestion
from speclab.spec.auth import Auth
from speclab.spec.settings import RetrySettings

R = TypeVar("R")
Key: TypeAlias = tuple[Bound, ...]


@dataclass(frozen=True, slots=True)
class _Place:
    """The position of a read: its bookmark, the largest value reached, the ceiling at the start, and the last key.

    `coming` is the key that was seen to follow.
    """

    before: Bookmark | None
    full: bool
    reached: Bookmark | None = None
    ceiling: Scalar | None = None
    after: Key | None = None
    coming: Key | None = None


@dataclass(frozen=True, slots=True)
class _Row:
    """A row, and its key as parameter values."""

    key: Key
    record: Record


class SqlReader(Reader):
    """Reads one table or query in the order of its key."""

    def __init__(
        self, system: SqlSystem, auth: Auth, references: References, context: RuntimeContext, retry: RetrySettings
    ) -> None:
        """Create a reader for settings as in the spec. Raise `SpecError` for settings that cannot work."""
        del auth  # the credentials are in the URL
        system = references.resolve_settings(system)
        if system.read is None:
            raise SpecError("a sql source needs `read`, such as `read: {table: contacts}`")
        self._read = system.read
        self._since = system.read.since
        self._key = [system.key] if isinstance(system.key, str) else list(system.key)
        self._loose = self._key  # columns of the key that may be NULL, as far as known
        self._listed: frozenset[str] = frozenset()
        self._database = Database(system.url, references, system.limits, context, retry, writes=False)
        self._report = context.report
        asked = self._since.model_dump(mode="json", include={"field", "start", "lookback"}) if self._since else None
        described: dict[str, Json] = {
            "table": self._read.table,
            "query": self._read.query,
            "key": [*self._key],
            "since": asked,
        }
        self._fingerprint = hashlib.blake2b(encode_canonical(described), digest_size=6).hexdigest()

    async def pages(self, cursor: Json, *, full: bool) -> AsyncIterator[Page]:
        """Yield pages after `cursor`."""
        place = self._begin(cursor, full=full)
        from_start = place.after is None and (place.full or place.before is None)
        whole = place.full or self._since is None or (place.before is None and self._since.start is None)
        await self._ask(self._check)
        if self._since is not None and place.ceiling is None:
            place = replace(place, ceiling=await self._ask(self._highest))
        watermark = self._watermark(place)
        complete = False
        while not complete:
            keyless, found = await self._page(place)
            complete = len(found) <= self._read.size
            taken, coming = found[: self._read.size], found[self._read.size :]
            rows = [*keyless, *(row.record for row in taken)]
            try:
                fresh = watermark.advance(rows) if watermark else rows
            except IncomparableValues as error:
                raise BadResponse(f"{self._line()}: {error}", request=self._line()) from None
            place = replace(
                place,
                after=taken[-1].key if taken else place.after,
                coming=coming[0].key if coming else None,
                reached=watermark.get_reached() if watermark else None,
            )
            yield Page(
                records=fresh,
                cursor=self._cursor(place, complete=complete),
                bytes_in=len(encode(rows)),
                request=self._line(),
                complete=complete,
                from_start=from_start,
                whole=whole,
            )
        if watermark is not None and watermark.missing and self._since is not None:
            self._report(
                Level.WARNING,
                f"{watermark.missing:,} rows have no `{self._since.field}`; only a full read finds those",
            )

    async def close(self) -> None:
        """Close the connection."""
        await self._database.close()

    def _begin(self, cursor: Json, *, full: bool) -> _Place:
        """Return the start position: after a key if a read of the same rows was interrupted, else the beginning."""
        held = cursor if isinstance(cursor, dict) else {}
        same_field = self._since is not None and held.get("field") == self._since.field
        before = Bookmark.load(held.get("since")) if same_field else None
        after, was_full = load_key(held.get("after")), held.get("full") is True
        if after is None or held.get("of") != self._fingerprint or (full and not was_full):
            return _Place(None if full else before, full)
        ceiling = held.get("ceiling")
        known = ceiling if same_field and isinstance(ceiling, str | int | float) else None
        return _Place(before, was_full, Bookmark.load(held.get("reached")), known, after, load_key(held.get("coming")))

    def _cursor(self, place: _Place, *, complete: bool) -> Json:
        reached = place.reached.dump() if place.reached else None
        field = self._since.field if self._since else None
        if complete:
            return {"after": None, "since": reached, "field": field}
        return {
            "after": dump_key(place.after or ()),
            "coming": dump_key(place.coming) if place.coming else None,
            "of": self._fingerprint,
            "full": place.full,
            "since": place.before.dump() if place.before else None,
            "field": field,
            "ceiling": place.ceiling,
            "reached": reached,
        }

    def _watermark(self, place: _Place) -> Watermark | None:
        if self._since is None or place.ceiling is None:
            return None
        ceiling = build_value_ceiling(place.ceiling)
        return Watermark(FieldPath((self._since.field,)), ceiling, before=place.before, reached=place.reached)

    async def _page(self, place: _Place) -> tuple[list[Record], list[_Row]]:
        """Return the rows after `place`, and one more if there is one; before the first, those without a key.

        Raise `BadResponse` for keys that are not unique or not ordered.
        """
        size = self._read.size
        keyless = await self._ask(lambda connection: self._keyless(connection, place)) if place.after is None else []
        if len(keyless) > size:
            raise self._no_key("more than one row has NULL")
        rows = await self._ask(lambda connection: self._rows(connection, place))
        if len(rows) > size and rows[size - 1].key == rows[size].key:
            raise self._no_key(f"more than one row has {_shown(rows[size].key)}")
        if place.after is not None and place.coming is not None and place.coming not in [row.key for row in rows]:
            await self._ask(lambda connection: self._check_order(connection, place.after or (), place.coming or ()))
        if rows and rows[0].key == place.after:
            raise self._no_key(f"the database has a row after {_shown(rows[0].key)} that shows the same")
        return keyless, rows

    def _no_key(self, why: str) -> BadResponse:
        return BadResponse(
            f"{self._line()}: {why} as its key {', '.join(self._key)}, so pages cannot use it",
            request=self._line(),
            hint="Give `key` the columns that are unique together. What is ordered otherwise than it compares, such as "
            "an ENUM, or text that is the same in capitals, is a key when a `query` makes other text or bytes of it.",
        )

    async def _ask(self, work: Callable[[Connection], R]) -> R:
        try:
            return await self._database.run(work, on_rollback=lambda: None)  # repeating a query is harmless
        except DBAPIError as error:
            text = self._database.redactor.redact(get_error_message(error))
            if self._database.kind.passes(error, text):
                hint = "The next run continues from the checkpoint."
                raise Unreachable(f"{self._line()}: {text}", request=self._line(), hint=hint) from None
            raise BadResponse(f"{self._line()}: {text}", request=self._line(), hint="Check `read`.") from None

    def _check(self, connection: Connection) -> None:
        """Check that the table and the columns of the settings exist."""
        if self._read.table is not None:
            table = SqlTable.find(connection, self._read.table)
            if table is None:
                near = suggest_table(connection, self._read.table)
                raise BadResponse(f"{self._database.name}: there is no table '{self._read.table}'{near}")
            columns = frozenset(table.columns)
            self._loose = [name for name in self._key if name in table.loose]
            self._listed = table.listed
        else:
            nothing = connection.exec_driver_sql(statements.build_sample_query(self._source(connection), 0))
            columns = frozenset(nothing.keys())
        for name in [*self._key, *([self._since.field] if self._since else [])]:
            if name not in columns:
                raise BadResponse(f"{self._line()}: there is no column '{name}'{format_suggestion(name, columns)}")

    def _highest(self, connection: Connection) -> Scalar | None:
        field = self._since.field if self._since else ""
        value = connection.exec_driver_sql(
            statements.build_max_query(connection.dialect, self._source(connection), field)
        ).scalar()
        converted = to_json(value)
        if isinstance(value, bytes) or not (converted is None or isinstance(converted, str | int | float)):
            kind = "bytes" if isinstance(value, bytes) else type(value).__name__
            raise BadResponse(f"{self._line()}: `{field}` holds {kind}; expected times or numbers in the `since` field")
        return converted

    def _rows(self, connection: Connection, place: _Place) -> list[_Row]:
        start = self._start(place)
        statement, values = statements.build_page_query(
            connection.dialect,
            self._source(connection),
            self._terms(connection),
            loose=self._loose,
            since=self._since.field if self._since and start is not None else None,
            after=place.after,
            limit=self._read.size + 1,
        )
        return self._found(connection, statement, [*([start] if start is not None else []), *values])

    def _found(self, connection: Connection, statement: str, values: Sequence[Bound]) -> list[_Row]:
        result = connection.exec_driver_sql(statement, tuple(values))
        columns = list(result.keys())
        at = [columns.index(name) for name in self._key]
        return [
            _Row(
                tuple([to_bound_value(row[index], connection.dialect) for index in at]),
                dict(zip(columns, map(to_json, row), strict=True)),
            )
            for row in result
        ]

    def _terms(self, connection: Connection) -> list[str]:
        return [
            statements.build_order_term(connection.dialect, name, listed=name in self._listed) for name in self._key
        ]

    def _keyless(self, connection: Connection, place: _Place) -> list[Record]:
        """Return the rows without a key, which are reported as such: they have no place in the order."""
        if not self._loose:
            return []
        start = self._start(place)
        statement = statements.build_null_key_query(
            connection.dialect,
            self._source(connection),
            self._loose,
            since=self._since.field if self._since and start is not None else None,
            limit=self._read.size + 1,
        )
        return [row.record for row in self._found(connection, statement, [] if start is None else [start])]

    def _check_order(self, connection: Connection, after: Key, coming: Key) -> None:
        """Check the expected next row: if it exists and is not after its predecessor, their keys are equal."""
        statement, values = statements.build_order_check(
            connection.dialect, self._source(connection), self._terms(connection), after, coming
        )
        if coming in [row.key for row in self._found(connection, statement, values)]:
            raise self._no_key(f"{_shown(coming)} follows {_shown(after)} and the database treats them as equal")

    def _start(self, place: _Place) -> Scalar | None:
        """Return the lower bound of the `since` field; None if all rows are requested."""
        if self._since is None or place.full:
            return None
        if place.before is None:
            return self._since.start
        try:
            return subtract_seconds(place.before.value, self._since.lookback)
        except IncomparableValues as error:
            raise SpecError(f"read.since: {error}") from None

    def _source(self, connection: Connection) -> str:
        if self._read.table is not None:
            return statements.quote_table(connection.dialect, self._read.table)
        return statements.build_subquery(connection.dialect, self._read.query or "")

    def _line(self) -> str:
        return f"SELECT {self._read.table or 'query'} at {self._database.name}"


def _shown(key: Key) -> str:
    return str(dump_key(key))
