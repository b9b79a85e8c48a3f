"""Commands that start the app: `speclab` and `speclab demo`."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from speclab.cli.output import runlog_option

if TYPE_CHECKING:
    from speclab.core.processes import Hangup
    from speclab.demo import Workspace


class _AppCommand(click.Command):
    """A command without a name: `speclab DIRECTORY`."""

    def make_context(
        self,
        info_name: str | None,
        args: list[str],
        parent: click.Context | None = None,  # noqa: ARG002 - its name would begin the usage message
        **extra: object,
    ) -> click.Context:
        """Parse `args`."""
        return super().make_context(info_name, args, None, **extra)


@click.command("speclab", cls=_AppCommand, context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("directory", type=click.Path(exists=True, file_okay=False, path_type=Path), default=".")
@click.option("--read-only", is_flag=True, help="Open without changing anything.")
@click.option("--ascii", "as_ascii", is_flag=True, help="Draw with ASCII characters only.")
@runlog_option
def open_app(directory: Path, read_only: bool, as_ascii: bool, runlog: Path | None) -> None:  # noqa: FBT001
    """Open the app on the specs in DIRECTORY (default: current directory)."""
    from speclab.core.processes import Hangup

    hangup = Hangup()

    from speclab.app import run_app

    run_app(directory, read_only=read_only, ascii=as_ascii, runlog=runlog, hangup=hangup)


_STOP_TIMEOUT: Final = 3.0
"""Seconds that a run has to finish its page when the demo ends."""


@click.command(short_help="Try speclab on two local demo systems.")
@click.argument("directory", type=click.Path(file_okay=False, path_type=Path), required=False)
def demo(directory: Path | None) -> None:
    """Run a working integration between two local systems, and open the app on it.

    DIRECTORY is the workspace to create or continue (default: a new temporary directory). Without a terminal, the
    integration runs once, the result is printed, and the exit code is 0.
    """
    from speclab.core.processes import Hangup

    hangup = Hangup()

    from speclab.demo import create_workspace
    from speclab.demo.servers import run_servers

    workspace = create_workspace(directory)
    with run_servers(workspace.billing) as env:
        os.environ |= env
        if workspace.is_own:
            _trust(workspace.spec)
        if sys.stdin.isatty() and sys.stdout.isatty():
            _open(workspace, hangup)
        else:
            _run_once(workspace.spec, workspace.runlog)


def _trust(spec: Path) -> None:
    """Trust the spec: it and the systems it uses belong to the demo."""
    from speclab.connectors.trust import give_trust, read_wanted

    give_trust(read_wanted(spec))


def _open(workspace: Workspace, hangup: Hangup) -> None:
    """Start a run, and open the app on it; stop the run when the app is left, as its two systems stop too."""
    from speclab.app import run_app
    from speclab.workbench.launcher import launch

    with ExitStack() as started:
        with hangup.postponed():
            launched = launch(workspace.spec, workspace.spec.stem, workspace.directory, workspace.runlog)
            started.callback(_stop, launched.process)
        run_app(workspace.directory, view="monitor", hangup=hangup)
        click.echo(f"The demo workspace is kept at {workspace.directory}", err=True)


def _stop(run: subprocess.Popen[bytes]) -> None:
    """Let a run finish its page; kill it if that takes too long."""
    run.terminate()
    try:
        run.wait(_STOP_TIMEOUT)
    except subprocess.TimeoutExpired:
        run.kill()
        run.wait()


def _run_once(spec: Path, runlog: Path) -> None:
    from speclab.cli.run import print_reconciliation, run_spec
    from speclab.cli.systems import approval
    from speclab.sync.run import RunOptions

    result, _ = run_spec(spec, RunOptions(trigger="demo"), approval(trust=False), runlog)
    print_reconciliation(result.row, runlog)
    click.echo(f"  spec: {spec}\n  run log: {runlog}")
    if result.error is not None:
        raise result.error
