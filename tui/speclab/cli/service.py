"""`speclab up`, `pause` and `resume`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from speclab.cli.arguments import runlog_option, spec_argument, spec_id_and_runlog
from speclab.cli.output import print_error, print_message
from speclab.cli.trust import approval, trust_option
from speclab.core.errors import SpeclabError, Untrusted

if TYPE_CHECKING:
    from speclab.core.outcome import Level
    from speclab.runlog import IntegrationRow


@click.command(short_help="Run specs on their schedules.")
@click.argument("directory", type=click.Path(exists=True, file_okay=False, path_type=Path), default=".")
@click.option(
    "--jobs", "-j", type=click.IntRange(1), default=4, show_default=True, help="Maximum number of parallel runs."
)
@trust_option
@runlog_option
def up(directory: Path, jobs: int, trust: bool, runlog: Path | None) -> None:  # noqa: FBT001 - click hands flags by name
    """Run the specs in DIRECTORY (default: current directory) on their schedules: those in-progress and not paused.

    Each run is a separate process. Records in the retry queue are retried when due, alerts are evaluated once a minute,
    and old rows of the run log are deleted. Changed specs are reloaded. A workspace has one `speclab up`; a second one
    fails and names the first.

    Only trusted specs run (see speclab trust): at a terminal you are asked about the others; --trust trusts all of them
    while this command runs.

    The first ctrl+c (or SIGTERM) lets runs finish the page in progress, the second stops them at once.
    """
    import asyncio

    from speclab.cli import INTERRUPTED
    from speclab.core.clock import SystemClock
    from speclab.monitor.checks import evaluate_alerts
    from speclab.service.scheduler import ServiceOptions, serve
    from speclab.spec.workspace import runlog_path, state_directory, workspace_of
    from speclab.sync.signals import stopped_by_signals

    directory = directory.resolve()
    workspace = workspace_of(directory)
    state_directory(workspace)
    serving = ServiceOptions(
        directory, workspace, (runlog or runlog_path(workspace)).absolute(), jobs, ("--trust",) if trust else ()
    )
    if not trust:
        _ask_for_trust(directory, workspace)

    async def go() -> bool:
        with stopped_by_signals() as stop:
            await serve(serving, evaluate_alerts, SystemClock(), _report, stop)
        return stop.immediate.is_set()

    print_message(f"Running specs in {directory} on their schedules. Press ctrl+c to stop.")
    click.get_current_context().exit(INTERRUPTED if asyncio.run(go()) else 0)


def _ask_for_trust(directory: Path, workspace: Path) -> None:
    """Ask about each untrusted spec in progress; without a terminal, print which ones cannot run."""
    from speclab.connectors.trust import read_wanted, require_trust
    from speclab.service.spec_registry import IN_PROGRESS
    from speclab.spec.workspace import find_specs, workspace_of

    for spec in find_specs(directory):
        if spec.type == "integration" and spec.status == IN_PROGRESS and workspace_of(spec.path) == workspace:
            try:
                require_trust(read_wanted(spec.path), approval(trust=False))
            except (SpeclabError, OSError) as error:  # the others still run
                if isinstance(error, Untrusted):
                    print_error(error)


def _report(level: Level, message: str) -> None:
    from datetime import datetime

    now = datetime.now().astimezone().strftime("%H:%M:%S")
    print_message(f"{now} {message}" if level == "info" else f"{now} {level}: {message}")


@click.command(short_help="Pause a spec: the scheduler skips it.")
@spec_argument
@click.option("--reason", default="", help="Reason, shown in the status.")
@runlog_option
def pause(spec: Path, reason: str, runlog: Path | None) -> None:
    """Pause SPEC: `speclab up` skips it until `speclab resume`.

    Its schedule, its retry queue and its alerts stop; a run that has started continues to its end. `speclab run` and
    `speclab retry` still work.
    """
    from speclab.core.locks import get_user_name
    from speclab.runlog import RunLog

    spec_id, path = spec_id_and_runlog(spec, runlog)
    with RunLog.open(path) as log, RunLog.reader(path) as reader:
        if log.pause(spec_id, get_user_name(), reason.strip()):
            print_message(f"{spec_id} is paused. Resume it with 'speclab resume {spec_id}'.")
        else:
            (row,) = reader.integrations(spec_id)
            print_message(f"{spec_id} was already paused {describe_pause(row)}")


@click.command(short_help="Resume a paused spec.")
@spec_argument
@runlog_option
def resume(spec: Path, runlog: Path | None) -> None:
    """Resume SPEC after a pause. One run makes up for all scheduled times that were missed."""
    from speclab.core.locks import get_user_name
    from speclab.runlog import RunLog

    spec_id, path = spec_id_and_runlog(spec, runlog)
    with RunLog.open(path) as log:
        print_message(f"{spec_id} is resumed" if log.resume(spec_id, get_user_name()) else f"{spec_id} was not paused")


def describe_pause(row: IntegrationRow) -> str:
    """Return who paused an integration, since when and why: `by ada since 2026-...: the ledger is closed`."""
    reason = f": {row.paused_reason}" if row.paused_reason else ""
    return f"by {row.paused_by} since {row.paused_at}{reason}"
