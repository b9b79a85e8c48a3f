"""`speclab run` and `speclab cancel`, the progress line, and the reconciliation that is printed."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from speclab.cli.arguments import runlog_option, seconds_of, spec_argument, spec_id_and_runlog, specs_argument
from speclab.cli.output import STOPPING, end_output, json_option, print_json, report, tell, tell_error
from speclab.cli.trust import approval, trust_option
from speclab.core.errors import SpeclabError
from speclab.core.outcome import Level, Outcome, RunState

if TYPE_CHECKING:
    from speclab.connectors.api import RuntimeContext
    from speclab.connectors.secrets.references import References
    from speclab.connectors.trust import Approve
    from speclab.runlog import RunRow
    from speclab.sync.prepare import PreparedSpec
    from speclab.sync.run import RunOptions, RunResult


_GROUPS: Final = 12


def print_books(row: RunRow, log_path: Path) -> None:
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
    verdict = "the books balance" if outcomes == row.read else "THE BOOKS DO NOT BALANCE"
    click.echo(f"  {'':<10}{outcomes:>9,}   {verdict}")
    _print_failures(row, log_path)


def _took(row: RunRow) -> str:
    if row.ended_at is None:
        return ""
    seconds = (datetime.fromisoformat(row.ended_at) - datetime.fromisoformat(row.started_at)).total_seconds()
    return f" in {seconds:.1f} s"


def _effects(row: RunRow) -> str:
    told = [f"{getattr(row, name):,} {name}" for name in ("created", "updated", "deleted") if getattr(row, name)]
    return "   " + ", ".join(told) if told else ""


def _print_failures(row: RunRow, log_path: Path) -> None:
    """The failures of the run that are still open, grouped by what they have in common, each group at its place."""
    from speclab.runlog import RunLogReader
    from speclab.spec.workspace import runlog_path, workspace_of

    with RunLogReader.open(log_path) as log:
        groups = log.groups(row.spec_id)
        shown = [(group, log.get_group_failures(group, limit=1)[0]) for group in groups[:_GROUPS]]
    if not groups:
        return
    click.echo("\n  failures in the run log, by place")
    for group, newest in shown:
        where = f"{newest.file}:{newest.line}" + (f":{newest.column}" if newest.column else "")
        blame = f"{group.row}: " if group.row else ""
        click.echo(f"  {group.count:>7,}  {where}: {group.state} at {group.stage}: {blame}{group.message}")
    if len(groups) > _GROUPS:
        click.echo(f"           and {len(groups) - _GROUPS} more kinds")
    elsewhere = "" if log_path.resolve() == runlog_path(workspace_of(Path.cwd())) else f" --runlog {log_path}"
    click.echo(f"\n  each of them, with its record: speclab failures {row.spec_id} --full{elsewhere}")


_CLEAR: Final = b"\r\x1b[K"


class LiveLine:
    """The line, on stderr. Whatever else is printed there during the run goes through `report`."""

    def __init__(self) -> None:
        self._works = sys.stderr.isatty() and os.environ.get("TERM", "dumb") != "dumb"
        self._shown = False

    def show(self, run: RunRow) -> None:
        """Show how `run` goes."""
        if not self._works:
            return
        from speclab.runlog.rows import format_progress

        doing = format_progress(run, datetime.now(UTC))
        text = " ".join(f"{run.spec_id}: {run.read:,} read, {doing}".split())
        self.clear()
        with suppress(OSError):  # the run goes on where nobody sees it
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

    def report(self, level: Level, message: str) -> None:
        """Print a message in place of the line."""
        self.clear()
        report(level, message)


@click.command(short_help="Stop the running run of a spec.")
@spec_argument
@click.option("--now", is_flag=True, help="Stop at once, in the middle of a page.")
@runlog_option
def cancel(spec: Path, now: bool, runlog: Path | None) -> None:  # noqa: FBT001 - click hands flags by name
    """Ask the running run of SPEC to stop, whoever started it: a shell, the app, `speclab up`, another host.

    The first time, the run finishes the page in progress. Asked again, or with --now, it stops at once. Either way it
    ends as `cancelled`, its counts match, and the next run continues from the checkpoint. Records that were being sent
    when it stopped at once are sent again or, where that could write them twice, become `unknown`.

    `speclab up` runs the spec again at its next time; `speclab pause` prevents that. Exits 1 if SPEC is not running.
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
        tell(f"{spec_id}: {run.error}; the run is marked as interrupted")
    for run in runs:
        if run.cancel == CANCEL_NOW:
            tell(f"{spec_id} was asked to stop now")
        else:
            tell(f"{spec_id} was asked to stop after the page in progress; cancel it again to stop it now")
    if not runs:
        if not gone:
            tell(f"{spec_id} is not running")
        click.get_current_context().exit(1)


