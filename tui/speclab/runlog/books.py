"""The bookkeeping of records: how outcomes, failures and the counts of a run move together.

Every function works inside the writer's transaction. The rule they keep is the run's balance: a record is read once
and has one outcome, so whatever changes a record's outcome moves one count down and another up.
"""

from __future__ import annotations

import json
import re
import sqlite3
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from speclab.errors import UsageError
from speclab.outcome import Effect, FailureState, Outcome
from speclab.runlog import rollup
from speclab.runlog.encoding import as_json, text
from speclab.runlog.ids import Ids
from speclab.runlog.rows import NewFailure, PageBooks, Settled
from speclab.runlog.schema import ERROR_COLUMNS, OPEN

_RUN_ONLY: Final = {Effect.CREATED.value, Effect.UPDATED.value, Effect.DELETED.value}
"""Counts a run has and the rollup has not."""


@dataclass(frozen=True, slots=True)
class Entry:
    """In whose books, and when: the run that is counting."""

    run: str
    spec_id: str
    spec_hash: str
    integration: int
    at: str


def count(connection: sqlite3.Connection, entry: Entry, counts: Mapping[str, int]) -> None:
    """Add `counts` (column → how many) to the run, and to the rollup at the entry's time."""
    counts = {column: n for column, n in counts.items() if n}
    in_run = {column: n for column, n in counts.items() if not column.startswith("errors")}
    if in_run:
        connection.execute(
            f"UPDATE run SET {', '.join(f'{column} = {column} + ?' for column in in_run)} WHERE id = ?",
            (*in_run.values(), entry.run),
        )
    rollup.add(connection, entry.spec_id, entry.at, {c: n for c, n in counts.items() if c not in _RUN_ONLY})


def page_counts(books: PageBooks) -> Counter[str]:
    """What a page adds to its run and to the rollup."""
    counts = Counter[str](read=books.read, bytes_in=books.bytes_in, bytes_out=books.bytes_out)
    counts.update({outcome.value: n for outcome, n in books.outcomes.items()})
    counts.update({effect.value: n for effect, n in books.effects.items() if effect is not Effect.WRITTEN})
    for failure in books.failures:
        counts.update(_error(failure))
    return counts


def supersede(connection: sqlite3.Connection, entry: Entry, keys: Iterable[str]) -> None:
    """Close the open failures of `keys` (which may come twice): newer records were read, so old ones must not be sent.

    Where the older record is in this very run's books, it was deliberately not written in the end: filtered.
    """
    if not connection.execute(f"SELECT 1 FROM failure WHERE spec_id = ? AND {OPEN}", (entry.spec_id,)).fetchone():
        return
    rows = connection.execute(
        f"SELECT id, state, counted_by, counted_at FROM failure WHERE spec_id = ? AND {OPEN} AND key <> '' "
        "AND key IN (SELECT value FROM json_each(?))",
        (entry.spec_id, json.dumps(sorted({text(key) for key in keys}))),
    ).fetchall()
    connection.executemany(
        "UPDATE failure SET state = ?, last_at = ?, next_attempt_at = NULL WHERE id = ?",
        [(FailureState.SUPERSEDED, entry.at, row[0]) for row in rows],
    )
    for _, state, counted_by, counted_at in rows:
        if counted_by == entry.run:
            _move(connection, entry, state, Outcome.FILTERED, counted_at)


def store(connection: sqlite3.Connection, entry: Entry, failures: Sequence[NewFailure], ids: Ids) -> None:
    """Add new failures of keys that have no open failure; of two with one key, the later supersedes the earlier."""
    seen = set[str]()
    for failure in failures:
        if failure.key in seen:
            supersede(connection, entry, (failure.key,))
        seen.add(failure.key)
        connection.execute(
            "INSERT INTO failure (id, run, spec_id, spec_hash, key, first_at, counted_by, counted_at, source, "
            f"{', '.join(_OF_ATTEMPT)}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?{', ?' * len(_OF_ATTEMPT)})",
            (ids.new(), entry.run, entry.spec_id, entry.spec_hash, text(failure.key), entry.at, entry.run, entry.at,
             as_json(failure.source), *_attempt(failure, entry.at, failure.attempts)),
        )  # fmt: skip


