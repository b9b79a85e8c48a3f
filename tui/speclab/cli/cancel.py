"""`speclab cancel`: stop a run that is running, wherever it was started."""

from __future__ import annotations

from pathlib import Path

import click

from speclab.cli.output import tell
from speclab.cli.place import runlog_option, spec_argument, spec_id_and_runlog


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
    from speclab.runlog import RunLog
    from speclab.runlog.progress import NOW
    from speclab.spec.workspace import workspace_of
    from speclab.sync.lock import goes_on, user

    spec_id, path = spec_id_and_runlog(spec, runlog)
    with RunLog.open(path) as log:
        gone = [run for run in log.interrupted(goes_on(workspace_of(spec))) if run.spec_id == spec_id]
        runs = log.cancel(spec_id, user(), now=now)
    for run in gone:
        tell(f"{spec_id}: {run.error}; the run is marked as interrupted")
    for run in runs:
        if run.cancel == NOW:
            tell(f"{spec_id} was asked to stop now")
        else:
            tell(f"{spec_id} was asked to stop after the page in progress; cancel it again to stop it now")
    if not runs:
        if not gone:
            tell(f"{spec_id} is not running")
        click.get_current_context().exit(1)
