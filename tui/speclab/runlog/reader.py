"""Reading the run log: rows, figures and the tail of new events, without blocking writers."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import astuple, dataclass
from operator import attrgetter
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from speclab.core.errors import RunLogTooOld
from speclab.core.json import JsonView
from speclab.core.outcome import AlertState, ErrorClass, FailureState, RunState, Stage
from speclab.runlog import schema
from speclab.runlog.connection import refuse_empty, refuse_linked, telling
from speclab.runlog.rows import (
    EVENT_COLUMNS,
    FAILURE_COLUMNS,
    FAILURE_SUMMARY,
    GROUPS,
    INTEGRATION,
    RUN_COLUMNS,
    AlertRow,
    EventRow,
    FailureGroup,
    FailureRow,
    IntegrationRow,
    RunRow,
    event_row,
    failure_row,
    group_row,
    run_row,
)

_PARKED: Final = " UNION ".join(
    "SELECT value, json_extract(fields, '$.end'), json_extract(fields, '$.until') FROM json_each(?1) "
    "JOIN log_event AS event ON event.id IN (SELECT id FROM log_event WHERE run = (SELECT id FROM run "
    f"WHERE spec_id = value AND ended_at IS NOT NULL{which} ORDER BY id DESC LIMIT 1) ORDER BY id DESC LIMIT 3) "
    "WHERE kind = 'parked'"
    for which in ("", " AND trigger <> 'retry'")
)
"""One of the last events of a run says that it was parked; those before are one a page, and not looked at."""
_ALL: Final = -1  # as a LIMIT, to SQLite
_CLOSED_STATES: Final = frozenset({FailureState.RESOLVED, FailureState.SUPERSEDED, FailureState.DISCARDED})


class RunLogReader:
    """The run log at a path, to be read.

    The file need not be there yet: until it is, `present` is False and everything is empty. A file that is replaced
    is noticed at the next question. Raises `RunLogTooNew` and `RunLogError` like `RunLog`, and `RunLogTooOld` where
    nothing has written to it since an older speclab did; see `RunLog.reader`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._db: sqlite3.Connection | None = None
        self._file: tuple[int, ...] | None = None
        self._wal = path.with_name(f"{path.name}-wal")
        self._frozen = False
        self._generation = 0

    @classmethod
    def open(cls, path: str | PathLike[str]) -> Self:
        """A reader of the run log at `path`; raises if there is something there that is not one."""
        reader = cls(Path(path))
        reader.connection()
        return reader

    def close(self) -> None:
        """Give the file back."""
        if self._db is not None:
            self._db.close()
        self._db = self._file = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @property
    def present(self) -> bool:
        """Whether there is a run log yet."""
        return self.connection() is not None

    def version(self) -> tuple[int, int]:
        """Changes whenever anything in the run log did: which file it is, and SQLite's `data_version` of it."""
        connection = self.connection()
        if connection is None:
            return self._generation, -1
        with telling(self.path):
            return self._generation, int(connection.execute("PRAGMA data_version").fetchone()[0])

    def connection(self) -> sqlite3.Connection | None:
        """The connection, to the file that is there now; None while there is none."""
        with telling(self.path):
            file = self._identity()
            if file != self._file:
                self.close()
                self._generation += 1
            if file is not None and self._db is None:
                self._connect()
        return self._db

    def _identity(self) -> tuple[int, ...] | None:
        """Which file it is, and of a frozen one in what state; None if there is none."""
        with suppress(FileNotFoundError, NotADirectoryError):
            status = self.path.stat()
            refuse_empty(self.path, status.st_size)
            state = (status.st_mtime_ns, self._wal.exists()) if self._frozen else ()
            return (status.st_dev, status.st_ino, *state)
        return None

    def _connect(self) -> None:
        """Connect to the file, or leave it at that if the tables are being made this very moment.

        Reading in WAL mode takes a file of shared memory beside the run log. Where that is not there and may not be
        made, nobody is writing either, and the run log is read as it is, frozen, until that changes.
        """
        refuse_linked(self.path)
        self._frozen = False
        try:
            self._db = self._opened("mode=ro")
        except sqlite3.OperationalError as error:
            if (
                error.sqlite_errorcode & 0xFF not in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN)
                or self._wal.exists()
            ):
                raise
            self._frozen = True
            self._db = self._opened("immutable=1")
        self._file = self._identity() if self._db is not None else None

    def _opened(self, how: str) -> sqlite3.Connection | None:
        uri = f"{self.path.absolute().as_uri()}?{how}"
        connection = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False)
        try:
            connection.execute("PRAGMA query_only = TRUE")
            found = schema.read_version(connection, self.path)
            if 0 < found < schema.VERSION:
                older = f"the run log was written by an older speclab (schema {found}; this one reads {schema.VERSION})"
                raise RunLogTooOld(
                    f"{self.path}: {older}",
                    hint="Whoever may write there brings it up to date with any command, such as `speclab status`.",
                )
        except BaseException:
            connection.close()
            raise
        if found:
            return connection
        connection.close()
        return None

    def integrations(self, spec_id: str | None = None) -> list[IntegrationRow]:
        """All integrations, by name, or the one with that spec_id."""
        rows = self.query(f"{INTEGRATION} WHERE ?1 IS NULL OR spec_id = ?1 ORDER BY spec_id", (spec_id,))
        return [IntegrationRow(*row) for row in rows]

    def get_parked(self, spec_id: str) -> dict[str, str]:
        """Which end asked to be left alone, and until when: in the last run that is over, or the last that read."""
        return self.get_all_parked([spec_id]).get(spec_id, {})

    def get_all_parked(self, spec_ids: Sequence[str]) -> dict[str, dict[str, str]]:
        """Return what `parked` returns for each of `spec_ids` that has any."""
        found: dict[str, dict[str, str]] = {}
        for spec_id, end, until in self.query(_PARKED, (json.dumps(list(spec_ids)),)):
            found.setdefault(spec_id, {})[end] = until
        return found

    def run(self, run: str) -> RunRow | None:
        """The run with that id."""
        rows = self.query(f"SELECT {RUN_COLUMNS} FROM run WHERE id = ?", (run,))
        return run_row(rows[0]) if rows else None

    def get_spec_version(self, spec_hash: str) -> str | None:
        """Return the text of the spec with that hash; None if no run saved it, or retention deleted it."""
        rows = self.query("SELECT text FROM spec_version WHERE hash = ?", (spec_hash,))
        return rows[0][0] if rows else None

    def runs(self, spec_id: str | None = None, limit: int = 20, state: RunState | None = None) -> list[RunRow]:
        """The latest runs, newest first."""
        where, values = _where({"spec_id = ?": spec_id, "state = ?": state})
        rows = self.query(f"SELECT {RUN_COLUMNS} FROM run {where} ORDER BY id DESC LIMIT ?", (*values, limit))
        return [run_row(row) for row in rows]

    def failure(self, failure: str) -> FailureRow | None:
        """The failure with that id, with all it holds."""
        rows = self.query(f"SELECT {FAILURE_COLUMNS} FROM failure WHERE id = ?", (failure,))
        return failure_row(rows[0]) if rows else None

    def failures(
        self,
        spec_id: str | None = None,
        *,
        run: str | None = None,
        state: FailureState | None = None,
        stage: Stage | None = None,
        error_class: ErrorClass | None = None,
        row: str | None = None,
        closed: bool = False,
        limit: int | None = 100,
        full: bool = False,
    ) -> list[FailureRow]:
        """Failures, newest first: the open ones, those in one `state`, or all that a `run` ever had.

        With `closed`, those closed last are among them. With `full`, each holds its records, request and answer. The
        `limit` None stands for all.
        """
        which = "" if spec_id is None else "_by_spec"
        opened = (f"failure_open{which}", schema.OPEN, "id")
        ended = (f"failure_closed{which}", f"NOT ({schema.OPEN})", "last_at")
        if run is not None:
            kinds = [("failure_by_run", "TRUE", "id")]
        elif state in _CLOSED_STATES:
            kinds = [ended]
        else:
            kinds = [opened, ended] if closed else [opened]
        given = {
            "spec_id = ?": spec_id,
            "run = ?": run,
            "state = ?": state,
            "stage = ?": stage,
            "class = ?": error_class,
            '"row" = ?': row,
        }
        columns = FAILURE_COLUMNS if full else FAILURE_SUMMARY
        found: list[FailureRow] = []
        for index, kind, order in kinds:
            where, values = _where(given, kind)
            sql = f"SELECT {columns} FROM failure INDEXED BY {index} {where} ORDER BY {order} DESC LIMIT ?"
            found += [failure_row(one) for one in self.query(sql, (*values, _ALL if limit is None else limit))]
        return sorted(found, key=attrgetter("id"), reverse=True)[:limit]

    def groups(self, spec_id: str | None = None) -> list[FailureGroup]:
        """The open failures, alike ones taken together, the largest group first."""
        where = "" if spec_id is None else " AND spec_id = ?"
        rows = self.query(
            f"{GROUPS}{where} GROUP BY 1, 2, 3, 4, 5, 6, 7 ORDER BY count(*) DESC, max(last_at) DESC",
            () if spec_id is None else (spec_id,),
        )
        return [group_row(row) for row in rows]

    def get_group_failures(
        self, group: FailureGroup, limit: int | None = 100, *, full: bool = False
    ) -> list[FailureRow]:
        """The failures of a group, newest first; see `failures` for `limit` and `full`."""
        columns = FAILURE_COLUMNS if full else FAILURE_SUMMARY
        rows = self.query(
            f'SELECT {columns} FROM failure WHERE spec_id = ? AND stage = ? AND "row" IS ? AND class = ? '
            f"AND status IS ? AND state = ? AND shape = ? AND {schema.OPEN} ORDER BY last_at DESC LIMIT ?",
            (*astuple(group)[:7], _ALL if limit is None else limit),
        )
        return [failure_row(row) for row in rows]

    def alerts(self, spec_id: str | None = None) -> list[AlertRow]:
        """The alerts as last evaluated, by integration and name."""
        where, values = _where({"spec_id = ?": spec_id})
        rows = self.query(
            f"SELECT spec_id, name, state, since, detail FROM alert {where} ORDER BY spec_id, name", values
        )
        return [AlertRow(name, alert, AlertState(state), since, detail) for name, alert, state, since, detail in rows]

    def events(
        self, after: int = 0, *, spec_id: str | None = None, run: str | None = None, limit: int = 1000
    ) -> list[EventRow]:
        """Events with a greater id than `after`, oldest first."""
        where, values = _where({"id > ?": after, "spec_id = ?": spec_id, "run = ?": run})
        rows = self.query(f"SELECT {EVENT_COLUMNS} FROM log_event {where} ORDER BY id LIMIT ?", (*values, limit))
        return [event_row(row) for row in rows]

    def latest_events(
        self, limit: int = 100, *, spec_id: str | None = None, run: str | None = None, before: int | None = None
    ) -> list[EventRow]:
        """The last events (of those with a smaller id than `before`), oldest first."""
        where, values = _where({"id < ?": before, "spec_id = ?": spec_id, "run = ?": run})
        rows = self.query(f"SELECT {EVENT_COLUMNS} FROM log_event {where} ORDER BY id DESC LIMIT ?", (*values, limit))
        return [event_row(row) for row in reversed(rows)]

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """All questions inside see the run log as it is at the first of them."""
        connection = self.connection()
        if connection is None:
            yield
            return
        with telling(self.path):
            connection.execute("BEGIN")
            try:
                yield
            finally:
                if connection is self._db:  # not if the file was replaced meanwhile
                    connection.execute("COMMIT")

    def query(self, sql: str, values: Sequence[object] = ()) -> list[Any]:
        """Rows of one statement; none while there is no run log."""
        connection = self.connection()
        if connection is None:
            return []
        with telling(self.path):
            return connection.execute(sql, values).fetchall()


