"""`speclab up`, `pause` and `resume`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from speclab.cli.arguments import runlog_option, spec_argument, spec_id_and_runlog
from speclab.cli.output import tell, tell_error
from speclab.cli.trust import approval, trust_option
from speclab.core.errors import SpeclabError, Untrusted

if TYPE_CHECKING:
    from speclab.core.outcome import Level
    from speclab.runlog import IntegrationRow


@click.command(short_help="Run every spec in progress on its schedule.")
@click.argument("directory", type=click.Path(exists=True, file_okay=False, path_type=Path), default=".")
@click.option("--jobs", "-j", type=click.IntRange(1), default=4, show_default=True, help="Runs at once, at most.")
@trust_option
@runlog_option
def up(directory: Path, jobs: int, trust: bool, runlog: Path | None) -> None:  # noqa: FBT001 - click hands flags by name
    """Run every spec in DIRECTORY (default: here) whose status is in-progress on its schedule, but for paused ones.

    Each run is a process of its own. Records in the retry queue are sent again when they are due, alerts are evaluated
    once a minute, and old rows of the run log go. Specs that change are read anew. One `speclab up` is enough for a
    workspace; a second one says who is at it.

    A spec must be trusted to be run (see speclab trust): at a terminal you are asked for those that are not, and
    --trust allows all of them for as long as this goes on.

    The first ctrl+c (or SIGTERM) lets running runs finish the page in hand, the second ends them at once.
    """
    import asyncio

    from speclab.cli import INTERRUPTED
    from speclab.core.clock import SystemClock
    from speclab.monitor.checks import evaluate
    from speclab.service.scheduler import Serving, serve
    from speclab.spec.workspace import runlog_path, state_directory, workspace_of
    from speclab.sync.signals import stopped_by_signals

    directory = directory.resolve()
    workspace = workspace_of(directory)
    state_directory(workspace)
    serving = Serving(
        directory, workspace, (runlog or runlog_path(workspace)).absolute(), jobs, ("--trust",) if trust else ()
    )
    if not trust:
        _ask_for_trust(directory, workspace)

    async def go() -> bool:
        with stopped_by_signals() as stop:
            await serve(serving, evaluate, SystemClock(), _report, stop)
        return stop.immediate.is_set()

    tell(f"Running what is in progress in {directory}; ctrl+c stops it.")
    click.get_current_context().exit(INTERRUPTED if asyncio.run(go()) else 0)


def _ask_for_trust(directory: Path, workspace: Path) -> None:
    """Ask for each spec in progress that is not trusted, where a person is there; else tell which would not run."""
    from speclab.connectors.trust import read_wanted, require_trust
    from speclab.service.spec_registry import IN_PROGRESS
    from speclab.spec.workspace import find_specs, workspace_of

    for spec in find_specs(directory):
        if spec.type == "integration" and spec.status == IN_PROGRESS and workspace_of(spec.path) == workspace:
            try:
                require_trust(read_wanted(spec.path), approval(trust=False))
            except (SpeclabError, OSError) as error:  # the service goes on with the others
                if isinstance(error, Untrusted):
                    tell_error(error)


def _report(level: Level, message: str) -> None:
    from datetime import datetime

    now = datetime.now().astimezone().strftime("%H:%M:%S")
    tell(f"{now} {message}" if level == "info" else f"{now} {level}: {message}")


@click.command(short_help="Have speclab up leave a spec alone.")
@spec_argument
@click.option("--reason", default="", help="Why, for whoever asks later.")
@runlog_option
def pause(spec: Path, reason: str, runlog: Path | None) -> None:
    """Have `speclab up` leave SPEC alone until `speclab resume`.

    Neither is it run on its schedule, nor are records in its retry queue sent, nor its alerts evaluated; a run that is
    under way goes on to its end. `speclab run` and `speclab retry` do what they are told all the same.
    """
    from speclab.core.locks import get_user_name
    from speclab.runlog import RunLog

    spec_id, path = spec_id_and_runlog(spec, runlog)
    with RunLog.open(path) as log, RunLog.reader(path) as reader:
        if log.pause(spec_id, get_user_name(), reason.strip()):
            tell(f"{spec_id} is paused; 'speclab resume {spec_id}' ends that")
        else:
            (row,) = reader.integrations(spec_id)
            tell(f"{spec_id} was paused already, {paused(row)}")


@click.command(short_help="End a pause.")
@spec_argument
@runlog_option
def resume(spec: Path, runlog: Path | None) -> None:
    """End the pause of SPEC. Times that passed meanwhile are made up for by one run."""
    from speclab.core.locks import get_user_name
    from speclab.runlog import RunLog

    spec_id, path = spec_id_and_runlog(spec, runlog)
    with RunLog.open(path) as log:
        tell(f"{spec_id} is resumed" if log.resume(spec_id, get_user_name()) else f"{spec_id} was not paused")


def paused(row: IntegrationRow) -> str:
    """By whom an integration that is paused was, since when and why: `by ada since 2026-...: the ledger is closed`."""
    why = f": {row.paused_reason}" if row.paused_reason else ""
    return f"by {row.paused_by} since {row.paused_at}{why}"
