"""The toast that says why an action cannot be done now; a new one replaces the last."""

from __future__ import annotations

from dataclasses import dataclass

from textual.app import App
from textual.notifications import Notification, Notify


@dataclass
class RefusalToast(Notification):
    """Why something cannot be done now."""


def refuse(app: App[object], title: str, reason: str) -> None:
    """Show why something cannot be done now."""
    app.post_message(Notify(RefusalToast(reason, title, "warning", app.NOTIFICATION_TIMEOUT, markup=False)))
