"""The databases that are spoken, and what differs among them: drivers, sessions, types, and what their errors mean."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import (
    ArgumentError,
    DatabaseError,
    DataError,
    DBAPIError,
    IntegrityError,
    InterfaceError,
    OperationalError,
    ProgrammingError,
)

from speclab.connectors.sql.settings import explain_disallowed_option
from speclab.core.errors import SpecError

_BLAMED: Final = (
    re.compile(r"constraint failed: (?:[^\s.,]+\.)?([^\s.,]+)"),  # SQLite
    re.compile(r"cannot store \w+ value in \w+ column [^\s.]+\.(\S+)"),
    re.compile(r'column "([^"]+)"'),  # PostgreSQL
    re.compile(r"Key \(([^),]+)\)="),
    re.compile(r'relation "(?P<table>[^"]+)" violates check constraint "(?P=table)_([^"]+)_check\d*"'),
    re.compile(r"[Cc]olumn (?:`[^`]+`\.`[^`]+`\.)?['`]([^'`]+)['`]"),  # MySQL
    re.compile(r"[Ff]ield '([^']+)'"),
    re.compile(r"CONSTRAINT `[^`.]+\.([^`]+)` failed"),
    re.compile(r"FOREIGN KEY \(`([^`]+)`"),
    re.compile(r"for key '(?:[^'.]+\.)?(?!PRIMARY)([^']+)'"),
)
"""A column is the last group."""
_PARAMETER: Final = re.compile(r"parameter \$(\d+) =")  # PostgreSQL
_OF_A_ROW: Final = (IntegrityError, DataError, InterfaceError, ProgrammingError, OverflowError, UnicodeError)
"""Errors that are about what a row holds; any other is about the table or the database."""


@dataclass(frozen=True, slots=True)
class DatabaseKind:
    """One kind of database; `extra` is the one of speclab that brings its driver.

    `session` is said once a connection, `{seconds}` being those that a statement may take, and `read_only` besides
    where nothing is to be changed, not even by a function that a query calls. `key_text` and `text` are
    the types of columns made here. What an error code stands for (MySQL's number, else an SQLSTATE) is in `passing`,
    for what may be over soon, `full`, for a disk that is, and, where SQLAlchemy tells it otherwise, `of_a_row` and
    `of_no_row`. `options` are SQLAlchemy's.
    """

    driver: str
    options: Mapping[str, object] = field(default_factory=lambda: {"paramstyle": "format"})
    extra: str = ""
    session: tuple[str, ...] = ()
    read_only: tuple[str, ...] = ()
    text: str = "TEXT"
    key_text: str = "TEXT"
    passing: frozenset[str] = frozenset()
    full: frozenset[str] = frozenset()
    of_a_row: frozenset[str] = frozenset()
    of_no_row: frozenset[str] = frozenset()

    def passes(self, error: Exception, text: str) -> bool:
        """Whether `error`, in words `text`, is not the record's fault and may be over soon."""
        if not isinstance(error, OperationalError):
            return False
        return get_error_code(error) in self.passing or any(sign in text.lower() for sign in _PASSING)

    def is_full(self, error: Exception, text: str) -> bool:
        """Whether `error` is of a disk without room, for which no record is to blame."""
        if not isinstance(error, OperationalError):
            return False
        return get_error_code(error) in self.full or any(sign in text.lower() for sign in _FULL)

    def blames_a_row(self, error: Exception) -> bool:
        """Whether `error` is about what a row holds."""
        if not isinstance(error, DBAPIError):
            return isinstance(error, _OF_A_ROW)
        told = get_error_code(error)
        if told in self.of_no_row and _ROW_POLICY not in str(error.orig):
            return False
        # A code of no kind that the driver knows is the invention of a trigger.
        return isinstance(error, _OF_A_ROW) or told in self.of_a_row or (type(error) is DatabaseError and told != "")


_PASSING: Final = ("database is locked", "database table is locked", "busy")
_FULL: Final = ("disk is full", "disk i/o error")
"""What SQLite says, whose errors have no codes here."""
_ROW_POLICY: Final = "row-level security policy"
"""What PostgreSQL says of a row that a policy refuses, by the code of a privilege that is missing."""
_LOGIN: Final = re.compile(
    r"authentication failed|no password supplied|no pg_hba\.conf entry"
    r'|role ".*" does not exist|role ".*" is not permitted to log in'
    r"|permission denied for database|Access denied|is not allowed to connect|password has expired|ccount is locked"
)
_MYSQL: Final = DatabaseKind(
    driver="mysql+pymysql",
    extra="mysql",
    session=(
        # Without it a text that is too long is cut, and a number out of range another one, in silence.
        "SET SESSION sql_mode = CONCAT(@@sql_mode, ',STRICT_ALL_TABLES')",
        "SET SESSION innodb_lock_wait_timeout = {seconds}, SESSION lock_wait_timeout = {seconds}",
    ),
    read_only=("SET SESSION TRANSACTION READ ONLY",),
    text="LONGTEXT",
    key_text="VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin",  # any other takes `a` and `A` for one key
    passing=frozenset({"1040", "1203", "1205", "1213", "1317", "1969", "3024"}),
    full=frozenset({"1021", "1114"}),
    # Beside values of a wrong kind: too much for a page (1118), a key in letters that its column has not (1267), for no
    # partition (1526), refused by a trigger (1644).
    of_a_row=frozenset(
        {"1118", "1267", "1292", "1364", "1366", "1411", "1416", "1526", "1644", "1690", "3140", "3819", "4025", "4078"}
    ),
)
DATABASES: Final[Mapping[str, DatabaseKind]] = {
    "sqlite": DatabaseKind(
        driver="sqlite",
        options={},
        # Keys come in any order: with more of the index in memory, and pages moved from the log to their place once
        # in 16 MB and not in 4, a row costs a fifth less. Every commit is as durable as before.
        session=("PRAGMA cache_size = -12000", "PRAGMA wal_autocheckpoint = 4000"),
    ),
    "postgresql": DatabaseKind(
        driver="postgresql+psycopg",
        extra="postgresql",
        session=("SET statement_timeout = {seconds}000",),
        read_only=("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",),
        passing=frozenset({"40001", "40P01", "53200", "53300", "53400", "55P03", "57014"}),
        full=frozenset({"53100"}),
        of_a_row=frozenset({"54000", "P0001", "P0004"}),  # too much for an index; RAISE and ASSERT in a trigger
        of_no_row=frozenset({"42501", "42703", "42P01", "42P10"}),  # no leave, column, table or unique index
    ),
    "mysql": _MYSQL,
    "mariadb": _MYSQL,
}
_ALIASES: Final = {"postgres": "postgresql"}


def parse_database_url(text: str) -> URL:
    """The URL `text`, with the driver that is used here. Raises `SpecError`."""
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):  # the latter for a port
        raise SpecError("url is no database URL; expected one such as sqlite:///out/customers.db") from None
    name = _ALIASES.get(url.get_backend_name(), url.get_backend_name())
    if name not in DATABASES:
        raise SpecError(
            f"url: {name} is not spoken by this version; expected {', '.join(DATABASES)}",
            hint="A URL such as sqlite:///out/customers.db names a file in the workspace.",
        )
    if name != "sqlite" and "@" in f"{url.host}{url.database}":
        raise SpecError(
            "url has a second @, and only one can end its login", hint="Write %40 for an @ in the password."
        )
    if reason := explain_disallowed_option(name, url.query):
        raise SpecError(f"url: {reason}")
    return url.set(drivername=DATABASES[name].driver)


