"""Commands that run a spec or plan a run."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from speclab import __version__
from speclab.cli.output import (
    STOPPING,
    DurationType,
    SpecType,
    end_output,
    json_option,
    print_error,
    print_json,
    print_message,
    report,
    runlog_option,
    spec_argument,
    spec_id_and_runlog,
)
from speclab.cli.systems import approval, trust_option
from speclab.core.errors import SpecError, SpeclabError
from speclab.core.outcome import DRY_RUN_EVENT, Level, Outcome, RunState
from speclab.core.text import format_count

if TYPE_CHECKING:
    from speclab.connectors.api import RuntimeContext
    from speclab.connectors.secrets.references import References
    from speclab.connectors.trust import Approve
    from speclab.core.json import Json
    from speclab.runlog import RunLog, RunRow
    from speclab.sync.plan import Plan, PlanExample, PlannedPace
    from speclab.sync.prepare import PreparedSpec
    from speclab.sync.run import RunOptions, RunResult

_GC_THRESHOLD: Final = 20_000
"""Objects after which garbage is collected: about one page."""
_SWITCH_INTERVAL: Final = 0.0001
"""Seconds for which a thread keeps Python's lock when another one wants it."""


@contextmanager
def tuned_interpreter() -> Iterator[None]:
    """Tune Python for pages, which are many objects at once and are written while the next ones are read.

    A full garbage collection goes through all that was ever imported, which costs 3 µs a record; the small ones, every
    700 objects by default, cost another. And a thread that writes a page would wait for the lock until the next page is
    mapped: that takes less than the default switch interval of 5 ms.
    """
    thresholds, interval = gc.get_threshold(), sys.getswitchinterval()
    gc.set_threshold(_GC_THRESHOLD, *thresholds[1:])
    gc.freeze()
    sys.setswitchinterval(_SWITCH_INTERVAL)
    try:
        yield
    finally:
        sys.setswitchinterval(interval)
        gc.unfreeze()
        gc.set_threshold(*thresholds)


_GROUPS: Final = 12


def print_reconciliation(row: RunRow, log_path: Path) -> None:
    """Print the run `row` and the failures it left in the run log at `log_path`."""
    click.echo(f"{row.spec_id}: {row.state}{_took(row)}")
    if row.error:
        click.echo(f"  {row.error}")
    click.echo()
    click.echo(f"  {'read':<10}{row.read:>9,}")
    for outcome in Outcome:
        count = getattr(row, outcome)
        click.echo(f"  {outcome:<10}{count:>9,}{_effects(row) if outcome is Outcome.WRITTEN else ''}")
    outcomes = sum(getattr(row, outcome) for outcome in Outcome)
    verdict = "counts match" if outcomes == row.read else "COUNTS DO NOT MATCH"
    click.echo(f"  {'':<10}{outcomes:>9,}   {verdict}")
    _print_failures(row, log_path)


def _took(row: RunRow) -> str:
    if row.ended_at is None:
        return ""
    seconds = (datetime.fromisoformat(row.ended_at) - datetime.fromisoformat(row.started_at)).total_seconds()
    return f" in {seconds:.1f} s"


def _effects(row: RunRow) -> str:
    counts = [f"{getattr(row, name):,} {name}" for name in ("created", "updated", "deleted") if getattr(row, name)]
    return "   " + ", ".join(counts) if counts else ""


def _print_failures(row: RunRow, log_path: Path) -> None:
    """Print the open failures of the spec in groups, each with its location."""
    from speclab.runlog import RunLogReader
    from speclab.spec.workspace import runlog_path, workspace_of

    with RunLogReader.open(log_path) as log:
        groups = log.groups(row.spec_id)
        shown = [(group, log.get_group_failures(group, limit=1)[0]) for group in groups[:_GROUPS]]
    if not groups:
        return
    click.echo("\n  open failures, by location")
    for group, newest in shown:
        where = f"{newest.file}:{newest.line}" + (f":{newest.column}" if newest.column else "")
        blame = f"{group.row}: " if group.row else ""
        click.echo(f"  {group.count:>7,}  {where}: {group.state} at {group.stage}: {blame}{group.message}")
    if len(groups) > _GROUPS:
        click.echo(f"           and {len(groups) - _GROUPS} more groups")
    elsewhere = "" if log_path.resolve() == runlog_path(workspace_of(Path.cwd())) else f" --runlog {log_path}"
    click.echo(f"\n  details: speclab failures {row.spec_id} --full{elsewhere}")


