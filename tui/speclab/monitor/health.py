"""Health of integrations: success rate, throughput, durations, backlog, and the dashboard that refreshes them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from math import ceil, inf
from typing import Final, NamedTuple

from speclab.core.clock import format_timestamp
from speclab.core.outcome import ErrorClass, Outcome, RunState
from speclab.runlog import IntegrationRow, RunLogReader, RunRow, retention
from speclab.runlog.retention import RollupSpan
from speclab.runlog.schema import ERROR_COLUMNS


class Condition(StrEnum):
    """The state of an integration in one word; whether it is running is separate from it."""

    OK = "ok"
    ATTENTION = "attention"  # an alert is firing, or there are dead letters or records with an unknown outcome
    FAILING = "failing"  # the last run, or the last that read the source, failed or was interrupted; not if cancelled
    PAUSED = "paused"  # paused by a person, and in none of the two states above
    PARKED = "parked"  # an endpoint asked for a pause longer than the wait budget of a run

    @property
    def is_problem(self) -> bool:
        """Whether a person has to look at the integration."""
        return self in (Condition.FAILING, Condition.ATTENTION)


@dataclass(frozen=True, slots=True)
class Figures:
    """Counts of a time window.

    A record that a run retries itself counts once, when it was read, with its final outcome; one that a later run
    retries is counted again by that run. `errors` are failed attempts at records, including each failed retry, and
    failed runs; `errors_by_class` counts errors that have an error class.
    """

    read: int = 0
    outcomes: Mapping[Outcome, int] = field(default_factory=lambda: dict.fromkeys(Outcome, 0))
    bytes_in: int = 0
    bytes_out: int = 0
    errors: int = 0
    errors_by_class: Mapping[ErrorClass, int] = field(default_factory=dict)

    @property
    def success_rate(self) -> float | None:
        """(written + unchanged + filtered) / read; None if nothing was read."""
        successful = sum(self.outcomes[outcome] for outcome in retention.SUCCESSFUL)
        return successful / self.read if self.read else None

    @property
    def unclassified(self) -> int:
        """Errors without a class: runs that failed for a reason that has none."""
        return self.errors - sum(self.errors_by_class.values())


class Bucket(NamedTuple):
    """Successful records and records read in one part of a window."""

    successful: int
    read: int

    @property
    def success_rate(self) -> float | None:
        """The share of successful records; None if nothing was read."""
        return self.successful / self.read if self.read else None


@dataclass(frozen=True, slots=True)
class Health:
    """The health of one integration.

    `figures` and `duration_p95` (seconds; of runs that read their source to the end) cover the window. `buckets` are
    equal parts of the window, oldest first, for a sparkline. `rate` is the records per second of a running run over
    the last one to two minutes. `failing` is True if the last run that was not cancelled, or the last of those that
    read the source, failed or was interrupted. `parked` maps each parked endpoint to the time when its pause ends.
    """

    integration: IntegrationRow
    figures: Figures
    buckets: Sequence[Bucket]
    duration_p95: float | None
    rate: float
    last_run: RunRow | None
    failing: bool = False
    parked: Mapping[str, str] = field(default_factory=dict)

    @property
    def running(self) -> bool:
        """Whether a run is in progress."""
        return self.last_run is not None and self.last_run.state is RunState.RUNNING

    @property
    def condition(self) -> Condition:
        """The state of the integration in one word; `ok` also if it has never run."""
        if self.failing:
            return Condition.FAILING
        if self.last_run and (self.integration.firing or self.integration.dead or self.integration.unknown):
            return Condition.ATTENTION
        if self.integration.paused_at:
            return Condition.PAUSED
        return Condition.PARKED if self.parked and not self.running else Condition.OK


@dataclass(frozen=True, slots=True)
class Overview:
    """All integrations, by name, and their totals."""

    figures: Figures
    buckets: Sequence[Bucket]
    waiting: int
    dead: int
    unknown: int
    oldest_waiting: str | None
    running: int
    firing: int
    rate: float
    integrations: Sequence[Health]


def get_overview(reader: RunLogReader, window: float, now: datetime) -> Overview:
    """Return the health of all integrations, with figures of the last `window` seconds."""
    with reader.snapshot():
        return combine(get_healths(reader, reader.integrations(), window, now))


def get_health(reader: RunLogReader, spec_id: str, window: float, now: datetime) -> Health | None:
    """Return the health of one integration, with figures of the last `window` seconds; None if it is not known."""
    with reader.snapshot():
        return next(iter(get_healths(reader, reader.integrations(spec_id), window, now)), None)


def get_healths(reader: RunLogReader, rows: Sequence[IntegrationRow], window: float, now: datetime) -> list[Health]:
    """Return the health of the integrations in `rows`, with figures of the last `window` seconds."""
    since = now - timedelta(seconds=window)
    spec_ids = [row.spec_id for row in rows]
    counts = retention.sum_counts(reader, spec_ids, since)
    buckets = _build_buckets(reader, spec_ids, window, now)
    durations = retention.get_durations(reader, spec_ids, since)
    last_runs = retention.get_last_runs(reader, spec_ids)
    rates = _measure_rates(reader, now, last_runs)
    failing = find_failing(reader, last_runs)
    parked = reader.get_all_parked(spec_ids)
    at = format_timestamp(now)
    return [
        Health(
            integration=row,
            figures=_build_figures(counts.get(row.spec_id)),
            buckets=buckets[row.spec_id],
            duration_p95=_take_p95(durations.get(row.spec_id)),
            rate=rates.get(row.spec_id, 0.0),
            last_run=last_runs.get(row.spec_id),
            failing=row.spec_id in failing,
            parked={endpoint: until for endpoint, until in parked.get(row.spec_id, {}).items() if until > at},
        )
        for row in rows
    ]


def combine(healths: Sequence[Health]) -> Overview:
    """Return several integrations with their totals."""
    rows = [health.integration for health in healths]
    return Overview(
        figures=_sum_figures([health.figures for health in healths]),
        buckets=[
            Bucket(sum(one.successful for one in column), sum(one.read for one in column))
            for column in zip(*(health.buckets for health in healths), strict=True)
        ],
        waiting=sum(row.waiting for row in rows),
        dead=sum(row.dead for row in rows),
        unknown=sum(row.unknown for row in rows),
        oldest_waiting=min((row.oldest_waiting for row in rows if row.oldest_waiting), default=None),
        running=sum(health.running for health in healths),
        firing=sum(row.firing for row in rows),
        rate=sum(health.rate for health in healths),
        integrations=healths,
    )


def get_figures(reader: RunLogReader, spec_id: str, window: float, now: datetime) -> Figures:
    """Return the figures of the last `window` seconds, to the minute."""
    return _build_figures(retention.sum_counts(reader, [spec_id], now - timedelta(seconds=window)).get(spec_id))


def get_duration_p95(reader: RunLogReader, spec_id: str, window: float, now: datetime) -> float | None:
    """Return the 95th percentile (nearest rank) of the seconds that runs took which read their source to the end."""
    return _take_p95(retention.get_durations(reader, [spec_id], now - timedelta(seconds=window)).get(spec_id))


class Dashboard:
    """The health of all integrations, refreshed again and again.

    Each refresh recalculates the integrations that changed since the last one. An idle integration changes as well,
    because its window moves; a few of those older than a minute are recalculated with every refresh.
    """

    def __init__(self, reader: RunLogReader, window: float) -> None:
        self.window = window
        self._reader = reader
        self._generation = -1
        self._known: dict[str, tuple[datetime, Health]] = {}

    def refresh(self, now: datetime) -> Overview:
        """Return the health of all integrations."""
        generation, _ = self._reader.version()
        if generation != self._generation:
            self._generation, self._known = generation, {}
        minute = now.replace(second=0, microsecond=0)
        changed, stale = [], []
        with self._reader.snapshot():
            rows = self._reader.integrations()
            for row in rows:
                at, known = self._known.get(row.spec_id, (minute, None))
                if known is None or known.integration.revision != row.revision or known.running:
                    changed.append(row)
                elif at < minute:
                    stale.append(row)
            fresh = get_healths(self._reader, changed + stale[:_STALE_PER_REFRESH], self.window, now)
        self._known.update({health.integration.spec_id: (minute, health) for health in fresh})
        return combine([self._known[row.spec_id][1] for row in rows])


_STALE_PER_REFRESH: Final = 25
_FAILED: Final = frozenset({RunState.FAILED, RunState.INTERRUPTED})
_WIDTHS: Final = (
    (2 * 3600, (300, RollupSpan.MINUTE, 60)),
    (2 * 86400, (3600, RollupSpan.HOUR, 3600)),
    (14 * 86400, (6 * 3600, RollupSpan.HOUR, 3600)),
    (inf, (86400, RollupSpan.DAY, 86400)),
)
"""The longest window, then the width of its buckets, the span of their rows and its length; all in seconds."""


def _build_figures(counts: Mapping[str, int] | None) -> Figures:
    if counts is None:
        return Figures()
    return Figures(
        read=counts["read"],
        outcomes={outcome: counts[outcome] for outcome in Outcome},
        bytes_in=counts["bytes_in"],
        bytes_out=counts["bytes_out"],
        errors=counts["errors"],
        errors_by_class={name: counts[column] for name, column in ERROR_COLUMNS.items() if counts[column]},
    )


def _sum_figures(parts: Sequence[Figures]) -> Figures:
    return Figures(
        read=sum(part.read for part in parts),
        outcomes={outcome: sum(part.outcomes[outcome] for part in parts) for outcome in Outcome},
        bytes_in=sum(part.bytes_in for part in parts),
        bytes_out=sum(part.bytes_out for part in parts),
        errors=sum(part.errors for part in parts),
        errors_by_class={
            name: count for name in ErrorClass if (count := sum(part.errors_by_class.get(name, 0) for part in parts))
        },
    )


def _build_buckets(
    reader: RunLogReader, spec_ids: Sequence[str], window: float, now: datetime
) -> defaultdict[str, list[Bucket]]:
    """Return buckets of equal width, the last of which contains `now`: few enough to draw, wide enough to read fast."""
    width, span, step = next(settings for longest, settings in _WIDTHS if window <= longest)
    count = ceil(window / width)
    last = int(now.timestamp() // width) * width
    first = last - (count - 1) * width
    indexes = {
        format_timestamp(datetime.fromtimestamp(start, UTC)): (start - first) // width
        for start in range(first, last + width, step)
    }
    found: defaultdict[str, list[Bucket]] = defaultdict(lambda: [Bucket(0, 0)] * count)
    for spec_id, start, successful, read in retention.get_success_counts(reader, spec_ids, span, next(iter(indexes))):
        if (index := indexes.get(start)) is not None:  # None for rows in the future
            buckets = found[spec_id]
            buckets[index] = Bucket(buckets[index].successful + successful, buckets[index].read + read)
    return found


def _take_p95(durations: Sequence[float] | None) -> float | None:
    return sorted(durations)[ceil(len(durations) * 0.95) - 1] if durations else None


def find_failing(reader: RunLogReader, last_runs: Mapping[str, RunRow]) -> set[str]:
    """Return the integrations whose last run failed.

    A run that is running or was cancelled is not evidence: the run before it decides. A run that only drained the retry
    queue does not make up for a source that could not be read.
    """
    failing = {spec_id for spec_id, run in last_runs.items() if run.state in _FAILED}
    unclear = [
        spec_id
        for spec_id, run in last_runs.items()
        if spec_id not in failing and (run.state in (RunState.CANCELLED, RunState.RUNNING) or run.trigger == "retry")
    ]
    concluded = retention.get_concluded_states(reader, unclear)
    return failing | {spec_id for spec_id, states in concluded.items() if not _FAILED.isdisjoint(states)}


def _measure_rates(reader: RunLogReader, now: datetime, last_runs: Mapping[str, RunRow]) -> dict[str, float]:
    """Return records per second of running runs: in this minute and the last one, or since the run started."""
    since = format_timestamp((now - timedelta(minutes=1)).replace(second=0, microsecond=0))
    rates = {}
    for spec_id, run in last_runs.items():
        if run.state is RunState.RUNNING:
            began = datetime.fromisoformat(max(since, run.started_at))
            seconds = max((now - began).total_seconds(), 1.0)
            rates[spec_id] = retention.count_read(reader, spec_id, since) / seconds
    return rates
