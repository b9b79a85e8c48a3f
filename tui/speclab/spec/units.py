"""Durations, rates, sizes and shares as specs write them: `30s`, `100/min`, `10MB`, `50%`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

LONGEST: Final = 36_500 * 86400.0
"""Seconds of the longest duration, a hundred years: no date is further away than can be reckoned with."""

_SECONDS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_DURATION: Final = re.compile(r"(?:\d+(?:\.\d+)?\s*(?:ms|s|m|h|d|w)\s*)+")
_DURATION_PART: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d|w)")
_BYTES: Final = {
    "b": 1,
    "kb": 1000,
    "mb": 1000**2,
    "gb": 1000**3,
    "kib": 1024,
    "mib": 1024**2,
    "gib": 1024**3,
}
_SIZE: Final = re.compile(r"(\d{1,12}(?:\.\d+)?)\s*([kmg]i?b|b)", re.IGNORECASE)
_PER: Final = {
    "s": 1,
    "sec": 1,
    "second": 1,
    "min": 60,
    "m": 60,
    "minute": 60,
    "h": 3600,
    "hour": 3600,
    "d": 86400,
    "day": 86400,
}
_SHARE: Final = re.compile(r"(\d{1,9}(?:\.\d+)?)\s*%")
_RATE: Final = re.compile(r"(\d{1,9})\s*/\s*(\d{0,9})\s*([a-z]+)")


def duration(text: object) -> float:
    """Seconds in `30s`, `5m`, `1h30m`, `500ms`; a bare `0` is zero. Raises `ValueError`."""
    if text == "0" or (type(text) is int and text == 0):
        return 0.0
    if isinstance(text, str) and _DURATION.fullmatch(text):
        seconds = sum(float(count) * _SECONDS[unit] for count, unit in _DURATION_PART.findall(text))
        if seconds > LONGEST:
            raise ValueError(f"expected a duration of at most {duration_text(LONGEST)}, not {_shown(text)}")
        return seconds
    raise ValueError(f"expected a duration such as 30s, 5m or 24h, not {_shown(text)}")


def duration_text(seconds: float) -> str:
    """The way to write `seconds` that `duration` reads back, to the millisecond: 90 is `1m30s`."""
    left, out = round(seconds * 1000), ""
    for unit in ("d", "h", "m", "s", "ms"):
        count, left = divmod(left, round(_SECONDS[unit] * 1000))
        out += f"{count}{unit}" if count else ""
    return out or "0s"


def size(text: object) -> int:
    """Bytes in `10MB`, `512KiB`; decimal units are powers of 1000 (IEC 80000-13). Raises `ValueError`."""
    if isinstance(text, str) and (match := _SIZE.fullmatch(text)):
        return int(float(match[1]) * _BYTES[match[2].lower()])
    raise ValueError(f"expected a size such as 10MB or 512KiB, not {_shown(text)}")


def size_text(count: int) -> str:
    """The way to write `count` bytes that `size` reads back: 50,000,000 is `50MB`."""
    for unit in ("GB", "MB", "KB"):
        if count and count % _BYTES[unit.lower()] == 0:
            return f"{count // _BYTES[unit.lower()]}{unit}"
    return f"{count}B"


def share(text: object) -> float:
    """The part of one in `50%`: 0.5. Raises `ValueError`."""
    if isinstance(text, str) and (match := _SHARE.fullmatch(text)):
        return float(match[1]) / 100
    raise ValueError(f"expected a share such as 50% or 300%, not {_shown(text)}")


def share_text(part: float) -> str:
    """The way to write `part` that `share` reads back: 0.5 is `50%`."""
    return f"{part * 100:g}%"


@dataclass(frozen=True, slots=True)
class Rate:
    """At most `count` in any window of `seconds`."""

    count: int
    seconds: int

    @classmethod
    def parse(cls, text: object) -> Rate:
        """The rate written as `100/min`, `10/s` or `1000/15min`. Raises `ValueError`."""
        if isinstance(text, Rate):
            return text
        if isinstance(text, str) and (match := _RATE.fullmatch(text)) and match[3] in _PER:
            count, seconds = int(match[1]), int(match[2] or 1) * _PER[match[3]]
            if count and seconds:
                return cls(count, seconds)
        raise ValueError(f"expected a rate such as 100/min or 10/s, not {_shown(text)}")

    def __str__(self) -> str:
        """The rate as a spec writes it."""
        for name, seconds in (("s", 1), ("min", 60), ("h", 3600), ("day", 86400)):
            if self.seconds == seconds:
                return f"{self.count}/{name}"
        return f"{self.count}/{self.seconds}s"


def _shown(value: object) -> str:
    return "a list or mapping" if isinstance(value, list | dict) else repr(value)