_CLEAR: Final = b"\r\x1b[K"


class LiveLine:
    """The progress line on standard error. During the run, all other output there goes through `report`."""

    def __init__(self) -> None:
        self._enabled = sys.stderr.isatty() and os.environ.get("TERM", "dumb") != "dumb"
        self._shown = False

    def show(self, run: RunRow) -> None:
        """Show the progress of `run`."""
        if not self._enabled:
            return
        from speclab.runlog.rows import format_progress

        doing = format_progress(run, datetime.now(UTC))
        text = " ".join(f"{run.spec_id}: {run.read:,} read, {doing}".split())
        self.clear()
        with suppress(OSError):  # the run continues without its progress line
            width = os.get_terminal_size(sys.stderr.fileno()).columns
            sys.stderr.write(text[: width - 1])
            sys.stderr.flush()
            self._shown = True

    def clear(self) -> None:
        """Remove the line, so that the next output starts where it began."""
        if self._shown:
            self._shown = False
            with suppress(OSError):
                sys.stderr.buffer.write(_CLEAR)
                sys.stderr.buffer.flush()

    def print(self, text: str) -> None:
        """Print text in place of the line."""
        self.clear()
        click.echo(text, err=True, color=True)

    def report(self, level: Level, message: str) -> None:
        """Print a message in place of the line."""
        self.clear()
        report(level, message)


@click.command(short_help="Stop the run of a spec.")
@spec_argument
@click.option("--now", is_flag=True, help="Stop at once, in the middle of a page.")
@runlog_option
def cancel(spec: Path, now: bool, runlog: Path | None) -> None:  # noqa: FBT001 - click passes flags by name
    """Ask the run of SPEC to stop, wherever it was started: in a shell, the app, `speclab up`, on another host.

    The run finishes the page in progress; the second time, or with --now, it stops at once. Either way it ends as
    `cancelled`, its counts match, and the next run continues from the checkpoint. Records in flight when it stopped at
    once are sent again or, where that could write them twice, become `unknown`.

    `speclab up` still runs the spec at its next scheduled time; `speclab pause` prevents that. Exits 1 if SPEC is not
    running.
    """
    from functools import partial

    from speclab.core.locks import get_user_name, is_running
    from speclab.runlog import RunLog
    from speclab.runlog.rows import CANCEL_NOW
    from speclab.spec.workspace import workspace_of

    spec_id, path = spec_id_and_runlog(spec, runlog)
    with RunLog.open(path) as log:
        gone = [run for run in log.mark_interrupted(partial(is_running, workspace_of(spec))) if run.spec_id == spec_id]
        runs = log.cancel(spec_id, get_user_name(), now=now)
    for run in gone:
        print_message(f"{spec_id}: {run.error}; the run is marked as interrupted")
    for run in runs:
        if run.cancel == CANCEL_NOW:
            print_message(f"{spec_id} was asked to stop now")
        else:
            print_message(f"{spec_id} was asked to stop after the page in progress. Cancel again to stop it now.")
    if not runs:
        if not gone:
            print_message(f"{spec_id} is not running")
        click.get_current_context().exit(1)


