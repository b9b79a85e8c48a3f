"""Reading the run log: rows, and the tail of new events, without blocking writers."""

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
from speclab.core.outcome import ErrorClass, FailureState, Level, Outcome, RunState, Stage
from speclab.runlog import schema
from speclab.runlog.connection import refuse_empty, refuse_linked, translate_errors
from speclab.runlog.record_state import RecordStates
from speclab.runlog.rows import (
    ALERTS,
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
    ReconciliationRow,
    RunRow,
    TargetState,
    alert_row,
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
"""A parked run logs that as one of its last events; earlier events are one per page, and not read."""
_ALL: Final = -1  # as a LIMIT, to SQLite
_CLOSED_STATES: Final = frozenset({FailureState.RESOLVED, FailureState.SUPERSEDED, FailureState.DISCARDED})


class RunLogReader:
    """The run log at a path, for reading.

    The file need not exist yet: until it does, `present` is False and all results are empty. The next query notices
    if the file was replaced. Raises `RunLogTooNew` and `RunLogError` like `RunLog`, and `RunLogTooOld` for a run log
    that was not migrated yet; see `RunLog.reader`.
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
        """Return a reader of the run log at `path`. Raise `RunLogError` if the file is not a run log."""
        reader = cls(Path(path))
        reader.connection()
        return reader

    def close(self) -> None:
        """Close the file."""
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
        """Whether the run log exists."""
        return self.connection() is not None

    def version(self) -> tuple[int, int]:
        """Return a version that differs after any change: the number of the file opened, and its `data_version`."""
        connection = self.connection()
        if connection is None:
            return self._generation, -1
        with translate_errors(self.path):
            return self._generation, int(connection.execute("PRAGMA data_version").fetchone()[0])

    def connection(self) -> sqlite3.Connection | None:
        """Return the connection to the file that is there now; None while the file does not exist."""
        with translate_errors(self.path):
            file = self._identity()
            if file != self._file:
                self.close()
                self._generation += 1
            if file is not None and self._db is None:
                self._connect()
        return self._db

    def _identity(self) -> tuple[int, ...] | None:
        """Return the identity of the file, and the state of a frozen one; None if the file does not exist."""
        with suppress(FileNotFoundError, NotADirectoryError):
            status = self.path.stat()
            refuse_empty(self.path, status.st_size)
            state = (status.st_mtime_ns, self._wal.exists()) if self._frozen else ()
            return (status.st_dev, status.st_ino, *state)
        return None

    def _connect(self) -> None:
        """Connect to the file, unless another process is creating its tables right now.

        Reading in WAL mode needs a file of shared memory beside the run log. If that cannot be created, no process is
        writing, and the run log is read as immutable ("frozen") until that changes.
        """
        refuse_linked(self.path)
        self._frozen = False
        try:
            self._db = self._open("mode=ro")
        except sqlite3.OperationalError as error:
            if (
                error.sqlite_errorcode & 0xFF not in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN)
                or self._wal.exists()
            ):
                raise
            self._frozen = True
            self._db = self._open("immutable=1")
        self._file = self._identity() if self._db is not None else None

    def _open(self, options: str) -> sqlite3.Connection | None:
        uri = f"{self.path.absolute().as_uri()}?{options}"
        connection = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False)
        try:
            connection.execute("PRAGMA query_only = TRUE")
            found = schema.read_version(connection, self.path)
            if 0 < found < schema.VERSION:
                message = (
                    f"the run log was written by an older speclab (schema {found}; this one reads {schema.VERSION})"
                )
                raise RunLogTooOld(
                    f"{self.path}: {message}",
                    hint="Migrate it with any command of a user who can write to it, such as `speclab status`.",
                )
        except BaseException:
            connection.close()
            raise
        if found:
            return connection
        connection.close()
        return None

    def integrations(self, spec_id: str | None = None) -> list[IntegrationRow]:
        """Return all integrations by name, or the one with that spec_id."""
        rows = self.query(f"{INTEGRATION} WHERE ?1 IS NULL OR spec_id = ?1 ORDER BY spec_id", (spec_id,))
        return [IntegrationRow(*row) for row in rows]

    def get_parked(self, spec_id: str) -> dict[str, str]:
        """Return until when each endpoint is parked, by the last run that ended or the last that read the source."""
        return self.get_all_parked([spec_id]).get(spec_id, {})

    def get_all_parked(self, spec_ids: Sequence[str]) -> dict[str, dict[str, str]]:
        """Return the result of `get_parked` for each of `spec_ids` with a parked endpoint."""
        found: dict[str, dict[str, str]] = {}
        for spec_id, endpoint, until in self.query(_PARKED, (json.dumps(list(spec_ids)),)):
            found.setdefault(spec_id, {})[endpoint] = until
        return found

    def check_integrity(self) -> tuple[list[str], int, int]:
        """Return the damage that SQLite finds (none if it is well), and the numbers of runs and events."""
        damage = [str(row[0]) for row in self.query("PRAGMA quick_check(3)") if row[0] != "ok"]
        counts = self.query("SELECT (SELECT count(*) FROM run), (SELECT count(*) FROM log_event)")
        ((runs, events),) = counts or [(0, 0)]
        return damage, runs, events

    def run(self, run: str) -> RunRow | None:
        """Return the run with that id."""
        rows = self.query(f"SELECT {RUN_COLUMNS} FROM run WHERE id = ?", (run,))
        return run_row(rows[0]) if rows else None

    def get_spec_version(self, spec_hash: str) -> str | None:
        """Return the text of the spec with that hash; None if no run saved it, or retention deleted it."""
        rows = self.query("SELECT text FROM spec_version WHERE hash = ?", (spec_hash,))
        return rows[0][0] if rows else None

    def runs(self, spec_id: str | None = None, limit: int = 20, state: RunState | None = None) -> list[RunRow]:
        """Return the latest runs, newest first."""
        where, values = _where({"spec_id = ?": spec_id, "state = ?": state})
        rows = self.query(f"SELECT {RUN_COLUMNS} FROM run {where} ORDER BY id DESC LIMIT ?", (*values, limit))
        return [run_row(row) for row in rows]

    def failure(self, failure: str) -> FailureRow | None:
        """Return the failure with that id, in full."""
        rows = self.query(f"SELECT {FAILURE_COLUMNS} FROM failure WHERE id = ?", (failure,))
        return failure_row(rows[0]) if rows else None

    def get_target(self, spec_id: str, key: str, flow: str = schema.DEFAULT_FLOW) -> TargetState:
        """Return the id and version that the record with `key` has at the target, as far as they are known."""
        connection = self.connection()
        if connection is None:
            return TargetState()
        with translate_errors(self.path):
            found = connection.execute("SELECT id FROM flow WHERE spec_id = ? AND name = ?", (spec_id, flow)).fetchone()
            targets = RecordStates().get_targets(connection, found[0], [key]) if found else {}
        return targets.get(key, TargetState())

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
        """Return failures, newest first: open ones, those in one `state`, or all failures of a `run`.

        With `closed`, the failures closed last are included. With `full`, each has its records, request and response.
        A `limit` of None means all.
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
        """Return the groups of open failures, the largest first."""
        where = "" if spec_id is None else " AND spec_id = ?"
        rows = self.query(
            f"{GROUPS}{where} GROUP BY 1, 2, 3, 4, 5, 6, 7 ORDER BY count(*) DESC, max(last_at) DESC",
            () if spec_id is None else (spec_id,),
        )
        return [group_row(row) for row in rows]

    def get_group_failures(
        self, group: FailureGroup, limit: int | None = 100, *, full: bool = False
    ) -> list[FailureRow]:
        """Return the failures of a group, newest first; see `failures` for `limit` and `full`."""
        columns = FAILURE_COLUMNS if full else FAILURE_SUMMARY
        rows = self.query(
            f'SELECT {columns} FROM failure WHERE spec_id = ? AND stage = ? AND "row" IS ? AND class = ? '
            f"AND status IS ? AND state = ? AND shape = ? AND {schema.OPEN} ORDER BY last_at DESC LIMIT ?",
            (*astuple(group)[:7], _ALL if limit is None else limit),
        )
        return [failure_row(row) for row in rows]

    def alerts(self, spec_id: str | None = None) -> list[AlertRow]:
        """Return the alerts as evaluated last, by integration and name."""
        return [alert_row(row) for row in self.query(ALERTS, (spec_id,))]

    def get_reconciliation(self, spec_id: str) -> ReconciliationRow | None:
        """Return the last comparison of source and target; None if there was none."""
        rows = self.query(
            "SELECT spec_id, at, spec_hash, sample, differences, counts FROM reconciliation WHERE spec_id = ? "
            "ORDER BY id DESC LIMIT 1",
            (spec_id,),
        )
        for name, at, spec_hash, sample, differences, counts in rows:
            return ReconciliationRow(name, at, spec_hash, sample, differences, json.loads(counts))
        return None

    def events(
        self, after: int = 0, *, spec_id: str | None = None, run: str | None = None, limit: int = 1000
    ) -> list[EventRow]:
        """Return events with an id greater than `after`, oldest first."""
        where, values = _where({"id > ?": after, "spec_id = ?": spec_id, "run = ?": run})
        rows = self.query(f"SELECT {EVENT_COLUMNS} FROM log_event {where} ORDER BY id LIMIT ?", (*values, limit))
        return [event_row(row) for row in rows]

    def latest_events(
        self,
        limit: int = 100,
        *,
        spec_id: str | None = None,
        run: str | None = None,
        before: int | None = None,
        since: str | None = None,
        levels: Sequence[Level] = tuple(Level),
    ) -> list[EventRow]:
        """Return the last events (with an id less than `before`, not older than `since`), oldest first."""
        only = json.dumps(levels) if len(levels) < len(Level) else None
        where, values = _where(
            {
                "id < ?": before,
                "spec_id = ?": spec_id,
                "run = ?": run,
                "at >= ?": since,
                "level IN (SELECT value FROM json_each(?))": only,
            }
        )
        rows = self.query(f"SELECT {EVENT_COLUMNS} FROM log_event {where} ORDER BY id DESC LIMIT ?", (*values, limit))
        return [event_row(row) for row in reversed(rows)]

    def has_event(self, spec_id: str, kind: str) -> bool:
        """Return whether the log has an event of this kind."""
        return bool(self.query("SELECT 1 FROM log_event WHERE spec_id = ? AND kind = ? LIMIT 1", (spec_id, kind)))

    def get_last_event_id(self) -> int:
        """Return the id of the newest event; 0 if there is none."""
        return int(next(iter(self.query("SELECT max(id) FROM log_event")), (0,))[0] or 0)

    def get_ended_runs(self, after: int, until: int) -> list[tuple[str, RunState, float]]:
        """Return integration, state and seconds of the runs that end with an event of an id in (after, until]."""
        rows = self.query(
            "SELECT run.spec_id, run.state, run.duration FROM log_event JOIN run ON run.id = log_event.run "
            "WHERE log_event.id > ? AND log_event.id <= ? AND kind = 'state' AND run.ended_at IS NOT NULL "
            "AND json_extract(fields, '$.state') <> 'running'",
            (after, until),
        )
        return [(spec_id, RunState(state), duration) for spec_id, state, duration in rows]

    def sum_running(self) -> dict[str, dict[Outcome, int]]:
        """Return the outcomes of the runs in progress by integration."""
        sums = ", ".join(f"sum({outcome})" for outcome in Outcome)
        rows = self.query(f"SELECT spec_id, {sums} FROM run WHERE state = 'running' GROUP BY spec_id")
        return {spec_id: dict(zip(Outcome, counts, strict=True)) for spec_id, *counts in rows}

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """Have all queries inside see the run log as of the first one."""
        connection = self.connection()
        if connection is None:
            yield
            return
        with translate_errors(self.path):
            connection.execute("BEGIN")
            try:
                yield
            finally:
                if connection is self._db:  # unless the file was replaced
                    connection.execute("COMMIT")

    def query(self, sql: str, values: Sequence[object] = ()) -> list[Any]:
        """Return the rows of one statement; none while the run log does not exist."""
        connection = self.connection()
        if connection is None:
            return []
        with translate_errors(self.path):
            return connection.execute(sql, values).fetchall()


def _where(given: Mapping[str, JsonView], *more: str) -> tuple[str, list[JsonView]]:
    """Build a WHERE clause of the conditions whose value is not None, and of `more`."""
    used = {condition: value for condition, value in given.items() if value is not None}
    conditions = [*used, *more]
    return (f"WHERE {' AND '.join(conditions)}" if conditions else ""), list(used.values())


_MAX_EVENTS: Final = 1000


@dataclass(frozen=True, slots=True)
class LogUpdate:
    """The result of one poll.

    `changed` if anything in the run log may have changed; `replaced` if the file was replaced, created or deleted, so
    that everything shown is outdated. `events` are the new events, oldest first; `skipped` counts older new events
    that are left out because there were too many.
    """

    changed: bool
    replaced: bool
    events: Sequence[EventRow]
    skipped: int


class Tail:
    """Follows the events of a run log."""

    def __init__(self, reader: RunLogReader, version: tuple[int, int], last: int) -> None:
        self._reader = reader
        self._version = version
        self._last = last

    @classmethod
    def open(cls, reader: RunLogReader) -> Self:
        """Return a tail of events from now on; earlier events are in `RunLogReader.latest_events`."""
        version = reader.version()
        return cls(reader, version, reader.get_last_event_id())

    @property
    def last(self) -> int:
        """The id of the last event that was seen."""
        return self._last

    def poll(self) -> LogUpdate:
        """Return what is new. Costs one `PRAGMA data_version` if nothing is."""
        version = self._reader.version()
        if version == self._version:
            return LogUpdate(changed=False, replaced=False, events=(), skipped=0)
        replaced = version[0] != self._version[0]
        seen = 0 if replaced else self._last
        self._version, newest = version, self._reader.get_last_event_id()
        after = max(seen, newest - _MAX_EVENTS)
        events = self._reader.events(after, limit=_MAX_EVENTS)
        self._last = events[-1].id if events else newest
        return LogUpdate(changed=True, replaced=replaced, events=events, skipped=after - seen)