def _where(given: Mapping[str, JsonView], *more: str) -> tuple[str, list[JsonView]]:
    """A WHERE clause of those conditions whose value is not None, and of `more`."""
    used = {condition: value for condition, value in given.items() if value is not None}
    conditions = [*used, *more]
    return (f"WHERE {' AND '.join(conditions)}" if conditions else ""), list(used.values())


_AT_ONCE: Final = 1000


@dataclass(frozen=True, slots=True)
class LogUpdate:
    """What a look found.

    `changed` if anything in the run log may have changed, be it figures only; `replaced` if it is another file than
    before (or there is one now, or none any more), so that all that was shown is void. `events` are the new ones,
    oldest first; `skipped` counts events between those and what was seen before that are not among them, because there
    were too many to tell one by one.
    """

    changed: bool
    replaced: bool
    events: Sequence[EventRow]
    skipped: int


class Tail:
    """Follows the events of a run log, from the moment it is opened."""

    def __init__(self, reader: RunLogReader, version: tuple[int, int], last: int) -> None:
        self._reader = reader
        self._version = version
        self._last = last

    @classmethod
    def open(cls, reader: RunLogReader) -> Self:
        """A tail of what comes from now on; `latest_events` of the reader has what came before."""
        version = reader.version()
        return cls(reader, version, _last(reader))

    def poll(self) -> LogUpdate:
        """What is new. One `PRAGMA data_version` if nothing is; otherwise as much work as there are new events."""
        version = self._reader.version()
        if version == self._version:
            return LogUpdate(changed=False, replaced=False, events=(), skipped=0)
        replaced = version[0] != self._version[0]
        seen = 0 if replaced else self._last
        self._version, newest = version, _last(self._reader)
        after = max(seen, newest - _AT_ONCE)
        events = self._reader.events(after, limit=_AT_ONCE)
        self._last = events[-1].id if events else newest
        return LogUpdate(changed=True, replaced=replaced, events=events, skipped=after - seen)


def _last(reader: RunLogReader) -> int:
    ((last,),) = reader.query("SELECT max(id) FROM log_event") or [(None,)]
    return last or 0