@click.command(short_help="Run specs once, now.")
@click.argument("specs", nargs=-1, required=True, type=SpecType())
@click.option("--full", is_flag=True, help="Read the whole source instead of only the changes since the last run.")
@click.option("--limit", type=click.IntRange(1), help="Maximum number of records to read.")
@click.option("--retries", is_flag=True, help="Read nothing; only send the records of the retry queue that are due.")
@click.option("--dry-run", is_flag=True, help="Read, map and check, but write nothing.")
@click.option(
    "--patience",
    type=DurationType(),
    default="60s",
    show_default=True,
    help="Maximum total time to wait for retries.",
)
@click.option("--trigger", default="manual", hidden=True, help="Trigger of the run in the run log.")
@trust_option
@runlog_option
@json_option
def run(
    specs: Sequence[Path],
    full: bool,  # noqa: FBT001 - click hands flags by name
    limit: int | None,
    retries: bool,  # noqa: FBT001
    dry_run: bool,  # noqa: FBT001
    patience: float,
    trigger: str,
    trust: bool,  # noqa: FBT001
    runlog: Path | None,
    as_json: bool,  # noqa: FBT001
) -> None:
    """Run each of SPECS once, continuing where its last run stopped.

    The first ctrl+c finishes the page in progress, the second stops the run at once; `speclab cancel` does the same
    from elsewhere. On a terminal, the last line shows the progress.

    Exits 0 if every record arrived, 1 if some did not, 3 if a spec cannot run, 4 if a system cannot be reached or
    refuses the credentials.
    """
    from speclab.sync.run import RunOptions

    options = RunOptions(
        full=full, limit=limit, retries=retries, dry_run=dry_run, trigger=trigger, wait_budget=patience
    )
    codes = [_run(path, options, approval(trust=trust), runlog, as_json=as_json) for path in specs]
    click.get_current_context().exit(max(codes))


def _run(path: Path, options: RunOptions, approve: Approve, runlog: Path | None, *, as_json: bool) -> int:
    """Run one spec, print the result and return the exit code."""
    from speclab.cli import INTERRUPTED

    try:
        result, log_path = run_spec(path, options, approve, runlog)
    except SpeclabError as error:
        print_error(error)
        return error.exit_code
    try:
        _print(result.row, log_path, as_json=as_json)
    except OSError:  # the run is complete, and the remaining specs still have to run
        unprinted = end_output()
    else:
        unprinted = 0
    if result.error is not None:
        print_error(result.error)
        parked = result.row.state is RunState.PARTIAL  # the system was reached, and asked to wait
        return 1 if parked else result.error.exit_code
    if result.row.state is RunState.CANCELLED:
        return INTERRUPTED
    return unprinted if result.row.state is RunState.SUCCEEDED else 1


def _print(row: RunRow, log_path: Path, *, as_json: bool) -> None:
    if as_json:
        from speclab.runlog import run_json

        print_json(run_json(row))
    else:
        print_reconciliation(row, log_path)


def run_spec(path: Path, options: RunOptions, approve: Approve, runlog: Path | None = None) -> tuple[RunResult, Path]:
    """Run the spec at `path` with this machine's clock, randomness and network; return the result and the run log.

    Raises `SpecError` if it cannot or may not run, `SpecHeld` if it is running already, `RunLogError` if the run log
    cannot be written.
    """
    import asyncio
    from dataclasses import replace

    from speclab.core.telemetry import open_telemetry
    from speclab.runlog import RunLog
    from speclab.spec.workspace import runlog_path
    from speclab.sync.prepare import send_events
    from speclab.sync.run import run as run_sync
    from speclab.sync.run_control import cancelled_by_signals

    prepared, references, context = equip(path, approve)
    log_path = runlog or runlog_path(prepared.workspace)

    live = LiveLine()
    context = replace(context, report=live.report)

    def stopping() -> None:
        live.report(Level.INFO, STOPPING)

    telemetry = open_telemetry(os.environ, live.report, __version__)
    context = replace(context, telemetry=telemetry)

    async def go(log: RunLog) -> RunResult:
        with (
            cancelled_by_signals(stopping) as cancelled,
            telemetry.run(prepared.integration.spec_id, options.trigger) as measured,
        ):
            try:
                result = await run_sync(prepared, log, references, context, options, cancelled, live.show)
            finally:
                live.clear()
            measured.set("speclab.run", result.row.run)
            measured.set("speclab.state", result.row.state.value)
            for name in ("read", *Outcome):
                measured.set(f"speclab.records.{name}", getattr(result.row, name))
            return result

    with RunLog.open(log_path) as log:
        send_events(log, prepared, live.print)
        if options.trigger == "manual":
            _warn_of_duplicates(prepared)
            _warn_if_suspended(prepared.integration.spec_id, log_path)
        try:
            with tuned_interpreter():
                result = asyncio.run(go(log))
        finally:
            telemetry.close()
        if options.dry_run and result.row.state is RunState.SUCCEEDED:
            _log_dry_run(log, prepared, result.row)
        return result, log_path


