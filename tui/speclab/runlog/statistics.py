"""Statistics over rollups and runs, for dashboards and checks.

Each function takes any number of integrations, by spec_id, and is answered by an index.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Final

from speclab.core.clock import format_timestamp
from speclab.core.outcome import Outcome, RunState
from speclab.runlog.reader import RunLogReader
from speclab.runlog.rollup import RollupSpan, split_window
from speclab.runlog.rows import RUN_COLUMNS, RunRow, run_row
from speclab.runlog.schema import ERROR_COLUMNS, READ_TO_END

SUCCESSFUL: Final = (Outcome.WRITTEN, Outcome.UNCHANGED, Outcome.FILTERED)
"""Outcomes that need no further attempt."""

_COUNTS: Final = ("read", *Outcome, "bytes_in", "bytes_out", "errors", *ERROR_COLUMNS.values())
_CHOSEN: Final = "spec_id IN (SELECT value FROM json_each(?1))"
_CONCLUDED: Final = "SELECT value, {} FROM json_each(?1)".format(
    ", ".join(
        "(SELECT state FROM run WHERE spec_id = value AND state NOT IN ('running', 'cancelled')"
        f"{condition} ORDER BY id DESC LIMIT 1)"
        for condition in ("", " AND trigger <> 'retry'")
    )
)


def sum_counts(reader: RunLogReader, spec_ids: Sequence[str], since: datetime) -> dict[str, dict[str, int]]:
    """Return the counts since the minute of `since`, by spec_id and column of the rollup."""
    chosen = json.dumps(list(spec_ids))
    sums: defaultdict[str, list[int]] = defaultdict(lambda: [0] * len(_COUNTS))
    for bucket in split_window(since):
        for spec_id, *counts in reader.query(
            f"SELECT spec_id, {', '.join(f'sum({column})' for column in _COUNTS)} FROM rollup "
            f"WHERE {_CHOSEN} AND span = ?2 AND start >= ?3 AND start < ?4 GROUP BY spec_id",
            (chosen, bucket.span, bucket.start, bucket.end),
        ):
            sums[spec_id] = [a + b for a, b in zip(sums[spec_id], counts, strict=True)]
    return {spec_id: dict(zip(_COUNTS, counts, strict=True)) for spec_id, counts in sums.items()}


def get_success_counts(
    reader: RunLogReader, spec_ids: Sequence[str], span: RollupSpan, since: str
) -> Iterator[tuple[str, str, int, int]]:
    """Yield spec_id, start, successful records and records read of each rollup row of `span` from `since` on."""
    yield from reader.query(
        f"SELECT spec_id, start, {' + '.join(SUCCESSFUL)}, read FROM rollup "
        f"WHERE {_CHOSEN} AND span = ?2 AND start >= ?3",
        (json.dumps(list(spec_ids)), span, since),
    )


def get_durations(reader: RunLogReader, spec_ids: Sequence[str], since: datetime) -> dict[str, list[float]]:
    """Return the seconds that each run took which ended since `since` and read its source to the end."""
    found = defaultdict[str, list[float]](list)
    for spec_id, duration in reader.query(
        f"SELECT spec_id, duration FROM run WHERE {_CHOSEN} AND ended_at >= ?2 AND {READ_TO_END}",
        (json.dumps(list(spec_ids)), format_timestamp(since)),
    ):
        found[spec_id].append(duration)
    return found


def get_last_runs(reader: RunLogReader, spec_ids: Sequence[str]) -> dict[str, RunRow]:
    """Return the last run of each integration that has one."""
    rows = reader.query(
        f"SELECT {RUN_COLUMNS} FROM run WHERE id IN "
        "(SELECT (SELECT max(id) FROM run WHERE spec_id = value) FROM json_each(?1))",
        (json.dumps(list(spec_ids)),),
    )
    return {run.spec_id: run for run in map(run_row, rows)}


def get_concluded_states(reader: RunLogReader, spec_ids: Sequence[str]) -> dict[str, set[RunState]]:
    """Return the states of the last run that ended without being cancelled, and of the last such run but retries."""
    if not spec_ids:
        return {}
    rows = reader.query(_CONCLUDED, (json.dumps(list(spec_ids)),))
    return {spec_id: {RunState(state) for state in states if state is not None} for spec_id, *states in rows}


def count_read(reader: RunLogReader, spec_id: str, since: str) -> int:
    """Return the number of records read from the minute `since` on."""
    ((read,),) = reader.query(
        "SELECT coalesce(sum(read), 0) FROM rollup WHERE spec_id = ? AND span = 'minute' AND start >= ?",
        (spec_id, since),
    ) or [(0,)]
    return int(read)


def has_running_run(reader: RunLogReader, spec_id: str) -> bool:
    """Return whether a run of the integration is running."""
    return bool(reader.query("SELECT 1 FROM run WHERE spec_id = ? AND state = 'running' LIMIT 1", (spec_id,)))


def get_last_start(reader: RunLogReader, spec_id: str, now: datetime) -> datetime | None:
    """Return when the last run started that read the source and was not cut short, at `now` or before."""
    rows = reader.query(
        "SELECT started_at FROM run WHERE spec_id = ? AND trigger <> 'retry' "
        "AND state NOT IN ('cancelled', 'interrupted') AND started_at <= ? ORDER BY id DESC LIMIT 1",
        (spec_id, format_timestamp(now)),
    )
    return datetime.fromisoformat(rows[0][0]) if rows else None
