"""Health of integrations: success rate, throughput, durations, backlog, and the dashboard that refreshes them."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from math import ceil, inf
from typing import Final, NamedTuple

from speclab.core.clock import format_timestamp
from speclab.core.outcome import ErrorClass, Outcome, RunState
from speclab.runlog import IntegrationRow, RunLogReader, RunRow
from speclab.runlog.rollup import RollupSpan, stretches
from speclab.runlog.rows import RUN_COLUMNS, run_row
from speclab.runlog.schema import ERROR_COLUMNS, READ_TO_END


class Condition(StrEnum):
    """An integration's state in one word."""

    RUNNING = "running"
    FAILED = "failed"  # the last run, or the last that read the source, failed or was interrupted; cancelled ones aside
    ATTENTION = "attention"  # an alert is firing, or there are dead letters or records in doubt
    PAUSED = "paused"  # somebody paused it, and it does not want anyone otherwise
    PARKED = "parked"  # a system asked to be left alone for longer than a run waits
    WELL = "well"
    IDLE = "idle"  # it has never run


@dataclass(frozen=True, slots=True)
class Figures:
    """What was read in a window of time, and what came of it.

    A record that a run retries by itself counts once, when it was read, with what it came to in the end; one that a
    later run tries again is read again by that run. `errors` are failed attempts at records, each retry that fails
    included, and runs that failed; `errors_by_class` holds those that have a class.
    """

    read: int = 0
    outcomes: Mapping[Outcome, int] = field(default_factory=lambda: dict.fromkeys(Outcome, 0))
    bytes_in: int = 0
    bytes_out: int = 0
    errors: int = 0
    errors_by_class: Mapping[ErrorClass, int] = field(default_factory=dict)

    @property
    def success_rate(self) -> float | None:
        """(written + unchanged + filtered) / read: the part that is as it should be; None if nothing was read."""
        well = sum(self.outcomes[outcome] for outcome in _WELL)
        return well / self.read if self.read else None

    @property
    def unclassified(self) -> int:
        """Errors without a class: runs that failed for a reason that has none."""
        return self.errors - sum(self.errors_by_class.values())


class Bucket(NamedTuple):
    """Records that are as they should be, and records read, in one part of a window."""

    well: int
    read: int

    @property
    def success_rate(self) -> float | None:
        """The part that is as it should be; None if nothing was read."""
        return self.well / self.read if self.read else None


