"""The browser of the person at this terminal, where there is one beside it."""

from __future__ import annotations

import os
import sys
import webbrowser
from threading import Thread


def has_browser() -> bool:
    """Whether a page would open beside the terminal: not in it, and not on another machine than the person's."""
    graphical = sys.platform == "darwin" or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    return bool(graphical) and not os.environ.get("SSH_CONNECTION")


def open_page(url: str) -> None:
    """Open `url` there; returns at once."""
    Thread(target=webbrowser.open, args=(url,), daemon=True).start()
