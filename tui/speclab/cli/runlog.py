"""`speclab status`, `runs` and `failures`: the run log from the shell."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from speclab.cli.arguments import complete_spec, open_reader, runlog_option, seconds_of, spec_id_of
from speclab.cli.output import json_option, print_json, print_rows, tell
from speclab.core.errors import UsageError
from speclab.core.outcome import FailureState
from speclab.core.text import format_count

if TYPE_CHECKING:
    from speclab.core.json import Record
    from speclab.monitor.health import Health
    from speclab.runlog import FailureRow
    from speclab.service.heartbeat import Heartbeat


@click.command(short_help="Print how every integration is.")
@click.option("--window", metavar="DURATION", default="24h", show_default=True, help="How far back the figures go.")
@runlog_option
@json_option
def status(window: str, runlog: Path | None, as_json: bool) -> None:  # noqa: FBT001 - click hands flags by name
    """Print how every integration is: its last and next run, success rate, errors, retry queue and dead letters.

    Exits 1 if one of them failed or needs attention, paused or not. A cancelled run changes nothing about that: the run
    before it counts. One that is parked waits for a system that asked to be left alone, and is no failure.
    """
    from datetime import UTC, datetime

    from speclab.monitor.health import Condition, get_overview
    from speclab.service.heartbeat import service_of
    from speclab.spec.workspace import workspace_of

    now = datetime.now(UTC)
    with open_reader(runlog) as log:
        found = get_overview(log, seconds_of(window, "--window"), now).integrations
    service = service_of(workspace_of(Path.cwd()), now)
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
        tell("No runs yet. 'speclab run SPEC' makes one.")
    if not as_json:
        _tell_pauses(found)
        _tell_parked(found)
        _tell_service(service)
    well = {Condition.WELL, Condition.RUNNING, Condition.PAUSED, Condition.PARKED, Condition.IDLE}
    click.get_current_context().exit(0 if all(health.condition in well for health in found) else 1)


def _tell_pauses(found: Sequence[Health]) -> None:
    """Who paused what, and why."""
    from speclab.cli.service import paused

    for health in found:
        if health.integration.paused_at:
            tell(f"{health.integration.spec_id} is paused {paused(health.integration)}")


def _tell_parked(found: Sequence[Health]) -> None:
    """Print which endpoints asked to be left alone, and until when."""
    for health in found:
        for end, until in health.parked.items():
            tell(f"{health.integration.spec_id} is parked: its {end} asked to be left alone until {until}")


def _tell_service(service: Heartbeat | None) -> None:
    """Whether anything runs by itself here."""
    if service is None:
        tell("Nothing runs by itself here: no 'speclab up' is alive.")
        return
    who = f"process {service.pid} of {service.user} on {service.host}, since {service.since}"
    stopping = ", and is stopping once its runs finished the page in hand" if service.stopping else ""
    specs = format_count(len(service.specs), "spec")
    tell(f"speclab up is alive here ({specs}): {who}{stopping}")
    for spec_id, spec in service.specs.items():
        if spec.problem:
            tell(f"  {spec_id} cannot run: {spec.problem}")


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


@click.command(short_help="Print the latest runs.")
@click.argument("spec", required=False, shell_complete=complete_spec)
@click.option("--limit", "-n", type=click.IntRange(1), default=20, show_default=True, help="How many, at most.")
@runlog_option
@json_option
def runs(spec: str | None, limit: int, runlog: Path | None, as_json: bool) -> None:  # noqa: FBT001
    """Print the latest runs of all integrations, or of SPEC, newest first."""
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
        tell("No runs yet. 'speclab run SPEC' makes one.")


@click.command(short_help="Print the records that failed, and why.")
@click.argument("spec", required=False, shell_complete=complete_spec)
@click.option("--run", metavar="ID", help="Only of this run, whatever became of them since.")
@click.option(
    "--state",
    type=click.Choice([one.value for one in FailureState]),
    help="Only in this state  [default: the open ones]",
)
@click.option("--row", metavar="PATH", help="Only of this mapping row (its target path).")
@click.option("--limit", "-n", type=click.IntRange(1), default=100, show_default=True, help="How many, at most.")
@click.option("--full", is_flag=True, help="With the record, the mapped payload, the request and the response.")
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
    """Print the records that failed, of all integrations or of SPEC, newest first, each with its place."""
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
        tell("No failures.")


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
