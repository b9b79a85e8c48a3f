"""The app, opened from the command line."""

from __future__ import annotations

from pathlib import Path

import click

from speclab.cli.place import runlog_option


@click.command("speclab")
@click.argument("directory", type=click.Path(exists=True, file_okay=False, path_type=Path), default=".")
@click.option("--read-only", is_flag=True, help="Look, but change nothing.")
@click.option("--ascii", "as_ascii", is_flag=True, help="Draw with ASCII characters only.")
@runlog_option
def open_app(directory: Path, read_only: bool, as_ascii: bool, runlog: Path | None) -> None:  # noqa: FBT001
    """Open the app on the specs in DIRECTORY."""
    from speclab.app import run_app

    run_app(directory, read_only=read_only, ascii=as_ascii, runlog=runlog)
