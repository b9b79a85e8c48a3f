"""How commands speak: JSON or aligned columns on stdout, errors and notes on stderr."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar

import click

from speclab.errors import SpecError, SpeclabError, SystemFailure
from speclab.jsonvalue import JsonView

if TYPE_CHECKING:
    from speclab.outcome import Level

Function = TypeVar("Function", bound=Callable[..., object])


def json_option(function: Function) -> Function:
    """The `--json` flag every command that prints data has."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON, one value or one row a line.")(function)


def tell(message: str) -> None:
    """A line of talk, to stderr."""
    click.echo(message, err=True)


def report(level: Level, message: str) -> None:
    """What a connector or a run tells of, to stderr."""
    tell(message if level == "info" else f"{level}: {message}")


def tell_error(error: SpeclabError) -> None:
    """What went wrong, where, and what to do, to stderr."""
    tell(f"speclab: {error.message}")
    if isinstance(error, SpecError):
        for problem in error.problems:
            tell(f"  {problem}")
    if isinstance(error, SystemFailure) and error.request:
        tell(_indented("request", error.request))
        if error.response:
            tell(_indented("response", error.response))
    if error.hint:
        tell(f"  {error.hint}")


def print_json(value: JsonView) -> None:
    """One JSON value on a line of its own, to stdout."""
    import orjson

    sys.stdout.buffer.write(orjson.dumps(value, option=orjson.OPT_APPEND_NEWLINE))


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
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def _is_number(cell: str) -> bool:
    return cell == "-" or cell.replace(",", "").replace(".", "").rstrip(" %s").isdigit()


def _indented(name: str, text: str) -> str:
    first, *rest = text.splitlines()
    return "\n".join([f"  {name}: {first}", *(f"    {line}" for line in rest)])
