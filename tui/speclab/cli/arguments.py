"""Arguments and options that commands share: specs, the run log, durations."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click
from click.shell_completion import CompletionItem

if TYPE_CHECKING:
    from speclab.runlog import RunLogReader


Function = TypeVar("Function", bound=Callable[..., object])


def complete_spec(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:  # noqa: ARG001
    """Complete to spec_ids of specs below the current directory; without a match, to files."""
    from speclab.spec.workspace import find_specs

    ids = [spec.spec_id for spec in find_specs(Path()) if spec.spec_id.startswith(incomplete)]
    return [CompletionItem(name) for name in ids] or [CompletionItem(incomplete, type="file")]


class SpecType(click.ParamType):  # type: ignore[type-arg]  # generic from click 8.4 only
    """The path of a spec, or the spec_id of one below the current directory; converted to its path."""

    name = "spec"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> Path:  # noqa: ARG002 - click's signature
        """Find the spec. Raises `UsageError` if there is none, or more than one."""
        from speclab.spec.workspace import find_spec

        return find_spec(Path(), value)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Complete to spec_ids, or to files."""
        return complete_spec(ctx, param, incomplete)


class DurationType(click.ParamType):  # type: ignore[type-arg]  # generic from click 8.4 only
    """A duration such as `90s` or `24h`; converted to seconds."""

    name = "duration"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Parse the duration; click reports what cannot be parsed."""
        from speclab.spec.units import parse_duration

        try:
            return parse_duration(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


def spec_argument(function: Function) -> Function:
    """Add the argument SPEC."""
    return click.argument("spec", type=SpecType())(function)


def runlog_option(function: Function) -> Function:
    """Add `--runlog PATH`, for a run log other than `.speclab/runlog.db` in the workspace."""
    return click.option(
        "--runlog",
        type=click.Path(dir_okay=False, path_type=Path),
        show_default=".speclab/runlog.db in the workspace",
        help="Path of the run log.",
    )(function)


def open_reader(runlog: Path | None) -> RunLogReader:
    """Open the run log at `runlog`, or of the current workspace, for reading; migrate one of an older version.

    A workspace without a run log has no runs. Raises `UsageError` if there is no run log at `runlog`.
    """
    from speclab.core.errors import UsageError
    from speclab.runlog import RunLog
    from speclab.spec.workspace import runlog_path, workspace_of

    if runlog is not None and not runlog.exists():
        raise UsageError(f"there is no run log at {runlog}", hint="The first run, or `speclab up`, creates it.")
    workspace = workspace_of(Path.cwd())
    reader = RunLog.reader(runlog or runlog_path(workspace))
    _mark_killed_runs(reader, workspace)
    return reader


def _mark_killed_runs(reader: RunLogReader, workspace: Path) -> None:
    """Mark runs whose process has died as interrupted, on any host: a killed run cannot do so itself."""
    from functools import partial

    from speclab.core.errors import RunLogError
    from speclab.core.locks import is_running
    from speclab.core.outcome import RunState
    from speclab.runlog import RunLog

    if not reader.runs(limit=1, state=RunState.RUNNING):
        return
    with (
        suppress(RunLogError),
        RunLog.open(reader.path) as log,
    ):  # without write access
        log.mark_interrupted(partial(is_running, workspace))


def spec_id_of(log: RunLogReader, name: str) -> str:
    """Return the spec_id that `name` refers to: the path or spec_id of a spec, or of an integration in `log`.

    Raises `UsageError` if there is neither.
    """
    from speclab.core.errors import UsageError
    from speclab.spec.workspace import find_spec, read_spec_file

    if log.integrations(name):
        return name
    try:
        spec = read_spec_file(find_spec(Path(), name))
    except UsageError as error:
        raise UsageError(f"{error.message}, and no integration in the run log", hint=error.hint) from None
    return spec.spec_id if spec else name


def spec_id_and_runlog(spec: Path, runlog: Path | None) -> tuple[str, Path]:
    """Return the spec_id of the spec at `spec` and the path of its run log. Raise `UsageError` if it is no spec."""
    from speclab.core.errors import UsageError
    from speclab.spec.workspace import read_spec_file, runlog_path, workspace_of

    found = read_spec_file(spec)
    if found is None:
        raise UsageError(f"not a spec: {spec}", hint="A spec has a front matter with a type and a spec_id.")
    return found.spec_id, runlog or runlog_path(workspace_of(spec))
