"""What the run log keeps of old runs: retention, daily rollups, and statistics of field values."""

from __future__ import annotations

import json
import sqlite3
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from time import sleep
from typing import Final

from speclab.core.clock import format_timestamp
from speclab.core.outcome import Outcome, RunState
from speclab.runlog.reader import RunLogReader
from speclab.runlog.rows import RUN_COLUMNS, RunRow, run_row
from speclab.runlog.schema import ERROR_COLUMNS, OPEN, READ_TO_END


class RollupSpan(StrEnum):
    """The length of time that one row of the rollup covers."""

    MINUTE = "minute"
    HOUR = "hour"
    DAY = "day"

    def start(self, at: str) -> str:
        """Return the start of the span that contains the timestamp `at`, as a timestamp."""
        return at[: _PREFIX_LENGTH[self]] + "0000-00-00T00:00:00.000Z"[_PREFIX_LENGTH[self] :]


_PREFIX_LENGTH: Final = {RollupSpan.MINUTE: 17, RollupSpan.HOUR: 14, RollupSpan.DAY: 11}


@dataclass(frozen=True, slots=True)
class RollupBucket:
    """The rows of one span from `start` (inclusive) to `end` (exclusive)."""

    span: RollupSpan
    start: str
    end: str


def add_counts(connection: sqlite3.Connection, spec_id: str, flow: str, at: str, counts: Mapping[str, int]) -> None:
    """Add `counts` (by column) to the minute, the hour and the day of `at`."""
    if not counts:
        return
    columns = ", ".join(counts)
    connection.executemany(
        f"INSERT INTO rollup (spec_id, span, start, flow, {columns}) VALUES (?, ?, ?, ?{', ?' * len(counts)}) "
        f"ON CONFLICT DO UPDATE SET {', '.join(f'{column} = {column} + excluded.{column}' for column in counts)}",
        [(spec_id, span, span.start(at), flow, *counts.values()) for span in RollupSpan],
    )


def split_window(since: datetime) -> Iterator[RollupBucket]:
    """Yield the buckets that cover the time from the minute of `since` on with the fewest rows.

    They are minutes up to the next full hour, hours up to the next midnight, and days after that, without an end: a
    window of 24 hours has at most 59 + 23 + 1 rows.
    """
    minute = since.astimezone(UTC).replace(second=0, microsecond=0)
    hour = _round_up(minute, timedelta(hours=1))
    day = _round_up(hour, timedelta(days=1))
    yield RollupBucket(RollupSpan.MINUTE, format_timestamp(minute), format_timestamp(hour))
    yield RollupBucket(RollupSpan.HOUR, format_timestamp(hour), format_timestamp(day))
    yield RollupBucket(RollupSpan.DAY, format_timestamp(day), "9999")


def _round_up(moment: datetime, step: timedelta) -> datetime:
    """Return the first whole multiple of `step`, counted from midnight, at or after `moment`."""
    midnight = moment.replace(hour=0, minute=0)
    return midnight + -((midnight - moment) // step) * step


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
        "SELECT started_at FROM run WHERE spec_id = ? AND trigger NOT IN ('retry', 'repair') "
        "AND state NOT IN ('cancelled', 'interrupted') AND started_at <= ? ORDER BY id DESC LIMIT 1",
        (spec_id, format_timestamp(now)),
    )
    return datetime.fromisoformat(rows[0][0]) if rows else None


_CHUNK: Final = 500
_PAUSE: Final = 0.005
"""Seconds between two chunks: a process that waits to write polls the lock only now and then."""

_NEXT_EVENTS: Final = f"""
SELECT max(id), count(*) FILTER (WHERE at < :kept OR at > :now) FROM (
    SELECT id, at FROM log_event WHERE spec_id = :spec AND id > :after ORDER BY id LIMIT {_CHUNK})"""
"""A clock that was ahead for a while leaves events of the future between older ones."""

_EVENTS: Final = "DELETE FROM log_event WHERE spec_id = :spec AND id > :after AND id <= :last AND at < :kept"

_FAILURES: Final = f"""
DELETE FROM failure WHERE id IN (
    SELECT id FROM failure WHERE spec_id = :spec AND NOT ({OPEN}) AND last_at < :kept LIMIT {_CHUNK})"""

_PAYLOADS: Final = f"""
UPDATE failure SET source = '{{}}', payload = NULL, request = NULL, response = NULL WHERE id IN (
    SELECT id FROM failure WHERE spec_id = :spec AND NOT ({OPEN}) AND last_at < :kept
        AND (source <> '{{}}' OR payload IS NOT NULL OR request IS NOT NULL OR response IS NOT NULL) LIMIT {_CHUNK})"""

