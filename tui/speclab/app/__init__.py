"""The terminal app; `run_app` opens it."""

from __future__ import annotations

from pathlib import Path

from speclab.core.processes import Hangup


def run_app(
    directory: Path,
    *,
    read_only: bool = False,
    ascii: bool = False,  # noqa: A002 (the option's name)
    runlog: Path | None = None,
    view: str = "specs",
    hangup: Hangup | None = None,
) -> None:
    """Open the app on the workspace `directory` and run it until it is quit; see `speclab.app.application.run_app`."""
    from speclab.app.application import run_app as run

    run(directory, read_only=read_only, ascii=ascii, runlog=runlog, view=view, hangup=hangup)
