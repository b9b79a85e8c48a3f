"""Commands on spec files: `new`, `show`, `set`, `lint`, `map`."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import click

from speclab.cli.output import (
    complete_spec,
    json_option,
    open_reader,
    print_json,
    print_message,
    runlog_option,
    spec_argument,
    spec_id_of,
)
from speclab.core.errors import UsageError
from speclab.core.text import format_count

if TYPE_CHECKING:
    from speclab.core.json import Record
    from speclab.spec.document import Document
    from speclab.spec.problems import Problem
    from speclab.spec.workspace import SpecFile


@click.command(short_help="Create a spec from the template.")
@click.argument("name")
@click.option(
    "--directory",
    "-d",
    type=click.Path(file_okay=False, path_type=Path),
    default="specs",
    show_default=True,
    help="Directory of the new spec.",
)
def new(name: str, directory: Path) -> None:
    """Create specs/NAME.md from the template."""
    from datetime import date

    from speclab.spec.guide import create_spec

    path = create_spec(directory, name, date.today())  # noqa: DTZ011 - the local date
    click.echo(path)
    print_message(f"Edit it in 'speclab' or any editor. 'speclab lint {path}' lists what is missing.")


@click.command(short_help="Print a spec or a part of it.")
@click.argument("spec", shell_complete=complete_spec)
@click.argument("address", required=False)
@click.option("--run", metavar="ID", help="The version of SPEC that this run used, without secrets.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "md", "html"]),
    default="text",
    show_default=True,
    help="The text of the spec, or a review report for the owners of the systems.",
)
@click.option(
    "--sample",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    show_default="the sample of the Mapping view",
    help="File of JSON lines that the report shows before and after the mapping.",
)
@runlog_option
@json_option
def show(
    spec: str,
    address: str | None,
    run: str | None,
    form: str,
    sample: Path | None,
    runlog: Path | None,
    as_json: bool,  # noqa: FBT001 - click hands flags by name
) -> None:
    """Print SPEC, or the part of it at ADDRESS.

    ADDRESS is a front-matter key (status), a section ("Data Flow > Volume") or a cell of the mapping
    ("Field Mapping[target.email].Transformation"). `speclab runs` lists the IDs of runs.

    \b
    speclab show crm --format html > crm.html
    """  # noqa: D301 - click's mark for a paragraph that keeps its lines
    from speclab.spec.address import read
    from speclab.spec.document import Document
    from speclab.spec.workspace import find_spec

    if run is not None:
        document = Document.parse(_spec_text_of_run(spec, run, runlog), Path(spec))
    elif runlog is not None:
        raise UsageError("--runlog needs --run", hint="Without --run, the current text of the spec is printed.")
    else:
        document = Document.load(find_spec(Path(), spec))
    if form != "text":
        if address is not None or as_json:
            raise UsageError(f"--format {form} prints a report of the whole spec, without ADDRESS and --json")
        _print_report(document, find_spec(Path(), spec), form, sample)
        return
    text = document.text if address is None else read(document, address)
    if as_json:
        print_json(text)
    elif sys.stdout.isatty():
        click.echo(text, nl=not text.endswith(("\n", "\r")))
    else:
        sys.stdout.buffer.write(text.encode("utf-8", "surrogateescape"))
        if address and not text.endswith(("\n", "\r")):
            click.echo()


def _print_report(document: Document, path: Path, form: str, sample: Path | None) -> None:
    from speclab.core.clock import SystemClock
    from speclab.workbench.lifecycle import get_spec_id
    from speclab.workbench.review import build_review
    from speclab.workbench.samples import kept_sample_path, read_records

    file = sample or kept_sample_path(path, get_spec_id(document, path))
    records = read_records(file).records if file.exists() else ()
    review = build_review(document, path, records, SystemClock().now())
    click.echo(review.to_html() if form == "html" else review.to_markdown(), nl=False)


def _spec_text_of_run(name: str, run: str, runlog: Path | None) -> str:
    """Return the text of the spec `name` that a run used, from the run log. Raise `UsageError` if it has none."""
    with open_reader(runlog) as log:
        spec_id = spec_id_of(log, name)
        found = log.run(run)
        if found is None or found.spec_id != spec_id:
            message = f"no run {run!r} of {spec_id} in {log.path}"
            raise UsageError(message, hint=f"'speclab runs {spec_id}' lists them with their IDs.")
        text = log.get_spec_version(found.spec_hash)
        if text is None:
            message = f"the run log has no spec text of run {run!r}"
            raise UsageError(message, hint="A run saves it once all secrets are resolved; a script saves none.")
    return text


@click.command("set", short_help="Set one value in a spec.")
@spec_argument
@click.argument("address")
@click.argument("value")
@click.option("--force", is_flag=True, help="Set a status whose conditions do not hold.")
def set_(spec: Path, address: str, value: str, force: bool) -> None:  # noqa: FBT001 - click hands flags by name
    """Set the value at ADDRESS in SPEC to VALUE (`-`: standard input); every other byte stays the same.

    ADDRESS is as in `speclab show`. From standard input, the last line ending is removed.

    The status `approved` needs a spec without problems, `in-progress` a run or dry run that succeeded, and `completed`
    that all acceptance criteria are ticked or pass.

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
            raise UsageError("'-' reads the value from standard input, which is a terminal", hint="Pipe the value in.")
        value = sys.stdin.buffer.read().decode("utf-8", "surrogateescape")
        value = value.removesuffix("\n").removesuffix("\r")
    document = Document.load(spec)
    after = write(document, address, value)
    if address.strip() == "status" and not force:
        _require_status(document, spec, value)
    save(after, document)


