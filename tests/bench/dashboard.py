"""The dashboard over a run log of 1,000,000 events and 200 integrations: opening, a refresh, and the tail."""

from __future__ import annotations

import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from typing import Final

from tests.bench.budget import at_most

from speclab.core.clock import format_timestamp
from speclab.core.outcome import Outcome
from speclab.monitor.health import Dashboard
from speclab.runlog import PageResult, RunLog, RunLogReader
from speclab.runlog.reader import Tail
from speclab.runlog.retention import RollupSpan

INTEGRATIONS: Final = 200
RUNS: Final = 500  # per integration, one every quarter of an hour
EVENTS: Final = 10  # per run
DAY: Final = 86400.0
NOW: Final = datetime(2026, 11, 24, 10, 42, 30, tzinfo=UTC)


def fill(path: Path, runs: int = RUNS, integrations: int = INTEGRATIONS) -> None:
    """Fill the run log at `path` as after years of use: every run with its events, rollups and some failures."""
    with RunLog.open(path) as log:
        for number in range(integrations):
            log.register(_name(number), title=f"Job {number}", path="", status="in-progress", schedule="Hourly")
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("PRAGMA synchronous = OFF")
    db.execute("BEGIN")
    db.executemany(
        "INSERT INTO run (id, spec_id, spec_hash, trigger, state, started_at, ended_at, duration, read, written, dead)"
        " VALUES (?, ?, '', 'schedule', ?, ?, ?, ?, 1000, 998, 2)",
        (
            (_run(number, run), _name(number), "succeeded" if run % 3 else "partial", format_timestamp(began),
             format_timestamp(began + timedelta(seconds=30 + run % 90)), 30.0 + run % 90)
            for number, run, began in _runs(runs, integrations)
        ),
    )  # fmt: skip
    db.executemany(
        "INSERT INTO log_event (at, spec_id, run, level, kind, message, fields)"
        " VALUES (?, ?, ?, 'info', 'page', ?, '{}')",
        (
            (format_timestamp(began + timedelta(seconds=9 * page)), _name(number), _run(number, run), f"page {page}")
            for number, run, began in _runs(runs, integrations)
            for page in range(EVENTS)
        ),
    )
    db.executemany(
        "INSERT INTO failure (id, run, spec_id, spec_hash, key, state, stage, class, status, message, shape, file,"
        " line, attempts, first_at, last_at, next_attempt_at, source, counted_by, counted_at)"
        " VALUES (?, ?, ?, '', ?, ?, 'write', 'server', 503, '503', '503', 'a.md', 1, 1, ?, ?, ?, '{}', ?, ?)",
        (
            (f"{_run(number, run)}-{one}", _run(number, run), _name(number), f"{run}-{one}", state, at, at,
             at if state == "waiting" else None, _run(number, run), at)
            for number, run, began in _runs(runs, integrations)
            for one, state, at in ((0, ("resolved", "dead")[run % 8 == 0], format_timestamp(began)),
                                   (1, ("resolved", "waiting")[run % 50 == 0], format_timestamp(began)))
        ),
    )  # fmt: skip
    db.executemany(
        "INSERT INTO rollup (spec_id, span, start, read, written, dead, errors, errors_server)"
        " VALUES (?, ?, ?, 500, 499, 1, 1, 1) ON CONFLICT DO UPDATE SET read = read + 500, written = written + 499,"
        " dead = dead + 1, errors = errors + 1, errors_server = errors_server + 1",
        (
            (_name(number), span, span.start(format_timestamp(began + timedelta(seconds=60 * minute))))
            for number, _, began in _runs(runs, integrations)
            for span in RollupSpan
            for minute in range(0, 15, 2)
        ),
    )
    db.execute("COMMIT")
    db.close()


def main() -> None:
    """Measure opening and refreshing the dashboard, and print the results."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "runlog.db"
        fill(path)
        opening = _median(lambda: _open(path))
        with RunLogReader.open(path) as reader, RunLog.open(path) as log:
            run = log.start_run(_name(7), "", "manual")
            tail = Tail.open(reader)
            dashboard = Dashboard(reader, DAY)
            dashboard.refresh(NOW)
            ticks = []
            for number in range(20):
                page = PageResult(
                    read=200, outcomes={Outcome.WRITTEN: 200}, effects={}, bytes_in=0, bytes_out=0, cursor=number,
                    message=f"page {number}",
                )  # fmt: skip
                log.commit_page(run, page)
                began = time.perf_counter()
                tail.poll()
                dashboard.refresh(NOW + timedelta(seconds=6 * number))
                ticks.append(time.perf_counter() - began)
            idle = _median(tail.poll)
        megabytes = path.stat().st_size / 1e6
        print(
            f"dashboard: {INTEGRATIONS * RUNS * EVENTS:,} events, {INTEGRATIONS} integrations, {megabytes:.0f} MB; "
            f"at most {max(ticks) * 1e3:.0f} ms a tick, an idle poll {idle * 1e6:.0f} µs"
        )
        at_most("opening it", opening * 1e3, 300, " ms")
        at_most("a tick", median(ticks) * 1e3, 30, " ms")


def _open(path: Path) -> None:
    with RunLogReader.open(path) as reader:
        Dashboard(reader, DAY).refresh(NOW)
        reader.latest_events(100)
        reader.failures(limit=100)


def _median(measured: Callable[[], object]) -> float:
    times = []
    for _ in range(9):
        began = time.perf_counter()
        measured()
        times.append(time.perf_counter() - began)
    return median(times)


def _name(number: int) -> str:
    return f"integration-{number:03d}"


def _run(number: int, run: int) -> str:
    return f"{run:08d}-0000-7000-8000-{number:012d}"


def _runs(runs: int, integrations: int) -> Iterator[tuple[int, int, datetime]]:
    """Return (integration, run, start), in order of time."""
    for run in range(runs):
        for number in range(integrations):
            yield number, run, NOW - timedelta(minutes=15 * (runs - run), seconds=number)


if __name__ == "__main__":
    main()
