"""Rows of integrations and runs, and runs that other tools report."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence
from datetime import datetime

from speclab.core.json import Json, Record
from speclab.core.locks import ProcessIdentity
from speclab.core.outcome import Effect, ErrorClass, FailureState, Level, Outcome, RunState, Stage
from speclab.runlog.accounting import RunEntry
from speclab.runlog.connection import encode_json, encode_text
from speclab.runlog.protocol import RunStore
from speclab.runlog.rows import (
    CANCEL_NOW,
    RUN_COLUMNS,
    NewFailure,
    PageResult,
    ReconciliationRow,
    RunRow,
    run_row,
)


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
    db.execute(
        "UPDATE integration SET paused_at = ?, paused_by = ?, paused_reason = ? WHERE spec_id = ?",
        (at, encode_text(by), encode_text(reason) or None, spec_id),
    )


def resume(db: sqlite3.Connection, spec_id: str) -> None:
    """End the pause of an integration."""
    db.execute(
        "UPDATE integration SET paused_at = NULL, paused_by = NULL, paused_reason = NULL WHERE spec_id = ?",
        (spec_id,),
    )


def get_field_profile(db: sqlite3.Connection, spec_id: str) -> Json:
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


def end_run(db: sqlite3.Connection, run: RunRow, at: str, state: RunState, error: str | None) -> RunRow:
    """End a run, and return its final row."""
    seconds = (datetime.fromisoformat(at) - datetime.fromisoformat(run.started_at)).total_seconds()
    seconds = max(seconds, 0.0)  # the clock may have been set back
    db.execute(
        "UPDATE run SET state = ?, ended_at = ?, duration = ?, error = ?, progress = NULL WHERE id = ?",
        (state, at, seconds, error and encode_text(error), run.run),
    )
    return get_run(db, run.run)


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
