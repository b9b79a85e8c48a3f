"""One connection to a database and the one thread it lives in, so that no statement ever holds up the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

from sqlalchemy import Connection, create_engine
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.pool import NullPool

from speclab.connectors.references import References
from speclab.errors import SpecError, Unreachable
from speclab.spec.settings import Limits

R = TypeVar("R")

_DIALECTS: Final = ("sqlite",)
_IN_MEMORY: Final = (None, "", ":memory:")


class Database:
    """A database, connected at first use."""

    def __init__(self, url: str, references: References, limits: Limits, *, writes: bool) -> None:
        """The database at `url` (references resolved). Raises `SpecError` for one that is not spoken here."""
        self.redactor = references.redactor
        parsed = _parsed(url)
        if parsed.password is not None:
            self.redactor.add(str(parsed.password))
        self.name = parsed.render_as_string(hide_password=True)
        self._file = references.base / str(parsed.database) if parsed.database not in _IN_MEMORY else None
        self._url = parsed
        self._writes = writes
        self._timeout = limits.timeout
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="speclab-sql")
        self._connection: Connection | None = None

    @property
    def absent(self) -> bool:
        """Whether it is a file that is not there yet."""
        return self._file is not None and not self._file.exists()

    async def run(self, work: Callable[[Connection], R]) -> R:
        """What `work` returns, called with the connection in its thread, inside a transaction of its own.

        Raises `Unreachable` if there is no connection, and what `work` raises; the transaction is rolled back then.
        """
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._in_transaction, work)

    async def close(self) -> None:
        """Close the connection and end the thread."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._disconnect)
        self._thread.shutdown()

    def _in_transaction(self, work: Callable[[Connection], R]) -> R:
        if self._connection is None:
            self._connection = self._connect()
        with self._connection.begin():
            return work(self._connection)

    def _connect(self) -> Connection:
        new = self._file is not None and not self._file.exists()
        if new and not self._writes:
            raise Unreachable(f"{self.name}: there is no file {self._file}")
        try:
            if new and self._file is not None:
                self._file.parent.mkdir(parents=True, exist_ok=True)
            engine = create_engine(self._location(), poolclass=NullPool, connect_args={"timeout": self._timeout})
            connection = engine.connect()
            if new:  # a file of our own making may keep its log as is fastest; others are left as they are
                connection.exec_driver_sql("PRAGMA journal_mode = WAL")
                connection.commit()
        except (DBAPIError, OSError) as error:
            reason = error.orig if isinstance(error, DBAPIError) else error
            raise Unreachable(self.redactor.redact(f"{self.name}: cannot open it: {reason}")) from None
        return connection

    def _location(self) -> URL:
        """The URL to connect to: files are found from the workspace, and one that is only read is not made."""
        if self._file is None:
            return self._url
        if self._writes:
            return self._url.set(database=str(self._file))
        return self._url.set(database=self._file.resolve().as_uri(), query={"mode": "ro", "uri": "true"})

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _parsed(text: str) -> URL:
    try:
        url = make_url(text)
    except ArgumentError:
        raise SpecError("url is no database URL; expected one such as sqlite:///out/customers.db") from None
    if url.get_backend_name() not in _DIALECTS:
        raise SpecError(
            f"url: {url.get_backend_name()} is not spoken by this version; expected {', '.join(_DIALECTS)}",
            hint="A URL such as sqlite:///out/customers.db names a file in the workspace.",
        )
    return url
