"""Rows of integrations and runs, what a run reads from earlier ones, and runs that other tools report."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Final

from speclab.core.clock import format_timestamp
from speclab.core.json import Json, Record
from speclab.core.locks import ProcessIdentity
from speclab.core.outcome import Effect, ErrorClass, FailureState, Level, Outcome, RunState, Stage
from speclab.runlog.accounting import RunEntry, add_counts, count_error
from speclab.runlog.connection import WriteConnection, encode_json, encode_text
from speclab.runlog.private import PrivateRecords
from speclab.runlog.protocol import RunStore
from speclab.runlog.record_state import RecordStates, SourceKeys
from speclab.runlog.rows import (
    CANCEL_NOW,
    FAILURE_COLUMNS,
    RUN_COLUMNS,
    FailureRow,
    MissingRecord,
    NewFailure,
    PageResult,
    ReconciliationRow,
    RunRow,
    failure_row,
    run_row,
)
from speclab.runlog.schema import DEFAULT_FLOW, OPEN


def touch(db: sqlite3.Connection, spec_id: str, at: str) -> None:
    """Increment the revision of an integration; add it, with its spec_id as title, if it is not registered."""
    db.execute(
        "INSERT INTO integration (spec_id, title, path, status, schedule, registered_at) "
        "VALUES (?1, ?1, '', '', '', ?2) ON CONFLICT (spec_id) DO UPDATE SET revision = revision + 1",
        (spec_id, at),
    )


def find_flow(db: sqlite3.Connection, spec_id: str, flow: str) -> int:
    """Return the id of a flow, for reading; an id that matches no row if the flow does not exist."""
    row = db.execute("SELECT id FROM flow WHERE spec_id = ? AND name = ?", (spec_id, flow)).fetchone()
    return int(row[0]) if row else -1


def add_flow(db: sqlite3.Connection, spec_id: str, flow: str) -> int:
    """Return the id of a flow, which is added if it does not exist."""
    found = find_flow(db, spec_id, flow)
    if found >= 0:
        return found
    (added,) = db.execute("INSERT INTO flow (spec_id, name) VALUES (?, ?) RETURNING id", (spec_id, flow)).fetchone()
    return int(added)


def save_description(
    db: sqlite3.Connection, spec_id: str, *, title: str, path: str, status: str, schedule: str
) -> None:
    """Save the title, the path of the spec, the status and the schedule of an integration."""
    db.execute(
        "UPDATE integration SET title = ?, path = ?, status = ?, schedule = ? WHERE spec_id = ?",
        (encode_text(title), encode_text(path), encode_text(status), encode_text(schedule), spec_id),
    )


def is_paused(db: sqlite3.Connection, spec_id: str) -> bool:
    """Return whether an integration is paused."""
    found = db.execute("SELECT 1 FROM integration WHERE spec_id = ? AND paused_at IS NOT NULL", (spec_id,))
    return found.fetchone() is not None


def pause(db: sqlite3.Connection, spec_id: str, at: str, by: str, reason: str) -> None:
    """Save who paused an integration, and the reason, if one was given."""
    touch(db, spec_id, at)
    db.execute(
        "UPDATE integration SET paused_at = ?, paused_by = ?, paused_reason = ? WHERE spec_id = ?",
        (at, encode_text(by), encode_text(reason) or None, spec_id),
    )


def resume(db: sqlite3.Connection, spec_id: str, at: str) -> None:
    """End the pause of an integration."""
    touch(db, spec_id, at)
    db.execute(
        "UPDATE integration SET paused_at = NULL, paused_by = NULL, paused_reason = NULL WHERE spec_id = ?",
        (spec_id,),
    )


def read_field_profile(db: sqlite3.Connection, spec_id: str) -> Json:
    """Return the field profile of an integration's source; None if none was saved."""
    row = db.execute("SELECT field_profile FROM integration WHERE spec_id = ?", (spec_id,)).fetchone()
    found: Json = json.loads(row[0]) if row and row[0] else None
    return found


def save_field_profile(db: sqlite3.Connection, spec_id: str, profile: Json) -> None:
    """Replace the field profile of an integration's source."""
    db.execute("UPDATE integration SET field_profile = ? WHERE spec_id = ?", (encode_json(profile), spec_id))


def add_reconciliation(db: sqlite3.Connection, row: ReconciliationRow) -> None:
    """Add the result of a comparison of source and target."""
    db.execute(
        "INSERT INTO reconciliation (spec_id, at, spec_hash, sample, differences, counts) VALUES (?, ?, ?, ?, ?, ?)",
        (row.spec_id, row.at, row.spec_hash, row.sample, row.differences, encode_json(dict(row.counts))),
    )


