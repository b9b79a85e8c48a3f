"""Reading rows: pages by key, so that each is found at once and none is skipped when others come and go.

The mark of an incremental read is the largest value of the `since` field that the table held when the read began: what
changes while it reads is at or after that, and is read again.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from typing import TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from speclab.connectors.base import Page, Seams
from speclab.connectors.jsontext import as_json, encode, encode_sorted
from speclab.connectors.references import References
from speclab.connectors.since import Mark, Scalar, Uncomparable, Watermark, earlier, no_more_than
from speclab.connectors.sql import statements
from speclab.connectors.sql.database import Database
from speclab.connectors.sql.tables import Table, nearest_table
from speclab.errors import BadAnswer, SpecError
from speclab.jsonvalue import Json, Record
from speclab.outcome import Level
from speclab.paths import FieldPath
from speclab.spec.auth import Auth
from speclab.spec.names import meant
from speclab.spec.settings import RetrySettings
from speclab.spec.systems.sql import SqlSystem

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a read stands: the mark it asks from, how far it got, the ceiling it began with, and the last key."""

    before: Mark | None
    full: bool
    reached: Mark | None = None
    ceiling: Scalar | None = None
    after: list[Json] | None = None


class SqlReader:
    """Reads one table or query in the order of its key."""

    def __init__(
        self, system: SqlSystem, auth: Auth, references: References, seams: Seams, retry: RetrySettings
    ) -> None:
        """A reader for settings as the spec has them. Raises `SpecError` for those that cannot work."""
        del auth, retry  # credentials stand in the URL, and a file either opens or does not
        system = references.resolve_settings(system)
        if system.read is None:
            raise SpecError("a sql source needs `read`, such as `read: {table: contacts}`")
        self._read = system.read
        self._since = system.read.since
        self._key = [system.key] if isinstance(system.key, str) else list(system.key)
        self._database = Database(system.url, references, system.limits, writes=False)
        self._report = seams.report
        asked = self._since.model_dump(mode="json", include={"field", "start", "lookback"}) if self._since else None
        described: dict[str, Json] = {
            "table": self._read.table,
            "query": self._read.query,
            "key": [*self._key],
            "since": asked,
        }
        self._fingerprint = hashlib.blake2b(encode_sorted(described), digest_size=6).hexdigest()

    async def pages(self, cursor: Json, *, full: bool) -> AsyncIterator[Page]:
        """Pages from after `cursor` to the end."""
        place = self._begin(cursor, full=full)
        from_start = place.after is None and (place.full or place.before is None)
        whole = place.full or self._since is None or (place.before is None and self._since.start is None)
        await self._ask(self._check)
        if self._since is not None and place.ceiling is None:
            place = replace(place, ceiling=await self._ask(self._highest))
        watermark = self._watermark(place)
        complete = False
        while not complete:
            rows = await self._page(place)
            complete = len(rows) <= self._read.size
            rows = rows[: self._read.size]
            try:
                fresh = watermark.take(rows) if watermark else rows
            except Uncomparable as error:
                raise BadAnswer(f"{self._line()}: {error}", request=self._line()) from None
            after = [rows[-1][name] for name in self._key] if rows else place.after
            place = replace(place, after=after, reached=watermark.reached() if watermark else None)
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
        """Where `cursor` says to begin: after a key if a read of the same rows was broken off, else anew."""
        held = cursor if isinstance(cursor, dict) else {}
        same_field = self._since is not None and held.get("field") == self._since.field
        before = Mark.load(held.get("since")) if same_field else None
        after, was_full = held.get("after"), held.get("full") is True
        if not isinstance(after, list) or held.get("of") != self._fingerprint or (full and not was_full):
            return _Place(None if full else before, full)
        ceiling = held.get("ceiling")
        known = ceiling if same_field and isinstance(ceiling, str | int | float) else None
        return _Place(before, was_full, Mark.load(held.get("reached")), known, after)

    def _cursor(self, place: _Place, *, complete: bool) -> Json:
        reached = place.reached.dump() if place.reached else None
        field = self._since.field if self._since else None
        if complete:
            return {"after": None, "since": reached, "field": field}
        return {
            "after": place.after,
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
        ceiling = no_more_than(place.ceiling)
        return Watermark(FieldPath((self._since.field,)), ceiling, before=place.before, reached=place.reached)

    async def _page(self, place: _Place) -> list[Record]:
        """The rows after `place`, and one more if there is one. Raises `BadAnswer` where keys are no keys."""
        rows = await self._ask(lambda connection: self._rows(connection, place))
        size = self._read.size
        if len(rows) > size:
            last, following = ([rows[at][name] for name in self._key] for at in (size - 1, size))
            if last == following or None in last:
                key, value = ", ".join(self._key), "NULL" if None in last else last
                raise BadAnswer(
                    f"{self._line()}: more than one row has {value} as its key {key}, so pages cannot go by it",
                    request=self._line(),
                    hint="Give `key` the columns that are unique together.",
                )
        return rows

    async def _ask(self, work: Callable[[Connection], R]) -> R:
        try:
            return await self._database.run(work)
        except DBAPIError as error:
            text = self._database.redactor.redact(str(error.orig))
            raise BadAnswer(f"{self._line()}: {text}", request=self._line(), hint="Check `read`.") from None

    def _check(self, connection: Connection) -> None:
        """Look whether the table and the columns the settings name are there."""
        if self._read.table is not None:
            table = Table.find(connection, self._read.table)
            if table is None:
                near = nearest_table(connection, self._read.table)
                raise BadAnswer(f"{self._database.name}: there is no table '{self._read.table}'{near}")
            columns = frozenset(table.columns)
        else:
            nothing = connection.exec_driver_sql(statements.first(self._source(connection), 0))
            columns = frozenset(nothing.keys())
        for name in [*self._key, *([self._since.field] if self._since else [])]:
            if name not in columns:
                raise BadAnswer(f"{self._line()}: there is no column '{name}'{meant(name, columns)}")

    def _highest(self, connection: Connection) -> Scalar | None:
        field = self._since.field if self._since else ""
        value = connection.exec_driver_sql(
            statements.highest(connection.dialect, self._source(connection), field)
        ).scalar()
        value = as_json(value)
        return value if isinstance(value, str | int | float) else None

    def _rows(self, connection: Connection, place: _Place) -> list[Record]:
        start = self._start(place)
        statement = statements.page(
            connection.dialect,
            self._source(connection),
            self._key,
            since=self._since.field if self._since and start is not None else None,
            after=place.after is not None,
            limit=self._read.size + 1,
        )
        values = [*([start] if start is not None else []), *(place.after or [])]
        result = connection.exec_driver_sql(statement, tuple(values))
        columns = list(result.keys())
        return [dict(zip(columns, map(as_json, row), strict=True)) for row in result]

    def _start(self, place: _Place) -> Scalar | None:
        """The least value of the `since` field that is asked for; None where all are."""
        if self._since is None or place.full:
            return None
        if place.before is None:
            return self._since.start
        try:
            return earlier(place.before.value, self._since.lookback)
        except Uncomparable as error:
            raise SpecError(f"read.since: {error}") from None

    def _source(self, connection: Connection) -> str:
        if self._read.table is not None:
            return statements.named(connection.dialect, self._read.table)
        return statements.subquery(connection.dialect, self._read.query or "")

    def _line(self) -> str:
        return f"SELECT {self._read.table or 'query'} at {self._database.name}"
