"""Query plans: no query reads all events or all failures."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from tests.bench.dashboard import NOW, fill

import speclab
from speclab.core.outcome import ErrorClass, FailureState, RunState, Stage
from speclab.monitor.checks import Checks
from speclab.monitor.health import Dashboard, get_health, get_overview
from speclab.runlog import RunLog, RunLogReader
from speclab.runlog.reader import Tail

DAY = 86400.0
SPEC = "integration-003"


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("small") / "runlog.db"
    fill(path, runs=20, integrations=8)
    return path


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("large") / "runlog.db"
    fill(path, runs=400, integrations=8)
    return path


def all_queries(reader: RunLogReader) -> None:
    reader.integrations()
    for spec_id in (None, SPEC):
        reader.runs(spec_id)
        reader.failures(spec_id)
        reader.failures(spec_id, state=FailureState.WAITING)
        reader.failures(spec_id, state=FailureState.RESOLVED)
        reader.failures(spec_id, closed=True, full=True)
        reader.failures(spec_id, stage=Stage.MAP, error_class=ErrorClass.SERVER, row="email")
        reader.groups(spec_id)
        reader.alerts(spec_id)
        reader.events(10, spec_id=spec_id)
        reader.latest_events(50, spec_id=spec_id, before=1000)
    run = reader.runs(SPEC)[0].run
    reader.run(run)
    reader.failures(run=run)
    reader.events(run=run)
    reader.latest_events(run=run)
    reader.failure(reader.failures()[0].id)
    reader.get_group_failures(reader.groups(SPEC)[0])
    Tail.open(reader).poll()
    get_overview(reader, DAY, NOW)
    get_overview(reader, 7 * DAY, NOW)
    get_health(reader, SPEC, 3600.0, NOW)
    Dashboard(reader, 30 * DAY).refresh(NOW)
    Checks(reader, SPEC, NOW).evaluate(
        'success_rate("24h") > 0.5 && error_count("1h", "timeout") == 0 && records("7d") > 0 && bytes("24h") >= 0 '
        '&& duration_p95("24h") > 0.0 && retry_depth() >= 0 && dead_letters() >= 0 && lag() > 0.0 '
        "&& since_success() > 0.0"
    )


def scans(reader: RunLogReader, executed: str) -> Iterator[str]:
    for step in reader.query(f"EXPLAIN QUERY PLAN {executed}"):
        if match := re.match(
            r"SCAN (log_event|event|failure|e|f|g)\b(?! USING (?:COVERING )?INDEX failure_(?:open|closed))", step[3]
        ):
            yield f"{match[0]}: {executed}"


def test_no_query_scans_events_or_failures(large: Path) -> None:
    with RunLogReader.open(large) as reader:
        executed: set[str] = set()
        connection = reader.connection()
        assert connection is not None
        connection.set_trace_callback(executed.add)
        all_queries(reader)
        connection.set_trace_callback(None)
        questions = [sql for sql in executed if sql.lstrip().startswith("SELECT")]
        assert len(questions) > 40
        found = [scan for sql in questions for scan in scans(reader, sql)]
        by_key = [scan for scan in found if "ORDER BY id" in scan and "LIMIT" in scan and "WHERE" not in scan]
        assert set(found) == set(by_key)  # the last N events of all, by their key


def test_no_write_scans_events_or_failures(large: Path) -> None:
    with RunLog.open(large) as log, RunLogReader.open(large) as reader:
        executed: set[str] = set()
        log._db.set_trace_callback(executed.add)
        log.get_due_failures(SPEC, NOW)
        log.prune(SPEC, retention=5 * DAY, failures=5 * DAY)
        log.mark_interrupted()
        run = log.start_run(SPEC, "", "manual")
        log.discard([reader.failures(SPEC)[0].id], "test")
        log.finish_run(run)
        log._db.set_trace_callback(None)
        statements = ("SELECT", "UPDATE", "DELETE", "INSERT")
        questions = [sql for sql in executed if sql.lstrip().startswith(statements)]
        assert len(questions) > 10
        assert [scan for sql in questions for scan in scans(reader, sql)] == []


def steps(path: Path, ask: Callable[[RunLogReader], object]) -> int:
    """Return the number of SQLite instructions of a query, in hundreds."""
    count = 0

    def step() -> None:
        nonlocal count
        count += 1

    with RunLogReader.open(path) as reader:
        connection = reader.connection()
        assert connection is not None
        connection.set_progress_handler(step, 100)
        ask(reader)
    return count


@pytest.mark.parametrize(
    "ask",
    [
        pytest.param(lambda reader: get_overview(reader, 4 * 3600.0, NOW), id="overview"),
        pytest.param(lambda reader: reader.latest_events(100), id="latest events"),
        pytest.param(lambda reader: reader.latest_events(100, spec_id=SPEC), id="latest events of one"),
        pytest.param(lambda reader: reader.failures(limit=10), id="open failures"),
        pytest.param(lambda reader: reader.runs(limit=10), id="runs"),
        pytest.param(lambda reader: Tail.open(reader).poll(), id="tail"),
    ],
)
def test_queries_cost_the_same_with_twenty_times_the_history(
    small: Path, large: Path, ask: Callable[[RunLogReader], object]
) -> None:
    assert steps(large, ask) <= 1.3 * steps(small, ask) + 5


def test_dashboard_refresh_costs_only_what_changed(large: Path) -> None:
    with RunLogReader.open(large) as reader, RunLog.open(large) as log:
        connection = reader.connection()
        assert connection is not None
        dashboard = Dashboard(reader, DAY)
        count = 0

        def step() -> None:
            nonlocal count
            count += 1

        connection.set_progress_handler(step, 100)
        dashboard.refresh(NOW)
        whole, count = count, 0
        dashboard.refresh(NOW + timedelta(seconds=1))
        nothing, count = count, 0
        log.start_run(SPEC, "", "manual", pid=None)
        changed = {row.integration.spec_id: row for row in dashboard.refresh(NOW + timedelta(seconds=2)).integrations}
        last_run = changed[SPEC].last_run
        assert last_run is not None
        assert last_run.state is RunState.RUNNING
        assert nothing < count < whole / 2


def test_only_the_run_log_has_sql_about_its_tables() -> None:
    package = Path(speclab.__file__).parent
    tables = "run|log_event|failure|checkpoint|record_state|source_key|full_scan|rollup|integration|flow|alert"
    sql = re.compile(rf"\b(?:FROM|INTO|UPDATE|JOIN) (?:{tables})\b")
    outside = [path for path in package.rglob("*.py") if path.parent.name != "runlog" and sql.search(path.read_text())]
    assert outside == []