@dataclass(frozen=True, slots=True)
class Health:
    """How one integration is.

    `figures` and `duration_p95` (seconds; of runs that went through to the end) are about the window. `buckets` are the
    window in even parts, oldest first, to draw a line of. `rate` is in records a second over the last one to two
    minutes, of what is running. `failing` is whether the last run that was not cancelled failed or was interrupted, or
    the last of those that read the source. `parked` is until when each endpoint asked to be left alone.
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
    def condition(self) -> Condition:
        """The integration in one word."""
        state = self.last_run.state if self.last_run else None
        if state is RunState.RUNNING:
            return Condition.RUNNING
        if self.failing:
            return Condition.FAILED
        if state and (self.integration.firing or self.integration.dead or self.integration.unknown):
            return Condition.ATTENTION
        if self.integration.paused_at:
            return Condition.PAUSED
        if self.parked:
            return Condition.PARKED
        return Condition.WELL if state else Condition.IDLE


@dataclass(frozen=True, slots=True)
class Overview:
    """All integrations, by name, and what they are together."""

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


def overview(reader: RunLogReader, window: float, now: datetime) -> Overview:
    """How all integrations are, with figures about the last `window` seconds."""
    with reader.snapshot():
        return together(healths(reader, reader.integrations(), window, now))


def health(reader: RunLogReader, spec_id: str, window: float, now: datetime) -> Health | None:
    """How one integration is, with figures about the last `window` seconds; None if the run log does not know it."""
    with reader.snapshot():
        return next(iter(healths(reader, reader.integrations(spec_id), window, now)), None)


def healths(reader: RunLogReader, rows: Sequence[IntegrationRow], window: float, now: datetime) -> list[Health]:
    """How the integrations of `rows` are, with figures about the last `window` seconds."""
    since = now - timedelta(seconds=window)
    chosen = json.dumps([row.spec_id for row in rows])
    sums = _figures(reader, since, chosen)
    buckets = _buckets(reader, window, now, chosen)
    durations = _durations(reader, since, chosen)
    last_runs = _last_runs(reader, chosen)
    rates = _rates_now(reader, now, last_runs)
    failing = _failing(reader, last_runs)
    parked = reader.all_parked([row.spec_id for row in rows])
    at = format_timestamp(now)
    return [
        Health(
            integration=row,
            figures=sums.get(row.spec_id, Figures()),
            buckets=buckets[row.spec_id],
            duration_p95=durations.get(row.spec_id),
            rate=rates.get(row.spec_id, 0.0),
            last_run=last_runs.get(row.spec_id),
            failing=row.spec_id in failing,
            parked={end: until for end, until in parked.get(row.spec_id, {}).items() if until > at},
        )
        for row in rows
    ]


def together(parts: Sequence[Health]) -> Overview:
    """Several integrations taken together."""
    rows = [part.integration for part in parts]
    return Overview(
        figures=_sum([part.figures for part in parts]),
        buckets=[
            Bucket(sum(one.well for one in column), sum(one.read for one in column))
            for column in zip(*(part.buckets for part in parts), strict=True)
        ],
        waiting=sum(row.waiting for row in rows),
        dead=sum(row.dead for row in rows),
        unknown=sum(row.unknown for row in rows),
        oldest_waiting=min((row.oldest_waiting for row in rows if row.oldest_waiting), default=None),
        running=sum(part.condition is Condition.RUNNING for part in parts),
        firing=sum(row.firing for row in rows),
        rate=sum(part.rate for part in parts),
        integrations=parts,
    )


def figures(reader: RunLogReader, spec_id: str, window: float, now: datetime) -> Figures:
    """What was read in the last `window` seconds, to the minute, and what came of it."""
    return _figures(reader, now - timedelta(seconds=window), json.dumps([spec_id])).get(spec_id, Figures())


def duration_p95(reader: RunLogReader, spec_id: str, window: float, now: datetime) -> float | None:
    """Seconds that 95 of 100 runs take at most (nearest rank), of those that ended well or partial in the window."""
    return _durations(reader, now - timedelta(seconds=window), json.dumps([spec_id])).get(spec_id)


_WELL: Final = (Outcome.WRITTEN, Outcome.UNCHANGED, Outcome.FILTERED)
_COUNTS: Final = ("read", *Outcome, "bytes_in", "bytes_out", "errors", *ERROR_COLUMNS.values())
_CHOSEN: Final = "spec_id IN (SELECT value FROM json_each(?1))"


def _figures(reader: RunLogReader, since: datetime, chosen: str) -> dict[str, Figures]:
    sums: defaultdict[str, list[int]] = defaultdict(lambda: [0] * len(_COUNTS))
    for stretch in stretches(since):
        for name, *counts in reader.query(
            f"SELECT spec_id, {', '.join(f'sum({column})' for column in _COUNTS)} FROM rollup "
            f"WHERE {_CHOSEN} AND span = ?2 AND start >= ?3 AND start < ?4 GROUP BY spec_id",
            (chosen, stretch.span, stretch.start, stretch.end),
        ):
            sums[name] = [a + b for a, b in zip(sums[name], counts, strict=True)]
    return {name: _as_figures(counts) for name, counts in sums.items()}


def _as_figures(counts: Sequence[int]) -> Figures:
    by_name = dict(zip(_COUNTS, counts, strict=True))
    return Figures(
        read=by_name["read"],
        outcomes={outcome: by_name[outcome] for outcome in Outcome},
        bytes_in=by_name["bytes_in"],
        bytes_out=by_name["bytes_out"],
        errors=by_name["errors"],
        errors_by_class={name: by_name[column] for name, column in ERROR_COLUMNS.items() if by_name[column]},
    )


def _sum(parts: Sequence[Figures]) -> Figures:
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


def _buckets(reader: RunLogReader, window: float, now: datetime, chosen: str) -> defaultdict[str, list[Bucket]]:
    """Buckets of even width, the last one with `now` in it: few enough to draw, and wide enough to be read fast."""
    width, span, step = next(made_of for longest, made_of in _WIDTHS if window <= longest)
    count = ceil(window / width)
    last = int(now.timestamp() // width) * width
    first = last - (count - 1) * width
    place = {
        format_timestamp(datetime.fromtimestamp(start, UTC)): (start - first) // width
        for start in range(first, last + width, step)
    }
    found: defaultdict[str, list[Bucket]] = defaultdict(lambda: [Bucket(0, 0)] * count)
    for name, start, well, read in reader.query(
        f"SELECT spec_id, start, {' + '.join(_WELL)}, read FROM rollup WHERE {_CHOSEN} AND span = ?2 AND start >= ?3",
        (chosen, span, next(iter(place))),
    ):
        if (index := place.get(start)) is not None:  # not if it is from the future
            line = found[name]
            line[index] = Bucket(line[index].well + well, line[index].read + read)
    return found


_WIDTHS: Final = (
    (2 * 3600, (300, RollupSpan.MINUTE, 60)),
    (2 * 86400, (3600, RollupSpan.HOUR, 3600)),
    (14 * 86400, (6 * 3600, RollupSpan.HOUR, 3600)),
    (inf, (86400, RollupSpan.DAY, 86400)),
)
"""Up to how long a window, how wide its buckets are and of which rows they are made, all in seconds."""


def _durations(reader: RunLogReader, since: datetime, chosen: str) -> dict[str, float]:
    found = defaultdict[str, list[float]](list)
    for name, duration in reader.query(
        f"SELECT spec_id, duration FROM run WHERE {_CHOSEN} AND ended_at >= ?2 AND {READ_TO_END}",
        (chosen, format_timestamp(since)),
    ):
        found[name].append(duration)
    return {name: sorted(durations)[ceil(len(durations) * 0.95) - 1] for name, durations in found.items()}


def _last_runs(reader: RunLogReader, chosen: str) -> dict[str, RunRow]:
    rows = reader.query(
        f"SELECT {RUN_COLUMNS} FROM run WHERE id IN "
        "(SELECT (SELECT max(id) FROM run WHERE spec_id = value) FROM json_each(?1))",
        (chosen,),
    )
    return {run.spec_id: run for run in map(run_row, rows)}


def _failing(reader: RunLogReader, last_runs: Mapping[str, RunRow]) -> set[str]:
    """Return the integrations whose last run failed.

    A cancelled run shows nothing either way: the one before it counts. A run that only drained the retry queue does
    not make up for a source that could not be read.
    """
    failing = {name for name, run in last_runs.items() if run.state in _FAILED}
    unclear = [
        name
        for name, run in last_runs.items()
        if name not in failing and (run.state is RunState.CANCELLED or run.trigger == "retry")
    ]
    for name, *states in reader.query(_CONCLUDED, (json.dumps(unclear),)) if unclear else ():
        if not _FAILED.isdisjoint(states):
            failing.add(name)
    return failing


_FAILED: Final = frozenset({RunState.FAILED, RunState.INTERRUPTED})
_CONCLUDED: Final = "SELECT value, {} FROM json_each(?1)".format(
    ", ".join(
        "(SELECT state FROM run WHERE spec_id = value AND state NOT IN ('running', 'cancelled')"
        f"{which} ORDER BY id DESC LIMIT 1)"
        for which in ("", " AND trigger <> 'retry'")
    )
)


def _rates_now(reader: RunLogReader, now: datetime, last_runs: Mapping[str, RunRow]) -> dict[str, float]:
    """Records a second of what is running: of this minute and the last, or since the run began."""
    since = format_timestamp((now - timedelta(minutes=1)).replace(second=0, microsecond=0))
    rates = {}
    for name, run in last_runs.items():
        if run.state is RunState.RUNNING:
            began = datetime.fromisoformat(max(since, run.started_at))
            ((read,),) = reader.query(
                "SELECT coalesce(sum(read), 0) FROM rollup WHERE spec_id = ? AND span = 'minute' AND start >= ?",
                (name, since),
            )
            rates[name] = read / max((now - began).total_seconds(), 1.0)
    return rates


_STALE_AT_ONCE: Final = 25


class Dashboard:
    """How all integrations are, look after look.

    Each look works out anew what has changed since the last. An integration where nothing happens changes all the same
    as its window moves on; a few of those that are a minute old are taken along with every look.
    """

    def __init__(self, reader: RunLogReader, window: float) -> None:
        self.window = window
        self._reader = reader
        self._file = -1
        self._known: dict[str, tuple[datetime, Health]] = {}

    def look(self, now: datetime) -> Overview:
        """How all integrations are."""
        file, _ = self._reader.version()
        if file != self._file:
            self._file, self._known = file, {}
        minute = now.replace(second=0, microsecond=0)
        changed, stale = [], []
        with self._reader.snapshot():
            rows = self._reader.integrations()
            for row in rows:
                at, known = self._known.get(row.spec_id, (minute, None))
                if known is None or known.integration.revision != row.revision or known.condition is Condition.RUNNING:
                    changed.append(row)
                elif at < minute:
                    stale.append(row)
            fresh = healths(self._reader, changed + stale[:_STALE_AT_ONCE], self.window, now)
        self._known.update({health.integration.spec_id: (minute, health) for health in fresh})
        return together([self._known[row.spec_id][1] for row in rows])
