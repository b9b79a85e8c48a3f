"""Metrics of the run log: counters only increase, labels are bounded, and figures agree with those of alerts."""

from __future__ import annotations

import pytest
from prometheus_client.parser import text_string_to_metric_families
from tests.monitor.conftest import World

from speclab.core.outcome import AlertState, ErrorClass, Outcome, RunState
from speclab.monitor import metrics
from speclab.monitor.checks import Checks
from speclab.monitor.metrics import MetricsCollector
from speclab.runlog import AlertRow, RetryResult

Values = dict[tuple[str, ...], float]


def scrape(collector: MetricsCollector, world: World) -> Values:
    """Return the value of each sample by its name and the values of its labels."""
    collector.now = world.now
    text, _ = collector.render("")
    families = text_string_to_metric_families(text.decode())
    samples = [sample for family in families for sample in family.samples]
    return {(one.name, *(one.labels[name] for name in sorted(one.labels, key=_order))): one.value for one in samples}


def _order(label: str) -> tuple[bool, str]:
    return label != "integration", label


@pytest.fixture
def collector(world: World) -> MetricsCollector:
    return MetricsCollector(world.reader)


def test_records_errors_and_bytes_are_counted_by_outcome_and_class(world: World, collector: MetricsCollector) -> None:
    run = world.start()
    world.page(run, written=7, dead=2, waiting=1, error_class=ErrorClass.TIMEOUT)
    world.log.finish_run(run)
    world.run(error="no disk")
    found = scrape(collector, world)
    assert found["speclab_records_read_total", "crm"] == 10
    counts = {outcome: found["speclab_records_total", "crm", outcome] for outcome in Outcome}
    assert {outcome: n for outcome, n in counts.items() if n} == {
        Outcome.WRITTEN: 7, Outcome.DEAD: 2, Outcome.WAITING: 1,
    }  # fmt: skip
    assert found["speclab_errors_total", "crm", "timeout"] == 3
    assert found["speclab_errors_total", "crm", "none"] == 1
    assert (found["speclab_received_bytes_total", "crm"], found["speclab_sent_bytes_total", "crm"]) == (1000, 70)
    assert (found["speclab_dead_letters", "crm"], found["speclab_retry_queue_records", "crm"]) == (2, 1)


def test_counters_never_decrease_while_a_run_changes_its_outcomes(world: World, collector: MetricsCollector) -> None:
    run = world.start()
    world.page(run, written=3, waiting=2)
    before = scrape(collector, world)
    assert before["speclab_records_total", "crm", "waiting"] == 0
    (first, _) = world.reader.failures()
    world.log.commit_retries(run, [RetryResult(first.id, Outcome.WRITTEN)])
    during = scrape(collector, world)
    world.log.finish_run(run)
    after = scrape(collector, world)
    counters = [key for key in before if key[0].endswith("_total")]
    assert all(before[key] <= during[key] <= after[key] for key in counters)
    assert [one["speclab_records_total", "crm", "written"] for one in (before, during, after)] == [3, 4, 4]
    assert after["speclab_records_total", "crm", "waiting"] == 1


def test_runs_count_once_from_the_start_of_the_process_also_after_retention(
    world: World, collector: MetricsCollector
) -> None:
    world.run(seconds=4)
    assert scrape(collector, world)["speclab_runs_total", "crm", "succeeded"] == 1
    world.run(seconds=100, state=RunState.CANCELLED)
    world.run(seconds=70, dead=1)
    world.wait(days=90)
    found = scrape(collector, world)
    world.log.prune("crm", retention=3600, failures=3600)
    assert [(key, value) for key, value in scrape(collector, world).items() if key[0] == "speclab_runs_total"] == [
        (key, value) for key, value in found.items() if key[0] == "speclab_runs_total"
    ]
    assert [found["speclab_runs_total", "crm", state] for state in ("succeeded", "partial", "cancelled")] == [1, 1, 1]
    buckets = [found["speclab_run_duration_seconds_bucket", "crm", bound] for bound in ("1.0", "5.0", "300.0", "+Inf")]
    assert buckets == [0, 1, 2, 2]
    assert found["speclab_run_duration_seconds_sum", "crm"] == 74
    assert scrape(MetricsCollector(world.reader), world)["speclab_runs_total", "crm", "succeeded"] == 0


def test_lag_and_ages_agree_with_the_functions_of_alerts(world: World, collector: MetricsCollector) -> None:
    world.run(written=1)
    world.wait(minutes=5)
    world.run(waiting=1, error="down", state=RunState.FAILED)
    world.wait(minutes=2)
    found = scrape(collector, world)
    assert found["speclab_lag_seconds", "crm"] == Checks(world.reader, "crm", world.now).lag()
    assert found["speclab_retry_queue_oldest_age_seconds", "crm"] == 130
    assert found["speclab_condition", "crm", "failing"] == 1
    assert sum(value for key, value in found.items() if key[0] == "speclab_condition") == 1
    assert ("speclab_lateness_seconds", "crm") not in found


def test_alerts_have_one_state_each_and_labels_are_escaped(world: World, collector: MetricsCollector) -> None:
    world.run()
    name = 'too "slow"\\\n'
    at = "2026-11-24T10:42:07.000Z"
    world.log.save_alerts(
        "crm", [AlertRow("crm", name, AlertState.FIRING, at, ""), AlertRow("crm", "b", AlertState.OK, at, "")]
    )
    found = scrape(collector, world)
    assert [found["speclab_alert_state", "crm", name, state] for state in ("ok", "pending", "firing")] == [0, 0, 1]
    assert found["speclab_alert_state", "crm", "b", "ok"] == 1


def test_number_of_labels_is_bounded(
    world: World, collector: MetricsCollector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics, "MAX_INTEGRATIONS", 3)
    monkeypatch.setattr(metrics, "MAX_ALERTS", 2)
    for number in range(5):
        world.run(f"job-{number}", written=1)
        rows = [AlertRow("", f"alert {one}", AlertState.OK, "2026-11-24T10:42:07.000Z", "") for one in range(5)]
        world.log.save_alerts(f"job-{number}", rows)
    found = scrape(collector, world)
    assert (found["speclab_integrations",], found["speclab_integrations_omitted",]) == (5, 2)
    assert {key[1] for key in found if key[0] == "speclab_records_read_total"} == {"job-0", "job-1", "job-2"}
    assert len([key for key in found if key[0] == "speclab_alert_state"]) == 3 * 2 * len(AlertState)


def test_run_log_that_does_not_exist_yet_has_no_integrations(tmp_path_factory: pytest.TempPathFactory) -> None:
    from speclab.runlog import RunLogReader

    with RunLogReader.open(tmp_path_factory.mktemp("new") / "runlog.db") as reader:
        text, _ = MetricsCollector(reader).render("")
    assert "speclab_integrations 0.0" in text.decode()
