"""Formatting of numbers and times for the screen: short, aligned, never rounded up."""

from __future__ import annotations

from datetime import datetime
from math import floor
from typing import Final

from speclab.app.icons import NOTHING

_UNITS: Final = ((86400, "d"), (3600, "h"), (60, "min"))


def moment(at: str) -> datetime:
    """Parse a timestamp of the run log."""
    return datetime.fromisoformat(at)


def span(seconds: float) -> str:
    """Format a duration in one unit: `41 s`, `6 min`, `3 h`, `12 d`; under ten seconds with a decimal."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    size, name = next(((size, name) for size, name in _UNITS if seconds >= size), (1, "s"))
    return f"{int(seconds // size)} {name}"


def ago(at: str, now: datetime) -> str:
    """Format the time since `at`: `just now`, `6 min ago`."""
    seconds = (now - moment(at)).total_seconds()
    return "just now" if seconds < 10 else f"{span(seconds)} ago"


def until(at: str, now: datetime) -> str:
    """Format the time until `at`: `in 4 s`, or `due` if it has passed."""
    seconds = (moment(at) - now).total_seconds()
    return "due" if seconds <= 0 else f"in {max(1, round(seconds))} s" if seconds < 60 else f"in {span(seconds)}"


def clock_time(at: str) -> str:
    """Format the local time of day: `10:42:07`."""
    return moment(at).astimezone().strftime("%H:%M:%S")


def exactly(at: str) -> str:
    """Format the local date and time with its zone: `2026-11-24 10:42:07 CET`."""
    return moment(at).astimezone().strftime("%Y-%m-%d %H:%M:%S %Z")


def percent(share: float | None, decimals: int = 1) -> str:
    """Format a share as a percentage, rounded down, so that only the whole is `100.0 %`; a dash for None."""
    if share is None:
        return NOTHING
    scale = 10**decimals
    return f"{floor(share * 100 * scale + 1e-9) / scale:.{decimals}f} %"


def count(number: int) -> str:
    """Format a count with thousands separators."""
    return f"{number:,}"
