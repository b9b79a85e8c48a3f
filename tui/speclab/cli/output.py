"""Output of commands: JSON or aligned columns on standard output, messages on standard error."""

from __future__ import annotations

import codecs
import io
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Final, TypeVar

import click

from speclab.core.errors import EndpointError, SpecError, SpeclabError
from speclab.core.text import escape_controls, escape_controls_in_json

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

    from speclab.core.json import JsonView
    from speclab.core.outcome import Level

STOPPING: Final = "Stopping after the page in progress. Press ctrl+c again to stop now."
"""Message of a run after the first ctrl+c."""

Function = TypeVar("Function", bound=Callable[..., object])

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
    """Set up the standard streams, and open those that are closed (`>&-`) on the null device.

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
    """Print rows as aligned columns under a header; numbers are right-aligned, `-` stands for no value."""
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
