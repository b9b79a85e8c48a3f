"""Schedules, and the queue of runs that are due."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta, tzinfo
from math import inf
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from speclab.core.errors import UsageError
from speclab.core.outcome import Trigger
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
    """Return the first scheduled time later than `after`, in UTC, or None.

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

    If scheduled times were missed, one start in the past replaces all of them. Raises as `compute_next_slot`.
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


_FIRST_RETRY_PAUSE: Final = 10.0
_LONGEST_RETRY_PAUSE: Final = 600.0
"""First and longest pause, in seconds, of a retry queue whose due records could not be sent."""

_SKEW: Final = timedelta(minutes=1)
"""Maximum difference between the clocks of machines that share a run log."""


@dataclass(frozen=True, slots=True)
class QueuedRun:
    """A run to start now; it was due at `at`."""

    spec_id: str
    trigger: Trigger
    at: datetime


@dataclass(frozen=True, slots=True)
class _Entry:
    """One spec. Its scheduled times up to `since` are done; `start` is the next one, with jitter."""

    schedule: Schedule
    since: datetime
    pause: float = SHORTEST_PAUSE
    start: datetime | None = None
    retry_at: datetime | None = None  # when the first record in the retry queue is due
    retry_pause: float = 0.0
    retry_not_before: datetime | None = None
    started: datetime | None = None  # while a run that this queue returned is in progress
    paused: bool = False
    source_from: datetime | None = None  # earliest next request to a source that is rate-limiting
    target_from: datetime | None = None  # the same for a target, whose retry queue waits, too


@dataclass(slots=True)
class RunQueue:
    """Decides which run starts when. `local` is the time zone of schedules without one."""

    local: tzinfo
    _entries: dict[str, _Entry] = field(default_factory=dict)

    def __iter__(self) -> Iterator[str]:
        """Iterate over the ids of the specs in the queue."""
        return iter(self._entries)

    def __contains__(self, spec_id: str) -> bool:
        return spec_id in self._entries

    def put(self, spec_id: str, schedule: Schedule, since: datetime) -> None:
        """Add a spec, or change its schedule: it runs at its scheduled times later than `since`.

        If several of them have passed, one run makes up for all. A spec that already has this schedule does not change.
        Raises `UsageError` for an unknown time zone.
        """
        known = self._entries.get(spec_id)
        if known is not None and known.schedule == schedule:
            return
        entry = replace(known, schedule=schedule, since=since) if known else _Entry(schedule, since)
        self._entries[spec_id] = self._schedule(spec_id, entry)

    def remove(self, spec_id: str) -> None:
        """Remove a spec; a run of it that is in progress continues."""
        self._entries.pop(spec_id, None)

    def mark_started(self, spec_id: str, at: datetime) -> None:
        """Note that a run started at `at`, with any trigger: scheduled times up to then are done."""
        entry = self._entries[spec_id]
        if at > entry.since:
            self._entries[spec_id] = self._schedule(spec_id, replace(entry, since=at))

    def set_retry(self, spec_id: str, retry_at: datetime | None) -> None:
        """Set when the first record of the retry queue is due (None: the queue is empty)."""
        self._entries[spec_id] = replace(self._entries[spec_id], retry_at=retry_at)

    def set_paused(self, spec_id: str, *, paused: bool) -> None:
        """Skip a spec while it is `paused`; if runs become due in that time, one starts at the end."""
        self._entries[spec_id] = replace(self._entries[spec_id], paused=paused)

    def park(self, spec_id: str, *, source: datetime | None, target: datetime | None) -> None:
        """Send nothing to a spec's systems before these times, which they asked for (None: no limit)."""
        self._entries[spec_id] = replace(self._entries[spec_id], source_from=source, target_from=target)

    def is_paused(self, spec_id: str) -> bool:
        """Return whether a spec is paused."""
        return self._entries[spec_id].paused

    def get_due(self, now: datetime) -> list[QueuedRun]:
        """Return the runs to start, the longest due first: at most one per spec, and none while one is in progress.

        If the clock was set back after a run, its scheduled time is in the future; it is then due again.
        """
        for spec_id, entry in self._entries.items():
            if entry.since > now + _SKEW:
                self._entries[spec_id] = self._schedule(spec_id, replace(entry, since=now))
        return sorted(self._find_due(now), key=lambda queued: queued.at)

    def begin(self, queued: QueuedRun, now: datetime) -> None:
        """Note that a run started at `now`."""
        self._entries[queued.spec_id] = replace(self._entries[queued.spec_id], started=now)

    def end(self, queued: QueuedRun, now: datetime, *, has_changes: bool) -> None:
        """Note that a run has ended, after `set_retry` was called for it.

        If records are still due, the target is down or asks to wait. The retry queue is then paused, longer each time.
        """
        entry = self._entries.get(queued.spec_id)
        if entry is None or entry.started is None:
            return
        stuck = entry.retry_at is not None and entry.retry_at <= now
        retry_pause = min(max(entry.retry_pause * 2, _FIRST_RETRY_PAUSE), _LONGEST_RETRY_PAUSE) if stuck else 0.0
        since, pause = entry.since, entry.pause
        if queued.trigger is Trigger.SCHEDULE and entry.schedule.kind == "real_time":
            since, pause = now, compute_next_pause(pause, has_changes=has_changes)
        elif queued.trigger is Trigger.SCHEDULE:
            since = max(since, entry.started)
        ended = replace(
            entry,
            started=None,
            since=since,
            pause=pause,
            retry_pause=retry_pause,
            retry_not_before=now + timedelta(seconds=retry_pause),
        )
        self._entries[queued.spec_id] = self._schedule(queued.spec_id, ended)

    def get_since(self, spec_id: str) -> datetime:
        """Return the time up to which scheduled runs are done, which the next service continues from."""
        return self._entries[spec_id].since

    def get_schedule(self, spec_id: str) -> Schedule:
        """Return the schedule of a spec."""
        return self._entries[spec_id].schedule

    def get_next(self, spec_id: str) -> datetime | None:
        """Return when a spec runs next; None if it runs on demand or is paused."""
        entry = self._entries[spec_id]
        if entry.paused or entry.start is None:
            return None
        return max(entry.start, entry.source_from or entry.start, entry.target_from or entry.start)

    def _find_due(self, now: datetime) -> Iterator[QueuedRun]:
        for spec_id, entry in self._entries.items():
            if entry.started is not None or entry.paused or _is_before(now, entry.target_from):
                continue
            if entry.start is not None and entry.start <= now and not _is_before(now, entry.source_from):
                yield QueuedRun(spec_id, Trigger.SCHEDULE, entry.start)
            elif entry.retry_at is not None:
                at = max(entry.retry_at, entry.retry_not_before or entry.retry_at)
                if at <= now:
                    yield QueuedRun(spec_id, Trigger.RETRY, at)

    def _schedule(self, spec_id: str, entry: _Entry) -> _Entry:
        if entry.schedule.kind == "real_time":
            return replace(entry, start=entry.since + timedelta(seconds=entry.pause))
        return replace(entry, start=compute_next_start(entry.schedule, spec_id, entry.since, self.local))


def _is_before(now: datetime, then: datetime | None) -> bool:
    return then is not None and now < then
