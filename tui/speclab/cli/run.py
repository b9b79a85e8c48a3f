"""`speclab run`: one run of each spec, now, told as it goes and summed up at the end."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from speclab.cli.books import print_books
from speclab.cli.output import STOPPING, end_output, json_option, print_json, report, tell, tell_error
from speclab.cli.place import runlog_option, seconds_of, specs_argument
from speclab.cli.trust import approval, trust_option
from speclab.errors import SpeclabError
from speclab.outcome import Level, RunState

if TYPE_CHECKING:
    from speclab.connectors.base import Seams
    from speclab.connectors.references import References
    from speclab.connectors.trust import Approve
    from speclab.runlog import RunRow
    from speclab.sync.prepare import Prepared
    from speclab.sync.run import RunOptions, RunResult


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
    options = RunOptions(full=full, limit=limit, retries=retries, dry_run=dry_run, trigger=trigger, patience=wait)
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

    from speclab.cli.live import LiveLine
    from speclab.runlog import RunLog
    from speclab.spec.workspace import runlog_path
    from speclab.sync.run import run as run_sync
    from speclab.sync.signals import cancelled_by_signals

    prepared, references, seams = equip(path, approve)
    log_path = runlog or runlog_path(prepared.workspace)

    live = LiveLine()
    seams = replace(seams, report=live.report)

    def stopping() -> None:
        live.report(Level.INFO, STOPPING)

    async def go(log: RunLog) -> RunResult:
        with cancelled_by_signals(stopping) as cancelled:
            try:
                return await run_sync(prepared, log, references, seams, options, cancelled, live.show)
            finally:
                live.clear()

    with RunLog.open(log_path) as log:
        if options.trigger == "manual":
            _say_if_others_are_called_so(prepared)
            _say_if_a_service_would_not(prepared.integration.spec_id, log_path)
        return asyncio.run(go(log)), log_path


def _say_if_others_are_called_so(prepared: Prepared) -> None:
    """A copy whose spec_id was left as it is goes on, in the run log, where the other one came to."""
    from speclab.spec.workspace import doubles, find_specs

    for other in doubles(prepared.integration.path, find_specs(prepared.workspace)):
        called = f"{os.path.relpath(other)} has the spec_id {prepared.integration.spec_id!r}, too"
        report(Level.WARNING, f"{called}; the two share one cursor and one set of books; give the copy its own")


def _say_if_a_service_would_not(spec_id: str, log_path: Path) -> None:
    """What a person asks for is done; but maybe they do not know."""
    from speclab.cli.pause import paused
    from speclab.clock import SystemClock, timestamp
    from speclab.runlog import RunLogReader

    now = timestamp(SystemClock().now())
    with RunLogReader.open(log_path) as reader:
        why = [f"{spec_id} is paused {paused(row)}" for row in reader.integrations(spec_id) if row.paused_at]
        parked = reader.parked(spec_id).items()
        why += [f"the {end} of {spec_id} asked to be left alone until {until}" for end, until in parked if until > now]
    for reason in why:
        tell(f"{reason}; this run was asked for, and goes on all the same")


def equip(path: Path, approve: Approve) -> tuple[Prepared, References, Seams]:
    """The spec at `path`, ready to run, and the machine's own secrets, time, chance and network to run it with.

    Raises `SpecError` if it cannot run, and `Untrusted` if it may not.
    """
    from speclab.connectors import this_machine
    from speclab.sync.prepare import prepare

    prepared = prepare(path)
    return prepared, *this_machine(path, prepared.integration.ends, approve, report)