def add_run(db: sqlite3.Connection, entry: RunEntry, trigger: str, process: ProcessIdentity | None) -> None:
    """Add a running run that resumes from the checkpoint of its flow."""
    (cursor,) = db.execute(
        "SELECT coalesce((SELECT cursor FROM checkpoint WHERE spec_id = ? AND flow = ?), 'null')",
        (entry.spec_id, entry.flow),
    ).fetchone()
    db.execute(
        "INSERT INTO run (id, spec_id, flow, spec_hash, trigger, state, started_at, cursor, pid, host, "
        "process_started) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (entry.run, entry.spec_id, entry.flow, entry.spec_hash, trigger, RunState.RUNNING, entry.at, cursor)
        + ((process.pid, process.host, process.started) if process else (None, None, None)),
    )


def get_run(db: sqlite3.Connection, run: str) -> RunRow:
    """Return the row of a run that exists."""
    return run_row(db.execute(f"SELECT {RUN_COLUMNS} FROM run WHERE id = ?", (run,)).fetchone())


def get_processes(db: sqlite3.Connection) -> list[tuple[RunRow, ProcessIdentity]]:
    """Return the running runs that have a process, each with its process."""
    rows = db.execute(
        f"SELECT pid, host, process_started, {RUN_COLUMNS} FROM run WHERE state = 'running' AND pid IS NOT NULL"
    ).fetchall()
    return [(run_row(columns), ProcessIdentity(pid, host, started)) for pid, host, started, *columns in rows]


def save_progress(db: sqlite3.Connection, run: str, progress: Record) -> RunRow:
    """Store the progress of a run, and return its row."""
    db.execute("UPDATE run SET progress = ? WHERE id = ?", (encode_json(progress), run))
    return get_run(db, run)


def request_cancel(db: sqlite3.Connection, spec_id: str, *, now: bool) -> list[RunRow]:
    """Ask the running runs of an integration to stop after their page; at once if `now` or if asked before."""
    rows = db.execute(
        "UPDATE run SET cancel = CASE WHEN ? THEN 2 ELSE min(cancel + 1, 2) END "
        f"WHERE spec_id = ? AND state = 'running' RETURNING {RUN_COLUMNS}",
        (now, spec_id),
    ).fetchall()
    return [run_row(row) for row in rows]


def describe_cancel(run: RunRow, by: str) -> tuple[str, dict[str, Json]]:
    """Return the message and the fields of the event for a request to cancel."""
    when = "now" if run.cancel == CANCEL_NOW else "after the page in progress"
    return f"{by} asked the run to stop {when}", {"cancel": run.cancel}


def end_run(
    db: sqlite3.Connection,
    entry: RunEntry,
    run: RunRow,
    state: RunState,
    error: str | None,
    error_class: ErrorClass | None,
) -> RunRow:
    """End a run, count it as an error if it failed, and return its final row."""
    at = entry.at
    if state is RunState.FAILED:
        add_counts(db, entry.run, entry.spec_id, entry.flow, at, count_error(error_class))
    seconds = (datetime.fromisoformat(at) - datetime.fromisoformat(run.started_at)).total_seconds()
    seconds = max(seconds, 0.0)  # the clock may have been set back
    db.execute(
        "UPDATE run SET state = ?, ended_at = ?, duration = ?, error = ?, progress = NULL WHERE id = ?",
        (state, at, seconds, error and encode_text(error), run.run),
    )
    return get_run(db, run.run)


def touch_run(db: sqlite3.Connection, run: str, at: str) -> RunEntry | None:
    """Return the entry of a running run, whose integration changes; None if it does not exist or has ended."""
    row = db.execute("SELECT spec_id, spec_hash, flow FROM run WHERE id = ? AND ended_at IS NULL", (run,)).fetchone()
    if row is None:
        return None
    spec_id, spec_hash, flow = row
    touch(db, spec_id, at)
    return RunEntry(run, spec_id, spec_hash, flow, add_flow(db, spec_id, flow), at)


def move_cursor(db: sqlite3.Connection, entry: RunEntry, cursor: Json, route: str | None) -> None:
    """Set the cursor of a run, and the checkpoint of its flow."""
    as_text = encode_json(cursor)
    db.execute("UPDATE run SET cursor = ? WHERE id = ?", (as_text, entry.run))
    db.execute(
        "INSERT INTO checkpoint (spec_id, flow, cursor, run, at, route) VALUES (?, ?, ?, ?, ?, ?) "
        "ON CONFLICT DO UPDATE SET cursor = excluded.cursor, run = excluded.run, at = excluded.at, "
        "route = excluded.route",
        (entry.spec_id, entry.flow, as_text, entry.run, entry.at, route),
    )


