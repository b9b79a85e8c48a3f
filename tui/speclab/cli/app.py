"""Starting the app: `speclab` and `speclab demo`."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from speclab.cli.arguments import runlog_option

if TYPE_CHECKING:
    from speclab.core.processes import Hangup
    from speclab.demo.workspace import Workspace


class _App(click.Command):
    """A command that is called by no name of its own."""

    def make_context(
        self,
        info_name: str | None,
        args: list[str],
        parent: click.Context | None = None,  # noqa: ARG002 - what is told of wrong usage begins with its name
        **extra: object,
    ) -> click.Context:
        """Read `args`."""
        return super().make_context(info_name, args, None, **extra)


@click.command("speclab", cls=_App, context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("directory", type=click.Path(exists=True, file_okay=False, path_type=Path), default=".")
@click.option("--read-only", is_flag=True, help="Look, but change nothing.")
@click.option("--ascii", "as_ascii", is_flag=True, help="Draw with ASCII characters only.")
@runlog_option
def open_app(directory: Path, read_only: bool, as_ascii: bool, runlog: Path | None) -> None:  # noqa: FBT001
    """Open the app on the specs in DIRECTORY (default: here)."""
    from speclab.core.processes import Hangup

    hangup = Hangup()

    from speclab.app import run_app

    run_app(directory, read_only=read_only, ascii=as_ascii, runlog=runlog, hangup=hangup)


_PATIENCE: Final = 3.0
"""Seconds in which a run may finish its page."""


@click.command(short_help="See it work, on two systems of its own.")
@click.argument("directory", type=click.Path(file_okay=False, path_type=Path), required=False)
def demo(directory: Path | None) -> None:
    """Run a working integration between two local systems, and open the app on it.

    DIRECTORY is the workspace to make, or to go on with; by default a new temporary one. Without a terminal the
    integration runs once, the result is printed, and the exit code is 0.
    """
    from speclab.core.processes import Hangup

    hangup = Hangup()

    from speclab.demo.servers import running
    from speclab.demo.workspace import lay_out

    workspace = lay_out(directory)
    with running(workspace.billing) as env:
        os.environ |= env
        if workspace.is_own:
            _trust(workspace.spec)
        if sys.stdin.isatty() and sys.stdout.isatty():
            _open(workspace, hangup)
        else:
            _run_once(workspace.spec, workspace.runlog)


def _trust(spec: Path) -> None:
    """Agree to what the spec uses: it is the demo's own, and so are the systems."""
    from speclab.connectors.trust import give_trust, read_wanted

    give_trust(read_wanted(spec))


def _open(workspace: Workspace, hangup: Hangup) -> None:
    """Start a run and open the app on it; a run that has not ended when the app is left ends with its two systems."""
    from speclab.app import run_app
    from speclab.workbench.launcher import launch

    with ExitStack() as started:
        with hangup.postponed():
            launched = launch(workspace.spec, workspace.spec.stem, workspace.directory, workspace.runlog)
            started.callback(_stop, launched.process)
        run_app(workspace.directory, view="monitor", hangup=hangup)
        click.echo(f"The demo's workspace stays at {workspace.directory}", err=True)


def _stop(run: subprocess.Popen[bytes]) -> None:
    """Let a run finish its page, or else kill it."""
    run.terminate()
    try:
        run.wait(_PATIENCE)
    except subprocess.TimeoutExpired:
        run.kill()
        run.wait()


def _run_once(spec: Path, runlog: Path) -> None:
    from speclab.cli.run import print_books, run_spec
    from speclab.cli.trust import approval
    from speclab.sync.run import RunOptions

    result, _ = run_spec(spec, RunOptions(trigger="demo"), approval(trust=False), runlog)
    print_books(result.row, runlog)
    click.echo(f"  the spec: {spec}\n  the run log: {runlog}")
    if result.error is not None:
        raise result.error
