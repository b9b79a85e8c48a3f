"""Arguments that commands share, and their output."""

from __future__ import annotations

import codecs
import io
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

import click
from click.shell_completion import CompletionItem

from speclab.core.errors import EndpointError, SpecError, SpeclabError
from speclab.core.text import escape_controls, escape_controls_in_json

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

    from speclab.core.json import JsonView
    from speclab.core.outcome import Level
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
        """Find the spec. Raises `UsageError` if it does not exist, or if several match."""
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
        from speclab.spec.settings_types import parse_duration

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

    A workspace without a run log has no runs. Raises `UsageError` if `runlog` does not exist.
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
    """Return the spec_id of the spec at `spec` and the path of its run log. Raise `UsageError` for another file."""
    from speclab.core.errors import UsageError
    from speclab.spec.workspace import read_spec_file, runlog_path, workspace_of

    found = read_spec_file(spec)
    if found is None:
        raise UsageError(f"not a spec: {spec}", hint="A spec has a front matter with a type and a spec_id.")
    return found.spec_id, runlog or runlog_path(workspace_of(spec))


STOPPING: Final = "Stopping after the page in progress. Press ctrl+c again to stop now."
"""Message of a run after the first ctrl+c."""


STDOUT: Final = "standard output"
"""File name in errors about standard output."""


def json_option(function: Function) -> Function:
    """Add `--json`, for commands that print data."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON, one value or row per line.")(function)


class _Stdout(io.FileIO):
    """Standard output that names itself in its errors."""

    def write(self, data: ReadableBuffer) -> int:
        try:
            return super().write(data)
        except OSError as error:
            error.filename = STDOUT
            raise


class _VisibleText(io.TextIOWrapper):
    """A text stream that shows control characters instead of sending them to the terminal."""

    def write(self, text: str, /) -> int:
        """Write `text`; return the number of characters given."""
        super().write(escape_controls(text))
        return len(text)


def open_streams() -> None:
    """Set up the standard streams, and open closed ones (`>&-`) on the null device.

    Otherwise the next file that is opened would get the number of a closed one, and the output with it.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free number
    sys.stdin = sys.stdin or os.fdopen(0)
    sys.stderr = sys.stderr or os.fdopen(2, "w")
    encoding, lines = (sys.stdout.encoding, sys.stdout.isatty()) if sys.stdout else ("utf-8", False)
    raw = io.BufferedWriter(_Stdout(1, "w", closefd=False))
    sys.stdout = _VisibleText(raw, _full(encoding), "backslashreplace", line_buffering=lines)
    talk = io.BufferedWriter(io.FileIO(2, "w", closefd=False))
    sys.stderr = _VisibleText(talk, _full(sys.stderr.encoding), "backslashreplace", line_buffering=True)


def _full(encoding: str) -> str:
    """Return `encoding`, or UTF-8 for ASCII: click considers ASCII a mistake and would bypass our stream."""
    return "utf-8" if codecs.lookup(encoding).name == "ascii" else encoding


def end_output() -> int:
    """Flush our output and return the exit code: 1, with a message, if that fails.

    Output that cannot be written is discarded, as is all that follows. A closed pipe is not an error.
    """
    code = 0
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError as error:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
            if stream is sys.stdout and not isinstance(error, BrokenPipeError):
                print_os_error(error)
                code = 1
    return code


def print_os_error(error: OSError) -> None:
    """Print to standard error which file cannot be read or written, and why."""
    print_message(f"speclab: {error.filename}: {error.strerror}")


def print_message(message: str) -> None:
    """Print a message to standard error; a closed pipe or a full disk is ignored."""
    with suppress(OSError):
        click.echo(message, err=True, color=True)  # otherwise click would drop escape sequences


def report(level: Level, message: str) -> None:
    """Print a message of a connector or a run to standard error."""
    print_message(message if level == "info" else f"{level}: {message}")


def print_error(error: SpeclabError) -> None:
    """Print to standard error what went wrong, where, and what to do."""
    print_message(f"speclab: {error.message}")
    if isinstance(error, SpecError):
        for problem in error.problems:
            print_message(f"  {problem}")
    if isinstance(error, EndpointError) and error.request:
        print_message(_indented("request", error.request))
        if error.response:
            print_message(_indented("response", error.response))
    if error.hint:
        print_message(f"  {error.hint}")


def print_json(value: JsonView) -> None:
    """Print one JSON value on a line, and flush it, so that messages about it follow."""
    from speclab.core.json import encode

    text = encode(value)
    if not text.isascii() or b"\x7f" in text:
        text = escape_controls_in_json(text.decode()).encode()
    sys.stdout.buffer.write(text + b"\n")
    sys.stdout.buffer.flush()


def print_rows(rows: Iterable[Mapping[str, JsonView]], columns: Sequence[str]) -> None:
    """Print rows as aligned columns under a header; numbers are right-aligned, a missing value is `-`."""
    table = [[_cell(row.get(column)) for column in columns] for row in rows]
    numeric = [all(_is_number(line[at]) for line in table) for at in range(len(columns))]
    table.insert(0, [column.replace("_", " ") for column in columns])
    widths = [max(len(line[at]) for line in table) for at in range(len(columns))]
    for line in table:
        cells = (
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(line, widths, numeric, strict=True)
        )
        click.echo("  ".join(cells).rstrip())


def _cell(value: JsonView) -> str:
    if value is None or value == "":
        return "-"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else escape_controls(str(value))


def _is_number(cell: str) -> bool:
    return cell == "-" or cell.replace(",", "").replace(".", "").rstrip(" %s").isdigit()


def _indented(name: str, text: str) -> str:
    first, *rest = text.splitlines()
    return "\n".join([f"  {name}: {first}", *(f"    {line}" for line in rest)])
