"""One connection to a database in its own thread, so that no statement blocks the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL
from sqlalchemy.exc import DatabaseError, DBAPIError
from sqlalchemy.pool import NullPool

from speclab.connectors.api import RuntimeContext
from speclab.connectors.rate_limiter import compute_delay
from speclab.connectors.secrets.references import References
from speclab.connectors.sql.dialects import (
    connect,
    get_database_kind,
    get_error_message,
    parse_database_url,
    refuses_login,
    split_tls,
)
from speclab.connectors.sql.statements import get_pymysql_conversions, register_psycopg_loaders
from speclab.core.errors import BadResponse, EndpointError, SpecError, Unauthorized, Unreachable
from speclab.core.outcome import Level
from speclab.spec.settings import Limits, RetrySettings
from speclab.spec.settings_types import format_duration

R = TypeVar("R")

_IN_MEMORY: Final = (None, "", ":memory:")


class Database:
    """A database, connected on first use."""

    def __init__(
        self,
        url: str,
        references: References,
        limits: Limits,
        context: RuntimeContext,
        retry: RetrySettings,
        *,
        writes: bool,
    ) -> None:
        """Create a database for `url` (references resolved). Raise `SpecError` for an unsupported one."""
        self.redactor = references.redactor
        self._url = parse_database_url(url)
        if self._url.password is not None:
            self.redactor.add(str(self._url.password))
        self.kind = get_database_kind(self._url)
        plain = self._url.set(drivername=self._url.get_backend_name())
        self.name = self.redactor.redact(plain.render_as_string(hide_password=True))
        is_file = plain.drivername == "sqlite" and self._url.database not in _IN_MEMORY
        self._file = references.base / str(self._url.database) if is_file else None
        self._writes = writes
        self._context = context
        self._retry = retry
        self._timeout = limits.timeout
        self._seconds = max(1, round(limits.timeout))
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="speclab-sql")
        self._connection: Connection | None = None
        self._was_there = False

    @property
    def absent(self) -> bool:
        """Whether the database is a file that does not exist yet."""
        return self._file is not None and not self._file.exists()

    @property
    def _is_mysql(self) -> bool:
        return self._url.get_backend_name() in ("mysql", "mariadb")

    async def run(self, work: Callable[[Connection], R], on_rollback: Callable[[], None] | None = None) -> R:
        """Return the result of `work`, called with the connection in its thread, in its own transaction.

        If an established connection is lost, `on_rollback` is called and the work is repeated in a new connection, as
        often as `retry` allows: `work` must be repeatable, because it is unknown whether it was committed. Raise
        `Unreachable` if there is no connection or it is lost, `Unauthorized` if the database rejects the credentials,
        and the errors of `work`; then the transaction is rolled back.
        """
        tries = 1
        while True:
            try:
                return await asyncio.get_running_loop().run_in_executor(self._thread, self._in_transaction, work)
            except Unreachable as error:
                if on_rollback is None or not self._was_there or tries >= self._retry.attempts:
                    raise
                wait = compute_delay(tries - 1, self._retry.base, self._retry.cap, self._context.random)
                self._context.report(Level.WARNING, f"{error.message}; retrying in {format_duration(wait)}")
            await self._context.clock.sleep(wait)
            on_rollback()
            tries += 1

    async def close(self) -> None:
        """Close the connection and end the thread."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._disconnect)
        self._thread.shutdown()

    def _in_transaction(self, work: Callable[[Connection], R]) -> R:
        if self._connection is None:
            self._connection = self._connect()
            self._was_there = True
        try:
            with self._connection.begin() as transaction:
                result = work(self._connection)
                if not self._writes:  # a function that a query calls may have changed data
                    transaction.rollback()
                return result
        except DBAPIError as error:
            if not error.connection_invalidated:
                raise
            self._disconnect()
            text = self.redactor.redact(f"{self.name}: the connection was lost: {get_error_message(error)}")
            raise Unreachable(text, hint="The next run continues from the checkpoint.") from None

    def _connect(self) -> Connection:
        new = self._file is not None and not self._file.exists()
        if new and not self._writes:
            raise Unreachable(f"{self.name}: there is no file {self._file}")
        try:
            if new and self._file is not None:
                self._file.parent.mkdir(parents=True, exist_ok=True)
            location, tls = split_tls(self._location()) if self._is_mysql else (self._location(), {})
            engine = create_engine(
                location, poolclass=NullPool, connect_args={**self._arguments(), **tls}, **self.kind.options
            )
            if self._is_mysql:
                event.listen(engine, "do_connect", lambda _dialect, _record, args, options: connect(*args, **options))
            connection = self._connected(engine)
            if new:  # a file that speclab creates uses the fastest journal; others keep their mode
                connection.exec_driver_sql("PRAGMA journal_mode = WAL")
                connection.commit()
            for statement in (*self.kind.session, *(() if self._writes else self.kind.read_only)):
                connection.exec_driver_sql(statement.format(seconds=self._seconds))
            connection.commit()
        except ModuleNotFoundError:
            extra = self.kind.extra
            raise SpecError(
                f"{self.name}: its driver is not installed", hint=f"pip install 'speclab-tui[{extra}]' brings it."
            ) from None
        except (DBAPIError, OSError) as error:
            reason = get_error_message(error)
            failure: type[EndpointError] = Unauthorized if refuses_login(reason) else Unreachable
            if type(error) is DatabaseError:  # not one of its subclasses: the file is not a database
                failure = BadResponse
            raise failure(self.redactor.redact(f"{self.name}: cannot open it: {reason}")) from None
        return connection

    def _connected(self, engine: Engine) -> Connection:
        try:
            connection = engine.connect()
        except TypeError as error:  # the query of the URL is passed to the driver
            raise SpecError(f"{self.name}: the driver does not take what follows the question mark: {error}") from None
        if engine.dialect.name == "postgresql":
            register_psycopg_loaders(connection.connection.driver_connection.adapters)  # type: ignore[union-attr]  # psycopg's
        return connection

    def _arguments(self) -> dict[str, object]:
        """Return the timeouts for the driver; most servers also have a statement timeout."""
        match self._url.get_backend_name():
            case "sqlite":
                return {"timeout": self._timeout}
            case "postgresql":
                return {"connect_timeout": self._seconds}
            case _:  # slightly more than the server's lock timeout, so that the server can report the lock
                wait_budget = self._seconds + 1
                timeouts = {"connect_timeout": self._seconds, "read_timeout": wait_budget, "write_timeout": wait_budget}
                return {**timeouts, "conv": get_pymysql_conversions()}

    def _location(self) -> URL:
        """Return the URL to connect to: file paths are relative to the workspace, and a source file is not created."""
        if self._file is None:
            return self._url
        if self._writes:
            return self._url.set(database=str(self._file))
        return self._url.set(database=self._file.resolve().as_uri(), query={"mode": "ro", "uri": "true"})

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