def settle(connection: sqlite3.Connection, entry: Entry, settled: Settled) -> Counter[str]:
    """Record what a retry came to; gives what it adds to the retrying run's counts.

    An open failure in this run's own books moves from its old outcome to the new one. Any other record was counted
    by a run that is over: this run reads it again. A failure that was closed meanwhile (a person discarded it while it
    was on its way) stays closed, unless it was written after all.
    """
    row = connection.execute(
        "SELECT state, attempts, counted_by, counted_at FROM failure WHERE id = ?", (settled.failure,)
    ).fetchone()
    if row is None:
        raise UsageError(f"no failure {settled.failure} in the run log")
    state, attempts, counted_by, counted_at = row
    is_open = state in (FailureState.WAITING, FailureState.DEAD, FailureState.UNKNOWN)
    counts = Counter[str](bytes_out=settled.bytes_out)
    if settled.effect is not None and settled.effect is not Effect.WRITTEN:
        counts[settled.effect.value] += 1
    if is_open and counted_by == entry.run:
        _move(connection, entry, state, settled.outcome, counted_at)
    else:
        counts.update({"read": 1, settled.outcome.value: 1})
        counted_by, counted_at = entry.run, entry.at
    if settled.again is not None:
        counts.update(_error(settled.again))
    if settled.again is not None and is_open:
        connection.execute(
            f"UPDATE failure SET spec_hash = ?, counted_by = ?, counted_at = ?, "
            f"{', '.join(f'{column} = ?' for column in _OF_ATTEMPT)} WHERE id = ?",
            (entry.spec_hash, counted_by, counted_at,
             *_attempt(settled.again, entry.at, attempts + settled.again.attempts), settled.failure),
        )  # fmt: skip
    elif is_open or settled.outcome is Outcome.WRITTEN:
        connection.execute(
            "UPDATE failure SET state = ?, attempts = ?, last_at = ?, next_attempt_at = NULL WHERE id = ?",
            (FailureState.RESOLVED, attempts + 1, entry.at, settled.failure),
        )
    return counts


def _move(connection: sqlite3.Connection, entry: Entry, old: str, new: Outcome, counted_at: str) -> None:
    """Move one record of the run from one outcome to another, in the span it was read in."""
    if old != new:
        count(connection, replace(entry, at=counted_at), {old: -1, new.value: 1})


def _error(failure: NewFailure) -> dict[str, int]:
    return {"errors": 1, ERROR_COLUMNS[failure.error_class]: 1}


_OF_ATTEMPT: Final = (
    "state", "stage", "class", "status", "message", "shape", '"row"', '"column"', "file", "line", "attempts",
    "last_at", "next_attempt_at", "payload", "request", "response", "idempotency_key",
)  # fmt: skip
"""The columns of `failure` that each attempt writes anew."""


def _attempt(failure: NewFailure, at: str, attempts: int) -> tuple[object, ...]:
    """The values of `_OF_ATTEMPT`."""
    return (
        failure.state, failure.stage, failure.error_class, failure.status, text(failure.message),
        text(shape(failure.message)), text(failure.row), failure.column, text(failure.file), failure.line, attempts,
        at, failure.next_attempt_at, as_json(failure.payload) if failure.payload is not None else None,
        text(failure.request), text(failure.response), failure.idempotency_key,
    )  # fmt: skip


_VARYING: Final = re.compile(r"""(["'`]).*?\1 | \b[0-9a-f]{8}-[0-9a-f-]{27}\b | \d[\d.,:]*""", re.VERBOSE)


def shape(message: str) -> str:
    """`message` without what differs from record to record: quoted text, ids and numbers become `…`."""
    return _VARYING.sub("…", message)
