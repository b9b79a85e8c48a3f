"""The table of alerts: what is stored of an evaluation, and what in it is news."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import NamedTuple

from speclab.outcome import AlertState, Level
from speclab.runlog.encoding import text
from speclab.runlog.rows import AlertRow


class News(NamedTuple):
    """An alert that began to fire, or ended."""

    level: Level
    message: str
    state: AlertState


def store(db: sqlite3.Connection, spec_id: str, alerts: Sequence[AlertRow]) -> list[News]:
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
        News(Level.WARNING, f"alert: {alert.name}: {alert.detail}", alert.state)
        for alert in firing
        if alert.name not in was_firing
    ]
    over = sorted(was_firing - {alert.name for alert in firing})
    return began + [News(Level.INFO, f"alert over: {name}", AlertState.OK) for name in over]
