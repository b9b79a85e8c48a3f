"""How commands speak: JSON or aligned columns on stdout, errors and notes on stderr."""

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

STOPPING: Final = "Stopping after the page in progress; ctrl+c again stops now."
"""What a run says to the first ctrl+c."""

Function = TypeVar("Function", bound=Callable[..., object])

STDOUT: Final = "standard output"
"""The file name of an error about it."""


def json_option(function: Function) -> Function:
    """The `--json` flag every command that prints data has."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON, one value or one row a line.")(function)


class _Stdout(io.FileIO):
    """Standard output, which says by name that it is what cannot be written."""

    def write(self, data: ReadableBuffer) -> int:
        try:
            return super().write(data)
        except OSError as error:
            error.filename = STDOUT
            raise


class _VisibleText(io.TextIOWrapper):
    """A text stream on which control characters are shown rather than obeyed: the one filter for what is printed."""

    def write(self, text: str, /) -> int:
        """Write `text`; return the number of characters given."""
        super().write(escape_controls(text))
        return len(text)


def open_streams() -> None:
    """Make the standard streams fit to be used: those that are closed (`>&-`) lead nowhere.

    Else the next file to be opened would get their place, and what is printed.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # which takes the lowest number that is free
    sys.stdin = sys.stdin or os.fdopen(0)
    sys.stderr = sys.stderr or os.fdopen(2, "w")
    encoding, lines = (sys.stdout.encoding, sys.stdout.isatty()) if sys.stdout else ("utf-8", False)
    raw = io.BufferedWriter(_Stdout(1, "w", closefd=False))
    sys.stdout = _VisibleText(raw, _full(encoding), "backslashreplace", line_buffering=lines)
    talk = io.BufferedWriter(io.FileIO(2, "w", closefd=False))
    sys.stderr = _VisibleText(talk, _full(sys.stderr.encoding), "backslashreplace", line_buffering=True)


def _full(encoding: str) -> str:
    """Return `encoding`, or UTF-8 in place of ASCII: click takes ASCII for a mistake and would go round our stream."""
    return "utf-8" if codecs.lookup(encoding).name == "ascii" else encoding


def end_output() -> int:
    """Write out what is left of our output and give the exit code: 1, with a line about it, if that cannot be.

    What cannot be written is thrown away, as is what comes after it; for a reader that has seen enough that is well.
    """
    code = 0
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError as error:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
            if stream is sys.stdout and not isinstance(error, BrokenPipeError):
                tell_os_error(error)
                code = 1
    return code


def tell_os_error(error: OSError) -> None:
    """What cannot be read or written, and why, to stderr."""
    tell(f"speclab: {error.filename}: {error.strerror}")


def tell(message: str) -> None:
    """A line of talk, to stderr; the work goes on where nobody hears it (a closed pipe, a full disk)."""
    with suppress(OSError):
        click.echo(message, err=True, color=True)  # else click would drop escape sequences, not show them


def report(level: Level, message: str) -> None:
    """What a connector or a run tells of, to stderr."""
    tell(message if level == "info" else f"{level}: {message}")


def tell_error(error: SpeclabError) -> None:
    """What went wrong, where, and what to do, to stderr."""
    tell(f"speclab: {error.message}")
    if isinstance(error, SpecError):
        for problem in error.problems:
            tell(f"  {problem}")
    if isinstance(error, EndpointError) and error.request:
        tell(_indented("request", error.request))
        if error.response:
            tell(_indented("response", error.response))
    if error.hint:
        tell(f"  {error.hint}")


def print_json(value: JsonView) -> None:
    """One JSON value on a line of its own, to stdout, at once: what is told of it comes after it."""
    from speclab.core.json import encode

    text = encode(value)
    if not text.isascii() or b"\x7f" in text:
        text = escape_controls_in_json(text.decode()).encode()
    sys.stdout.buffer.write(text + b"\n")
    sys.stdout.buffer.flush()


def print_rows(rows: Iterable[Mapping[str, JsonView]], columns: Sequence[str]) -> None:
    """Rows as aligned columns under a header line; numbers to the right, nothing as `-`."""
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
