"""The run queue: which specs run next, and when. It has no clock and no processes: the scheduler updates it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, tzinfo
from typing import Final

from speclab.core.outcome import Trigger
from speclab.service.schedule import SHORTEST_PAUSE, compute_next_pause, compute_next_start
from speclab.spec.integration import Schedule

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
