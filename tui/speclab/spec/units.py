"""Units in specs: durations (`30s`), rates (`100/min`), sizes (`10MB`) and shares (`50%`)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

LONGEST: Final = 36_500 * 86400.0
"""The longest duration in seconds, a hundred years, so that date arithmetic cannot overflow."""

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


def parse_duration(text: object) -> float:
    """Return the seconds in `30s`, `5m`, `1h30m` or `500ms`; `0` is zero. Raises `ValueError`."""
    if text == "0" or (type(text) is int and text == 0):
        return 0.0
    if isinstance(text, str) and _DURATION.fullmatch(text):
        seconds = sum(float(count) * _SECONDS[unit] for count, unit in _DURATION_PART.findall(text))
        if seconds > LONGEST:
            raise ValueError(f"expected a duration of at most {format_duration(LONGEST)}, got {_describe(text)}")
        return seconds
    raise ValueError(f"expected a duration such as 30s, 5m or 24h, got {_describe(text)}")


def format_duration(seconds: float) -> str:
    """Return `seconds` as a duration, to the millisecond: 90 is `1m30s`."""
    left, out = round(seconds * 1000), ""
    for unit in ("d", "h", "m", "s", "ms"):
        count, left = divmod(left, round(_SECONDS[unit] * 1000))
        out += f"{count}{unit}" if count else ""
    return out or "0s"


def parse_size(text: object) -> int:
    """Return the bytes in `10MB` or `512KiB`; decimal units are powers of 1000 (IEC 80000-13). Raises `ValueError`."""
    if isinstance(text, str) and (match := _SIZE.fullmatch(text)):
        return int(float(match[1]) * _BYTES[match[2].lower()])
    raise ValueError(f"expected a size such as 10MB or 512KiB, got {_describe(text)}")


def format_size(count: int) -> str:
    """Return `count` bytes as a size: 50,000,000 is `50MB`."""
    for unit in ("GB", "MB", "KB"):
        if count and count % _BYTES[unit.lower()] == 0:
            return f"{count // _BYTES[unit.lower()]}{unit}"
    return f"{count}B"


def parse_share(text: object) -> float:
    """Return the fraction in a percentage: `50%` is 0.5. Raises `ValueError`."""
    if isinstance(text, str) and (match := _SHARE.fullmatch(text)):
        return float(match[1]) / 100
    raise ValueError(f"expected a share such as 50% or 300%, got {_describe(text)}")


def format_share(part: float) -> str:
    """Return a fraction as a percentage: 0.5 is `50%`."""
    return f"{part * 100:g}%"


@dataclass(frozen=True, slots=True)
class Rate:
    """At most `count` requests in any window of `seconds`."""

    count: int
    seconds: int

    @classmethod
    def parse(cls, text: object) -> Rate:
        """Return the rate in `100/min`, `10/s` or `1000/15min`. Raises `ValueError`."""
        if isinstance(text, Rate):
            return text
        if isinstance(text, str) and (match := _RATE.fullmatch(text)) and match[3] in _PER:
            count, seconds = int(match[1]), int(match[2] or 1) * _PER[match[3]]
            if count and seconds:
                return cls(count, seconds)
        raise ValueError(f"expected a rate such as 100/min or 10/s, got {_describe(text)}")

    def __str__(self) -> str:
        """Return the rate in the format of a spec."""
        for name, seconds in (("s", 1), ("min", 60), ("h", 3600), ("day", 86400)):
            if self.seconds == seconds:
                return f"{self.count}/{name}"
        return f"{self.count}/{self.seconds}s"


def _describe(value: object) -> str:
    return "a list or mapping" if isinstance(value, list | dict) else repr(value)
