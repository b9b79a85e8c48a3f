"""Exactly-once inserts: idempotency keys, stored in the transaction of their rows.

A run that is killed between the commit in the database and the commit in the run log sends the page again. Without a
key to update by, its rows would be inserted twice. The table `speclab_delivered`, beside the target, stores the last
delivery of each record since the last page in the run log: usually one page of rows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Final

from sqlalchemy import Connection, inspect
from sqlalchemy.exc import DBAPIError

from speclab.connectors.api import MappedRecord
from speclab.connectors.sql import statements
from speclab.connectors.sql.dialects import get_error_message
from speclab.core.errors import BadResponse

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
