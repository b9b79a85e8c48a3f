"""Durations, rates and sizes as specs write them: `30s`, `100/min`, `10MB`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Final

from pydantic import BeforeValidator, PlainSerializer

_SECONDS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_BYTES: Final = {
    "B": 1,
    "KB": 1000,
    "MB": 1000**2,
    "GB": 1000**3,
    "KIB": 1024,
    "MIB": 1024**2,
    "GIB": 1024**3,
}
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


def duration(text: object) -> float:
    """Seconds in `30s`, `5m`, `1h30m`, `500ms`; a bare `0` is zero. Raises `ValueError`."""
    if text in (0, "0"):
        return 0.0
    if isinstance(text, str):
        found = re.findall(r"(\d+(?:\.\d+)?)(ms|s|m|h|d|w)", text)
        if found and "".join(n + unit for n, unit in found) == text.replace(" ", ""):
            return sum(float(n) * _SECONDS[unit] for n, unit in found)
    raise ValueError(f"expected a duration such as 30s, 5m or 24h, not {text!r}")


def duration_text(seconds: float) -> str:
    """The shortest way to write `seconds` that `duration` reads back: `90s` is `1m30s`."""
    if seconds < 1:
        return f"{round(seconds * 1000)}ms" if seconds else "0s"
    left, out = round(seconds), ""
    for unit in ("d", "h", "m", "s"):
        count, left = divmod(left, int(_SECONDS[unit]))
        out += f"{count}{unit}" if count else ""
    return out


def size(text: object) -> int:
    """Bytes in `10MB`, `512KiB`; decimal units are powers of 1000 (IEC 80000-13). Raises `ValueError`."""
    if isinstance(text, str) and (match := re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMG]?i?B)", text, re.IGNORECASE)):
        return int(float(match[1]) * _BYTES[match[2].upper()])
    raise ValueError(f"expected a size such as 10MB or 512KiB, not {text!r}")


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
        if (
            isinstance(text, str)
            and (match := re.fullmatch(r"(\d+)\s*/\s*(\d*)\s*([a-z]+)", text))
            and match[3] in _PER
        ):
            count, seconds = int(match[1]), int(match[2] or 1) * _PER[match[3]]
            if count and seconds:
                return cls(count, seconds)
        raise ValueError(f"expected a rate such as 100/min or 10/s, not {text!r}")

    def __str__(self) -> str:
        """The rate as a spec writes it."""
        for name, seconds in (("s", 1), ("min", 60), ("h", 3600), ("day", 86400)):
            if self.seconds == seconds:
                return f"{self.count}/{name}"
        return f"{self.count}/{self.seconds}s"


Duration = Annotated[float, BeforeValidator(duration), PlainSerializer(duration_text)]
"""Seconds; written as a duration."""
Size = Annotated[int, BeforeValidator(size)]
"""Bytes; written as a size."""
RateLimit = Annotated[Rate, BeforeValidator(Rate.parse), PlainSerializer(str)]
"""A `Rate`; written as one."""
