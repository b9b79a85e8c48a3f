"""What makes an insert happen once: the idempotency keys of the page in hand, kept in the transaction of its rows.

A run that is killed between the database's commit and its own books sends the page again. Without a key to update by,
its rows would be there twice; so the table `speclab_delivered`, beside the target, says what came last of each record.
It holds what came since the last page that is in the run log, which is a page of rows and seldom more.
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
    """The ledger of one spec. What is remembered is what the database has committed, once a batch has gone well."""

    def __init__(self) -> None:
        self.spec_id = ""
        self._known: dict[str, str] | None = None
        self._done = False

    def acknowledge(self) -> None:
        """All that was delivered is in the run log, and the next run goes on after it."""
        self._done = True

    def forget(self) -> None:
        """Look anew at what the database holds: a transaction was rolled back."""
        self._known = None

    def missing(self, connection: Connection, items: Sequence[MappedRecord]) -> list[MappedRecord]:
        """Those of `items` that are not there already. Raises `BadResponse` without a ledger."""
        if self._known is None:
            self._known = self._load(connection)
        self.clear(connection)
        known = self._known
        return [item for item in items if known.get(_digest(item.key)) != item.idempotency_key]

    def clear(self, connection: Connection) -> None:
        """Forget what is acknowledge, if anything is."""
        if not self._done:
            return
        if self._known:
            statement = statements.build_delete(connection.dialect, NAME, _COLUMNS[:1])
            connection.exec_driver_sql(statement, (self.spec_id,))
            self._known.clear()
        self._done = False

    def add(self, connection: Connection, items: Sequence[MappedRecord]) -> None:
        """Remember that `items` are there, in the transaction that puts them there."""
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
    """A record's key, of whatever length, as the ledger has it."""
    return hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