def save_spec_version(db: sqlite3.Connection, spec_hash: str, spec: str, at: str) -> None:
    """Save the text of a spec, unless it is saved already."""
    db.execute(
        "INSERT INTO spec_version (hash, text, saved_at) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
        (spec_hash, encode_text(spec), at),
    )


def decide_state(row: RunRow, state: RunState | None, error: str | None) -> tuple[RunState, str | None]:
    """Return the state in which a run ends, and its error: failed if its counts do not match."""
    open_records = row.waiting + row.dead + row.unknown
    outcomes = row.written + row.unchanged + row.filtered + open_records
    if row.read != outcomes:
        mismatch = f"counts do not match: read {row.read}, outcomes {outcomes}"
        return RunState.FAILED, f"{error}; {mismatch}" if error else mismatch
    if state is None:
        state = RunState.FAILED if error else RunState.PARTIAL if open_records else RunState.SUCCEEDED
    return state, error


def describe_end(
    state: RunState, error: str | None, error_class: ErrorClass | None
) -> tuple[Level, str, dict[str, Json]]:
    """Return the level, the message and the fields of the event for the end of a run."""
    level = {RunState.FAILED: Level.ERROR, RunState.SUCCEEDED: Level.INFO}.get(state, Level.WARNING)
    fields: dict[str, Json] = {"state": state.value}
    if error_class:
        fields["class"] = error_class.value
    return level, f"{state}: {error}" if error else str(state), fields


class ReportedRun:
    """A run that a script reports while it works; see `RunLog.run`."""

    def __init__(self, log: RunStore, spec_id: str, run: str) -> None:
        self.id = run
        self._log = log
        self._spec_id = spec_id

    def add(
        self,
        *,
        read: int = 0,
        written: int = 0,
        created: int = 0,
        updated: int = 0,
        deleted: int = 0,
        unchanged: int = 0,
        filtered: int = 0,
        bytes_in: int = 0,
        bytes_out: int = 0,
        message: str = "",
        keys: Sequence[str] = (),
    ) -> None:
        """Count records read and their outcomes; report each failed record with `fail` in addition.

        `created`, `updated` and `deleted` are added to `written`. A `message` is logged as an event. `keys` are those
        of records that arrived: their earlier failures are closed.
        """
        page = PageResult(
            read=read,
            outcomes={
                Outcome.WRITTEN: written + created + updated + deleted,
                Outcome.UNCHANGED: unchanged,
                Outcome.FILTERED: filtered,
            },
            effects={Effect.CREATED: created, Effect.UPDATED: updated, Effect.DELETED: deleted},
            bytes_in=bytes_in,
            bytes_out=bytes_out,
            cursor=None,
            keys=keys,
            keep_cursor=True,
            message=message,
        )
        self._log.commit_page(self.id, page)

    def fail(
        self,
        key: str,
        message: str,
        *,
        source: Record | None = None,
        error_class: ErrorClass = ErrorClass.REJECTED,
        stage: Stage = Stage.WRITE,
        status: int | None = None,
        file: str = "",
    ) -> None:
        """Report a record that was read but could not be written: it becomes a dead letter under its `key`.

        `file` is the path of the integration's spec, if it has one.
        """
        failure = NewFailure(
            key=key,
            state=FailureState.DEAD,
            stage=stage,
            error_class=error_class,
            message=message,
            file=file,
            line=1 if file else 0,
            source=source or {},
            status=status,
        )
        page = PageResult(
            read=0,
            outcomes={Outcome.DEAD: 1},
            effects={},
            bytes_in=0,
            bytes_out=0,
            cursor=None,
            failures=(failure,),
            keep_cursor=True,
            message=f"{key}: {message}",
        )
        self._log.commit_page(self.id, page)

    def event(self, message: str, level: Level = Level.INFO, fields: Mapping[str, Json] | None = None) -> None:
        """Append a line to the event log."""
        self._log.log_event(self._spec_id, self.id, level, "log", message, fields)


@contextmanager
def report_run(log: RunStore, spec_id: str, run: str) -> Iterator[ReportedRun]:
    """Yield a run that was started, and end it: as failed after an exception."""
    try:
        yield ReportedRun(log, spec_id, run)
    except BaseException as error:
        state = RunState.CANCELLED if isinstance(error, KeyboardInterrupt) else RunState.FAILED
        log.finish_run(run, f"{type(error).__name__}: {error}", state)
        raise
    log.finish_run(run)


