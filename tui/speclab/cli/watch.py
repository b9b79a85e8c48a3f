"""`speclab watch`: lints a spec and maps its sample whenever it is saved."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING

import click

from speclab.cli.output import print_message
from speclab.core.text import format_count

if TYPE_CHECKING:
    from watchfiles import Change

    from speclab.mapping import RowFailure
    from speclab.spec.document import Document
    from speclab.spec.workspace import SpecFile, State


@click.command(short_help="Lint and map the sample on every change.")
@click.argument("directory", type=click.Path(exists=True, file_okay=False, path_type=Path), default=".")
def watch(directory: Path) -> None:
    """Print the problems of every spec in DIRECTORY (default: current directory), and again for each that changes.

    If a spec has a sample, .speclab/samples/SPEC_ID.jsonl (saved by the Mapping view of the app), the sample is mapped
    as well: the output shows how many records pass, and which rows the others fail on. ctrl+c ends it.
    """
    import asyncio

    from speclab.core.processes import Hangup

    Hangup()
    asyncio.run(_watch(directory))


async def _watch(directory: Path) -> None:
    from speclab.spec.workspace import file_changes, find_specs

    seen: dict[Path, tuple[State | None, State | None]] = {}
    specs = find_specs(directory)
    _print_changed(specs, seen)
    print_message(f"watching {format_count(len(specs), 'spec')}; press ctrl+c to stop")
    while True:
        watched = _get_directories(directory, specs)
        async with aclosing(file_changes(watched, _is_relevant)) as changes:
            async for _ in changes:
                specs = find_specs(directory)
                _print_changed(specs, seen)
                if _get_directories(directory, specs) != watched:
                    break


def _is_relevant(change: Change, path: str) -> bool:
    from speclab.spec.workspace import is_spec_or_directory

    return path.endswith(".jsonl") or is_spec_or_directory(change, path)


def _print_changed(specs: Iterable[SpecFile], seen: dict[Path, tuple[State | None, State | None]]) -> None:
    """Print the results of each spec that has changed since it was `seen`, or whose sample has."""
    from speclab.spec.workspace import file_state

    for spec in specs:
        state = (file_state(spec.path), file_state(_get_sample_path(spec)))
        if seen.get(spec.path) != state:
            seen[spec.path] = state
            _print_spec(spec)


def _get_sample_path(spec: SpecFile) -> Path:
    from speclab.workbench.samples import kept_at

    return kept_at(spec.path, spec.spec_id)


def _get_directories(directory: Path, specs: Iterable[SpecFile]) -> set[Path]:
    """Return the directories in which specs and samples can change or appear."""
    from speclab.spec.workspace import directories_to_watch

    specs = list(specs)
    found = directories_to_watch(directory, specs) | {_get_sample_path(spec).parent for spec in specs}
    return {directory for directory in found if directory.is_dir()}


def _print_spec(spec: SpecFile) -> None:
    """Print the problems of a spec and the results of its sample."""
    from speclab.core.errors import SpeclabError
    from speclab.core.outcome import Level
    from speclab.mapping import lint
    from speclab.spec.document import Document

    try:
        document = Document.load(spec.path)
        problems = lint(document)
        counts = {level: sum(problem.level is level for problem in problems) for level in Level}
        mapped = list(_sample(spec, document))
    except (SpeclabError, OSError) as error:  # removed or half written: the next change triggers another look
        click.echo(f"{spec.path}: {error}")
        return
    for problem in problems:
        click.echo(str(problem))
    for line in mapped:
        click.echo(line)
    errors, warnings = format_count(counts[Level.ERROR], "error"), format_count(counts[Level.WARNING], "warning")
    click.echo(f"{spec.path}: {errors}, {warnings}")


def _sample(spec: SpecFile, document: Document) -> Iterator[str]:
    """Yield a line for each row that sample records fail on or lack a field of, and a summary."""
    from speclab.core.errors import SpecError
    from speclab.mapping.lint import check_samples
    from speclab.sync.prepare import prepare_mapping
    from speclab.workbench.samples import read_records

    sample = _get_sample_path(spec)
    if not sample.exists():
        return
    try:
        mapper = prepare_mapping(document)
    except SpecError:  # its problems are printed already
        return
    records = read_records(sample).records
    passed = filtered = 0
    failed: dict[str | None, list[RowFailure]] = {}
    for record in records:
        evaluation = mapper.evaluate(record)
        if evaluation.is_filtered:
            filtered += 1
            continue
        passed += not evaluation.failures
        for one in evaluation.failures:
            failed.setdefault(one.row, []).append(one)
    for row, failures_of_row in sorted(failed.items(), key=lambda item: -len(item[1])):
        first = failures_of_row[0]
        where = f"{spec.path}:{first.line}:{first.column}"
        yield f"{where}: {len(failures_of_row)} of {len(records)} fail on {row or 'the filter'}: {first.reason}"
    for problem in check_samples(mapper, records, str(spec.path)):
        yield str(problem)
    others = len(records) - passed - filtered
    yield f"{spec.path}: sample of {len(records)}: {passed} pass, {filtered} filtered, {others} fail"
