"""Settings of a SQL database."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import ceil
from pathlib import Path
from typing import Final
from urllib.parse import parse_qsl

from pydantic import Field, StrictBool, model_validator

from speclab.core.paths import FieldPath
from speclab.spec.reach import Reach, ReachKind, find_outside
from speclab.spec.settings import Limited, Missing, Settings, Since
from speclab.spec.settings_types import Columns, DatabaseUrl, Text, conflict

_PLACE: Final = re.compile(r"([\w+]+://)(?:[^:/@]*(?::[^@]*)?@)?([^?]*)")
"""A database URL, whose password may contain `/` or `#`; the groups exclude credentials and query."""

_ALIASES: Final = {"postgres": "postgresql"}
_PATHS: Final = frozenset(
    {"sslrootcert", "sslcert", "sslkey", "sslcrl", "ssl_ca", "ssl_cert", "ssl_key", "ssl_capath", "unix_socket"}
)
"""URL options that are paths on this machine."""
_MYSQL: Final = frozenset(
    {"charset", "collation", "connect_timeout", "program_name", "read_timeout", "unix_socket", "write_timeout"}
    | {"ssl_ca", "ssl_capath", "ssl_cert", "ssl_check_hostname", "ssl_cipher", "ssl_disabled", "ssl_key"}
    | {"ssl_verify_cert", "ssl_verify_identity"}
)
URL_OPTIONS: Final[Mapping[str, frozenset[str]]] = {
    "sqlite": frozenset(),
    "postgresql": frozenset(
        {"application_name", "channel_binding", "client_encoding", "connect_timeout", "gssencmode", "host"}
        | {"keepalives", "keepalives_count", "keepalives_idle", "keepalives_interval", "options", "require_auth"}
        | {"sslcert", "sslcrl", "sslkey", "sslmode", "sslrootcert", "ssl_min_protocol_version"}
        | {"target_session_attrs", "tcp_user_timeout"}
    ),
    "mysql": _MYSQL,
    "mariadb": _MYSQL,
}
"""The options allowed in the query of a URL, by database.

