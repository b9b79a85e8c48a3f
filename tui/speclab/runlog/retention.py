"""Retention: delete old rows in small chunks, so that writers do not wait long."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from time import sleep
from typing import Final

from speclab.runlog.rollup import RollupSpan
from speclab.runlog.schema import OPEN, READ_TO_END

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


@dataclass(frozen=True, slots=True)
class Pruned:
    """The number of rows deleted of each kind."""

    events: int
    failures: int
    runs: int
    rollups: int


def prune(
    transaction: Callable[[], AbstractContextManager[sqlite3.Connection]],
    spec_id: str,
    kept_since: str,
    failures_kept_since: str,
    now: str,
) -> Pruned:
    """Delete old rows of one integration, each chunk in a separate transaction.

    Events, ended runs and rollups of minutes and hours are deleted if older than `kept_since`; failures that are
    resolved, superseded or discarded if older than `failures_kept_since`; specs with their last run. These are kept
    regardless of age: open failures; runs that a failure refers to; the last run, the last that succeeded and the last
    that read its source to the end; and rollups of days.
    """
    with transaction() as db:
        (running,) = db.execute(
            "SELECT min(started_at) FROM run WHERE spec_id = ? AND state = 'running'", (spec_id,)
        ).fetchone()
    # A running run may still move records in the spans that counted them.
    rollups_kept_since = min(kept_since, RollupSpan.HOUR.start(running)) if running else kept_since

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
                scope = {"spec": spec_id, "kept": kept_since, "now": now, "after": last}
                last, passing = db.execute(_NEXT_EVENTS, scope).fetchone()
                if not passing:
                    return deleted
                deleted += db.execute(_EVENTS, scope | {"last": last}).rowcount
            sleep(_PAUSE)

    pruned = Pruned(
        events=delete_events(),
        failures=delete(_FAILURES, failures_kept_since),
        runs=delete(_RUNS, kept_since),
        rollups=delete(_ROLLUPS, rollups_kept_since),
    )
    delete(_SPEC_VERSIONS, kept_since)
    return pruned
