"""The browser of the person at this terminal, where there is one beside it."""

from __future__ import annotations

import os
import re
import sys
import webbrowser
from threading import Thread
from typing import Final

_PAGE: Final = re.compile(r"https?://[^\s/?#\\\x00-\x1f\x7f-\x9f]+(?:[/?#][^\s\x00-\x1f\x7f-\x9f]*)?", re.IGNORECASE)


def has_browser() -> bool:
    """Whether a page would open beside the terminal: not in it, and not on another machine than the person's."""
    graphical = sys.platform == "darwin" or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    return bool(graphical) and not os.environ.get("SSH_CONNECTION")


def is_page(url: str) -> bool:
    """Return whether `url` is a web page: a browser would run `javascript:`, open `file:`, or take it for an option."""
    return _PAGE.fullmatch(url) is not None


def open_page(url: str) -> None:
    """Open `url` there; return at once. Raises `ValueError` if it is not a web page."""
    if not is_page(url):
        raise ValueError(f"not an http:// or https:// page: {url!r}")
    Thread(target=webbrowser.open, args=(url,), daemon=True).start()
