"""`speclab pause` and `speclab resume`: having the service leave an integration alone for a while."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from speclab.cli.output import tell
from speclab.cli.place import runlog_option, spec_argument, spec_id_and_runlog

if TYPE_CHECKING:
    from speclab.runlog import IntegrationRow


@click.command(short_help="Have speclab up leave a spec alone.")
@spec_argument
@click.option("--reason", default="", help="Why, for whoever asks later.")
@runlog_option
def pause(spec: Path, reason: str, runlog: Path | None) -> None:
    """Have `speclab up` leave SPEC alone until `speclab resume`.

    Neither is it run on its schedule, nor are records in its retry queue sent, nor its alerts evaluated; a run that is
    under way goes on to its end. `speclab run` and `speclab retry` do what they are told all the same.
    """
    from speclab.runlog import RunLog
    from speclab.sync.lock import user

    spec_id, path = spec_id_and_runlog(spec, runlog)
    with RunLog.open(path) as log, RunLog.reader(path) as reader:
        if log.pause(spec_id, user(), reason.strip()):
            tell(f"{spec_id} is paused; 'speclab resume {spec_id}' ends that")
        else:
            (row,) = reader.integrations(spec_id)
            tell(f"{spec_id} was paused already, {paused(row)}")


@click.command(short_help="End a pause.")
@spec_argument
@runlog_option
def resume(spec: Path, runlog: Path | None) -> None:
    """End the pause of SPEC. Times that passed meanwhile are made up for by one run."""
    from speclab.runlog import RunLog
    from speclab.sync.lock import user

    spec_id, path = spec_id_and_runlog(spec, runlog)
    with RunLog.open(path) as log:
        tell(f"{spec_id} is resumed" if log.resume(spec_id, user()) else f"{spec_id} was not paused")


def paused(row: IntegrationRow) -> str:
    """By whom an integration that is paused was, since when and why: `by ada since 2026-...: the ledger is closed`."""
    why = f": {row.paused_reason}" if row.paused_reason else ""
    return f"by {row.paused_by} since {row.paused_at}{why}"