def get_database_kind(url: URL) -> DatabaseKind:
    """What kind of database `url`, as `parse_database_url` gives it, leads to."""
    return DATABASES[url.get_backend_name()]


def get_error_code(error: DBAPIError) -> str:
    """The code the database gives `error`: MySQL's number, else an SQLSTATE; empty where it has none."""
    first = error.orig.args[0] if error.orig is not None and error.orig.args else None
    if isinstance(first, int):
        return str(first)
    return getattr(error.orig, "sqlstate", None) or ""


def get_error_message(error: Exception) -> str:
    """What the database says, in one line."""
    orig = error.orig if isinstance(error, DBAPIError) else error
    if orig is not None and len(orig.args) == 2 and isinstance(orig.args[0], int):  # MySQL's (number, text)
        return " ".join(f"{orig.args[1]} ({orig.args[0]})".split())
    return " ".join(str(orig).split())


def refuses_login(text: str) -> bool:
    """Whether a database that says `text` refuses the credentials."""
    return _LOGIN.search(text) is not None


def find_blamed_column(error: Exception, text: str, columns: Sequence[str]) -> str | None:
    """The column that `error`, in words `text`, blames, where it tells one; `columns` are those of the row."""
    for pattern in _BLAMED:
        if found := pattern.search(text):
            return found[found.re.groups]
    parameter = _PARAMETER.search(text)
    writes = isinstance(error, DBAPIError) and (error.statement or "").startswith("INSERT")
    return columns[int(parameter[1]) - 1] if parameter and writes and int(parameter[1]) <= len(columns) else None
