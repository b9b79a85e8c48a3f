"""`speclab status`, `runs` and `failures`: queries of the run log."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from speclab.cli.arguments import DurationType, complete_spec, open_reader, runlog_option, spec_id_of
from speclab.cli.output import json_option, print_json, print_message, print_rows
from speclab.core.errors import UsageError
from speclab.core.outcome import FailureState
from speclab.core.text import format_count

if TYPE_CHECKING:
    from speclab.core.json import Record
    from speclab.monitor.health import Health
    from speclab.runlog import FailureRow
    from speclab.service.heartbeat import Heartbeat


@click.command(short_help="Show the status of every integration.")
@click.option("--window", type=DurationType(), default="24h", show_default=True, help="Period of the figures.")
@runlog_option
@json_option
def status(window: float, runlog: Path | None, as_json: bool) -> None:  # noqa: FBT001 - click hands flags by name
    """Show the status of every integration: last and next run, success rate, errors, retry queue and dead letters.

    Exits 1 if one of them failed or needs attention, even if it is paused. After a cancelled run, the run before it
    counts. A parked integration waits for a rate-limiting system and has not failed.
    """
    from datetime import UTC, datetime

    from speclab.monitor.health import Condition, get_overview
    from speclab.service.heartbeat import find_service
    from speclab.spec.workspace import workspace_of

    now = datetime.now(UTC)
    with open_reader(runlog) as log:
        found = get_overview(log, window, now).integrations
    service = find_service(workspace_of(Path.cwd()), now)
    rows = [_status_row(health, service) for health in found]
    if as_json:
        for row in rows:
            print_json(row)
    elif rows:
        for row in rows:
            rate = row["success_rate"]
            row["success"] = None if rate is None else f"{rate:.2%}"
            row["next"] = "paused" if row["paused_at"] else row["next"]
        columns = ["spec_id", "condition", "success", "read", "errors", "waiting", "dead", "unknown"]
        print_rows(rows, [*columns, "last_run", "last_run_at", "next"])
    else:
        print_message("No runs yet. Start one with 'speclab run SPEC'.")
    if not as_json:
        _print_pauses(found)
        _print_parked(found)
        _print_service(service)
    healthy = {Condition.WELL, Condition.RUNNING, Condition.PAUSED, Condition.PARKED, Condition.IDLE}
    click.get_current_context().exit(0 if all(health.condition in healthy for health in found) else 1)


def _print_pauses(found: Sequence[Health]) -> None:
    """Print which integrations are paused, by whom and why."""
    from speclab.cli.service import describe_pause

    for health in found:
        if health.integration.paused_at:
            print_message(f"{health.integration.spec_id} is paused {describe_pause(health.integration)}")


def _print_parked(found: Sequence[Health]) -> None:
    """Print which endpoints asked to wait, and until when."""
    for health in found:
        for end, until in health.parked.items():
            print_message(f"{health.integration.spec_id} is parked: its {end} asked to wait until {until}")


def _print_service(service: Heartbeat | None) -> None:
    """Print whether the scheduler runs in this workspace."""
    if service is None:
        print_message("Scheduler is not running. Start it with 'speclab up'.")
        return
    who = f"process {service.pid} of {service.user} on {service.host}, since {service.since}"
    stopping = "; stopping after the pages in progress" if service.stopping else ""
    specs = format_count(len(service.specs), "spec")
    print_message(f"Scheduler is running ({specs}): {who}{stopping}")
    for spec_id, spec in service.specs.items():
        if spec.problem:
            print_message(f"  {spec_id} cannot run: {spec.problem}")


def _status_row(health: Health, service: Heartbeat | None) -> Record:
    row, last = health.integration, health.last_run
    served = service.specs.get(row.spec_id) if service else None
    return {
        "spec_id": row.spec_id,
        "condition": health.condition,
        "success_rate": health.figures.success_rate,
        "read": health.figures.read,
        "errors": health.figures.errors,
        "duration_p95": health.duration_p95,
        "waiting": row.waiting,
        "dead": row.dead,
        "unknown": row.unknown,
        "last_run": last.state if last else None,
        "last_run_at": last.started_at if last else None,
        "next": served.next if served and not row.paused_at else None,
        "paused_at": row.paused_at,
        "paused_by": row.paused_by,
        "paused_reason": row.paused_reason,
        "parked_until": max(health.parked.values(), default=None),
    }


@click.command(short_help="List the latest runs.")
@click.argument("spec", required=False, shell_complete=complete_spec)
@click.option("--limit", "-n", type=click.IntRange(1), default=20, show_default=True, help="Maximum number of rows.")
@runlog_option
@json_option
def runs(spec: str | None, limit: int, runlog: Path | None, as_json: bool) -> None:  # noqa: FBT001
    """List the latest runs of all integrations, or of SPEC, newest first."""
    from speclab.runlog import run_json

    with open_reader(runlog) as log:
        of = spec_id_of(log, spec) if spec is not None else None
        rows = [run_json(row) for row in log.runs(of, limit=min(limit, sys.maxsize))]
    if as_json:
        for row in rows:
            print_json(row)
    elif rows:
        columns = ["run", "spec_id", "trigger", "state", "started_at", "read", "written", "unchanged", "filtered"]
        print_rows(rows, [*columns, "waiting", "dead", "unknown"])
    else:
        print_message("No runs yet. Start one with 'speclab run SPEC'.")


@click.command(short_help="List failed records and their errors.")
@click.argument("spec", required=False, shell_complete=complete_spec)
@click.option("--run", metavar="ID", help="Only failures of this run, whatever their state now.")
@click.option(
    "--state",
    type=click.Choice([one.value for one in FailureState]),
    help="Only failures in this state  [default: all open ones]",
)
@click.option("--row", metavar="PATH", help="Only failures on this mapping row (its target path).")
@click.option("--limit", "-n", type=click.IntRange(1), default=100, show_default=True, help="Maximum number of rows.")
@click.option("--full", is_flag=True, help="Include the record, the mapped payload, the request and the response.")
@runlog_option
@json_option
def failures(
    spec: str | None,
    run: str | None,
    state: str | None,
    row: str | None,
    limit: int,
    full: bool,  # noqa: FBT001
    runlog: Path | None,
    as_json: bool,  # noqa: FBT001
) -> None:
    """List the failed records of all integrations, or of SPEC, newest first, each with its location in the spec."""
    from speclab.runlog import failure_json

    with open_reader(runlog) as log:
        of = spec_id_of(log, spec) if spec is not None else None
        if run is not None and log.run(run) is None:
            raise UsageError(f"no run {run!r} in {log.path}", hint="'speclab runs' lists them with their IDs.")
        only = FailureState(state) if state else None
        found = log.failures(of, run=run, state=only, row=row, limit=min(limit, sys.maxsize), full=full)
    for failure in found:
        if as_json:
            print_json(failure_json(failure, full=full))
        else:
            _print(failure, full=full)
    if not as_json and not found:
        print_message("No failures.")


def _print(failure: FailureRow, *, full: bool) -> None:
    place = f"{failure.file}:{failure.line}" + (f":{failure.column}" if failure.column else "")
    row = f" {failure.row}:" if failure.row else ""
    click.echo(f"{place}: {failure.state} at {failure.stage}:{row} {failure.message}  [{failure.key}] {failure.id}")
    if full:
        from speclab.core.json import encode

        for name, value in (("source", failure.source), ("payload", failure.payload)):
            if value is not None:
                click.echo(f"  {name}: {encode(value).decode()}")
        for name, text in (("request", failure.request), ("response", failure.response)):
            if text:
                click.echo(f"  {name}: " + text.replace("\n", "\n    "))