def _log_dry_run(log: RunLog, prepared: PreparedSpec, row: RunRow) -> None:
    """Record that a dry run succeeded: the status `in-progress` requires it."""
    spec = prepared.integration
    log.register(spec.spec_id, title=spec.title, path=prepared.file, status=spec.status, schedule=spec.schedule.text)
    message = f"dry run succeeded: {format_count(row.read, 'record')} read, nothing written"
    log.log_event(spec.spec_id, None, Level.INFO, DRY_RUN_EVENT, message, {"spec_hash": row.spec_hash})


def _warn_of_duplicates(prepared: PreparedSpec) -> None:
    """Warn of specs with the same spec_id: a copy continues where the original stopped."""
    from speclab.spec.workspace import find_duplicate_ids, find_specs

    for other in find_duplicate_ids(prepared.integration.path, find_specs(prepared.workspace)):
        same = f"{os.path.relpath(other)} has the same spec_id, {prepared.integration.spec_id!r}"
        report(Level.WARNING, f"{same}; both share one cursor and one history. Give the copy its own spec_id.")


def _warn_if_suspended(spec_id: str, log_path: Path) -> None:
    """Tell the user if the scheduler would not run the spec now: it is paused, or a system asked to wait."""
    from speclab.cli.service import describe_pause
    from speclab.core.clock import SystemClock, format_timestamp
    from speclab.runlog import RunLogReader

    now = format_timestamp(SystemClock().now())
    with RunLogReader.open(log_path) as reader:
        why = [f"{spec_id} is paused {describe_pause(row)}" for row in reader.integrations(spec_id) if row.paused_at]
        parked = reader.get_parked(spec_id).items()
        why += [f"the {end} of {spec_id} asked to wait until {until}" for end, until in parked if until > now]
    for reason in why:
        print_message(f"{reason}; running anyway, as you asked for it")


def equip(path: Path, approve: Approve) -> tuple[PreparedSpec, References, RuntimeContext]:
    """Prepare the spec at `path`; return it with this machine's secrets, clock, randomness and network.

    Raises `SpecError` if it cannot run, and `Untrusted` if it may not.
    """
    from speclab.connectors.trust import this_machine
    from speclab.sync.prepare import prepare

    prepared = prepare(path)
    if prepared.integration.runs_elsewhere:
        raise SpecError(
            f"{path}: another tool runs this integration (`connector: external`)",
            hint=f"It reports its runs with 'speclab log', 'speclab wrap {prepared.integration.spec_id}' or over HTTP.",
        )
    return prepared, *this_machine(path, prepared.integration.ends, approve, report)


_FIELDS: Final = 6
_WIDTH: Final = 40


@click.command(short_help="Preview a run: counts and examples of changes.")
@spec_argument
@click.option("--full", is_flag=True, help="Plan a full read instead of only the changes since the last run.")
@click.option("--limit", type=click.IntRange(1), help="Maximum number of records to read.")
@click.option(
    "--lookups",
    type=click.IntRange(0),
    default=500,
    show_default=True,
    help="Maximum number of lookups at a target that takes one request per record.",
)
@trust_option
@runlog_option
@json_option
def plan(
    spec: Path,
    full: bool,  # noqa: FBT001 - click hands flags by name
    limit: int | None,
    lookups: int,
    trust: bool,  # noqa: FBT001
    runlog: Path | None,
    as_json: bool,  # noqa: FBT001
) -> None:
    """Preview a run of SPEC: the records it would create, update, delete, leave unchanged, and fail on.

    Reads the source as a run does, and looks records up at the target where it supports lookups. Nothing is written,
    neither there nor to the run log. What cannot be known is listed as such.

    Exits 0 if every record would arrive, 1 if some would fail or the guard would stop the run, 4 if a system cannot be
    reached.
    """
    import asyncio

    from speclab.spec.workspace import runlog_path
    from speclab.sync.plan import PlanOptions, build_plan

    prepared, references, context = equip(spec, approval(trust=trust))
    options = PlanOptions(full=full, limit=limit, lookups=lookups)
    made = asyncio.run(build_plan(prepared, runlog or runlog_path(prepared.workspace), references, context, options))
    if as_json:
        print_json(_json(made))
    else:
        for line in _lines(made):
            click.echo(line)
    click.get_current_context().exit(1 if made.faults or made.stops else 0)


