"""The tables `integration` and `alert`."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from typing import NamedTuple

from speclab.core.json import Json
from speclab.core.outcome import AlertState, Level
from speclab.runlog.connection import as_json, text
from speclab.runlog.rows import AlertRow


def know(db: sqlite3.Connection, spec_id: str, at: str) -> int:
    """The id of the integration, which this transaction changes; one nobody registered is called by its spec_id."""
    db.execute(
        "INSERT INTO integration (spec_id, title, path, status, schedule, registered_at) "
        "VALUES (?1, ?1, '', '', '', ?2) ON CONFLICT (spec_id) DO UPDATE SET revision = revision + 1",
        (spec_id, at),
    )
    return find(db, spec_id)


def find(db: sqlite3.Connection, spec_id: str) -> int:
    """The id of the integration, to be read by; one that none has, where it is not known."""
    row = db.execute("SELECT id FROM integration WHERE spec_id = ?", (spec_id,)).fetchone()
    return int(row[0]) if row else -1


def describe(db: sqlite3.Connection, spec_id: str, *, title: str, path: str, status: str, schedule: str) -> None:
    """Say what it is called, where its spec is, and when it runs."""
    db.execute(
        "UPDATE integration SET title = ?, path = ?, status = ?, schedule = ? WHERE spec_id = ?",
        (text(title), text(path), text(status), text(schedule), spec_id),
    )


def paused(db: sqlite3.Connection, spec_id: str) -> bool:
    """Whether it is paused."""
    found = db.execute("SELECT 1 FROM integration WHERE spec_id = ? AND paused_at IS NOT NULL", (spec_id,))
    return found.fetchone() is not None


def pause(db: sqlite3.Connection, spec_id: str, at: str, by: str, reason: str) -> None:
    """Note who paused it, and why, if that was said."""
    db.execute(
        "UPDATE integration SET paused_at = ?, paused_by = ?, paused_reason = ? WHERE spec_id = ?",
        (at, text(by), text(reason) or None, spec_id),
    )


def resume(db: sqlite3.Connection, spec_id: str) -> None:
    """Take the pause back."""
    db.execute(
        "UPDATE integration SET paused_at = NULL, paused_by = NULL, paused_reason = NULL WHERE spec_id = ?",
        (spec_id,),
    )


def usual(db: sqlite3.Connection, spec_id: str) -> Json:
    """What the fields of its source usually are; None where that was never learned."""
    row = db.execute("SELECT usual FROM integration WHERE spec_id = ?", (spec_id,)).fetchone()
    found: Json = json.loads(row[0]) if row and row[0] else None
    return found


def learn(db: sqlite3.Connection, spec_id: str, news: Json) -> None:
    """Remember what is usual now, in the place of what was known."""
    db.execute("UPDATE integration SET usual = ? WHERE spec_id = ?", (as_json(news), spec_id))


class AlertChange(NamedTuple):
    """An alert that began to fire, or ended."""

    level: Level
    message: str
    state: AlertState


def store(db: sqlite3.Connection, spec_id: str, alerts: Sequence[AlertRow]) -> list[AlertChange]:
    """Replace all alerts of an integration with those just evaluated; gives what is news, to be told as events."""
    was_firing = {
        name for (name,) in db.execute("SELECT name FROM alert WHERE spec_id = ? AND state = 'firing'", (spec_id,))
    }
    firing = [alert for alert in alerts if alert.state is AlertState.FIRING]
    db.execute("DELETE FROM alert WHERE spec_id = ?", (spec_id,))
    db.executemany(
        "INSERT INTO alert (spec_id, name, state, since, detail) VALUES (?, ?, ?, ?, ?)",
        [(spec_id, text(a.name), a.state, a.since, text(a.detail)) for a in alerts],
    )
    began = [
        AlertChange(Level.WARNING, f"alert: {alert.name}: {alert.detail}", alert.state)
        for alert in firing
        if alert.name not in was_firing
    ]
    over = sorted(was_firing - {alert.name for alert in firing})
    return began + [AlertChange(Level.INFO, f"alert over: {name}", AlertState.OK) for name in over]
