"""What an answer says about waiting: `Retry-After`, and the RateLimit headers in the forms they are found in."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Final

import httpx

_EPOCH: Final = 1_000_000_000  # a `reset` this large is a time, not a number of seconds
_EPOCH_MILLISECONDS: Final = 1_000_000_000_000
_PARAMETER: Final = re.compile(r"\b(r|remaining|t|reset)\s*=\s*(\d+)")


@dataclass(frozen=True, slots=True)
class Quota:
    """What is left of a rate limit, and in how many seconds there will be more."""

    remaining: int
    reset: float


def retry_after(headers: httpx.Headers, now: datetime) -> float | None:
    """Seconds to wait by `Retry-After` (RFC 9110 section 10.2.3: seconds or a date); None where it is not said.

    A date is measured by the server's own `Date`, where it sends one: the two clocks need not agree.
    """
    text = headers.get("retry-after", "").strip()
    if not text:
        return None
    if re.fullmatch(r"-?\d+(\.\d+)?", text):
        return max(0.0, float(text))
    moment = _date(text)
    if moment is None:
        return None
    return max(0.0, (moment - server_time(headers, now)).total_seconds())


def server_time(headers: httpx.Headers, now: datetime) -> datetime:
    """The time at the server when it answered, to the second; ours where it does not say."""
    return _date(headers.get("date", "")) or now


def quota(headers: httpx.Headers, now: datetime) -> Quota | None:
    """The quota an answer reports, or None.

    Knows `RateLimit: "name";r=50;t=30` and its predecessors `RateLimit: remaining=50, reset=30` and
    `RateLimit-Remaining` / `RateLimit-Reset` (draft-ietf-httpapi-ratelimit-headers), and the `X-` forms, whose reset
    is a number of seconds here and a Unix time there.
    """
    fields = headers.get("ratelimit", "")
    if fields:
        named = dict(_PARAMETER.findall(fields))
        remaining = named.get("r", named.get("remaining"))
        reset = named.get("t", named.get("reset"))
    else:
        prefix = "" if "ratelimit-remaining" in headers else "x-"
        remaining = headers.get(f"{prefix}ratelimit-remaining")
        reset = headers.get(f"{prefix}ratelimit-reset")
    if remaining is None or reset is None:
        return None
    try:
        seconds = float(reset)
        left = int(remaining)
    except ValueError:
        return None
    if seconds >= _EPOCH_MILLISECONDS:
        seconds /= 1000
    if seconds >= _EPOCH:
        seconds -= server_time(headers, now).timestamp()
    return Quota(left, max(0.0, seconds))


def _date(text: str) -> datetime | None:
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    return moment if moment.tzinfo is not None else None
