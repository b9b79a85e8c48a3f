"""The app, opened from the command line."""

from __future__ import annotations

from pathlib import Path

import click

from speclab.cli.place import runlog_option


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
    from speclab.hangup import Hangup

    hangup = Hangup()

    from speclab.app import run_app

    run_app(directory, read_only=read_only, ascii=as_ascii, runlog=runlog, hangup=hangup)
