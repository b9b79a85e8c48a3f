"""Commands that show what happened and what is wrong: `logs` and `doctor`."""

from __future__ import annotations

import select
import signal
import sys
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from speclab.cli.output import (
    DurationType,
    complete_spec,
    json_option,
    open_reader,
    print_json,
    print_message,
    runlog_option,
    spec_id_of,
)
from speclab.cli.systems import approval, trust_option
from speclab.core.errors import UsageError
from speclab.core.outcome import Level
from speclab.core.text import format_count

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from speclab.runlog import EventRow, RunLogReader
    from speclab.runlog.reader import Tail
    from speclab.workbench.doctor import Finding

_POLL: Final = 250
"""Milliseconds between two looks for new events."""
_BATCH: Final = 1000
_LATEST: Final = 100


@click.command(short_help="Show the events of all runs, or follow them.")
@click.argument("spec", required=False, shell_complete=complete_spec)
@click.option("--follow", "-f", is_flag=True, help="Wait for new events, until interrupted.")
@click.option("--since", type=DurationType(), help="All events of this period up to now, such as 1h.")
@click.option(
    "--level",
    type=click.Choice(["info", "warning", "error"]),
    default="info",
    show_default=True,
    help="Lowest level of the events.",
)
@click.option("--run", metavar="ID", help="Only events of this run.")
@click.option(
    "--limit",
    "-n",
    type=click.IntRange(0),
    help="Maximum number of past events  [default: 100; no maximum with --since or --run]",
)
@runlog_option
@json_option
def logs(
    spec: str | None,
    follow: bool,  # noqa: FBT001 - click hands flags by name
    since: float | None,
    level: str,
    run: str | None,
    limit: int | None,
    runlog: Path | None,
    as_json: bool,  # noqa: FBT001
) -> None:
    """Print the events of all integrations, or of SPEC, oldest first, with local times.

    \b
    speclab logs crm -f
    speclab logs --since 24h --level warning
    speclab logs crm --json | jq 'select(.kind == "guard")'

    With -f, new events are printed until ctrl+c or until the reader of a pipe is gone.
    """  # noqa: D301 - click's mark for a paragraph that keeps its lines
    from speclab.core.clock import format_timestamp
    from speclab.runlog.reader import Tail

    with open_reader(runlog) as log:
        of = spec_id_of(log, spec) if spec is not None else None
        if run is not None and log.run(run) is None:
            raise UsageError(f"no run {run!r} in {log.path}", hint="'speclab runs' lists them with their IDs.")
        if limit is None:
            limit = _LATEST if since is None and run is None else sys.maxsize
        start = None if since is None else format_timestamp(datetime.now(UTC) - timedelta(seconds=since))
        tail = Tail.open(log)
        shown = [one for one in Level if one.severity >= Level(level).severity]
        events = log.latest_events(limit, spec_id=of, run=run, since=start, levels=shown)
        _print_events(events, as_json=as_json)
        if follow:
            last = max(tail.last, events[-1].id if events else 0)
            _follow(log, tail, last, lambda event: _matches(event, of, run, shown), as_json=as_json)
        elif not events and not as_json:
            print_message("No events.")


def _matches(event: EventRow, spec_id: str | None, run: str | None, levels: list[Level]) -> bool:
    return (spec_id is None or event.spec_id == spec_id) and (run is None or event.run == run) and event.level in levels


def _follow(log: RunLogReader, tail: Tail, last: int, matches: Callable[[EventRow], bool], *, as_json: bool) -> None:
    """Print new events until ctrl+c, or until standard output is closed; none is skipped, however many there are."""
    from speclab.cli import INTERRUPTED

    interrupted = False

    def interrupt(number: int, _frame: object) -> None:
        """End after the line in progress, which would be printed twice otherwise; at once the second time."""
        nonlocal interrupted
        interrupted = True
        signal.signal(number, signal.default_int_handler)

    closed = select.poll()
    closed.register(sys.stdout.fileno(), 0)  # only errors: the reader of the pipe is gone
    before = signal.signal(signal.SIGINT, interrupt)
    try:
        while not closed.poll(_POLL) and not interrupted:
            update = tail.poll()
            last = 0 if update.replaced else last
            while update.changed and not interrupted:
                events = log.events(last, limit=_BATCH)
                _print_events(filter(matches, events), as_json=as_json)
                last = events[-1].id if events else last
                if len(events) < _BATCH:
                    break
    finally:
        signal.signal(signal.SIGINT, before)
    if interrupted:
        click.get_current_context().exit(INTERRUPTED)


