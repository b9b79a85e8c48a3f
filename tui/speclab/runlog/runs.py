"""The table `run`: start, progress, requests to cancel, and end. Every function works inside a transaction."""

from __future__ import annotations

import sqlite3
from datetime import datetime

from speclab.core.json import Json, Record
from speclab.core.locks import ProcessIdentity
from speclab.core.outcome import RunState
from speclab.runlog.accounting import RunEntry
from speclab.runlog.connection import encode_json, encode_text
from speclab.runlog.rows import CANCEL_NOW, RUN_COLUMNS, RunRow, run_row


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
