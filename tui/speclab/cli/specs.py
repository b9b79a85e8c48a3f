"""Commands on spec files: `new`, `show`, `set`, `lint`, `map`."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import click

from speclab.cli.arguments import complete_spec, spec_argument
from speclab.cli.output import json_option, print_json, tell
from speclab.core.errors import UsageError
from speclab.core.text import format_count

if TYPE_CHECKING:
    from speclab.core.json import Record
    from speclab.spec.document import Document
    from speclab.spec.problems import Problem
    from speclab.spec.workspace import SpecFile


@click.command(short_help="Make a spec from the template.")
@click.argument("name")
@click.option("--directory", "-d", type=click.Path(file_okay=False, path_type=Path), help="Where  [default: specs]")
def new(name: str, directory: Path | None) -> None:
    """Make a spec called NAME from the template: specs/NAME.md."""
    from datetime import date

    from speclab.spec.template import create_spec

    path = create_spec(directory or Path("specs"), name, date.today())  # noqa: DTZ011 - the day where the user is
    click.echo(path)
    tell(f"Fill it in with 'speclab' or any editor; 'speclab lint {path}' says what is still open.")


@click.command(short_help="Print a spec, or a part of it.")
@spec_argument
@click.argument("where", required=False)
@json_option
def show(spec: Path, where: str | None, as_json: bool) -> None:  # noqa: FBT001 - click hands flags by name
    """Print SPEC, or what stands at WHERE in it.

    WHERE is a front-matter key (status), a section ("Data Flow > Volume") or a cell of the mapping
    ("Field Mapping[target.email].Transformation").
    """
    from speclab.spec.address import read
    from speclab.spec.document import Document

    document = Document.load(spec)
    text = document.text if where is None else read(document, where)
    if as_json:
        print_json(text)
    elif sys.stdout.isatty():
        click.echo(text, nl=not text.endswith(("\n", "\r")))
    else:
        sys.stdout.buffer.write(text.encode("utf-8", "surrogateescape"))
        if where and not text.endswith(("\n", "\r")):
            click.echo()


@click.command("set", short_help="Write one value in a spec.")
@spec_argument
@click.argument("where")
@click.argument("value")
def set_(spec: Path, where: str, value: str) -> None:
    """Write VALUE (`-`: standard input, without its last line end) at WHERE in SPEC; every other byte stays.

    \b
    speclab set crm status approved
    speclab set crm "Data Flow > Frequency" Hourly
    speclab set crm "Field Mapping[target.email].Transformation" "Trim, Lowercase"
    """  # noqa: D301 - click's mark for a paragraph that keeps its lines
    from speclab.spec.address import write
    from speclab.spec.document import Document
    from speclab.spec.store import save

    if value == "-":
        if sys.stdin.isatty():
            raise UsageError("'-' reads the value from standard input, and that is a terminal", hint="Pipe it in.")
        value = sys.stdin.buffer.read().decode("utf-8", "surrogateescape")
        value = value.removesuffix("\n").removesuffix("\r")
    document = Document.load(spec)
    save(write(document, where, value), document)


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
    from speclab.core.errors import UsageError
    from speclab.core.files import TooLarge
    from speclab.core.outcome import Level
    from speclab.mapping import lint as problems_of
    from speclab.spec.document import Document
    from speclab.spec.problems import Problem
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
    found = f"{format_count(counts[Level.ERROR], 'error')}, {format_count(counts[Level.WARNING], 'warning')}"
    still_open = f", {counts[Level.INFO]} still open" if counts[Level.INFO] else ""
    tell(f"{format_count(len(files), 'spec')}, {found}{still_open}")
    click.get_current_context().exit(1 if counts[Level.ERROR] else 0)


def _doubles(document: Document, specs: Iterable[SpecFile]) -> Iterator[Problem]:
    """Tell of those of `specs` that have the spec_id of `document`, too."""
    from speclab.core.outcome import Level
    from speclab.spec.problems import Problem
    from speclab.spec.workspace import find_duplicate_ids

    assert document.path is not None  # noqa: S101 - it was loaded
    at = document.front_matter.get_span("spec_id") or document.front_matter.span
    line, column = document.position(at.start)
    for other in find_duplicate_ids(document.path, specs):
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


@click.command("map", short_help="Map sample records; nothing is sent.")
@spec_argument
@click.option("--sample", type=click.File("rb"), default="-", help="JSON lines to map  [default: standard input]")
def map_(spec: Path, sample: BinaryIO) -> None:
    """Map records with the Field Mapping of SPEC and print the results as JSON lines; nothing is sent anywhere.

    \b
    speclab map crm --sample contacts.jsonl
    curl -s https://crm.example/contacts | jq -c '.data[]' | speclab map crm

    Exits 1 if a record fails; where and why is on stderr.
    """  # noqa: D301 - click's mark for a paragraph that keeps its lines
    from speclab.connectors.unreadable import UnreadableRecord, limited_lines
    from speclab.core.errors import UsageError
    from speclab.spec.document import Document
    from speclab.sync.prepare import prepare_mapping

    if sample.isatty():
        raise UsageError("no sample to map", hint="Give --sample FILE.jsonl, or pipe JSON lines in.")
    mapper = prepare_mapping(Document.load(spec))
    mapped = filtered = failed = 0
    for number, (line, size) in enumerate(limited_lines(sample), 1):
        if not line.strip():
            continue
        record = _record(line, size, f"{sample.name}:{number}")
        if isinstance(record, UnreadableRecord):
            failed += 1
            tell(f"{record.place}: record {number}: {record.reason}")
            continue
        evaluation = mapper.evaluate(record)
        if evaluation.failures:
            failed += 1
            for one in evaluation.failures:
                tell(f"{spec}:{one.line}:{one.column}: record {number}: {one.row or 'filter'}: {one.reason}")
        elif evaluation.record is None:
            filtered += 1
        else:
            mapped += 1
            print_json(evaluation.record)
    tell(f"{mapped} mapped, {filtered} filtered, {failed} failed")
    click.get_current_context().exit(1 if failed else 0)


def _record(line: bytes, size: int, place: str) -> Record:
    """Return the record on a line of `size` bytes. Raises `UsageError` where there is none."""
    from speclab.connectors.unreadable import checked, too_long
    from speclab.core.errors import UsageError
    from speclab.core.json import decode_leniently

    if size > len(line):
        return too_long(line, size, place)
    try:
        found = decode_leniently(line)
    except ValueError as error:
        raise UsageError(f"{place}: no JSON: {error}") from error
    if not isinstance(found.value, dict):
        raise UsageError(f"{place}: expected a record, which is a JSON object in braces")
    return found.value if found.is_clean else checked(found.value, line, place)
