"""The agenda: which specs are to run, and when. No clock and no process in it: the service tells it what happens."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, tzinfo
from typing import Final

from speclab.core.outcome import Trigger
from speclab.service.schedule import SHORTEST_PAUSE, next_pause, next_start
from speclab.spec.integration import Schedule

_HOLD: Final = 10.0
_LONGEST_HOLD: Final = 600.0
"""Seconds for which the retry queue is left alone when what was due in it could not be sent, at first and at most."""

_SKEW: Final = timedelta(minutes=1)
"""How far the clocks of machines that share a run log may be apart."""


@dataclass(frozen=True, slots=True)
class QueuedRun:
    """Something to be done now; it was due at `at`."""

    spec_id: str
    trigger: Trigger
    at: datetime


@dataclass(frozen=True, slots=True)
class _Entry:
    """One spec. Its times up to `since` are served; `start` is the next one, jitter and all."""

    schedule: Schedule
    since: datetime
    pause: float = SHORTEST_PAUSE
    start: datetime | None = None
    retry_at: datetime | None = None  # when the first record in the retry queue is due
    hold: float = 0.0
    held_until: datetime | None = None
    began: datetime | None = None  # while a job of this agenda is under way
    paused: bool = False
    source_from: datetime | None = None  # when a system that asked to be left alone may be asked again, ...
    target_from: datetime | None = None  # ... which for a target holds for the retry queue, too


@dataclass(slots=True)
class RunQueue:
    """What is to run when. `local` is the time zone of schedules that name none."""

    local: tzinfo
    _entries: dict[str, _Entry] = field(default_factory=dict)

    def __iter__(self) -> Iterator[str]:
        """The specs on it."""
        return iter(self._entries)

    def __contains__(self, spec_id: str) -> bool:
        return spec_id in self._entries

    def put(self, spec_id: str, schedule: Schedule, since: datetime) -> None:
        """Put a spec on, or give it another schedule: its times later than `since` are to be served.

        However many of them have passed, they are made up for by one run. Nothing changes for a spec that has this
        very schedule already. Raises `UsageError` for an unknown time zone.
        """
        known = self._entries.get(spec_id)
        if known is not None and known.schedule == schedule:
            return
        entry = replace(known, schedule=schedule, since=since) if known else _Entry(schedule, since)
        self._entries[spec_id] = self._timed(spec_id, entry)

    def drop(self, spec_id: str) -> None:
        """Take a spec off; a job of it that is under way goes on."""
        self._entries.pop(spec_id, None)

    def served(self, spec_id: str, at: datetime) -> None:
        """A run began at `at`, whoever started it: what was to be run until then has been."""
        entry = self._entries[spec_id]
        if at > entry.since:
            self._entries[spec_id] = self._timed(spec_id, replace(entry, since=at))

    def queue(self, spec_id: str, retry_at: datetime | None) -> None:
        """The first record in the retry queue is due at `retry_at` (None: the queue is empty)."""
        self._entries[spec_id] = replace(self._entries[spec_id], retry_at=retry_at)

    def pause(self, spec_id: str, *, paused: bool) -> None:
        """Leave a spec alone for as long as it is `paused`; what is due by then is done once, when that ends."""
        self._entries[spec_id] = replace(self._entries[spec_id], paused=paused)

    def park(self, spec_id: str, *, source: datetime | None, target: datetime | None) -> None:
        """Leave a spec's systems alone until then, for they asked for it (None: they do not any more)."""
        self._entries[spec_id] = replace(self._entries[spec_id], source_from=source, target_from=target)

    def paused(self, spec_id: str) -> bool:
        """Whether a spec is left alone."""
        return self._entries[spec_id].paused

    def due(self, now: datetime) -> list[QueuedRun]:
        """What is to be done, the longest due first: one job a spec at most, and none while one is under way.

        Times that are served and have yet to come are so by a clock that was set back since; they are to be served.
        """
        for spec_id, entry in self._entries.items():
            if entry.since > now + _SKEW:
                self._entries[spec_id] = self._timed(spec_id, replace(entry, since=now))
        return sorted(self._due(now), key=lambda job: job.at)

    def begin(self, job: QueuedRun, now: datetime) -> None:
        """The job is under way from `now`."""
        self._entries[job.spec_id] = replace(self._entries[job.spec_id], began=now)

    def end(self, job: QueuedRun, now: datetime, *, news: bool) -> None:
        """The job is over; there was `news` if it wrote anything, or will. The retry queue is told before.

        Records that are due still could not be sent: the target is down, or asks to wait. The queue is then left alone
        for a while, longer each time.
        """
        entry = self._entries.get(job.spec_id)
        if entry is None or entry.began is None:
            return
        stuck = entry.retry_at is not None and entry.retry_at <= now
        hold = min(max(entry.hold * 2, _HOLD), _LONGEST_HOLD) if stuck else 0.0
        since, pause = entry.since, entry.pause
        if job.trigger is Trigger.SCHEDULE:
            real_time = entry.schedule.kind == "real_time"
            since, pause = (now, next_pause(pause, news=news)) if real_time else (max(since, entry.began), pause)
        held_until = now + timedelta(seconds=hold)
        ended = replace(entry, began=None, since=since, pause=pause, hold=hold, held_until=held_until)
        self._entries[job.spec_id] = self._timed(job.spec_id, ended)

    def since(self, spec_id: str) -> datetime:
        """Up to when the times of a spec are served: what a service that takes over must know."""
        return self._entries[spec_id].since

    def schedule(self, spec_id: str) -> Schedule:
        """The schedule a spec is on."""
        return self._entries[spec_id].schedule

    def next(self, spec_id: str) -> datetime | None:
        """When a spec is to run next; None for one that runs on demand or is paused."""
        entry = self._entries[spec_id]
        if entry.paused or entry.start is None:
            return None
        return max(entry.start, entry.source_from or entry.start, entry.target_from or entry.start)

    def _due(self, now: datetime) -> Iterator[QueuedRun]:
        for spec_id, entry in self._entries.items():
            if entry.began is not None or entry.paused or _before(now, entry.target_from):
                continue
            if entry.start is not None and entry.start <= now and not _before(now, entry.source_from):
                yield QueuedRun(spec_id, Trigger.SCHEDULE, entry.start)
            elif entry.retry_at is not None:
                at = max(entry.retry_at, entry.held_until or entry.retry_at)
                if at <= now:
                    yield QueuedRun(spec_id, Trigger.RETRY, at)

    def _timed(self, spec_id: str, entry: _Entry) -> _Entry:
        if entry.schedule.kind == "real_time":
            return replace(entry, start=entry.since + timedelta(seconds=entry.pause))
        return replace(entry, start=next_start(entry.schedule, spec_id, entry.since, self.local))


def _before(now: datetime, then: datetime | None) -> bool:
    return then is not None and now < then
