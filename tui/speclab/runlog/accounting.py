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
from dataclasses import dataclass
from typing import Final

from speclab.core.errors import UsageError
from speclab.core.outcome import Effect, ErrorClass, FailureState, Outcome
from speclab.runlog import rollup
from speclab.runlog.connection import Ids, as_json, text
from speclab.runlog.rows import NewFailure, PageResult, RetryResult
from speclab.runlog.schema import ERROR_COLUMNS, OPEN

FAILED: Final = (Outcome.WAITING, Outcome.DEAD, Outcome.UNKNOWN)
"""Outcomes of records that did not get through: each has a failure."""
_OPEN_STATES: Final = (FailureState.WAITING, FailureState.DEAD, FailureState.UNKNOWN)
_RUN_ONLY: Final = {Effect.CREATED.value, Effect.UPDATED.value, Effect.DELETED.value}
"""Counts a run has and the rollup has not."""


@dataclass(frozen=True, slots=True)
class RunEntry:
    """The run that counts, its flow, and the time of the transaction."""

    run: str
    spec_id: str
    spec_hash: str
    flow: str
    flow_id: int
    at: str


def count(
    connection: sqlite3.Connection, run: str, spec_id: str, flow: str, at: str, counts: Mapping[str, int]
) -> None:
    """Add `counts` (column → how many) to the run, and to the rollup at that time."""
    counts = {column: n for column, n in counts.items() if n}
    in_run = {column: n for column, n in counts.items() if not column.startswith("errors")}
    if in_run:
        connection.execute(
            f"UPDATE run SET {', '.join(f'{column} = {column} + ?' for column in in_run)} WHERE id = ?",
            (*in_run.values(), run),
        )
    rollup.add_counts(connection, spec_id, flow, at, {c: n for c, n in counts.items() if c not in _RUN_ONLY})


def page_counts(books: PageResult) -> Counter[str]:
    """What a page adds to its run and to the rollup."""
    counts = Counter[str](read=books.read, bytes_in=books.bytes_in, bytes_out=books.bytes_out)
    counts.update({outcome.value: n for outcome, n in books.outcomes.items()})
    counts.update({effect.value: n for effect, n in books.effects.items() if effect is not Effect.WRITTEN})
    for failure in books.failures:
        counts.update(error_counts(failure.error_class))
    return counts


def error_counts(error_class: ErrorClass | None) -> dict[str, int]:
    """What one error adds to the rollup."""
    return {"errors": 1} if error_class is None else {"errors": 1, ERROR_COLUMNS[error_class]: 1}


def check(page: PageResult) -> None:
    """Raise `ValueError` if a page counts a failed record it has no failure for, or has two failures of one key."""
    for outcome in FAILED:
        stored = sum(failure.state.value == outcome.value for failure in page.failures)
        if page.outcomes.get(outcome, 0) != stored:
            raise ValueError(f"{page.outcomes.get(outcome, 0)} records {outcome}, but {stored} such failures")
    keys = [failure.key for failure in page.failures if failure.key]
    if len(set(keys)) < len(keys):
        raise ValueError("two failures of one key in a page")


def supersede(connection: sqlite3.Connection, entry: RunEntry, keys: Iterable[str]) -> None:
    """Close the open failures of `keys` (which may come twice): newer records were read, so old ones must not be sent.

    Where the older record is in this very run's books, it was deliberately not written in the end: filtered.
    """
    ((backlog,),) = connection.execute(
        "SELECT waiting + dead + unknown FROM integration WHERE spec_id = ?", (entry.spec_id,)
    )
    if not backlog:
        return
    wanted = {text(key) for key in keys} - {""}
    select = f"SELECT id, key, state, counted_by, counted_at FROM failure WHERE spec_id = ? AND flow = ? AND {OPEN}"
    if backlog <= len(wanted):  # rather look at all of them than look for each
        rows = [row for row in connection.execute(select, (entry.spec_id, entry.flow)) if row[1] in wanted]
    else:
        listed = json.dumps(sorted(wanted))
        rows = connection.execute(
            f"{select} AND key <> '' AND key IN (SELECT value FROM json_each(?))", (entry.spec_id, entry.flow, listed)
        ).fetchall()
    connection.executemany(
        "UPDATE failure SET state = ?, last_at = ?, next_attempt_at = NULL WHERE id = ?",
        [(FailureState.SUPERSEDED, entry.at, row[0]) for row in rows],
    )
    for _, _, state, counted_by, counted_at in rows:
        if counted_by == entry.run:
            _move(connection, entry.run, entry.spec_id, entry.flow, state, Outcome.FILTERED, counted_at)
    _backlog(connection, entry.spec_id, {state: -n for state, n in Counter(row[2] for row in rows).items()})


