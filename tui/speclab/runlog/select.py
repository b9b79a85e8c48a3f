"""How rows of the run log are read: the columns of each kind, in order, and the values made of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

from speclab.outcome import ErrorClass, FailureState, Level, RunState, Stage
from speclab.runlog.rows import EventRow, FailureGroup, FailureRow, RunRow
from speclab.runlog.schema import ARRIVED, OPEN

INTEGRATION: Final = f"""
SELECT spec_id, title, path, status, schedule, registered_at, revision, waiting, dead, unknown,
    (SELECT min(first_at) FROM failure f WHERE f.spec_id = i.spec_id AND state = 'waiting'),
    (SELECT min(next_attempt_at) FROM failure f WHERE f.spec_id = i.spec_id AND state = 'waiting'),
    (SELECT max(ended_at) FROM run r WHERE r.spec_id = i.spec_id AND state = 'succeeded'),
    (SELECT max(started_at) FROM run r WHERE r.spec_id = i.spec_id AND {ARRIVED}),
    (SELECT count(*) FROM alert a WHERE a.spec_id = i.spec_id AND state = 'firing'),
    paused_at, paused_by, paused_reason
FROM integration i"""
"""Makes an `IntegrationRow` of each integration; every part of it is one look into an index."""

RUN_COLUMNS: Final = (
    "id, spec_id, spec_hash, trigger, state, started_at, ended_at, read, written, created, updated, deleted, "
    "unchanged, filtered, waiting, dead, unknown, bytes_in, bytes_out, cursor, error, total, cancel, progress"
)
FAILURE_SUMMARY: Final = (
    'id, run, spec_id, key, state, stage, class, status, message, "row", "column", file, line, attempts, first_at, '
    "last_at, next_attempt_at"
)
FAILURE_COLUMNS: Final = f"{FAILURE_SUMMARY}, source, payload, request, response, spec_hash, idempotency_key"
GROUPS: Final = f"""
SELECT spec_id, stage, "row", class, status, state, shape, count(*), max(last_at),
    (SELECT message FROM failure f WHERE f.spec_id = g.spec_id AND f.stage = g.stage AND f."row" IS g."row"
        AND f.class = g.class AND f.status IS g.status AND f.state = g.state AND f.shape = g.shape AND f.{OPEN}
        ORDER BY last_at DESC LIMIT 1)
FROM failure g INDEXED BY failure_open_group WHERE {OPEN}"""
"""Makes a `FailureGroup` of each group by the first seven columns, out of the index of open failures."""

_SOURCE, _PAYLOAD = 17, 18
EVENT_COLUMNS: Final = "id, at, spec_id, run, level, kind, message, fields"


def run_row(row: Sequence[Any]) -> RunRow:
    """The run in a row of `RUN_COLUMNS`."""
    values = list(row)
    values[4], values[19] = RunState(row[4]), json.loads(row[19])
    values[23] = None if row[23] is None else json.loads(row[23])
    return RunRow(*values)


def failure_row(row: Sequence[Any]) -> FailureRow:
    """The failure in a row of `FAILURE_COLUMNS`, or of `FAILURE_SUMMARY`."""
    values = list(row)
    values[4:7] = FailureState(row[4]), Stage(row[5]), ErrorClass(row[6])
    if len(values) > _SOURCE:
        values[_SOURCE] = json.loads(row[_SOURCE])
        values[_PAYLOAD] = None if row[_PAYLOAD] is None else json.loads(row[_PAYLOAD])
    return FailureRow(*values)


def group_row(row: Sequence[Any]) -> FailureGroup:
    """The group in a row of `GROUPS`."""
    values = list(row)
    values[1], values[3], values[5] = Stage(row[1]), ErrorClass(row[3]), FailureState(row[5])
    return FailureGroup(*values)


def event_row(row: Sequence[Any]) -> EventRow:
    """The event in a row of `EVENT_COLUMNS`."""
    values = list(row)
    values[4], values[7] = Level(row[4]), json.loads(row[7])
    return EventRow(*values)
