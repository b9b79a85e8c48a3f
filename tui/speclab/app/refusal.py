"""What is told of something that cannot be done now: one word at a time, however many keys are pressed in vain."""

from __future__ import annotations

from dataclasses import dataclass

from textual.app import App
from textual.notifications import Notification, Notify


@dataclass
class Refusal(Notification):
    """Why something cannot be done now."""


def refuse(app: App[object], title: str, reason: str) -> None:
    """Show why something cannot be done now."""
    app.post_message(Notify(Refusal(reason, title, "warning", app.NOTIFICATION_TIMEOUT, markup=False)))
