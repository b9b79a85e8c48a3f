"""Schedules: when a spec runs next, by its Frequency section. Pure functions of times.

Local times that daylight saving skips or repeats are treated as in Debian's cron (cron(8)), whose rules cronsim
implements: a skipped time of day runs at the first minute after the gap, a repeated one runs the first time. A cron
expression whose minute or hour begins with `*` follows elapsed time, so it skips and repeats nothing. A spec without a
time zone uses the one of the machine.
"""

from __future__ import annotations

import hashlib
import os
from datetime import UTC, datetime, timedelta, tzinfo
from math import inf
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from speclab.core.errors import UsageError
from speclab.spec.integration import Schedule

JITTER: Final = 30.0
"""Maximum delay, in seconds, of a start after its scheduled time."""
SHORTEST_PAUSE: Final = 1.0
"""Seconds between two runs of a real-time spec while the runs find changes."""
LONGEST_PAUSE: Final = 60.0
"""Seconds between two runs of a real-time spec after several runs without changes."""

_MONDAY: Final = datetime(1970, 1, 5, tzinfo=UTC)
"""The origin of even steps, so that weeks begin on Mondays, and days and hours at their start."""


def compute_next_slot(schedule: Schedule, after: datetime, local: tzinfo) -> datetime | None:
    """Return the first scheduled time later than `after`, in UTC; None if there is none.

    Raises `UsageError` if the machine does not know the schedule's time zone.
    """
    match schedule.kind:
        case "every":
            step = timedelta(seconds=schedule.every or 0)
            return _MONDAY + ((after - _MONDAY) // step + 1) * step
        case "hourly":
            return _find_cron_time("0 * * * *", after, local)
        case "daily":
            hour, _, minute = (schedule.at or "00:00").partition(":")
            return _find_cron_time(f"{int(minute)} {int(hour)} * * *", after, get_zone(schedule, local))
        case "cron":
            return _find_cron_time(schedule.cron or "", after, get_zone(schedule, local))
        case _:
            return None


def compute_next_start(schedule: Schedule, spec_id: str, after: datetime, local: tzinfo) -> datetime | None:
    """Return when `spec_id` starts next: its first scheduled time later than `after`, plus the jitter of the spec.

    If scheduled times were missed, one start in the past stands for all of them. Raises as `compute_next_slot`.
    """
    slot = compute_next_slot(schedule, after, local)
    if slot is None:
        return None
    following = compute_next_slot(schedule, slot, local)
    gap = (following - slot).total_seconds() if following else inf
    return slot + timedelta(seconds=compute_jitter(spec_id, gap))


def compute_jitter(spec_id: str, gap: float) -> float:
    """Return the delay, in seconds, of `spec_id` after its scheduled time, so that hourly specs do not start together.

    It is constant for a spec: a part of `JITTER`, or of a tenth of the `gap` to the next time if that is shorter.
    """
    digest = hashlib.blake2b(spec_id.encode("utf-8", "backslashreplace"), digest_size=4).digest()
    return int.from_bytes(digest) / 2**32 * min(gap / 10, JITTER)


def compute_next_pause(pause: float, *, has_changes: bool) -> float:
    """Return the seconds until a real-time spec runs again, given the previous `pause`."""
    return SHORTEST_PAUSE if has_changes else min(pause * 2, LONGEST_PAUSE)


def get_zone(schedule: Schedule, local: tzinfo) -> tzinfo:
    """Return the time zone of `schedule`. Raises `UsageError` if the machine does not know it."""
    return local if schedule.zone is None else _load_zone(schedule.zone, f"Frequency: {schedule.text}")


def find_local_zone() -> tzinfo:
    """Return the machine's time zone, found as tzset(3) does: `TZ` (a name or a file), or /etc/localtime, or else UTC.

    Raises `UsageError` if they are invalid: using UTC instead, as the C library does, would run specs hours off.
    """
    name = os.environ.get("TZ", "/etc/localtime").removeprefix(":")
    if not name:
        return UTC
    if not name.startswith("/"):
        return _load_zone(name, "TZ in the environment")
    try:
        with Path(name).open("rb") as file:
            return ZoneInfo.from_file(file)
    except (OSError, ValueError) as error:
        if isinstance(error, FileNotFoundError) and "TZ" not in os.environ:
            return UTC
        raise UsageError(
            f"{name}: not a time zone: {error}", hint="Set TZ to a time zone such as Europe/Berlin."
        ) from None


def _load_zone(name: str, where: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):  # an unknown zone or path, or a directory of zones
        raise UsageError(
            f"{where}: unknown time zone {name!r}",
            hint="Use a name such as Europe/Berlin; if the system has no time zones, run `pip install tzdata`.",
        ) from None


def _find_cron_time(expression: str, after: datetime, zone: tzinfo) -> datetime | None:
    from cronsim import CronSim

    after = after.astimezone(UTC)
    # Within a repeated hour, cronsim begins with the times of the first one, which have passed.
    times = (moment.astimezone(UTC) for moment in CronSim(expression, after.astimezone(zone)))
    return next((moment for moment in times if moment > after), None)