_DUE: Final = "failure WHERE spec_id = ? AND flow = ? AND state = 'waiting' AND next_attempt_at <= ?"


class EarlierRuns:
    """What a run reads from earlier runs, through the connection that it writes with: implements `RunStoreView`."""

    def __init__(self, connection: WriteConnection, private: PrivateRecords) -> None:
        self._connection = connection
        self._private = private
        self._states = RecordStates()
        self._source_keys = SourceKeys()

    def get_spec_version(self, spec_hash: str) -> str | None:
        """Return the text of the spec with that hash; None if no run saved it, or retention deleted it."""
        row = self._connection.read_one("SELECT text FROM spec_version WHERE hash = ?", (spec_hash,))
        return row[0] if row else None

    def get_cursor(self, spec_id: str, flow: str = DEFAULT_FLOW) -> Json:
        """Return the cursor that the next run resumes from; None to read from the start."""
        row = self._connection.read_one("SELECT cursor FROM checkpoint WHERE spec_id = ? AND flow = ?", (spec_id, flow))
        cursor: Json = json.loads(row[0]) if row else None
        return cursor

    def get_route(self, spec_id: str, flow: str = DEFAULT_FLOW) -> str | None:
        """Return the fingerprint of the source and target that the cursor belongs to; None if not recorded."""
        row = self._connection.read_one("SELECT route FROM checkpoint WHERE spec_id = ? AND flow = ?", (spec_id, flow))
        return row[0] if row else None

    def get_field_profile(self, spec_id: str) -> Json:
        """Return the field profile saved last; None if there is no profile."""
        with self._connection.reading() as db:
            return read_field_profile(db, spec_id)

    def get_last_run_state(self, spec_id: str) -> RunState | None:
        """Return the state of the latest run that has ended; None if no run has."""
        row = self._connection.read_one(
            "SELECT state FROM run WHERE spec_id = ? AND ended_at IS NOT NULL ORDER BY id DESC LIMIT 1", (spec_id,)
        )
        return RunState(row[0]) if row else None

    def get_missing(self, spec_id: str, limit: int, after: str = "", flow: str = DEFAULT_FLOW) -> list[MissingRecord]:
        """Return the first missing records that are not handled yet, with a key greater than `after`."""
        with self._connection.transaction() as db:
            return self._source_keys.get_missing(db, find_flow(db, spec_id, flow), after, limit)

    def get_tombstones(self, spec_id: str, keys: Sequence[str], flow: str = DEFAULT_FLOW) -> dict[str, Record]:
        """Return the identity at the target of those of `keys` that are tombstones and were not seen again."""
        with self._connection.reading() as db:
            return self._source_keys.get_tombstones(db, find_flow(db, spec_id, flow), keys)

    def get_hashes(self, spec_id: str, keys: Sequence[str], flow: str = DEFAULT_FLOW) -> dict[str, bytes]:
        """Return the hash of the record at the target, for those of `keys` that are known to be there."""
        with self._connection.reading() as db:
            return self._states.get(db, find_flow(db, spec_id, flow), keys)

    def get_due_failures(
        self, spec_id: str, now: datetime | str, limit: int = 100, flow: str = DEFAULT_FLOW
    ) -> list[FailureRow]:
        """Return records of the retry queue that are due at `now`, the longest due first, in full."""
        now = now if isinstance(now, str) else format_timestamp(now)
        with self._connection.reading() as db:
            rows = db.execute(
                f"SELECT {FAILURE_COLUMNS} FROM {_DUE} ORDER BY next_attempt_at LIMIT ?", (spec_id, flow, now, limit)
            ).fetchall()
            return self._private.restore([failure_row(row) for row in rows])

    def count_due_failures(self, spec_id: str, now: datetime, flow: str = DEFAULT_FLOW) -> int:
        """Return how many records of the retry queue are due at `now`."""
        row = self._connection.read_one(f"SELECT count(*) FROM {_DUE}", (spec_id, flow, format_timestamp(now)))
        return int(row[0])

    def get_unknown_failures(self, spec_id: str, keys: Sequence[str], flow: str = DEFAULT_FLOW) -> list[FailureRow]:
        """Return the open failures of `keys` whose outcome is unknown, with the payload that was sent."""
        with self._connection.reading() as db:
            rows = db.execute(
                f"SELECT {FAILURE_COLUMNS} FROM failure WHERE spec_id = ? AND flow = ? AND {OPEN} "
                "AND state = 'unknown' AND key <> '' AND key IN (SELECT value FROM json_each(?))",
                (spec_id, flow, json.dumps([encode_text(key) for key in keys])),
            ).fetchall()
            return self._private.restore([failure_row(row) for row in rows])
