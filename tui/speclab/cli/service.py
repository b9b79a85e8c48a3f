"""Commands that stay: `watch` and `up`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING

import click

from speclab.cli.output import print_error, print_message, runlog_option, spec_argument, spec_id_and_runlog
from speclab.cli.systems import approval, trust_option
from speclab.core.errors import SpeclabError, Untrusted, UsageError
from speclab.core.text import format_count

if TYPE_CHECKING:
    from watchfiles import Change

    from speclab.core.outcome import Level
    from speclab.mapping import RowFailure
    from speclab.runlog import IntegrationRow
    from speclab.service.http_api import ListenOptions
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
    from speclab.workbench.samples import kept_sample_path

    return kept_sample_path(spec.path, spec.spec_id)


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


@click.command(short_help="Run specs on their schedules.")
@click.argument("directory", type=click.Path(exists=True, file_okay=False, path_type=Path), default=".")
@click.option(
    "--jobs", "-j", type=click.IntRange(1), default=4, show_default=True, help="Maximum number of parallel runs."
)
@click.option(
    "--listen", metavar="ADDR", help="Serve metrics, health and reports of runs over HTTP, such as on 127.0.0.1:9464."
)
@click.option(
    "--token",
    metavar="REF",
    help="Reference to the bearer token of the HTTP server, such as '${env:SPECLAB_TOKEN}'. Required if ADDR is not "
    "on this machine.",
)
@trust_option
@runlog_option
def up(
    directory: Path,
    jobs: int,
    listen: str | None,
    token: str | None,
    trust: bool,  # noqa: FBT001 - click hands flags by name
    runlog: Path | None,
) -> None:
    """Run the specs in DIRECTORY (default: current directory) on their schedules: those in-progress and not paused.

    Each run is a separate process. Records in the retry queue are retried when due, alerts are evaluated once a minute
    and notified, and old rows of the run log are deleted. Changed specs are reloaded. A workspace has one `speclab up`;
    a second one fails and names the first.

    Only trusted specs run (see speclab trust): at a terminal you are asked about the others; --trust trusts all of them
    while this command runs.

    With --listen, an HTTP server has /metrics, /healthz, /readyz, and /runs for runs from elsewhere; /openapi.json
    describes it.

    The first ctrl+c (or SIGTERM) lets runs finish the page in progress, the second stops them at once.
    """
    import asyncio

    from speclab.cli import INTERRUPTED
    from speclab.core.clock import SystemClock
    from speclab.service.scheduler import ServiceOptions, serve
    from speclab.spec.workspace import runlog_path, state_directory, workspace_of
    from speclab.sync.run_control import stopped_by_signals

    directory = directory.resolve()
    workspace = workspace_of(directory)
    state_directory(workspace)
    path = (runlog or runlog_path(workspace)).absolute()
    listening = _parse_listen(listen, token, workspace) if listen or token else None
    serving = ServiceOptions(directory, workspace, path, jobs, ("--trust",) if trust else (), listening)
    if not trust:
        _ask_for_trust(directory, workspace)

    async def go() -> bool:
        with stopped_by_signals() as stop:
            await serve(serving, SystemClock(), _report, stop)
        return stop.immediate.is_set()

    print_message(f"Running specs in {directory} on their schedules. Press ctrl+c to stop.")
    click.get_current_context().exit(INTERRUPTED if asyncio.run(go()) else 0)


def _parse_listen(listen: str | None, token: str | None, workspace: Path) -> ListenOptions:
    from speclab.connectors.secrets.references import resolve_token
    from speclab.service.http_api import ListenOptions

    if listen is None:
        raise UsageError("--token needs --listen ADDR")
    return ListenOptions.parse(listen, resolve_token(token, workspace) if token else "")


def _ask_for_trust(directory: Path, workspace: Path) -> None:
    """Ask about each untrusted spec in progress; without a terminal, print which ones cannot run."""
    from speclab.connectors.trust import read_wanted, require_trust
    from speclab.service.spec_registry import IN_PROGRESS
    from speclab.spec.workspace import find_specs, workspace_of

    for spec in find_specs(directory):
        if spec.type == "integration" and spec.status == IN_PROGRESS and workspace_of(spec.path) == workspace:
            try:
                require_trust(read_wanted(spec.path), approval(trust=False))
            except (SpeclabError, OSError) as error:  # the others still run
                if isinstance(error, Untrusted):
                    print_error(error)


def _report(level: Level, message: str) -> None:
    from datetime import datetime

    now = datetime.now().astimezone().strftime("%H:%M:%S")
    print_message(f"{now} {message}" if level == "info" else f"{now} {level}: {message}")


@click.command(short_help="Pause a spec: the scheduler skips it.")
@spec_argument
@click.option("--reason", default="", help="Reason, shown in the status.")
@runlog_option
def pause(spec: Path, reason: str, runlog: Path | None) -> None:
    """Pause SPEC: `speclab up` skips it until `speclab resume`.

    Its schedule, its retry queue and its alerts stop; a run that has started continues to its end. `speclab run` and
    `speclab retry` still work.
    """
    from speclab.core.locks import get_user_name
    from speclab.runlog import RunLog

    spec_id, path = spec_id_and_runlog(spec, runlog)
    with RunLog.open(path) as log, RunLog.reader(path) as reader:
        if log.pause(spec_id, get_user_name(), reason.strip()):
            print_message(f"{spec_id} is paused. Resume it with 'speclab resume {spec_id}'.")
        else:
            (row,) = reader.integrations(spec_id)
            print_message(f"{spec_id} was already paused {describe_pause(row)}")


@click.command(short_help="Resume a paused spec.")
@spec_argument
@runlog_option
def resume(spec: Path, runlog: Path | None) -> None:
    """Resume SPEC after a pause. One run makes up for all scheduled times that were missed."""
    from speclab.core.locks import get_user_name
    from speclab.runlog import RunLog

    spec_id, path = spec_id_and_runlog(spec, runlog)
    with RunLog.open(path) as log:
        print_message(f"{spec_id} is resumed" if log.resume(spec_id, get_user_name()) else f"{spec_id} was not paused")


def describe_pause(row: IntegrationRow) -> str:
    """Return who paused an integration, since when and why: `by ada since 2026-...: the ledger is closed`."""
    reason = f": {row.paused_reason}" if row.paused_reason else ""
    return f"by {row.paused_by} since {row.paused_at}{reason}"