def _lines(plan: Plan) -> Iterator[str]:
    """Render the plan as lines of text."""
    from speclab.sync.plan import PlannedEffect

    where = "from the checkpoint" if plan.resumed else "from the start of the source"
    yield f"{plan.spec_id}: a run would do this now, {where}"
    yield ""
    yield f"  {'read':<10}{plan.read:>9,}{'   and more, which were not read' if plan.cut else ''}"
    for would in (PlannedEffect.CREATE, PlannedEffect.UPDATE, PlannedEffect.DELETE):
        yield f"  {would:<10}{plan.effects[would]:>9,}"
    if plan.effects[PlannedEffect.SAME]:
        yield f"  {'send':<10}{plan.effects[PlannedEffect.SAME]:>9,}   though the target already has the same values"
    if plan.effects[PlannedEffect.UNKNOWN]:
        yield f"  {'write':<10}{plan.effects[PlannedEffect.UNKNOWN]:>9,}   create or update: cannot be known"
    yield f"  {'unchanged':<10}{plan.unchanged:>9,}"
    yield f"  {'filtered':<10}{plan.filtered:>9,}"
    yield f"  {'fail':<10}{sum(fault.count for fault in plan.faults):>9,}"
    if plan.waiting:
        yield f"\n  {plan.waiting:,} records in the retry queue are due and would be sent first"
    for fault in plan.faults:
        yield f"\n  {fault.count:,} would fail: {fault.place}: {fault.message}"
    for example in plan.examples:
        yield from _example(example)
    yield f"\n  source: {_calls(plan.source, 'page')}"
    yield f"  target: {_calls(plan.target, 'call')}"
    for alarm in plan.alarms:
        yield f"  {'the guard would stop the run' if alarm.stops else f'{alarm.level} of the guard'}: {alarm.message}"
    for note in plan.notes:
        yield f"  unknown: {note}"


def _example(example: PlanExample) -> Iterator[str]:
    yield f"\n  {example.effect} {example.key}"
    for change in example.changes[:_FIELDS]:
        was = f"{_short(change.was)} → " if change.was else ""
        yield f"    {change.field}: {was}{_short(change.becomes)}"
    if len(example.changes) > _FIELDS:
        yield f"    and {len(example.changes) - _FIELDS} more fields"


def _short(text: str) -> str:
    return text if len(text) <= _WIDTH else f"{text[: _WIDTH - 1]}…"


def _calls(pace: PlannedPace, name: str) -> str:
    from speclab.spec.settings_types import format_duration

    count = format_count(pace.calls, name)
    if pace.at_least is None:
        return f"{count}; duration unknown, as the spec has no rate limit for it"
    return f"{count}; at least {format_duration(pace.at_least)} at the rate limit"


def _json(plan: Plan) -> Json:
    """Return the plan as JSON."""

    def pace(one: PlannedPace) -> Json:
        return {"calls": one.calls, "at_least": one.at_least}

    return {
        "spec_id": plan.spec_id,
        "resumed": plan.resumed,
        "cut": plan.cut,
        "read": plan.read,
        **{would.value: count for would, count in plan.effects.items()},
        "unchanged": plan.unchanged,
        "filtered": plan.filtered,
        "fail": sum(fault.count for fault in plan.faults),
        "waiting": plan.waiting,
        "faults": [{"count": one.count, "place": one.place, "message": one.message} for one in plan.faults],
        "examples": [
            {
                "would": one.effect.value,
                "key": one.key,
                "changes": [{"field": it.field, "was": it.was, "becomes": it.becomes} for it in one.changes],
            }
            for one in plan.examples
        ],
        "source": pace(plan.source),
        "target": pace(plan.target),
        "alarms": [{"level": one.level, "message": one.message, "stops": one.stops} for one in plan.alarms],
        "notes": list(plan.notes),
    }
