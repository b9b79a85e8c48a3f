"""Accounting of records: outcomes, failures and the counts of a run change together.

Every function works inside the writer's transaction. A record is read once and has one outcome, so a change of its
outcome decrements one count and increments another.
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
from speclab.runlog import retention
from speclab.runlog.connection import encode_json, encode_text
from speclab.runlog.rows import NewFailure, PageResult, RetryResult
from speclab.runlog.schema import ERROR_COLUMNS, OPEN

FAILED: Final = (Outcome.WAITING, Outcome.DEAD, Outcome.UNKNOWN)
"""Outcomes of failed records: each has a failure."""
_OPEN_STATES: Final = (FailureState.WAITING, FailureState.DEAD, FailureState.UNKNOWN)
_RUN_ONLY: Final = {Effect.CREATED.value, Effect.UPDATED.value, Effect.DELETED.value}
"""Counts of a run that the rollup does not have."""


@dataclass(frozen=True, slots=True)
class RunEntry:
    """The run that counts, its flow, and the time of the transaction."""

    run: str
    spec_id: str
    spec_hash: str
    flow: str
    flow_id: int
    at: str


def add_counts(
    connection: sqlite3.Connection, run: str, spec_id: str, flow: str, at: str, counts: Mapping[str, int]
) -> None:
    """Add `counts` (by column) to the run, and to the rollup at that time."""
    counts = {column: n for column, n in counts.items() if n}
    in_run = {column: n for column, n in counts.items() if not column.startswith("errors")}
    if in_run:
        connection.execute(
            f"UPDATE run SET {', '.join(f'{column} = {column} + ?' for column in in_run)} WHERE id = ?",
            (*in_run.values(), run),
        )
    retention.add_counts(connection, spec_id, flow, at, {c: n for c, n in counts.items() if c not in _RUN_ONLY})


def count_page(page: PageResult) -> Counter[str]:
    """Return the counts that a page adds to its run and to the rollup."""
    counts = Counter[str](read=page.read, bytes_in=page.bytes_in, bytes_out=page.bytes_out)
    counts.update({outcome.value: n for outcome, n in page.outcomes.items()})
    counts.update({effect.value: n for effect, n in page.effects.items() if effect is not Effect.WRITTEN})
    for failure in page.failures:
        counts.update(count_error(failure.error_class))
    return counts


def count_error(error_class: ErrorClass | None) -> dict[str, int]:
    """Return the counts that one error adds to the rollup."""
    return {"errors": 1} if error_class is None else {"errors": 1, ERROR_COLUMNS[error_class]: 1}


def validate_page(page: PageResult) -> None:
    """Raise `ValueError` if a page counts a failed record without a failure, or has two failures of one key."""
    for outcome in FAILED:
        stored = sum(failure.state.value == outcome.value for failure in page.failures)
        if page.outcomes.get(outcome, 0) != stored:
            raise ValueError(f"page counts {page.outcomes.get(outcome, 0)} {outcome}, but has {stored} such failures")
    keys = [failure.key for failure in page.failures if failure.key]
    if len(set(keys)) < len(keys):
        raise ValueError("page has two failures of one key")


def validate_retries(results: Sequence[RetryResult]) -> None:
    """Raise `ValueError` if a retry failed again without a new failure in the state of its outcome."""
    for result in results:
        failure = result.new_failure
        if result.outcome in FAILED and (failure is None or failure.state.value != result.outcome.value):
            raise ValueError(f"a retry with the outcome {result.outcome} needs a new failure in that state")


def supersede(connection: sqlite3.Connection, entry: RunEntry, keys: Iterable[str]) -> None:
    """Close the open failures of `keys` (which may repeat): newer records were read, so older ones must not be sent.

    An older record that this run counts itself becomes filtered, because it was not written on purpose.
    """
    ((backlog,),) = connection.execute(
        "SELECT waiting + dead + unknown FROM integration WHERE spec_id = ?", (entry.spec_id,)
    )
    if not backlog:
        return
    wanted = {encode_text(key) for key in keys} - {""}
    select = f"SELECT id, key, state, counted_by, counted_at FROM failure WHERE spec_id = ? AND flow = ? AND {OPEN}"
    if backlog <= len(wanted):  # fewer open failures than keys
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
    _update_backlog(connection, entry.spec_id, {state: -n for state, n in Counter(row[2] for row in rows).items()})


def add_failures(
    connection: sqlite3.Connection, entry: RunEntry, failures: Sequence[NewFailure], ids: Sequence[str]
) -> None:
    """Add failures with their `ids`, at most one of each key (except the empty one), of keys without an open one."""
    if not failures:
        return
    connection.executemany(
        "INSERT INTO failure (id, run, spec_id, flow, spec_hash, key, first_at, counted_by, counted_at, source, "
        f"{', '.join(_ATTEMPT_COLUMNS)}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?{', ?' * len(_ATTEMPT_COLUMNS)})",
        [
            (id_, entry.run, entry.spec_id, entry.flow, entry.spec_hash, encode_text(failure.key), entry.at,
             entry.run, entry.at, encode_json(failure.source), *_build_attempt(failure, entry.at, failure.attempts))
            for id_, failure in zip(ids, failures, strict=True)
        ],
    )  # fmt: skip
    _update_backlog(connection, entry.spec_id, Counter(failure.state.value for failure in failures))


def find_open(connection: sqlite3.Connection, failures: Sequence[str]) -> set[str]:
    """Return those of `failures` that are open."""
    rows = connection.execute(
        f"SELECT id FROM failure WHERE {OPEN} AND id IN (SELECT value FROM json_each(?))", (json.dumps(failures),)
    )
    return {row[0] for row in rows}


def commit_retry(connection: sqlite3.Connection, entry: RunEntry, result: RetryResult) -> None:
    """Record the result of a retry.

    An open failure that this run counts moves from its old outcome to the new one. Other records were counted by a run
    that has ended: this run counts them as read again. A failure that was closed in the meantime (discarded by a
    person while the retry was in flight) stays closed, unless the retry wrote it.
    """
    row = connection.execute(
        "SELECT state, attempts, counted_by, counted_at FROM failure WHERE id = ? AND spec_id = ?",
        (result.failure, entry.spec_id),
    ).fetchone()
    if row is None:
        raise UsageError(f"{entry.spec_id} has no failure {result.failure} in the run log")
    state, attempts, counted_by, counted_at = row
    failure, outcome, is_open = result.new_failure, result.outcome, state in _OPEN_STATES
    if failure is not None and not is_open:
        failure, outcome = None, Outcome.DEAD if state == FailureState.DISCARDED else Outcome.FILTERED
    counts = Counter[str](bytes_out=result.bytes_out)
    if result.effect is not None and result.effect is not Effect.WRITTEN:
        counts[result.effect.value] += 1
    if result.new_failure is not None:
        counts.update(count_error(result.new_failure.error_class))
    if is_open and counted_by == entry.run:
        _move(connection, entry.run, entry.spec_id, entry.flow, state, outcome, counted_at)
    else:
        counts.update({"read": 1, outcome.value: 1})
        counted_by, counted_at = entry.run, entry.at
    add_counts(connection, entry.run, entry.spec_id, entry.flow, entry.at, counts)
    if failure is not None:
        connection.execute(
            f"UPDATE failure SET spec_hash = ?, counted_by = ?, counted_at = ?, "
            f"{', '.join(f'{column} = ?' for column in _ATTEMPT_COLUMNS)} WHERE id = ?",
            (entry.spec_hash, counted_by, counted_at,
             *_build_attempt(failure, entry.at, attempts + failure.attempts), result.failure),
        )  # fmt: skip
    elif is_open or outcome is Outcome.WRITTEN:
        connection.execute(
            "UPDATE failure SET state = ?, attempts = ?, last_at = ?, next_attempt_at = NULL WHERE id = ?",
            (FailureState.RESOLVED, attempts + 1, entry.at, result.failure),
        )
    if is_open:
        _update_backlog(
            connection, entry.spec_id, _count_change(state, failure.state if failure else FailureState.RESOLVED)
        )


def change_states(
    connection: sqlite3.Connection, failures: Sequence[str], state: FailureState, outcome: Outcome, at: str
) -> Counter[str]:
    """Change open failures to `state`, and return how many were open, by integration.

    If the run that counts a failure is still running, the record's outcome there changes to `outcome`.
    """
    changed = Counter[str]()
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
        _update_backlog(connection, spec_id, _count_change(was, state))
        changed[spec_id] += 1
    return changed


def _move(
    connection: sqlite3.Connection, run: str, spec_id: str, flow: str, old: str, new: Outcome, counted_at: str
) -> None:
    """Move one record of a run from one outcome to another, in the rollup spans that counted it."""
    if old != new:
        add_counts(connection, run, spec_id, flow, counted_at, {old: -1, new.value: 1})


def _count_change(old: str, new: str) -> Counter[str]:
    """Return the change of counts of one failure: one fewer in the old state, one more in the new."""
    change = Counter[str]({old: -1})
    change[new] += 1
    return change


def _update_backlog(connection: sqlite3.Connection, spec_id: str, changes: Mapping[str, int]) -> None:
    """Update an integration's counts of open failures; `changes` are by state, and closed states are ignored."""
    connection.execute(
        "UPDATE integration SET waiting = waiting + ?, dead = dead + ?, unknown = unknown + ? WHERE spec_id = ?",
        (*(changes.get(state.value, 0) for state in _OPEN_STATES), spec_id),
    )