Options are excluded that hand a file or a password of this machine to the server (`local_infile`, `passfile`,
`read_default_file`), run statements (`init_command`), or send the connection elsewhere (`service`, `hostaddr`).
"""


def explain_disallowed_option(database: str, names: Iterable[str]) -> str:
    """Return why one of the options `names` is not allowed in a URL of `database`; empty if all are."""
    allowed = URL_OPTIONS.get(database)
    refused = sorted(set(names) - allowed) if allowed is not None else []
    if not refused:
        return ""
    expected = f"expected one of {', '.join(sorted(allowed))}" if allowed else f"a {database} URL has no options"
    return f"the option {refused[0]!r} is not allowed in a database URL; {expected}"


def _options(url: str) -> list[tuple[str, str]]:
    """Return the options in the query of `url`."""
    place = _PLACE.match(url)
    return parse_qsl(url[place.end() + 1 :], keep_blank_values=True) if place else []


class SqlRead(Settings):
    """Read settings of a source database."""

    table: Text | None = Field(default=None, description="Table to read.")
    query: Text | None = Field(default=None, description="SELECT statement, instead of `table`.")
    since: Since | None = Field(default=None, description="Incremental read.")
    size: int = Field(default=5000, ge=1, description="Number of rows per page.")
    missing: Missing = "keep"

    @model_validator(mode="after")
    def _check_source(self) -> SqlRead:
        if self.table is None and self.query is None:
            raise conflict("expected `table` or `query`")
        if self.table is not None and self.query is not None:
            raise conflict("expected one of `table` and `query`, not both", at="query")
        return self


class SqlWrite(Settings):
    """Write settings of a target database."""

    upsert: Text | None = Field(default=None, description="Table to write to by key.")
    insert: Text | None = Field(default=None, description="Table to append to.")
    size: int = Field(default=500, ge=1, description="Maximum number of rows per statement.")
    create_table: StrictBool = Field(default=False, description="Whether to create a missing table from the mapping.")
    row_version: Text | None = Field(
        default=None,
        description="Column with the version of a row, such as `xmin` in PostgreSQL, which the run log keeps.",
    )

    @model_validator(mode="after")
    def _check_table(self) -> SqlWrite:
        if self.upsert is None and self.insert is None:
            raise conflict("expected `upsert` or `insert`")
        if self.upsert is not None and self.insert is not None:
            raise conflict("expected one of `upsert` and `insert`, not both", at="insert")
        if self.row_version is not None and self.upsert is None:
            raise conflict("`row_version` needs `upsert`: inserted rows are not identified", at="row_version")
        return self


class SqlSystem(Limited):
    """A SQL database."""

    url: DatabaseUrl = Field(
        description="Database URL as in SQLAlchemy, or a plain postgresql:// or mysql:// URL.",
        json_schema_extra={"login": True},
    )
    key: Columns = Field(description="Column that identifies a row, or a list of columns.")
    read: SqlRead | None = Field(default=None, description="Read settings of a source.")
    write: SqlWrite | None = Field(default=None, description="Write settings of a target.")

    @model_validator(mode="after")
    def _check_options(self) -> SqlSystem:
        name = self.url.partition(":")[0].partition("+")[0]
        names = [name for name, _ in _options(self.url)]
        if reason := explain_disallowed_option(_ALIASES.get(name, name), names):
            raise conflict(reason, at="url")
        return self

    def destination(self) -> str:
        """Return the URL of the database and the table."""
        table = (self.write.upsert or self.write.insert) if self.write else None
        place = _PLACE.match(self.url)
        return f"sql {(place[1] + place[2]).rstrip('/') if place else ''} {table}"

    def origin(self) -> str:
        """Return the database and the table or query."""
        return f"{self.destination()} {self.read.table or self.read.query}" if self.read else self.destination()

    def always_creates(self) -> bool:
        """Return whether rows are inserted, not upserted."""
        return self.write is not None and self.write.insert is not None

    def count_calls(self, writes: int, deletes: int, batch: int) -> int:
        """Return the number of statements."""
        size = self.write.size if self.write else batch
        return ceil(writes / size) + ceil(deletes / size)

    def find_reaches(self, role: str, workspace: Path) -> Iterator[Reach]:
        """Yield the database and the files in its options; for SQLite, a file outside of the workspace."""
        place = _PLACE.match(self.url)
        if place is None:  # a single reference, which is listed elsewhere
            return
        if place[1].startswith("sqlite"):
            for path in find_outside(place[2].removeprefix("/"), workspace):
                yield Reach(role, ReachKind.PATH, path)
            return
        yield Reach(role, ReachKind.DATABASE, place[1] + place[2].rstrip("/"))
        for name, value in _options(self.url):
            if name in _PATHS:
                for path in find_outside(value, workspace):
                    yield Reach(role, ReachKind.PATH, path)
            elif name == "host":
                yield Reach(role, ReachKind.HOST, value)

    def deletes_missing(self) -> bool:
        """Return whether `read.missing` is `delete`."""
        return self.read is not None and self.read.missing == "delete"

    def explain_no_delete(self) -> str:
        """Return a reason if rows are inserted, not upserted."""
        inserts = self.write is not None and self.write.insert is not None
        return "inserted rows cannot be deleted; use `upsert`" if inserts else ""

    def get_required_paths(self) -> Mapping[tuple[str, ...], Sequence[FieldPath]]:
        """Return the key if rows are upserted."""
        return {("key",): self.get_delete_paths()} if self.write is not None and self.write.upsert is not None else {}

    def get_key_paths(self) -> Sequence[FieldPath]:
        """Return the columns of the key."""
        return [FieldPath((column,)) for column in ([self.key] if isinstance(self.key, str) else self.key)]