def store(connection: sqlite3.Connection, entry: RunEntry, failures: Sequence[NewFailure], ids: Ids) -> None:
    """Add new failures of keys that have no open failure, and no two of the same key (but for the empty one)."""
    if not failures:
        return
    connection.executemany(
        "INSERT INTO failure (id, run, spec_id, flow, spec_hash, key, first_at, counted_by, counted_at, source, "
        f"{', '.join(_OF_ATTEMPT)}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?{', ?' * len(_OF_ATTEMPT)})",
        [
            (ids.new(), entry.run, entry.spec_id, entry.flow, entry.spec_hash, text(failure.key), entry.at, entry.run,
             entry.at, as_json(failure.source), *_attempt(failure, entry.at, failure.attempts))
            for failure in failures
        ],
    )  # fmt: skip
    _backlog(connection, entry.spec_id, Counter(failure.state.value for failure in failures))


def settle(connection: sqlite3.Connection, entry: RunEntry, settled: RetryResult) -> None:
    """Record what a retry came to.

    An open failure in this run's own books moves from its old outcome to the new one. Any other record was counted
    by a run that is over: this run reads it again. A failure that was closed meanwhile (a person discarded it while it
    was on its way) stays closed, unless it was written after all.
    """
    row = connection.execute(
        "SELECT state, attempts, counted_by, counted_at FROM failure WHERE id = ? AND spec_id = ?",
        (settled.failure, entry.spec_id),
    ).fetchone()
    if row is None:
        raise UsageError(f"{entry.spec_id} has no failure {settled.failure} in the run log")
    state, attempts, counted_by, counted_at = row
    again, outcome, is_open = settled.new_failure, settled.outcome, state in _OPEN_STATES
    if again is not None and not is_open:
        again, outcome = None, Outcome.DEAD if state == FailureState.DISCARDED else Outcome.FILTERED
    counts = Counter[str](bytes_out=settled.bytes_out)
    if settled.effect is not None and settled.effect is not Effect.WRITTEN:
        counts[settled.effect.value] += 1
    if settled.new_failure is not None:
        counts.update(error_counts(settled.new_failure.error_class))
    if is_open and counted_by == entry.run:
        _move(connection, entry.run, entry.spec_id, entry.flow, state, outcome, counted_at)
    else:
        counts.update({"read": 1, outcome.value: 1})
        counted_by, counted_at = entry.run, entry.at
    count(connection, entry.run, entry.spec_id, entry.flow, entry.at, counts)
    if again is not None:
        connection.execute(
            f"UPDATE failure SET spec_hash = ?, counted_by = ?, counted_at = ?, "
            f"{', '.join(f'{column} = ?' for column in _OF_ATTEMPT)} WHERE id = ?",
            (entry.spec_hash, counted_by, counted_at,
             *_attempt(again, entry.at, attempts + again.attempts), settled.failure),
        )  # fmt: skip
    elif is_open or outcome is Outcome.WRITTEN:
        connection.execute(
            "UPDATE failure SET state = ?, attempts = ?, last_at = ?, next_attempt_at = NULL WHERE id = ?",
            (FailureState.RESOLVED, attempts + 1, entry.at, settled.failure),
        )
    if is_open:
        _backlog(connection, entry.spec_id, _change(state, again.state if again else FailureState.RESOLVED))


def decide(
    connection: sqlite3.Connection, failures: Sequence[str], state: FailureState, outcome: Outcome, at: str
) -> Counter[str]:
    """Give open failures the `state` a person wants them in; how many were open, by integration.

    A failure in the books of a run that is still under way moves there to `outcome`.
    """
    decided = Counter[str]()
    next_attempt = at if state is FailureState.WAITING else None
    for failure in failures:
        row = connection.execute(
            "SELECT failure.spec_id, failure.flow, failure.state, counted_at, counted_by, run.state = 'running' "
            f"FROM failure LEFT JOIN run ON run.id = counted_by WHERE failure.id = ? AND failure.{OPEN}",
            (failure,),
        ).fetchone()
        if row is None:
            continue
        spec_id, flow, was, counted_at, run, is_running = row
        connection.execute(
            "UPDATE failure SET state = ?, last_at = ?, next_attempt_at = ? WHERE id = ?",
            (state, at, next_attempt, failure),
        )
        if is_running:
            _move(connection, run, spec_id, flow, was, outcome, counted_at)
        _backlog(connection, spec_id, _change(was, state))
        decided[spec_id] += 1
    return decided


def _move(
    connection: sqlite3.Connection, run: str, spec_id: str, flow: str, old: str, new: Outcome, counted_at: str
) -> None:
    """Move one record of a run from one outcome to another, in the span it was counted in."""
    if old != new:
        count(connection, run, spec_id, flow, counted_at, {old: -1, new.value: 1})


def _change(old: str, new: str) -> Counter[str]:
    """One failure less in the old state, one more in the new."""
    change = Counter[str]({old: -1})
    change[new] += 1
    return change


def _backlog(connection: sqlite3.Connection, spec_id: str, changes: Mapping[str, int]) -> None:
    """Keep an integration's counts of open failures; `changes` are by state, and closed states are passed over."""
    connection.execute(
        "UPDATE integration SET waiting = waiting + ?, dead = dead + ?, unknown = unknown + ? WHERE spec_id = ?",
        (*(changes.get(state.value, 0) for state in _OPEN_STATES), spec_id),
    )


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
