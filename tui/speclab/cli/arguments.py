"""Where commands work: the spec that an argument names, its workspace, and the run log of it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.shell_completion import CompletionItem

if TYPE_CHECKING:
    from speclab.runlog import RunLogReader


Function = TypeVar("Function", bound=Callable[..., object])


def complete_spec(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:  # noqa: ARG001
    """The specs below this directory whose spec_id begins so; else files."""
    from speclab.spec.workspace import find_specs

    ids = [spec.spec_id for spec in find_specs(Path()) if spec.spec_id.startswith(incomplete)]
    return [CompletionItem(name) for name in ids] or [CompletionItem(incomplete, type="file")]


def spec_argument(function: Function) -> Function:
    """The argument SPEC: a path, or the spec_id of a spec below this directory; arrives as a path."""
    return click.argument("spec", callback=_to_path, shell_complete=complete_spec)(function)


def specs_argument(function: Function) -> Function:
    """The argument SPEC..., one or more; arrives as paths."""
    return click.argument("specs", nargs=-1, required=True, callback=_to_paths, shell_complete=complete_spec)(function)


def runlog_option(function: Function) -> Function:
    """`--runlog PATH`, for a run log elsewhere than `.speclab/runlog.db` of the workspace."""
    return click.option(
        "--runlog",
        type=click.Path(dir_okay=False, path_type=Path),
        help="The run log  [default: .speclab/runlog.db in the workspace]",
    )(function)


def open_reader(runlog: Path | None) -> RunLogReader:
    """The run log at `runlog`, or of the workspace here, to read; brought up to date if an older speclab wrote it.

    Raises `UsageError` if there is none at `runlog`; a workspace without one is a workspace without runs.
    """
    from speclab.core.errors import UsageError
    from speclab.runlog import RunLog
    from speclab.spec.workspace import runlog_path, workspace_of

    if runlog is not None and not runlog.exists():
        raise UsageError(f"there is no run log at {runlog}", hint="The first run, or `speclab up`, makes it.")
    workspace = workspace_of(Path.cwd())
    reader = RunLog.reader(runlog or runlog_path(workspace))
    _mark_killed_runs(reader, workspace)
    return reader


def _mark_killed_runs(reader: RunLogReader, workspace: Path) -> None:
    """Mark runs as interrupted whose process is gone, wherever it ran: a killed run cannot do so itself."""
    from functools import partial

    from speclab.core.errors import RunLogError
    from speclab.core.locks import is_running
    from speclab.core.outcome import RunState
    from speclab.runlog import RunLog

    if not reader.runs(limit=1, state=RunState.RUNNING):
        return
    with suppress(RunLogError), RunLog.open(reader.path) as log:  # who may only read sees what was recorded
        log.mark_interrupted(partial(is_running, workspace))


def spec_id_of(log: RunLogReader, name: str) -> str:
    """The spec_id of the spec that `name` names by path or id, or of an integration that only `log` knows.

    Raises `UsageError` if nobody knows it.
    """
    from speclab.core.errors import UsageError
    from speclab.spec.workspace import find_spec, read_spec_file

    if log.integrations(name):
        return name
    try:
        spec = read_spec_file(find_spec(Path(), name))
    except UsageError as error:
        raise UsageError(f"{error.message}, and none in the run log", hint=error.hint) from None
    return spec.spec_id if spec else name


def spec_id_and_runlog(spec: Path, runlog: Path | None) -> tuple[str, Path]:
    """Return the spec_id of the spec at `spec` and the path of its run log. Raise `UsageError` if it is no spec."""
    from speclab.core.errors import UsageError
    from speclab.spec.workspace import read_spec_file, runlog_path, workspace_of

    found = read_spec_file(spec)
    if found is None:
        raise UsageError(f"{spec} is no spec", hint="A spec has a front matter with a type and a spec_id.")
    return found.spec_id, runlog or runlog_path(workspace_of(spec))


def seconds_of(text: str, option: str) -> float:
    """The duration given to `option`, in seconds. Raises `UsageError`."""
    from speclab.core.errors import UsageError
    from speclab.spec.units import parse_duration

    try:
        return parse_duration(text)
    except ValueError as error:
        raise UsageError(f"{option}: {error}") from None


def _to_path(ctx: click.Context, param: click.Parameter, value: str) -> Path:  # noqa: ARG001 - click's signature
    from speclab.spec.workspace import find_spec

    return find_spec(Path(), value)


def _to_paths(ctx: click.Context, param: click.Parameter, value: tuple[Any, ...]) -> tuple[Path, ...]:
    return tuple(_to_path(ctx, param, name) for name in value)
