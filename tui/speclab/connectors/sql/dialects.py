"""SQL dialects: SQLite, PostgreSQL and MySQL."""

from __future__ import annotations

import ipaddress
import re
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

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

if TYPE_CHECKING:
    from pymysql.connections import Connection

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
"""The last group is the column."""
_PARAMETER: Final = re.compile(r"parameter \$(\d+) =")  # PostgreSQL
_OF_A_ROW: Final = (IntegrityError, DataError, InterfaceError, ProgrammingError, OverflowError, UnicodeError)
"""Errors caused by the values of a row; all others concern the table or the database."""


@dataclass(frozen=True, slots=True)
class DatabaseKind:
    """One kind of database; `extra` is speclab's extra that installs its driver.

    `session` is executed once per connection, with the statement timeout as `{seconds}`; `read_only` follows where
    nothing may change, not even through a function that a query calls. `key_text` and `text` are column types of new
    tables. Error codes (MySQL's number, else an SQLSTATE) are in `passing` if a retry may help, in `full` for a full
    disk, and in `of_a_row` or `of_no_row` where SQLAlchemy classifies them differently. `options` are SQLAlchemy's.
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
        """Whether a retry may help against `error`, whose message is `text`."""
        if not isinstance(error, OperationalError):
            return False
        return get_error_code(error) in self.passing or any(sign in text.lower() for sign in _PASSING)

    def is_full(self, error: Exception, text: str) -> bool:
        """Whether `error` reports a full disk, which is not caused by a record."""
        if not isinstance(error, OperationalError):
            return False
        return get_error_code(error) in self.full or any(sign in text.lower() for sign in _FULL)

    def blames_a_row(self, error: Exception) -> bool:
        """Whether `error` is caused by the values of a row."""
        if not isinstance(error, DBAPIError):
            return isinstance(error, _OF_A_ROW)
        code = get_error_code(error)
        if code in self.of_no_row and _ROW_POLICY not in str(error.orig):
            return False
        # A trigger raised a code that the driver does not know.
        return isinstance(error, _OF_A_ROW) or code in self.of_a_row or (type(error) is DatabaseError and code != "")


_PASSING: Final = ("database is locked", "database table is locked", "busy")
_FULL: Final = ("disk is full", "disk i/o error")
"""Messages of SQLite, whose errors have no codes here."""
_ROW_POLICY: Final = "row-level security policy"
"""Message of PostgreSQL for a row that a policy rejects; its code is that of a missing privilege."""
_LOGIN: Final = re.compile(
    r"authentication failed|no password supplied|no pg_hba\.conf entry"
    r'|role ".*" does not exist|role ".*" is not permitted to log in'
    r"|permission denied for database|Access denied|is not allowed to connect|password has expired|ccount is locked"
)
_MYSQL: Final = DatabaseKind(
    driver="mysql+pymysql",
    extra="mysql",
    session=(
        # Without it, MySQL truncates long texts and clips numbers silently.
        "SET SESSION sql_mode = CONCAT(@@sql_mode, ',STRICT_ALL_TABLES')",
        "SET SESSION innodb_lock_wait_timeout = {seconds}, SESSION lock_wait_timeout = {seconds}",
    ),
    read_only=("SET SESSION TRANSACTION READ ONLY",),
    text="LONGTEXT",
    key_text="VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin",  # others fold `a` and `A` into one key
    passing=frozenset({"1040", "1203", "1205", "1213", "1317", "1969", "3024"}),
    full=frozenset({"1021", "1114"}),
    # Besides wrong types: too large for a page (1118), a key with unsupported characters (1267), no
    # partition (1526), rejected by a trigger (1644).
    of_a_row=frozenset(
        {"1118", "1267", "1292", "1364", "1366", "1411", "1416", "1526", "1644", "1690", "3140", "3819", "4025", "4078"}
    ),
)
DATABASES: Final[Mapping[str, DatabaseKind]] = {
    "sqlite": DatabaseKind(
        driver="sqlite",
        options={},
        # Keys arrive in any order: with more of the index in memory, and a checkpoint every 16 MB instead of
        # 4, a row costs a fifth less. Commits are as durable as before.
        session=("PRAGMA cache_size = -12000", "PRAGMA wal_autocheckpoint = 4000"),
    ),
    "postgresql": DatabaseKind(
        driver="postgresql+psycopg",
        extra="postgresql",
        session=("SET statement_timeout = {seconds}000",),
        read_only=("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",),
        passing=frozenset({"40001", "40P01", "53200", "53300", "53400", "55P03", "57014"}),
        full=frozenset({"53100"}),
        of_a_row=frozenset({"54000", "P0001", "P0004"}),  # too large for an index; RAISE and ASSERT in a trigger
        of_no_row=frozenset({"42501", "42703", "42P01", "42P10"}),  # missing privilege, column, table or unique index
    ),
    "mysql": _MYSQL,
    "mariadb": _MYSQL,
}
_ALIASES: Final = {"postgres": "postgresql"}


def parse_database_url(text: str) -> URL:
    """Parse a database URL and set the driver. Raise `SpecError`."""
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):  # `ValueError` for an invalid port
        raise SpecError("url is not a database URL; expected one such as sqlite:///out/customers.db") from None
    name = _ALIASES.get(url.get_backend_name(), url.get_backend_name())
    if name not in DATABASES:
        raise SpecError(
            f"url: {name} is not supported; expected {', '.join(DATABASES)}",
            hint="A URL such as sqlite:///out/customers.db names a file in the workspace.",
        )
    if name != "sqlite" and "@" in f"{url.host}{url.database}":
        raise SpecError(
            "url contains a second @; expected one, after the login", hint="Write %40 for an @ in the password."
        )
    if reason := explain_disallowed_option(name, url.query):
        raise SpecError(f"url: {reason}")
    return url.set(drivername=DATABASES[name].driver)


def get_database_kind(url: URL) -> DatabaseKind:
    """Return the kind of database for a URL from `parse_database_url`."""
    return DATABASES[url.get_backend_name()]


def get_error_code(error: DBAPIError) -> str:
    """Return the database's code for `error`: MySQL's number, else an SQLSTATE; empty if there is none."""
    first = error.orig.args[0] if error.orig is not None and error.orig.args else None
    if isinstance(first, int):
        return str(first)
    return getattr(error.orig, "sqlstate", None) or ""


def get_error_message(error: Exception) -> str:
    """Return the database's message in one line."""
    orig = error.orig if isinstance(error, DBAPIError) else error
    if orig is not None and len(orig.args) == 2 and isinstance(orig.args[0], int):  # MySQL's (number, text)
        return " ".join(f"{orig.args[1]} ({orig.args[0]})".split())
    return " ".join(str(orig).split())


