"""The settings of a SQL database."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

from pydantic import Field, StrictBool, model_validator

from speclab.paths import FieldPath
from speclab.spec.kinds import Columns, DatabaseUrl, Text, misfit
from speclab.spec.settings import Settings
from speclab.spec.system import Limited, Missing, Since

_PLACE: Final = re.compile(r"([\w+]+://)(?:[^:/@]*(?::[^@]*)?@)?([^?]*)")
"""A URL as SQLAlchemy reads it, whose password may have a `/` or a `#`: without the login, and what follows a `?`."""


class SqlRead(Settings):
    """What is read from a database."""

    table: Text | None = Field(default=None, description="the table to read")
    query: Text | None = Field(default=None, description="a SELECT, instead of a table")
    since: Since | None = Field(default=None, description="read only what changed")
    size: int = Field(default=5000, ge=1, description="rows a page")
    missing: Missing = "keep"

    @model_validator(mode="after")
    def _one_source(self) -> SqlRead:
        if self.table is None and self.query is None:
            raise misfit("expected `table`, or `query`")
        if self.table is not None and self.query is not None:
            raise misfit("expected one of `table` and `query`, not both", at="query")
        return self


class SqlWrite(Settings):
    """How rows are written to a database."""

    upsert: Text | None = Field(default=None, description="the table to write, by key")
    insert: Text | None = Field(default=None, description="the table to append to")
    size: int = Field(default=500, ge=1, description="rows a statement")
    create_table: StrictBool = Field(default=False, description="make the table from the mapping if it is not there")

    @model_validator(mode="after")
    def _one_table(self) -> SqlWrite:
        if self.upsert is None and self.insert is None:
            raise misfit("expected `upsert`, or `insert`")
        if self.upsert is not None and self.insert is not None:
            raise misfit("expected one of `upsert` and `insert`, not both", at="insert")
        return self


class SqlSystem(Limited):
    """A SQL database."""

    url: DatabaseUrl = Field(
        description="SQLAlchemy URL, or a plain postgresql:// or mysql:// DSN", json_schema_extra={"login": True}
    )
    key: Columns = Field(description="column of a row's identity, or several")
    read: SqlRead | None = Field(default=None, description="how it is read, at the source")
    write: SqlWrite | None = Field(default=None, description="how it is written, at the target")

    def destination(self) -> str:
        """The URL of the database, and the table."""
        table = (self.write.upsert or self.write.insert) if self.write else None
        place = _PLACE.match(self.url)
        return f"sql {(place[1] + place[2]).rstrip('/') if place else ''} {table}"

    def deletes_missing(self) -> bool:
        """As `read.missing` says."""
        return self.read is not None and self.read.missing == "delete"

    def why_not_delete(self) -> str:
        """Rows that are inserted have no key to delete by."""
        inserts = self.write is not None and self.write.insert is not None
        return "rows that are inserted cannot be deleted; write them with `upsert`" if inserts else ""

    def needs(self) -> Mapping[tuple[str, ...], Sequence[FieldPath]]:
        """The key, to upsert by."""
        return {("key",): self.known_by()} if self.write is not None and self.write.upsert is not None else {}

    def known_by(self) -> Sequence[FieldPath]:
        """The columns of the key."""
        return [FieldPath((column,)) for column in ([self.key] if isinstance(self.key, str) else self.key)]
