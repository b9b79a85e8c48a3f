"""The tables `integration` and `alert`."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from typing import NamedTuple

from speclab.core.json import Json
from speclab.core.outcome import AlertState, Level
from speclab.runlog.connection import encode_json, encode_text
from speclab.runlog.rows import AlertRow


def touch(db: sqlite3.Connection, spec_id: str, at: str) -> None:
    """Increment the revision of an integration; add it, with its spec_id as title, if it is not registered."""
    db.execute(
        "INSERT INTO integration (spec_id, title, path, status, schedule, registered_at) "
        "VALUES (?1, ?1, '', '', '', ?2) ON CONFLICT (spec_id) DO UPDATE SET revision = revision + 1",
        (spec_id, at),
    )


def find_flow(db: sqlite3.Connection, spec_id: str, flow: str) -> int:
    """Return the id of a flow, for reading; an id that matches no row if the flow does not exist."""
    row = db.execute("SELECT id FROM flow WHERE spec_id = ? AND name = ?", (spec_id, flow)).fetchone()
    return int(row[0]) if row else -1


def add_flow(db: sqlite3.Connection, spec_id: str, flow: str) -> int:
    """Return the id of a flow, which is added if it does not exist."""
    found = find_flow(db, spec_id, flow)
    if found >= 0:
        return found
    (added,) = db.execute("INSERT INTO flow (spec_id, name) VALUES (?, ?) RETURNING id", (spec_id, flow)).fetchone()
    return int(added)


def save_description(
    db: sqlite3.Connection, spec_id: str, *, title: str, path: str, status: str, schedule: str
) -> None:
    """Save the title, the path of the spec, the status and the schedule of an integration."""
    db.execute(
        "UPDATE integration SET title = ?, path = ?, status = ?, schedule = ? WHERE spec_id = ?",
        (encode_text(title), encode_text(path), encode_text(status), encode_text(schedule), spec_id),
    )


def is_paused(db: sqlite3.Connection, spec_id: str) -> bool:
    """Return whether an integration is paused."""
    found = db.execute("SELECT 1 FROM integration WHERE spec_id = ? AND paused_at IS NOT NULL", (spec_id,))
    return found.fetchone() is not None


def pause(db: sqlite3.Connection, spec_id: str, at: str, by: str, reason: str) -> None:
    """Save who paused an integration, and the reason, if one was given."""
    db.execute(
        "UPDATE integration SET paused_at = ?, paused_by = ?, paused_reason = ? WHERE spec_id = ?",
        (at, encode_text(by), encode_text(reason) or None, spec_id),
    )


def resume(db: sqlite3.Connection, spec_id: str) -> None:
    """End the pause of an integration."""
    db.execute(
        "UPDATE integration SET paused_at = NULL, paused_by = NULL, paused_reason = NULL WHERE spec_id = ?",
        (spec_id,),
    )


def get_field_profile(db: sqlite3.Connection, spec_id: str) -> Json:
    """Return the field profile of an integration's source; None if none was saved."""
    row = db.execute("SELECT field_profile FROM integration WHERE spec_id = ?", (spec_id,)).fetchone()
    found: Json = json.loads(row[0]) if row and row[0] else None
    return found


def save_field_profile(db: sqlite3.Connection, spec_id: str, profile: Json) -> None:
    """Replace the field profile of an integration's source."""
    db.execute("UPDATE integration SET field_profile = ? WHERE spec_id = ?", (encode_json(profile), spec_id))


class AlertChange(NamedTuple):
    """An alert that started or stopped firing, as an event to log."""

    level: Level
    message: str
    state: AlertState


def save_alerts(db: sqlite3.Connection, spec_id: str, alerts: Sequence[AlertRow]) -> list[AlertChange]:
    """Replace all alerts of an integration, and return the changes to and from firing."""
    was_firing = {
        name for (name,) in db.execute("SELECT name FROM alert WHERE spec_id = ? AND state = 'firing'", (spec_id,))
    }
    firing = [alert for alert in alerts if alert.state is AlertState.FIRING]
    db.execute("DELETE FROM alert WHERE spec_id = ?", (spec_id,))
    db.executemany(
        "INSERT INTO alert (spec_id, name, state, since, detail) VALUES (?, ?, ?, ?, ?)",
        [(spec_id, encode_text(a.name), a.state, a.since, encode_text(a.detail)) for a in alerts],
    )
    started = [
        AlertChange(Level.WARNING, f"alert: {alert.name}: {alert.detail}", alert.state)
        for alert in firing
        if alert.name not in was_firing
    ]
    stopped = sorted(was_firing - {alert.name for alert in firing})
    return started + [AlertChange(Level.INFO, f"alert over: {name}", AlertState.OK) for name in stopped]
