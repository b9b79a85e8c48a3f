"""Commands on the run log: `status`, `runs`, `failures`, `retry`."""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Sequence
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from speclab.cli.output import (
    STOPPING,
    DurationType,
    complete_spec,
    end_output,
    json_option,
    open_reader,
    print_error,
    print_json,
    print_message,
    print_rows,
    runlog_option,
    spec_id_of,
)
from speclab.cli.systems import approval, trust_option
from speclab.core.errors import SpeclabError, UsageError
from speclab.core.outcome import ErrorClass, FailureState, Outcome
from speclab.core.text import format_count

if TYPE_CHECKING:
    from datetime import datetime

    from speclab.connectors.trust import Approve
    from speclab.core.json import Record
    from speclab.monitor.health import Health
    from speclab.runlog import FailureRow, RunLogReader, TargetState
    from speclab.service.heartbeat import Heartbeat
    from speclab.sync.run import ManualRetry

_ID: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}")
_RESOLVED: Final = {Outcome.WRITTEN, Outcome.UNCHANGED, Outcome.FILTERED, FailureState.SUPERSEDED}
"""Results after which a record needs no further attention."""


@click.command(short_help="Retry failed records with the current spec.")
@click.argument("which", nargs=-1, metavar="[SPEC] [ID]...", shell_complete=complete_spec)
@click.option("--all", "everything", is_flag=True, help="All records in the retry queue and all dead letters.")
@click.option(
    "--class",
    "error_class",
    type=click.Choice([kind.value for kind in ErrorClass]),
    help="Records of one error class.",
)
@click.option("--row", metavar="PATH", help="Records that failed on one mapping row (its target path).")
@click.option(
    "--patience", type=DurationType(), default="60s", show_default=True, help="Maximum total time to wait for retries."
)
@trust_option
@runlog_option
@json_option
def retry(
    which: Sequence[str],
    everything: bool,  # noqa: FBT001 - click hands flags by name
    error_class: str | None,
    row: str | None,
    patience: float,
    trust: bool,  # noqa: FBT001
    runlog: Path | None,
    as_json: bool,  # noqa: FBT001
) -> None:
    """Map failed records with the current spec, send them, and print the result of each.

    Select them by ID (see `speclab failures`), or with --all, --class or --row, of SPEC or of all specs. Records whose
    outcome is unknown are sent again only by ID: check the target first. A record is not sent if a newer one with the
    same key was read.

    \b
    speclab retry crm --row email      # after fixing its mapping
    speclab retry crm --all

    Exits 0 if all of them arrived, 1 if not.
    """  # noqa: D301 - click's mark for a paragraph that keeps its lines
    with open_reader(runlog) as log:
        ids, specs = _ids_and_specs(log, which)
        if ids:
            chosen = _named(log, ids, of=specs)
        elif everything or error_class or row:
            kind = ErrorClass(error_class) if error_class else None
            chosen = _chosen(log, specs[0] if specs else None, kind, row)
        else:
            raise UsageError("no records selected", hint="Give their IDs, or select with --all, --class or --row.")
        if not chosen:
            print_message("There is nothing to retry.")
        by_spec = attrgetter("spec_id")
        groups = [(spec_id, list(group)) for spec_id, group in groupby(sorted(chosen, key=by_spec), key=by_spec)]
        approve = approval(trust=trust)
        codes = [_retry(spec_id, group, log, patience, approve, as_json=as_json) for spec_id, group in groups]
    click.get_current_context().exit(max(codes, default=0))


@click.command(short_help="Discard failed records, with a reason.")
@click.argument("ids", nargs=-1, required=True, metavar="ID...")
@click.option("--reason", required=True, help="Why these records need not arrive; kept in the run log.")
@runlog_option
def discard(ids: Sequence[str], reason: str, runlog: Path | None) -> None:
    """Discard failed records by ID (see `speclab failures`).

    They are not retried and no longer count as dead; the run log keeps them, with the reason.
    """
    from speclab.runlog import RunLog

    if not reason.strip():
        raise UsageError("--reason is empty", hint="Say why these records need not arrive.")
    with open_reader(runlog) as log:
        chosen = _named(log, ids, of=())
        path = log.path
    with RunLog.open(path) as writer:
        discarded = writer.discard([failure.id for failure in chosen], reason.strip())
    print_message(f"{discarded} discarded")


