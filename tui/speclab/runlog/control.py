"""Requests to cancel a running run, and the progress it reports: columns of its row that others read and write."""

from __future__ import annotations

import sqlite3

from speclab.jsonvalue import Json, Record
from speclab.runlog.encoding import as_json
from speclab.runlog.progress import NOW
from speclab.runlog.rows import RunRow
from speclab.runlog.select import RUN_COLUMNS, run_row


def running(db: sqlite3.Connection, run: str) -> RunRow:
    """Return the row of a run that is there."""
    return run_row(db.execute(f"SELECT {RUN_COLUMNS} FROM run WHERE id = ?", (run,)).fetchone())


def note_progress(db: sqlite3.Connection, run: str, progress: Record) -> RunRow:
    """Store the progress of a run, and return its row."""
    db.execute("UPDATE run SET progress = ? WHERE id = ?", (as_json(progress), run))
    return running(db, run)


def cancel(db: sqlite3.Connection, spec_id: str, *, now: bool) -> list[RunRow]:
    """Ask the running runs of an integration to stop after their page, or at once if `now` or asked before."""
    rows = db.execute(
        "UPDATE run SET cancel = CASE WHEN ? THEN 2 ELSE min(cancel + 1, 2) END "
        f"WHERE spec_id = ? AND state = 'running' RETURNING {RUN_COLUMNS}",
        (now, spec_id),
    ).fetchall()
    return [run_row(row) for row in rows]


def cancel_event(run: RunRow, by: str) -> tuple[str, dict[str, Json]]:
    """Return message and fields of the event of such a request."""
    when = "now" if run.cancel == NOW else "after the page in progress"
    return f"{by} asked the run to stop {when}", {"cancel": run.cancel}
