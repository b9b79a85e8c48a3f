"""The figures of all integrations as metrics, in the Prometheus text format and OpenMetrics.

Labels are bounded: integrations, the alerts of their specs, and fixed sets such as outcomes. No label comes from a
record. Counters of records, bytes and errors continue over restarts; counters of runs count from the start of the
process, because retention deletes old runs.
"""

from __future__ import annotations

import platform
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from itertools import accumulate
from typing import TYPE_CHECKING, Final, NamedTuple

from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from speclab import __version__
from speclab.core.outcome import AlertState, Outcome, RunState
from speclab.monitor.health import Condition, Health, get_healths
from speclab.runlog import IntegrationRow, RunLogReader, retention
from speclab.runlog.schema import ERROR_COLUMNS

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

MAX_INTEGRATIONS: Final = 1000
"""Maximum integrations with metrics; the others are counted by `speclab_integrations_omitted`."""
MAX_ALERTS: Final = 100
"""Maximum alerts of one integration with metrics."""
DURATIONS: Final = (1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 14400.0, 86400.0)
"""Upper bounds of the buckets of run durations, in seconds."""
UNCLASSIFIED: Final = "none"
"""The class of errors that have none: runs that failed for another reason."""


class MetricType(StrEnum):
    """The type of a metric."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"
    INFO = "info"


class MetricDescription(NamedTuple):
    """A metric: its name without the suffix of its type, its unit, its labels and its meaning."""

    name: str
    type: MetricType
    help: str
    labels: tuple[str, ...] = ("integration",)
    unit: str = ""

    @property
    def sample(self) -> str:
        """The name in queries."""
        return self.name + {MetricType.COUNTER: "_total", MetricType.INFO: "_info"}.get(self.type, "")


_COUNTER, _GAUGE = MetricType.COUNTER, MetricType.GAUGE
METRICS: Final = {
    one.name: one
    for one in (
        MetricDescription("speclab_build", MetricType.INFO, "Version of speclab and Python.", ("version", "python")),
        MetricDescription("speclab_integrations", _GAUGE, "Number of integrations in the run log.", ()),
        MetricDescription(
            "speclab_integrations_omitted", _GAUGE, f"Integrations without metrics: more than {MAX_INTEGRATIONS}.", ()
        ),
        MetricDescription(
            "speclab_heartbeat_timestamp_seconds", _GAUGE, "Time of the last heartbeat of the scheduler.", (), "seconds"
        ),
        MetricDescription("speclab_records_read", _COUNTER, "Records read from the source."),
        MetricDescription(
            "speclab_records",
            _COUNTER,
            "Records by outcome. `waiting`, `dead` and `unknown` count when their run ends, because a run may still "
            "change them.",
            ("integration", "outcome"),
        ),
        MetricDescription("speclab_received_bytes", _COUNTER, "Bytes received from the source.", unit="bytes"),
        MetricDescription("speclab_sent_bytes", _COUNTER, "Bytes sent to the target.", unit="bytes"),
        MetricDescription(
            "speclab_errors",
            _COUNTER,
            f"Failed attempts at records and failed runs, by error class; `{UNCLASSIFIED}` for runs without one.",
            ("integration", "class"),
        ),
        MetricDescription(
            "speclab_runs",
            _COUNTER,
            "Runs that ended since the process started, by state.",
            ("integration", "state"),
        ),
        MetricDescription(
            "speclab_run_duration_seconds",
            MetricType.HISTOGRAM,
            "Duration of runs that read their source to the end, since the process started.",
            unit="seconds",
        ),
        MetricDescription("speclab_run_in_progress", _GAUGE, "1 while a run is in progress."),
        MetricDescription(
            "speclab_condition",
            _GAUGE,
            "1 for the condition that `speclab status` shows.",
            ("integration", "condition"),
        ),
        MetricDescription(
            "speclab_last_success_timestamp_seconds",
            _GAUGE,
            "End of the last run that succeeded; absent before the first.",
            unit="seconds",
        ),
        MetricDescription("speclab_retry_queue_records", _GAUGE, "Records in the retry queue."),
        MetricDescription(
            "speclab_retry_queue_oldest_age_seconds",
            _GAUGE,
            "Time since the oldest record in the retry queue first failed; 0 if it is empty.",
            unit="seconds",
        ),
        MetricDescription("speclab_dead_letters", _GAUGE, "Dead letters that are not discarded."),
        MetricDescription("speclab_unknown_outcomes", _GAUGE, "Records whose outcome at the target is unknown."),
        MetricDescription(
            "speclab_lag_seconds",
            _GAUGE,
            "Age of the oldest change that may not have reached the target.",
            unit="seconds",
        ),
        MetricDescription(
            "speclab_lateness_seconds",
            _GAUGE,
            "Time since a run was due that has not started; absent without a schedule or a running scheduler.",
            unit="seconds",
        ),
        MetricDescription(
            "speclab_alert_state", _GAUGE, "1 for the state of an alert.", ("integration", "alert", "state")
        ),
    )
}
"""All metrics by name; `docs/reference/metrics.md` is generated from them."""

_FINAL: Final = (Outcome.WRITTEN, Outcome.UNCHANGED, Outcome.FILTERED)
"""Outcomes that never change: their counts only increase."""
_READ_TO_END: Final = (RunState.SUCCEEDED, RunState.PARTIAL)
_MAX_LABEL: Final = 200


@dataclass(slots=True)
class RunDurations:
    """The durations of the runs of one integration."""

    buckets: list[int] = field(default_factory=lambda: [0] * (len(DURATIONS) + 1))
    total: float = 0.0

    def add(self, seconds: float) -> None:
        """Count one run."""
        self.buckets[bisect_left(DURATIONS, seconds)] += 1
        self.total += seconds


class RunCounters:
    """Counts the runs that end, from the moment it is created."""

    def __init__(self, reader: RunLogReader) -> None:
        self.states: Counter[tuple[str, RunState]] = Counter()
        self.durations: dict[str, RunDurations] = {}
        self._reader = reader
        self._generation, _ = reader.version()
        self._last = reader.get_last_event_id()

    def update(self) -> None:
        """Count the runs that ended since the last call."""
        generation, _ = self._reader.version()
        if generation != self._generation:  # another file
            self._generation, self._last = generation, 0
        newest = self._reader.get_last_event_id()
        for spec_id, state, duration in self._reader.get_ended_runs(self._last, newest):
            self.states[spec_id, state] += 1
            durations = self.durations.setdefault(spec_id, RunDurations())
            if state in _READ_TO_END:
                durations.add(duration)
        self._last = newest


class MetricsCollector(Collector):
    """Collects the metrics of the integrations in a run log.

    `due` maps an integration to the time when its next run is due, and `beat` is the last heartbeat of the scheduler:
    set both before a collection.
    """

    def __init__(self, reader: RunLogReader) -> None:
        self.now = datetime.now(UTC)
        self.due: Mapping[str, datetime] = {}
        self.beat: datetime | None = None
        self._reader = reader
        self._runs = RunCounters(reader)
        self._registry = CollectorRegistry()
        self._registry.register(self)

    def describe(self) -> Iterable[Metric]:
        """Return no description: the registry would collect to find one."""
        return ()

    def render(self, accept: str) -> tuple[bytes, str]:
        """Return the metrics in the format that `accept` (of an HTTP request) prefers, and its content type."""
        try:
            encode, content_type = choose_encoder(accept)
        except (TypeError, ValueError):  # a version that is not a number
            encode, content_type = choose_encoder("")
        return encode(self._registry), content_type

    def collect(self) -> Iterator[Metric]:
        """Yield all metrics."""
        with self._reader.snapshot():
            self._runs.update()
            rows = self._reader.integrations()
            healths = get_healths(self._reader, rows[:MAX_INTEGRATIONS], 60.0, self.now)
            yield from self._collect_process(len(rows))
            yield from self._collect_counters([health.integration.spec_id for health in healths])
            yield from self._collect_runs([health.integration.spec_id for health in healths])
            yield from self._collect_states(healths)
            yield from self._collect_alerts({health.integration.spec_id for health in healths})

    def _collect_process(self, count: int) -> Iterator[Metric]:
        build = InfoMetricFamily("speclab_build", METRICS["speclab_build"].help)
        build.add_metric([], {"version": __version__, "python": platform.python_version()})
        yield build
        yield _build_gauge("speclab_integrations", {(): count})
        yield _build_gauge("speclab_integrations_omitted", {(): max(count - MAX_INTEGRATIONS, 0)})
        beats: dict[tuple[str, ...], float] = {(): self.beat.timestamp()} if self.beat is not None else {}
        yield _build_gauge("speclab_heartbeat_timestamp_seconds", beats)

    def _collect_counters(self, spec_ids: Sequence[str]) -> Iterator[Metric]:
        """Yield what the rollup counts. Its rows for days are kept, so the sums only increase."""
        counts = retention.sum_counts(self._reader, spec_ids, datetime(1970, 1, 1, tzinfo=UTC))
        running = self._reader.sum_running()
        outcomes: dict[tuple[str, ...], float] = {}
        errors: dict[tuple[str, ...], float] = {}
        for spec_id, found in counts.items():
            for outcome in Outcome:
                pending = 0 if outcome in _FINAL else running.get(spec_id, {}).get(outcome, 0)
                outcomes[spec_id, outcome] = found[outcome] - pending
            for error_class, column in ERROR_COLUMNS.items():
                errors[spec_id, error_class] = found[column]
            errors[spec_id, UNCLASSIFIED] = found["errors"] - sum(found[name] for name in ERROR_COLUMNS.values())
        for name, column in _ROLLUP_COLUMNS.items():
            yield _build_counter(name, {(spec_id,): found[column] for spec_id, found in counts.items()})
        yield _build_counter("speclab_records", outcomes)
        yield _build_counter("speclab_errors", errors)

    def _collect_runs(self, spec_ids: Sequence[str]) -> Iterator[Metric]:
        states: dict[tuple[str, ...], float] = {
            (one, state): self._runs.states[one, state] for one in spec_ids for state in _ENDED
        }
        yield _build_counter("speclab_runs", states)
        described = METRICS["speclab_run_duration_seconds"]
        durations = HistogramMetricFamily(described.name, described.help, labels=described.labels, unit=described.unit)
        bounds = [*map(str, DURATIONS), "+Inf"]
        for spec_id in spec_ids:
            found = self._runs.durations.get(spec_id, RunDurations())
            durations.add_metric([spec_id], list(zip(bounds, accumulate(found.buckets), strict=True)), found.total)
        yield durations

    def _collect_states(self, healths: Sequence[Health]) -> Iterator[Metric]:
        gauges: dict[str, dict[tuple[str, ...], float]] = {name: {} for name in _STATES}
        for health in healths:
            row = health.integration
            for condition in Condition:
                gauges["speclab_condition"][row.spec_id, condition] = health.condition is condition
            for name, value in self._measure(row, running=health.running).items():
                if value is not None:
                    gauges[name][row.spec_id,] = value
        for name, values in gauges.items():
            yield _build_gauge(name, values)

    def _measure(self, row: IntegrationRow, *, running: bool) -> dict[str, float | None]:
        """Return the gauges of one integration; None for those without a value."""
        arrived = row.arrived_at or row.registered_at
        due = self.due.get(row.spec_id)
        return {
            "speclab_run_in_progress": running,
            "speclab_last_success_timestamp_seconds": (
                datetime.fromisoformat(row.succeeded_at).timestamp() if row.succeeded_at else None
            ),
            "speclab_retry_queue_records": row.waiting,
            "speclab_retry_queue_oldest_age_seconds": self._measure_age(row.oldest_waiting) or 0.0,
            "speclab_dead_letters": row.dead,
            "speclab_unknown_outcomes": row.unknown,
            "speclab_lag_seconds": self._measure_age(min(arrived, row.oldest_waiting or arrived)),
            "speclab_lateness_seconds": (
                None if due is None else 0.0 if running else max((self.now - due).total_seconds(), 0.0)
            ),
        }

    def _measure_age(self, at: str | None) -> float | None:
        return None if at is None else max((self.now - datetime.fromisoformat(at)).total_seconds(), 0.0)

    def _collect_alerts(self, spec_ids: set[str]) -> Iterator[Metric]:
        counts = Counter[str]()
        states: dict[tuple[str, ...], float] = {}
        for alert in self._reader.alerts():
            counts[alert.spec_id] += 1
            if alert.spec_id in spec_ids and counts[alert.spec_id] <= MAX_ALERTS:
                for state in AlertState:
                    states[alert.spec_id, alert.name[:_MAX_LABEL], state] = alert.state is state
        yield _build_gauge("speclab_alert_state", states)


_ROLLUP_COLUMNS: Final = {
    "speclab_records_read": "read",
    "speclab_received_bytes": "bytes_in",
    "speclab_sent_bytes": "bytes_out",
}
_ENDED: Final = tuple(state for state in RunState if state is not RunState.RUNNING)
_STATES: Final = (
    "speclab_run_in_progress",
    "speclab_condition",
    "speclab_last_success_timestamp_seconds",
    "speclab_retry_queue_records",
    "speclab_retry_queue_oldest_age_seconds",
    "speclab_dead_letters",
    "speclab_unknown_outcomes",
    "speclab_lag_seconds",
    "speclab_lateness_seconds",
)


def _build_counter(name: str, values: Mapping[tuple[str, ...], float]) -> CounterMetricFamily:
    described = METRICS[name]
    family = CounterMetricFamily(name, described.help, labels=described.labels, unit=described.unit)
    for labels, value in values.items():
        family.add_metric(list(labels), value)
    return family


def _build_gauge(name: str, values: Mapping[tuple[str, ...], float]) -> GaugeMetricFamily:
    described = METRICS[name]
    family = GaugeMetricFamily(name, described.help, labels=described.labels, unit=described.unit)
    for labels, value in values.items():
        family.add_metric(list(labels), float(value))
    return family