_RUNS: Final = f"""
DELETE FROM run WHERE id IN (
    SELECT id FROM run WHERE spec_id = :spec AND ended_at < :kept
        AND id IS NOT (SELECT max(id) FROM run WHERE spec_id = :spec)
        AND id IS NOT (SELECT id FROM run WHERE spec_id = :spec AND state = 'succeeded' ORDER BY ended_at DESC LIMIT 1)
        AND id IS NOT (SELECT id FROM run WHERE spec_id = :spec AND {READ_TO_END} ORDER BY started_at DESC LIMIT 1)
        AND NOT EXISTS (SELECT 1 FROM failure WHERE failure.run = run.id)
    LIMIT {_CHUNK})"""

_ROLLUPS: Final = f"""
DELETE FROM rollup WHERE (spec_id, span, start) IN (
    SELECT spec_id, span, start FROM rollup
    WHERE spec_id = :spec AND span IN ('{RollupSpan.MINUTE}', '{RollupSpan.HOUR}') AND start < :kept LIMIT {_CHUNK})"""


_SPEC_VERSIONS: Final = f"""
DELETE FROM spec_version WHERE hash IN (
    SELECT hash FROM spec_version WHERE saved_at < :kept
        AND NOT EXISTS (SELECT 1 FROM run WHERE spec_hash = spec_version.hash)
    LIMIT {_CHUNK})"""


_RECONCILIATIONS: Final = f"""
DELETE FROM reconciliation WHERE id IN (
    SELECT id FROM reconciliation WHERE spec_id = :spec AND at < :kept
        AND id IS NOT (SELECT max(id) FROM reconciliation WHERE spec_id = :spec)
    LIMIT {_CHUNK})"""


@dataclass(frozen=True, slots=True)
class Pruned:
    """The number of rows deleted of each kind, and of failures whose records were deleted."""

    events: int
    failures: int
    runs: int
    rollups: int
    payloads: int = 0


@dataclass(frozen=True, slots=True)
class KeptSince:
    """The timestamps before which rows are deleted."""

    events: str
    runs: str
    failures: str
    payloads: str

    @classmethod
    def before(
        cls, now: datetime, events: float, failures: float, *, runs: float | None, payloads: float | None
    ) -> KeptSince:
        """Return the timestamps for ages in seconds: of `runs` as of events, and `payloads` as failures, by default."""
        ages = (events, events if runs is None else runs, failures, failures if payloads is None else payloads)
        return cls(*(format_timestamp(now - timedelta(seconds=seconds)) for seconds in ages))


def prune(
    transaction: Callable[[], AbstractContextManager[sqlite3.Connection]],
    spec_id: str,
    kept_since: KeptSince,
    now: str,
) -> Pruned:
    """Delete old rows of one integration, each chunk in a separate transaction.

    Rollups of minutes and hours, and reconciliations, are deleted with runs, specs with their last run, and only
    failures that are resolved, superseded or discarded; `payloads` are their source record, payload, request and
    response. These are kept regardless of age: open failures with their records; runs that a failure refers to; the
    last reconciliation; the last run, the last that succeeded and the last that read its source to the end; and
    rollups of days.
    """
    with transaction() as db:
        (running,) = db.execute(
            "SELECT min(started_at) FROM run WHERE spec_id = ? AND state = 'running'", (spec_id,)
        ).fetchone()
    # A running run may still move records in the spans that counted them.
    rollups_kept_since = min(kept_since.runs, RollupSpan.HOUR.start(running)) if running else kept_since.runs

    def delete(sql: str, kept: str) -> int:
        deleted, chunk = 0, _CHUNK
        while chunk == _CHUNK:
            with transaction() as db:
                chunk = db.execute(sql, {"spec": spec_id, "kept": kept}).rowcount
            deleted += chunk
            sleep(_PAUSE)
        return deleted

    def delete_events() -> int:
        deleted, last = 0, 0
        while True:
            with transaction() as db:
                scope = {"spec": spec_id, "kept": kept_since.events, "now": now, "after": last}
                last, passing = db.execute(_NEXT_EVENTS, scope).fetchone()
                if not passing:
                    return deleted
                deleted += db.execute(_EVENTS, scope | {"last": last}).rowcount
            sleep(_PAUSE)

    pruned = Pruned(
        events=delete_events(),
        failures=delete(_FAILURES, kept_since.failures),
        runs=delete(_RUNS, kept_since.runs),
        rollups=delete(_ROLLUPS, rollups_kept_since),
        payloads=delete(_PAYLOADS, kept_since.payloads),
    )
    delete(_SPEC_VERSIONS, kept_since.runs)
    delete(_RECONCILIATIONS, kept_since.runs)
    return pruned