_ATTEMPT_COLUMNS: Final = (
    "state", "stage", "class", "status", "message", "shape", '"row"', '"column"', "file", "line", "attempts",
    "last_at", "next_attempt_at", "payload", "request", "response", "idempotency_key",
)  # fmt: skip
"""The columns of `failure` that each attempt updates."""


def _build_attempt(failure: NewFailure, at: str, attempts: int) -> tuple[object, ...]:
    """Return the values of `_ATTEMPT_COLUMNS`."""
    return (
        failure.state, failure.stage, failure.error_class, failure.status, encode_text(failure.message),
        encode_text(get_shape(failure.message)), encode_text(failure.row), failure.column, encode_text(failure.file),
        failure.line, attempts, at, failure.next_attempt_at,
        encode_json(failure.payload) if failure.payload is not None else None,
        encode_text(failure.request), encode_text(failure.response), failure.idempotency_key,
    )  # fmt: skip


_VARYING: Final = re.compile(r"""(["'`]).*?\1 | \b[0-9a-f]{8}-[0-9a-f-]{27}\b | \d[\d.,:]*""", re.VERBOSE)


def get_shape(message: str) -> str:
    """Return `message` with the parts that vary by record (quoted text, ids and numbers) replaced by `…`."""
    return _VARYING.sub("…", message)