def _print_events(events: Iterable[EventRow], *, as_json: bool) -> None:
    from speclab.runlog.rows import event_json, format_event

    for event in events:
        if as_json:
            print_json(event_json(event))
        else:
            click.echo(format_event(event))
    sys.stdout.flush()


@click.command(short_help="Check the installation, the workspace and the systems.")
@click.argument("spec", required=False, shell_complete=complete_spec)
@click.option("--offline", is_flag=True, help="Check only this machine; contact no system.")
@trust_option
@runlog_option
@json_option
def doctor(
    spec: str | None,
    offline: bool,  # noqa: FBT001 - click hands flags by name
    trust: bool,  # noqa: FBT001
    runlog: Path | None,
    as_json: bool,  # noqa: FBT001
) -> None:
    """Check what the specs in progress, or SPEC, need to run, and print what to do about each problem.

    Versions, terminal, permissions of private files, disk, run log, scheduler; for each spec its problems and drivers;
    for each system name resolution, proxy, certificate, clock and credentials. A system is contacted only if the spec
    is trusted, and nothing is written to it.

    Exits 0 if nothing is failing, 1 if something is, 4 if a system cannot be reached or refuses the credentials.
    """
    from speclab.workbench.doctor import CheckState

    counts = Counter[str]()
    unreachable = False
    for finding in _diagnose(spec, runlog, trust=trust, offline=offline):
        counts[finding.state] += 1
        unreachable |= finding.unreachable
        if as_json:
            print_json({"check": finding.check, "state": finding.state, "what": finding.what, "todo": finding.todo})
        else:
            click.echo(f"{finding.state:<9}  {finding.check}: {finding.what}")
            if finding.todo:
                click.echo(f"{'':<9}  -> {finding.todo}")
    if not as_json:
        print_message(", ".join(f"{counts[state]} {state}" for state in CheckState))
    click.get_current_context().exit(4 if unreachable else 1 if counts[CheckState.FAILING] else 0)


def _diagnose(spec: str | None, runlog: Path | None, *, trust: bool, offline: bool) -> Iterator[Finding]:
    import asyncio
    import os

    from speclab.connectors.trust import refuse
    from speclab.service.spec_registry import IN_PROGRESS
    from speclab.spec.workspace import find_spec, find_specs, read_spec_file, runlog_path, workspace_of
    from speclab.workbench import doctor

    approve = approval(trust=trust)
    one = None if spec is None else find_spec(Path(), spec)
    workspace = workspace_of(one or Path.cwd())
    if one is not None:
        file = read_spec_file(one)
        specs = {file.spec_id if file else one.name: one}
        running = int(file is not None and file.status == IN_PROGRESS)
    else:
        files = [file for file in find_specs(Path.cwd()) if file.type == "integration" and file.status == IN_PROGRESS]
        specs = {file.spec_id: file.path for file in files}
        running = len(files)
    size = os.get_terminal_size(sys.stdout.fileno()) if sys.stdout.isatty() else None
    path = runlog or runlog_path(workspace)
    yield from doctor.check_versions()
    yield from doctor.check_terminal(os.environ, sys.stdout.encoding, size)
    yield from doctor.check_permissions(doctor.find_private_files(workspace, specs.values()))
    yield from doctor.check_disk(path.parent)
    yield from doctor.check_run_log(path)
    yield from doctor.check_service(workspace, running, datetime.now(UTC))
    for name, place in specs.items():
        yield from doctor.check_spec(place, name)
    if specs and not offline:
        yield from asyncio.run(doctor.check_systems(specs, approve if one is not None or trust else refuse))
    elif not specs:
        print_message(f"{format_count(0, 'spec')} in progress: `speclab doctor SPEC` checks a spec and its systems.")
