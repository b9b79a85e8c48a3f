"""Schedules: when a spec runs next, by its Frequency section. Pure: moments in, a moment out.

Times that daylight saving takes away or gives twice are treated as Debian's cron does (cron(8)), whose rules cronsim
has: a time of day that is skipped comes at the first minute after the gap, one that comes twice is taken the first
time. A cron expression whose minute or hour begins with `*` goes by the time that passes, so it loses and repeats
nothing. Where a spec names no time zone its times are those of the machine.
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
"""The most seconds by which a spec starts after its time."""
SHORTEST_PAUSE: Final = 1.0
"""Seconds between two runs of a real-time spec while there is news."""
LONGEST_PAUSE: Final = 60.0
"""Seconds between two runs of a real-time spec once there has been none for a while."""

_MONDAY: Final = datetime(1970, 1, 5, tzinfo=UTC)
"""What even steps are counted from, so that weeks begin on Mondays, and days and hours when they do."""


def next_slot(schedule: Schedule, after: datetime, local: tzinfo) -> datetime | None:
    """The first time later than `after` that `schedule` names, in UTC; None where it names none (or never again).

    Raises `UsageError` if the machine does not know the schedule's time zone.
    """
    match schedule.kind:
        case "every":
            step = timedelta(seconds=schedule.every or 0)
            return _MONDAY + ((after - _MONDAY) // step + 1) * step
        case "hourly":
            return _by_cron("0 * * * *", after, local)
        case "daily":
            hour, _, minute = (schedule.at or "00:00").partition(":")
            return _by_cron(f"{int(minute)} {int(hour)} * * *", after, zone_of(schedule, local))
        case "cron":
            return _by_cron(schedule.cron or "", after, zone_of(schedule, local))
        case _:
            return None


def next_start(schedule: Schedule, spec_id: str, after: datetime, local: tzinfo) -> datetime | None:
    """When `spec_id` starts for its first time later than `after`: that time and the spec's jitter. Raises the same.

    All times that passed while nobody started it come to one such start, in the past.
    """
    slot = next_slot(schedule, after, local)
    if slot is None:
        return None
    following = next_slot(schedule, slot, local)
    gap = (following - slot).total_seconds() if following else inf
    return slot + timedelta(seconds=jitter(spec_id, gap))


def jitter(spec_id: str, gap: float) -> float:
    """Seconds that `spec_id` starts after its time, so that not all that run hourly knock at the full hour.

    Always the same for a spec: a share of `JITTER`, or of a tenth of the `gap` to its next time if that is less.
    """
    digest = hashlib.blake2b(spec_id.encode("utf-8", "backslashreplace"), digest_size=4).digest()
    return int.from_bytes(digest) / 2**32 * min(gap / 10, JITTER)


def next_pause(pause: float, *, news: bool) -> float:
    """Seconds until a real-time spec runs again, when it ran after a `pause` and there was `news` or not."""
    return SHORTEST_PAUSE if news else min(pause * 2, LONGEST_PAUSE)


def zone_of(schedule: Schedule, local: tzinfo) -> tzinfo:
    """The time zone of `schedule`. Raises `UsageError` if the machine does not know it."""
    return local if schedule.zone is None else _zone(schedule.zone, f"Frequency: {schedule.text}")


def local_zone() -> tzinfo:
    """The machine's time zone, found as tzset(3) finds it: `TZ`, a name or a file, or /etc/localtime, or else UTC.

    Raises `UsageError` where they are none: to take UTC in silence, as the C library does, would run specs hours off.
    """
    name = os.environ.get("TZ", "/etc/localtime").removeprefix(":")
    if not name:
        return UTC
    if not name.startswith("/"):
        return _zone(name, "TZ in the environment")
    try:
        with Path(name).open("rb") as file:
            return ZoneInfo.from_file(file)
    except (OSError, ValueError) as error:
        if isinstance(error, FileNotFoundError) and "TZ" not in os.environ:
            return UTC
        raise UsageError(f"{name} is no time zone: {error}", hint="Name one with TZ, such as Europe/Berlin.") from None


def _zone(name: str, where: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):  # no such zone, no such path, a directory of zones
        raise UsageError(
            f"{where}: this machine knows no time zone {name!r}",
            hint="Name one such as Europe/Berlin; where the system has none at all, `pip install tzdata` brings them.",
        ) from None


def _by_cron(expression: str, after: datetime, zone: tzinfo) -> datetime | None:
    from cronsim import CronSim

    after = after.astimezone(UTC)
    # Within the hour that comes twice cronsim begins with times of the first, which are over.
    times = (moment.astimezone(UTC) for moment in CronSim(expression, after.astimezone(zone)))
    return next((moment for moment in times if moment > after), None)
