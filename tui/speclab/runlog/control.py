"""Control of a running run: requests to cancel it, and the progress it reports within a page."""

from __future__ import annotations

import sqlite3
from datetime import datetime
from typing import TYPE_CHECKING

from speclab.core.json import Json, Record
from speclab.core.text import format_count
from speclab.runlog.connection import as_json
from speclab.runlog.rows import RUN_COLUMNS, RunRow, run_row

if TYPE_CHECKING:
    from speclab.runlog.rows import RunRow


AFTER_PAGE = 1
"""The value of the column `cancel`: stop after the page in progress, ..."""
NOW = 2
"""... or now."""


def progress_text(run: RunRow, now: datetime | None = None) -> str:
    """Return what a running run does: `page 3: 40 of 200 sent, 41 requests, waits 28 s: the rate limit is used up`.

    Without `now`, a wait comes first and with the time of day at which it ends, for a text that is not drawn every
    second and has little room.
    """
    found = run.progress or {}
    parts = []
    if found.get("page"):
        records = found.get("records")
        doing = f"{found.get('sent', 0):,} of {records:,} sent" if records else "reading"
        parts.append(f"page {found['page']:,}: {doing}")
    if requests := found.get("requests"):
        parts.append(format_count(int(str(requests)), "request"))
    if until := found.get("until"):
        end = datetime.fromisoformat(str(until))
        if now is None:
            parts.insert(0, f"waits until {end.astimezone():%H:%M:%S}: {found.get('wait')}")
        else:
            parts.append(f"waits {max(0, round((end - now).total_seconds())):,} s: {found.get('wait')}")
    if run.cancel:
        parts.insert(0, "stopping now" if run.cancel == NOW else "stopping after this page")
    return ", ".join(parts)


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
