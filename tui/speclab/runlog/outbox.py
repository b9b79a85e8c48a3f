"""Alerts in the run log: their states, the outbox of notifications, and silences."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import astuple
from datetime import datetime
from typing import Any, Final, NamedTuple

from speclab.core.clock import format_timestamp
from speclab.core.outcome import AlertState, Level, NoticeKind, NoticeState
from speclab.runlog.connection import encode_json, encode_text
from speclab.runlog.reader import RunLogReader
from speclab.runlog.rows import ALERTS, AlertRow, NewNotice, NoticeRow, SilenceRow, alert_row

_NOTICE: Final = (
    "id, spec_id, alert, kind, since, channel, severity, content, state, created_at, due_at, attempts, error, closed_at"
)
_SILENCE: Final = "id, spec_id, alert, since, until, by, reason"


class AlertChange(NamedTuple):
    """An alert that started or stopped firing, as an event to log."""

    level: Level
    message: str
    state: AlertState


class Outbox:
    """The notifications of a run log. Each method is one transaction."""

    def __init__(self, transaction: Callable[[], AbstractContextManager[sqlite3.Connection]]) -> None:
        self._transaction = transaction

    def claim(self, now: datetime, until: datetime, limit: int = 500) -> list[NoticeRow]:
        """Return due notifications, oldest first, and postpone them to `until`: no other process delivers them.

        A process that is killed before it closes them leaves them due then, so each is delivered at least once.
        """
        with self._transaction() as db:
            rows = db.execute(
                f"SELECT {_NOTICE} FROM notification WHERE state = 'due' AND due_at <= ? ORDER BY due_at, id LIMIT ?",
                (format_timestamp(now), limit),
            ).fetchall()
            db.executemany(
                "UPDATE notification SET due_at = ? WHERE id = ?", [(format_timestamp(until), row[0]) for row in rows]
            )
        return [_notice_row(row) for row in rows]

    def close(self, notices: Sequence[int], state: NoticeState, now: datetime, error: str | None = None) -> None:
        """End the delivery of notifications, by id: nothing more is tried."""
        with self._transaction() as db:
            db.executemany(
                "UPDATE notification SET state = ?, closed_at = ?, attempts = attempts + 1, error = ? WHERE id = ?",
                [(state, format_timestamp(now), encode_text(error), notice) for notice in notices],
            )

    def postpone(self, notices: Sequence[int], until: datetime, error: str, attempts: int = 1) -> None:
        """Deliver notifications, by id, at `until`, because of `error` after so many `attempts`."""
        with self._transaction() as db:
            db.executemany(
                "UPDATE notification SET due_at = ?, attempts = attempts + ?, error = ? WHERE id = ?",
                [(format_timestamp(until), attempts, encode_text(error), notice) for notice in notices],
            )


def save_alerts(
    db: sqlite3.Connection,
    spec_id: str,
    alerts: Sequence[AlertRow],
    notices: Sequence[NewNotice],
    expected: Mapping[str, AlertRow] | None,
    at: str,
) -> list[AlertChange] | None:
    """Replace all alerts of an integration, add `notices` to the outbox, and return the changes to and from firing.

    Return None, without a change, if its alerts are not the `expected` ones any more: another process was faster.
    """
    before = {row.name: row for row in map(alert_row, db.execute(ALERTS, (spec_id,)))}
    if expected is not None and before != expected:
        return None
    was_firing = {name for name, row in before.items() if row.state is AlertState.FIRING}
    firing = [alert for alert in alerts if alert.state is AlertState.FIRING]
    db.execute("DELETE FROM alert WHERE spec_id = ?", (spec_id,))
    db.executemany(
        "INSERT INTO alert (spec_id, name, state, since, detail, severity, notified_at, fired, settled_at) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [
            (
                spec_id, encode_text(row.name), row.state, row.since, encode_text(row.detail), row.severity,
                row.notified_at, json.dumps(row.fired), row.settled_at,
            )
            for row in alerts
        ],
    )  # fmt: skip
    db.executemany(
        "INSERT INTO notification (spec_id, alert, kind, since, channel, severity, content, state, created_at, due_at) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, 'due', ?, ?)",
        [
            (
                spec_id, encode_text(one.alert), one.kind, one.since, encode_text(one.channel), one.severity,
                encode_json(one.content), at, one.due_at,
            )
            for one in notices
        ],
    )  # fmt: skip
    started = [
        AlertChange(Level.WARNING, f"alert: {alert.name}: {alert.detail}", alert.state)
        for alert in firing
        if alert.name not in was_firing
    ]
    stopped = sorted(was_firing - {alert.name for alert in firing})
    return started + [AlertChange(Level.INFO, f"alert over: {name}", AlertState.OK) for name in stopped]


def add_silence(db: sqlite3.Connection, silence: SilenceRow) -> None:
    """Save a new silence; its id is ignored."""
    db.execute(
        f"INSERT INTO silence ({_SILENCE}) VALUES (NULL, ?, ?, ?, ?, ?, ?)",
        [encode_text(text) for text in astuple(silence)[1:]],
    )


def end_silences(db: sqlite3.Connection, spec_id: str, alert: str | None, at: str) -> int:
    """End the silences of an alert, or those of all alerts (None); return how many there were."""
    return db.execute(
        "UPDATE silence SET until = ?1 WHERE spec_id = ?2 AND alert IS ?3 AND until > ?1",
        (at, spec_id, encode_text(alert)),
    ).rowcount


def prune_notices(db: sqlite3.Connection, spec_id: str, before: str) -> None:
    """Delete notifications that were closed, and silences that ended, before `before`."""
    db.execute("DELETE FROM notification WHERE spec_id = ? AND state <> 'due' AND closed_at < ?", (spec_id, before))
    db.execute("DELETE FROM silence WHERE spec_id = ? AND until < ?", (spec_id, before))


def get_silences(reader: RunLogReader, now: datetime, spec_id: str | None = None) -> list[SilenceRow]:
    """Return the silences in effect at `now`, the latest first."""
    rows = reader.query(
        f"SELECT {_SILENCE} FROM silence WHERE until > ?1 AND (?2 IS NULL OR spec_id = ?2) ORDER BY id DESC",
        (format_timestamp(now), spec_id),
    )
    return [SilenceRow(*row) for row in rows]


def get_notices(
    reader: RunLogReader, spec_id: str | None = None, state: NoticeState | None = None, limit: int = 100
) -> list[NoticeRow]:
    """Return notifications, newest first."""
    rows = reader.query(
        f"SELECT {_NOTICE} FROM notification WHERE (?1 IS NULL OR spec_id = ?1) AND (?2 IS NULL OR state = ?2) "
        "ORDER BY id DESC LIMIT ?3",
        (spec_id, state, limit),
    )
    return [_notice_row(row) for row in rows]


def _notice_row(row: Sequence[Any]) -> NoticeRow:
    notice, spec_id, alert, kind, since, channel, severity, content, state, *rest = row
    return NoticeRow(
        notice, spec_id, alert, NoticeKind(kind), since, channel, severity, json.loads(content), NoticeState(state),
        *rest,
    )  # fmt: skip
