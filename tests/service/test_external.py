"""Integrations that another tool runs: `connector: external` in their spec."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner
from tests.sync.service_workspace import FILE, OUT, ServiceWorkspace, workspace

from speclab.cli.group import speclab
from speclab.core.clock import format_timestamp
from speclab.core.errors import UsageError
from speclab.core.outcome import RunState
from speclab.mapping.lint import lint
from speclab.monitor.checks import Checks
from speclab.runlog import RunLog, RunLogReader
from speclab.runlog.reports import FailureReported, RunEndReported, RunReports, RunStarted
from speclab.service.heartbeat import Heartbeat, get_due, write_heartbeat
from speclab.service.spec_registry import is_run_here
from speclab.spec.document import Document

__all__ = ["workspace"]

EXTERNAL = "connector: external"
SHORT = """\
---
spec_id: nightly-export
type: integration
status: in-progress
---

# Spec: Nightly export

## Integration Overview

### Source System

```yaml
connector: external
tool: airflow
```

### Target System

The data warehouse.

## Data Flow

### Frequency

Daily at 02:00 Europe/Berlin
"""


def reports(workspace: ServiceWorkspace) -> RunReports:
    log = RunLog.open(workspace.runlog)
    return RunReports(log, RunLogReader.open(workspace.runlog), lambda row: is_run_here(workspace.directory, row))


def test_a_spec_in_progress_needs_no_settings_mapping_or_credentials() -> None:
    assert lint(Document.parse(SHORT)) == []


@pytest.mark.parametrize(
    ("source", "target"),
    [(EXTERNAL, OUT), (FILE, EXTERNAL), ("connector: http\nbase_url: https://a.example", EXTERNAL)],
)
def test_one_external_system_is_enough(workspace: ServiceWorkspace, source: str, target: str) -> None:
    assert lint(Document.load(workspace.spec(source=source, target=target))) == []


def test_its_mapping_is_checked_if_it_has_one(workspace: ServiceWorkspace) -> None:
    (problem,) = lint(Document.load(workspace.spec(source=EXTERNAL, step="Trimm")))
    assert (problem.code, "unknown step 'Trimm'" in problem.message) == ("M101", True)


def test_other_settings_are_refused(workspace: ServiceWorkspace) -> None:
    (problem,) = lint(Document.load(workspace.spec(source=f"{EXTERNAL}\nread: {{path: /a}}")))
    assert "read" in problem.message


@pytest.mark.parametrize("command", ["run", "plan"])
def test_run_and_plan_refuse_it_with_what_to_do(workspace: ServiceWorkspace, command: str) -> None:
    path = workspace.spec("export", source=EXTERNAL, target=EXTERNAL)
    done = CliRunner().invoke(speclab, [command, str(path)])
    told = f"{done.output}{done.exception}"
    assert "another tool runs this integration" in told
    assert done.exit_code != 0
    with RunLogReader.open(workspace.runlog) as reader:
        assert reader.runs() == []


async def test_the_service_does_not_run_it_and_measures_how_late_it_is(workspace: ServiceWorkspace) -> None:
    workspace.spec("export", "Every 1 second", source=EXTERNAL, target=EXTERNAL)
    workspace.spec("people")

    def due() -> datetime:
        return get_due(workspace.heartbeat())["export"]

    async with workspace.serving():
        await workspace.wait_until(lambda: len(workspace.ended("people")) >= 2)
        assert workspace.runs("export") == []
        late = due()
        assert late < datetime.now(UTC)
        reported = reports(workspace)
        row = reported.start(RunStarted(integration="export", end=RunEndReported(written=3)))
        assert (row.state, row.read) == (RunState.SUCCEEDED, 3)
        await workspace.wait_until(lambda: due() > late)
        assert workspace.events("alert")  # its alerts are evaluated
    with RunLogReader.open(workspace.runlog) as reader:
        (integration,) = reader.integrations("export")
        assert (integration.path, integration.schedule) == ("specs/export.md", "Every 1 second")
        assert Checks(reader, "export", datetime.now(UTC)).evaluate('success_rate("1h") == 1.0').holds
    assert any("export: Every 1 second, run by another tool" in line for line in workspace.reported)


def test_a_reported_failure_points_to_the_spec(workspace: ServiceWorkspace) -> None:
    reported = reports(workspace)
    with RunLog.open(workspace.runlog) as log:
        log.register("export", title="Export", path="specs/export.md", status="in-progress", schedule="Hourly")
    workspace.spec("export", source=EXTERNAL)
    run = reported.start(RunStarted(integration="export", title="ignored: the spec has one")).run
    reported.fail(run, FailureReported(key="c_1", message="gone"))
    done = CliRunner().invoke(speclab, ["failures", "--runlog", str(workspace.runlog)])
    assert done.output.startswith("specs/export.md:1: dead at write: gone  [c_1]")


def test_runs_of_an_integration_that_speclab_runs_cannot_be_reported(workspace: ServiceWorkspace) -> None:
    workspace.spec("people")
    with RunLog.open(workspace.runlog) as log:
        log.register("people", title="People", path="specs/people.md", status="in-progress", schedule="Hourly")
    with pytest.raises(UsageError, match=r"speclab runs people itself, as specs/people\.md says"):
        reports(workspace).start(RunStarted(integration="people"))
    workspace.spec("people", source=EXTERNAL)
    assert reports(workspace).start(RunStarted(integration="people")).state is RunState.RUNNING


def test_status_names_an_integration_that_is_late(workspace: ServiceWorkspace, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace.leave_stale_heartbeat("Hourly")
    monkeypatch.chdir(workspace.directory)
    beat = workspace.heartbeat()
    alive = Heartbeat.start(datetime.now(UTC))
    served = replace(beat.specs["people"], next="2026-01-01T02:00:00.000Z")
    soon = replace(beat.specs["people"], next=format_timestamp(datetime.now(UTC)))
    write_heartbeat(Path(workspace.directory), replace(alive, specs={"export": served, "people": soon}))
    done = CliRunner().invoke(speclab, ["status"])
    assert "export is late: a run was due at 2026-01-01T02:00:00.000Z" in done.output
    assert "people is late" not in done.output