def _require_status(document: Document, spec: Path, status: str) -> None:
    from speclab.cli.output import open_reader
    from speclab.core.clock import SystemClock
    from speclab.spec.workspace import runlog_path, workspace_of
    from speclab.workbench.lifecycle import require_status

    path = runlog_path(workspace_of(spec))
    with open_reader(path if path.exists() else None) as reader:
        require_status(document, spec, status, reader, SystemClock().now())


@click.command(short_help="List the problems of specs with their locations.")
@click.argument("which", nargs=-1, metavar="[DIR | SPEC]...", shell_complete=complete_spec)
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json", "github"]),
    default="text",
    show_default=True,
    help="Output for people, for programs, or as GitHub annotations.",
)
def lint(which: Sequence[str], form: str) -> None:
    """List the problems of each SPEC, and of all specs in each DIR (default: current directory).

    Each is printed as `file:line:column: CODE message`.

    Exits 1 if one of them is an error.
    """
    from speclab.core.errors import TooLarge, UsageError
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
        print_message("No specs found. Create one with 'speclab new NAME'.")
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
            raise UsageError(f"not a spec: {file} has neither `type` nor `spec_id` in its front matter")
        problems += [*_doubles(document, around(workspace_of(file))), *problems_of(document)]
    for problem in problems:
        _print(problem, form)
    counts = {level: sum(problem.level is level for problem in problems) for level in Level}
    found = f"{format_count(counts[Level.ERROR], 'error')}, {format_count(counts[Level.WARNING], 'warning')}"
    still_open = f", {counts[Level.INFO]} still open" if counts[Level.INFO] else ""
    print_message(f"{format_count(len(files), 'spec')}, {found}{still_open}")
    click.get_current_context().exit(1 if counts[Level.ERROR] else 0)


def _doubles(document: Document, specs: Iterable[SpecFile]) -> Iterator[Problem]:
    """Yield a problem for each of `specs` that has the same spec_id as `document`."""
    from speclab.core.outcome import Level
    from speclab.spec.problems import Problem
    from speclab.spec.workspace import find_duplicate_ids

    assert document.path is not None  # noqa: S101 - it was loaded
    at = document.front_matter.get_span("spec_id") or document.front_matter.span
    line, column = document.position(at.start)
    for other in find_duplicate_ids(document.path, specs):
        message = f"{os.path.relpath(other)} has the same spec_id; give the copy its own"
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
        file, message = _escape_for_github(problem.file, ":,"), _escape_for_github(problem.message)
        click.echo(f"::{name} file={file},line={problem.line},col={problem.column},title={problem.code}::{message}")
    else:
        click.echo(str(problem))


def _escape_for_github(text: str, more: str = "") -> str:
    """Escape `text` for GitHub's workflow commands, which use percent codes."""
    return "".join(f"%{ord(one):02X}" if one in f"%\r\n{more}" else one for one in text)


@click.command("map", short_help="Map sample records without sending them.")
@spec_argument
@click.option(
    "--sample",
    type=click.File("rb"),
    default="-",
    show_default="standard input",
    help="File of JSON lines to map.",
)
def map_(spec: Path, sample: BinaryIO) -> None:
    """Map records with the Field Mapping of SPEC and print them as JSON lines. Nothing is sent.

    \b
    speclab map crm --sample contacts.jsonl
    curl -s https://crm.example/contacts | jq -c '.data[]' | speclab map crm

    Exits 1 if a record fails; standard error shows where and why.
    """  # noqa: D301 - click's mark for a paragraph that keeps its lines
    from speclab.connectors.api import UnreadableRecord, limited_lines
    from speclab.core.errors import UsageError
    from speclab.spec.document import Document
    from speclab.sync.prepare import prepare_mapping

    if sample.isatty():
        raise UsageError("no sample records to map", hint="Give --sample FILE.jsonl, or pipe JSON lines in.")
    mapper = prepare_mapping(Document.load(spec))
    mapped = filtered = failed = 0
    for number, (line, size) in enumerate(limited_lines(sample), 1):
        if not line.strip():
            continue
        record = _record(line, size, f"{sample.name}:{number}")
        if isinstance(record, UnreadableRecord):
            failed += 1
            print_message(f"{record.place}: record {number}: {record.reason}")
            continue
        evaluation = mapper.evaluate(record)
        if evaluation.failures:
            failed += 1
            for one in evaluation.failures:
                print_message(f"{spec}:{one.line}:{one.column}: record {number}: {one.row or 'filter'}: {one.reason}")
        elif evaluation.record is None:
            filtered += 1
        else:
            mapped += 1
            print_json(evaluation.record)
    print_message(f"{mapped} mapped, {filtered} filtered, {failed} failed")
    click.get_current_context().exit(1 if failed else 0)


def _record(line: bytes, size: int, place: str) -> Record:
    """Parse the record on a line of `size` bytes. Raises `UsageError` if it is not a JSON object."""
    from speclab.connectors.api import check_readable, too_long
    from speclab.core.errors import UsageError
    from speclab.core.json import decode_leniently

    if size > len(line):
        return too_long(line, size, place)
    try:
        found = decode_leniently(line)
    except ValueError as error:
        raise UsageError(f"{place}: not valid JSON: {error}") from error
    if not isinstance(found.value, dict):
        raise UsageError(f"{place}: expected a record as a JSON object in braces")
    return found.value if found.is_clean else check_readable(found.value, line, place)