@click.command(short_help="Run specs once, now.")
@specs_argument
@click.option("--full", is_flag=True, help="Read the whole source, not only what changed since the last run.")
@click.option("--limit", type=click.IntRange(1), help="Read so many records at most.")
@click.option("--retries", is_flag=True, help="Read nothing; only try again what is due in the retry queue.")
@click.option("--dry-run", is_flag=True, help="Read, map and check, but write nothing anywhere.")
@click.option(
    "--patience",
    metavar="DURATION",
    default="60s",
    show_default=True,
    help="How long to wait to send records again, in all.",
)
@click.option("--trigger", default="manual", hidden=True, help="What the run log says started it.")
@trust_option
@runlog_option
@json_option
def run(
    specs: Sequence[Path],
    full: bool,  # noqa: FBT001 - click hands flags by name
    limit: int | None,
    retries: bool,  # noqa: FBT001
    dry_run: bool,  # noqa: FBT001
    patience: str,
    trigger: str,
    trust: bool,  # noqa: FBT001
    runlog: Path | None,
    as_json: bool,  # noqa: FBT001
) -> None:
    """Run each of SPECS once, now, from where its last run came to.

    Exits 0 if every record arrived, 1 if some did not, 3 if a spec cannot run, 4 if a system cannot be reached or
    refuses the credentials. The first ctrl+c finishes the page in progress, the second stops the run at once;
    `speclab cancel` does the same from elsewhere. On a terminal, the last line shows what the run does.
    """
    from speclab.sync.run import RunOptions

    wait = seconds_of(patience, "--patience")
    options = RunOptions(full=full, limit=limit, retries=retries, dry_run=dry_run, trigger=trigger, wait_budget=wait)
    codes = [_run(path, options, approval(trust=trust), runlog, as_json=as_json) for path in specs]
    click.get_current_context().exit(max(codes))


def _run(path: Path, options: RunOptions, approve: Approve, runlog: Path | None, *, as_json: bool) -> int:
    """Run one spec and print what came of it; gives the exit code."""
    from speclab.cli import INTERRUPTED

    try:
        result, log_path = run_spec(path, options, approve, runlog)
    except SpeclabError as error:
        tell_error(error)
        return error.exit_code
    try:
        _print(result.row, log_path, as_json=as_json)
    except OSError:  # the run is done, and those after it are to be done
        unprinted = end_output()
    else:
        unprinted = 0
    if result.error is not None:
        tell_error(result.error)
        parked = result.row.state is RunState.PARTIAL  # the system was reached, and asks to wait
        return 1 if parked else result.error.exit_code
    if result.row.state is RunState.CANCELLED:
        return INTERRUPTED
    return unprinted if result.row.state is RunState.SUCCEEDED else 1


def _print(row: RunRow, log_path: Path, *, as_json: bool) -> None:
    if as_json:
        from speclab.runlog import run_json

        print_json(run_json(row))
    else:
        print_books(row, log_path)


def run_spec(path: Path, options: RunOptions, approve: Approve, runlog: Path | None = None) -> tuple[RunResult, Path]:
    """Run the spec at `path` with the machine's own time, chance and network; gives the path of the run log too.

    Raises `SpecError` if it cannot or may not run, `SpecHeld` if it is being run, `RunLogError` if the books cannot be
    kept.
    """
    import asyncio
    from dataclasses import replace

    from speclab.cli.tuning import tuned_interpreter
    from speclab.runlog import RunLog
    from speclab.spec.workspace import runlog_path
    from speclab.sync.run import run as run_sync
    from speclab.sync.signals import cancelled_by_signals

    prepared, references, context = equip(path, approve)
    log_path = runlog or runlog_path(prepared.workspace)

    live = LiveLine()
    context = replace(context, report=live.report)

    def stopping() -> None:
        live.report(Level.INFO, STOPPING)

    async def go(log: RunLog) -> RunResult:
        with cancelled_by_signals(stopping) as cancelled:
            try:
                return await run_sync(prepared, log, references, context, options, cancelled, live.show)
            finally:
                live.clear()

    with RunLog.open(log_path) as log:
        if options.trigger == "manual":
            _say_if_others_are_called_so(prepared)
            _say_if_a_service_would_not(prepared.integration.spec_id, log_path)
        with tuned_interpreter():
            return asyncio.run(go(log)), log_path


def _say_if_others_are_called_so(prepared: PreparedSpec) -> None:
    """A copy whose spec_id was left as it is goes on, in the run log, where the other one came to."""
    from speclab.spec.workspace import find_duplicate_ids, find_specs

    for other in find_duplicate_ids(prepared.integration.path, find_specs(prepared.workspace)):
        called = f"{os.path.relpath(other)} has the spec_id {prepared.integration.spec_id!r}, too"
        report(Level.WARNING, f"{called}; the two share one cursor and one set of books; give the copy its own")


def _say_if_a_service_would_not(spec_id: str, log_path: Path) -> None:
    """What a person asks for is done; but maybe they do not know."""
    from speclab.cli.service import paused
    from speclab.core.clock import SystemClock, format_timestamp
    from speclab.runlog import RunLogReader

    now = format_timestamp(SystemClock().now())
    with RunLogReader.open(log_path) as reader:
        why = [f"{spec_id} is paused {paused(row)}" for row in reader.integrations(spec_id) if row.paused_at]
        parked = reader.get_parked(spec_id).items()
        why += [f"the {end} of {spec_id} asked to be left alone until {until}" for end, until in parked if until > now]
    for reason in why:
        tell(f"{reason}; this run was asked for, and goes on all the same")


def equip(path: Path, approve: Approve) -> tuple[PreparedSpec, References, RuntimeContext]:
    """The spec at `path`, ready to run, and the machine's own secrets, time, chance and network to run it with.

    Raises `SpecError` if it cannot run, and `Untrusted` if it may not.
    """
    from speclab.connectors.machine import this_machine
    from speclab.sync.prepare import prepare

    prepared = prepare(path)
    return prepared, *this_machine(path, prepared.integration.ends, approve, report)