def _ids_and_specs(log: RunLogReader, which: Sequence[str]) -> tuple[list[str], list[str]]:
    ids = [one for one in which if _ID.fullmatch(one)]
    specs = [one for one in which if one not in ids]
    if len(specs) > 1:
        message = f"expected one spec and IDs of failures, got {specs[1]!r}"
        raise UsageError(message, hint="`speclab failures` lists the IDs.")
    return ids, [spec_id_of(log, name) for name in specs]


def _named(log: RunLogReader, ids: Sequence[str], *, of: Sequence[str]) -> list[FailureRow]:
    """Return the open failures with these IDs. Raises `UsageError` for an ID that is unknown, or of another spec."""
    chosen = []
    for one in dict.fromkeys(ids):
        failure = log.failure(one)
        if failure is None or (of and failure.spec_id not in of):
            raise UsageError(f"no failure {one!r} in {log.path}", hint="'speclab failures' lists them with their IDs.")
        if failure.state.is_open:
            chosen.append(failure)
        else:
            print_message(f"{one} is already {failure.state}")
    return chosen


def _chosen(
    log: RunLogReader, spec_id: str | None, error_class: ErrorClass | None, row: str | None
) -> list[FailureRow]:
    """Return the open failures that match, without those whose outcome is unknown."""
    found = log.failures(spec_id, error_class=error_class, row=row, limit=None)
    chosen = [failure for failure in found if failure.state is not FailureState.UNKNOWN]
    if skipped := len(found) - len(chosen):
        print_message(
            f"{skipped} with unknown outcome skipped. Check the target, then retry them by ID or discard them."
        )
    return chosen


def _retry(
    spec_id: str, chosen: Sequence[FailureRow], log: RunLogReader, patience: float, approve: Approve, *, as_json: bool
) -> int:
    """Retry failures of one spec, print the results and return the exit code."""
    try:
        again = _try_again(spec_id, [failure.id for failure in chosen], log.path, patience, approve)
    except SpeclabError as error:
        print_error(error)
        return error.exit_code
    if again.locked is not None:
        print_message(f"{again.locked.message}; that run retries these {len(chosen)}")
        return 1
    became = []
    for failure in chosen:
        now = log.failure(failure.id)
        assert now is not None  # noqa: S101 - failures that were open a moment ago are not pruned
        became.append((now, str(again.outcomes.get(now.id, now.state))))
    try:
        for now, came_to in became:
            _print_result(now, came_to, as_json=as_json)
    except OSError:  # these were retried, and those of other specs still have to be
        unprinted = end_output()
    else:
        unprinted = 0
    counts = Counter(came_to for _, came_to in became)
    print_message(f"{spec_id}: {', '.join(f'{count:,} {came_to}' for came_to, count in counts.most_common())}")
    if again.result is not None and again.result.error is not None:
        print_error(again.result.error)
        return again.result.error.exit_code
    return unprinted if counts.keys() <= _RESOLVED else 1


def _try_again(spec_id: str, ids: Sequence[str], runlog: Path, patience: float, approve: Approve) -> ManualRetry:
    import asyncio

    from speclab.cli.run import equip, tuned_interpreter
    from speclab.spec.workspace import find_spec, workspace_of
    from speclab.sync.run import RunOptions, retry_failures
    from speclab.sync.run_control import cancelled_by_signals

    prepared, references, context = equip(find_spec(workspace_of(Path.cwd()), spec_id), approve)

    async def go() -> ManualRetry:
        with cancelled_by_signals(lambda: print_message(STOPPING)) as cancelled:
            options = RunOptions(wait_budget=patience)
            return await retry_failures(prepared, runlog, ids, references, context, options, cancelled)

    with tuned_interpreter():
        return asyncio.run(go())


def _print_result(failure: FailureRow, became: str, *, as_json: bool) -> None:
    if as_json:
        from speclab.runlog import failure_json

        print_json({**failure_json(failure), "became": became})
        return
    line = f"{became:<10} {failure.key}"
    if failure.state.is_open:
        place = _format_place(failure)
        row = f" {failure.row}:" if failure.row else ""
        line += f"  {place}:{row} {failure.message}  {failure.id}"
    click.echo(line)