def refuses_login(text: str) -> bool:
    """Whether the message `text` means that the credentials were rejected."""
    return _LOGIN.search(text) is not None


def find_blamed_column(error: Exception, text: str, columns: Sequence[str]) -> str | None:
    """Return the column that `error`, whose message is `text`, names; `columns` are those of the row."""
    for pattern in _BLAMED:
        if found := pattern.search(text):
            return found[found.re.groups]
    parameter = _PARAMETER.search(text)
    writes = isinstance(error, DBAPIError) and (error.statement or "").startswith("INSERT")
    return columns[int(parameter[1]) - 1] if parameter and writes and int(parameter[1]) <= len(columns) else None


_TLS: Final = frozenset(
    {"ssl_ca", "ssl_capath", "ssl_cert", "ssl_key", "ssl_cipher"}
    | {"ssl_check_hostname", "ssl_disabled", "ssl_verify_cert", "ssl_verify_identity"}
)
_YES: Final = ("1", "true", "yes", "on")
_NO: Final = ("0", "false", "no", "off")
_CLEAR: Final = (b"mysql_clear_password", b"dialog", b"mysql_old_password")
"""Authentication methods that reveal the password to an eavesdropper or an impostor of the server."""


def split_tls(url: URL) -> tuple[URL, dict[str, object]]:
    """Return `url` without its TLS options, and the driver's arguments for them.

    TLS is required, and the certificate of the server is verified if the URL names a CA or requests it. For a loopback
    address or a socket, TLS is used if the server offers it; with `ssl_disabled` it is not used. Raise `SpecError` for
    options that conflict or name missing files.
    """
    given = {name: str(value) for name, value in url.query.items() if name in _TLS}
    plain = url.difference_update_query(given)
    if _is_yes(given.pop("ssl_disabled", "no"), "ssl_disabled"):
        if given:
            raise SpecError(f"url: ssl_disabled and {min(given)} exclude each other")
        return plain, {"ssl_disabled": True}
    if not given and ("unix_socket" in url.query or _is_loopback(url.host or "localhost")):
        return plain, {}
    return plain, {"ssl": _context(given)}


def connect(*arguments: Any, **options: Any) -> Connection:
    """Return a PyMySQL connection that sends the password in clear text only over TLS or a local socket.

    It overrides `_process_auth` and reads `_secure`, which are private to PyMySQL: there is no public hook before the
    password is sent. `tests/connectors/test_mysql_tls.py` fails if either changes.
    """
    from pymysql.connections import Connection
    from pymysql.err import OperationalError

    class ProtectedConnection(Connection):  # type: ignore[misc]  # PyMySQL has no types
        def _process_auth(self, plugin_name: bytes, auth_packet: object, handler: object = None) -> object:
            if plugin_name in _CLEAR and not self._secure:
                method = plugin_name.decode("ascii")
                raise OperationalError(
                    2059, f"the server wants the password in clear text ({method}) on a connection without TLS"
                )
            return super()._process_auth(plugin_name, auth_packet, handler)

    return ProtectedConnection(*arguments, **options)


def _context(given: dict[str, str]) -> ssl.SSLContext:
    """Return the TLS context for the options."""
    flags = {
        name: _is_yes(given[name], name)
        for name in ("ssl_check_hostname", "ssl_verify_cert", "ssl_verify_identity")
        if name in given
    }
    has_ca = "ssl_ca" in given or "ssl_capath" in given
    identity = flags.get("ssl_verify_identity", flags.get("ssl_check_hostname", has_ca))
    verify = flags.get("ssl_verify_cert", has_ca or identity)
    try:
        context = ssl.create_default_context(cafile=given.get("ssl_ca"), capath=given.get("ssl_capath"))
        # Certificates that MySQL generates do not comply with all of RFC 5280.
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        context.check_hostname = identity and verify
        context.verify_mode = ssl.CERT_REQUIRED if verify else ssl.CERT_NONE
        if "ssl_cert" in given:
            context.load_cert_chain(given["ssl_cert"], given.get("ssl_key"))
        if "ssl_cipher" in given:
            context.set_ciphers(given["ssl_cipher"])
    except (OSError, ssl.SSLError) as error:
        raise SpecError(f"url: its TLS options cannot be used: {error}") from None
    return context


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _is_yes(text: str, name: str) -> bool:
    if text.lower() in _YES:
        return True
    if text.lower() in _NO:
        return False
    raise SpecError(f"url: {name}: expected true or false, got {text!r}")
