"""`speclab lint`: every problem of every spec, at its place, in the format its reader wants."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from speclab.cli.output import print_json, tell
from speclab.cli.place import complete_spec
from speclab.plural import plural

if TYPE_CHECKING:
    from speclab.spec.document import Document
    from speclab.spec.problem import Problem
    from speclab.spec.workspace import SpecFile


@click.command(short_help="Print the problems of specs, each at its place.")
@click.argument("which", nargs=-1, metavar="[DIR | SPEC]...", shell_complete=complete_spec)
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json", "github"]),
    default="text",
    show_default=True,
    help="For a person, for a program, or for GitHub's annotations.",
)
def lint(which: Sequence[str], form: str) -> None:
    """Print the problems of each SPEC, and of all in each DIR (default: here), as `file:line:column: CODE message`.

    Exits 1 if one of them is an error.
    """
    from speclab.errors import UsageError
    from speclab.mapping import lint as problems_of
    from speclab.outcome import Level
    from speclab.spec.document import Document
    from speclab.spec.files import TooLarge
    from speclab.spec.problem import Problem
    from speclab.spec.workspace import find_spec, find_specs, read_spec_file, workspace_of

    files: list[Path] = []
    for name in which or ["."]:
        path = Path(name)
        files.extend([spec.path for spec in find_specs(path)] if path.is_dir() else [find_spec(Path(), name)])
    if not files:
        tell("There is no spec here. 'speclab new NAME' makes one.")
    around = functools.cache(find_specs)
    problems = []
    for file in files:
        try:
            document = Document.load(file)
        except TooLarge as error:
            message = f"{error.message.removeprefix(f'{file}: ')}. {error.hint}"
            problems.append(Problem(str(file), 1, 1, "D105", Level.ERROR, message))
            continue
        if read_spec_file(file) is None:
            raise UsageError(f"{file} is no spec: its front matter has neither a `type` nor a `spec_id`")
        problems += [*_doubles(document, around(workspace_of(file))), *problems_of(document)]
    for problem in problems:
        _print(problem, form)
    counts = {level: sum(problem.level is level for problem in problems) for level in Level}
    found = f"{plural(counts[Level.ERROR], 'error')}, {plural(counts[Level.WARNING], 'warning')}"
    still_open = f", {counts[Level.INFO]} still open" if counts[Level.INFO] else ""
    tell(f"{plural(len(files), 'spec')}, {found}{still_open}")
    click.get_current_context().exit(1 if counts[Level.ERROR] else 0)


def _doubles(document: Document, specs: Iterable[SpecFile]) -> Iterator[Problem]:
    """Tell of those of `specs` that have the spec_id of `document`, too."""
    from speclab.outcome import Level
    from speclab.spec.problem import Problem
    from speclab.spec.workspace import doubles

    assert document.path is not None  # noqa: S101 - it was loaded
    at = document.front_matter.span_of("spec_id") or document.front_matter.span
    line, column = document.position(at.start)
    for other in doubles(document.path, specs):
        message = f"{os.path.relpath(other)} has this spec_id, too; give the copy one of its own"
        yield Problem(str(document.path), line, column, "F107", Level.ERROR, message)


def _print(problem: Problem, form: str) -> None:
    if form == "json":
        print_json(
            {
                "file": problem.file,
                "line": problem.line,
                "column": problem.column,
                "code": problem.code,
                "level": problem.level,
                "message": problem.message,
                "fix": problem.fix,
            }
        )
    elif form == "github":
        name = {"info": "notice"}.get(problem.level, problem.level)
        file, message = _of_github(problem.file, ":,"), _of_github(problem.message)
        click.echo(f"::{name} file={file},line={problem.line},col={problem.column},title={problem.code}::{message}")
    else:
        click.echo(str(problem))


def _of_github(text: str, more: str = "") -> str:
    """`text` as GitHub's workflow commands have it: with percent codes for what would end it."""
    return "".join(f"%{ord(one):02X}" if one in f"%\r\n{more}" else one for one in text)