@click.command(short_help="Show the status of every integration.")
@click.option("--window", type=DurationType(), default="24h", show_default=True, help="Period of the figures.")
@runlog_option
@json_option
def status(window: float, runlog: Path | None, as_json: bool) -> None:  # noqa: FBT001 - click hands flags by name
    """Show the status of every integration: last and next run, success rate, errors, retry queue and dead letters.

    \b
    ok         the last run succeeded, or it has never run
    attention  dead letters, unknown outcomes, or an alert is firing
    failing    the last run failed or was interrupted
    paused     paused by a person
    parked     waiting for a system that is rate-limiting

    While an integration is running or after a cancelled run, the run before it counts.

    Exits 0 if all of them are ok, paused or parked, 1 if one of them is failing or needs attention, even if it is
    paused.
    """  # noqa: D301 - click's mark for a paragraph that keeps its lines
    from datetime import UTC, datetime

    from speclab.monitor.health import get_overview
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
            row["condition"] = f"{row['condition']}, running" if row["running"] else row["condition"]
            row["next"] = "paused" if row["paused_at"] else row["next"]
        columns = ["spec_id", "condition", "success", "read", "errors", "waiting", "dead", "unknown"]
        print_rows(rows, [*columns, "last_run", "last_run_at", "next"])
    else:
        print_message("No runs yet. Start one with 'speclab run SPEC'.")
    if not as_json:
        _print_pauses(found)
        _print_parked(found)
        _print_service(service, now)
    click.get_current_context().exit(1 if any(health.condition.is_problem for health in found) else 0)


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


_LATE: Final = 60.0
"""Seconds after which a run that is due is late."""


def _measure_lateness(due: str, now: datetime) -> float:
    from datetime import datetime

    return max((now - datetime.fromisoformat(due)).total_seconds(), 0.0)


def _print_service(service: Heartbeat | None, now: datetime) -> None:
    """Print whether the scheduler runs in this workspace, and which specs it cannot run in time."""
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
        elif spec.next and _measure_lateness(spec.next, now) > _LATE:
            print_message(f"  {spec_id} is late: a run was due at {spec.next}")


def _status_row(health: Health, service: Heartbeat | None) -> Record:
    row, last = health.integration, health.last_run
    served = service.specs.get(row.spec_id) if service else None
    return {
        "spec_id": row.spec_id,
        "condition": health.condition,
        "running": health.running,
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
@click.option(
    "--full",
    is_flag=True,
    help="Include the record, the mapped payload, the request, the response, and the id and version at the target.",
)
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
        targets = [log.get_target(failure.spec_id, failure.key) for failure in found] if full else [None] * len(found)
    for failure, target in zip(found, targets, strict=True):
        if as_json:
            print_json(failure_json(failure, full=full) | (target._asdict() if target is not None else {}))
        else:
            _print_failure(failure, target)
    if not as_json and not found:
        print_message("No failures.")


def _format_place(failure: FailureRow) -> str:
    """Return the location of a failure in its spec; the integration, if it was reported and has no spec."""
    if not failure.file:
        return failure.spec_id
    return f"{failure.file}:{failure.line}" + (f":{failure.column}" if failure.column else "")


def _print_failure(failure: FailureRow, target: TargetState | None) -> None:
    """Print a failure on one line; with the state of its record at the target, in full."""
    place = _format_place(failure)
    row = f" {failure.row}:" if failure.row else ""
    click.echo(f"{place}: {failure.state} at {failure.stage}:{row} {failure.message}  [{failure.key}] {failure.id}")
    if target is not None:
        from speclab.core.json import encode

        for name, text in (("target id", target.target_id), ("version at the target", target.version)):
            if text is not None:
                click.echo(f"  {name}: {text}")
        for name, value in (("source", failure.source), ("payload", failure.payload)):
            if value is not None:
                click.echo(f"  {name}: {encode(value).decode()}")
        for name, text in (("request", failure.request), ("response", failure.response)):
            if text:
                click.echo(f"  {name}: " + text.replace("\n", "\n    "))
