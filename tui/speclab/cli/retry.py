"""`speclab retry` and `speclab discard`: decisions about failed records."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from speclab.cli.arguments import DurationType, complete_spec, open_reader, runlog_option, spec_id_of
from speclab.cli.output import STOPPING, end_output, json_option, print_error, print_json, print_message
from speclab.cli.trust import approval, trust_option
from speclab.core.errors import SpeclabError, UsageError
from speclab.core.outcome import ErrorClass, FailureState, Outcome

if TYPE_CHECKING:
    from speclab.connectors.trust import Approve
    from speclab.runlog import FailureRow, RunLogReader
    from speclab.sync.manual_retry import ManualRetry

_ID: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}")
_RESOLVED: Final = {Outcome.WRITTEN, Outcome.UNCHANGED, Outcome.FILTERED, FailureState.SUPERSEDED}
"""Results after which a record needs no further attention."""


@click.command(short_help="Retry failed records with the current spec.")
@click.argument("which", nargs=-1, metavar="[SPEC] [ID]...", shell_complete=complete_spec)
@click.option("--all", "everything", is_flag=True, help="All records in the retry queue and all dead letters.")
@click.option(
    "--class",
    "error_class",
    type=click.Choice([kind.value for kind in ErrorClass]),
    help="Records of one error class.",
)
@click.option("--row", metavar="PATH", help="Records that failed on one mapping row (its target path).")
@click.option(
    "--patience", type=DurationType(), default="60s", show_default=True, help="Maximum total time to wait for retries."
)
@trust_option
@runlog_option
@json_option
def retry(
    which: Sequence[str],
    everything: bool,  # noqa: FBT001 - click hands flags by name
    error_class: str | None,
    row: str | None,
    patience: float,
    trust: bool,  # noqa: FBT001
    runlog: Path | None,
    as_json: bool,  # noqa: FBT001
) -> None:
    """Map failed records with the current spec, send them, and print the result of each.

    Select them by ID (see `speclab failures`), or with --all, --class or --row, of SPEC or of all specs. Records whose
    outcome is unknown are sent again only by ID: check the target first. A record is not sent if a newer one with the
    same key was read.

    \b
    speclab retry crm --row email      # after fixing its mapping
    speclab retry crm --all

    Exits 0 if all of them arrived, 1 if not.
    """  # noqa: D301 - click's mark for a paragraph that keeps its lines
    with open_reader(runlog) as log:
        ids, specs = _ids_and_specs(log, which)
        if ids:
            chosen = _named(log, ids, of=specs)
        elif everything or error_class or row:
            kind = ErrorClass(error_class) if error_class else None
            chosen = _chosen(log, specs[0] if specs else None, kind, row)
        else:
            raise UsageError("no records selected", hint="Give their IDs, or select with --all, --class or --row.")
        if not chosen:
            print_message("There is nothing to retry.")
        by_spec = attrgetter("spec_id")
        groups = [(spec_id, list(group)) for spec_id, group in groupby(sorted(chosen, key=by_spec), key=by_spec)]
        approve = approval(trust=trust)
        codes = [_retry(spec_id, group, log, patience, approve, as_json=as_json) for spec_id, group in groups]
    click.get_current_context().exit(max(codes, default=0))


@click.command(short_help="Discard failed records, with a reason.")
@click.argument("ids", nargs=-1, required=True, metavar="ID...")
@click.option("--reason", required=True, help="Why these records need not arrive; kept in the run log.")
@runlog_option
def discard(ids: Sequence[str], reason: str, runlog: Path | None) -> None:
    """Discard failed records by ID (see `speclab failures`).

    They are not retried and no longer count as dead; the run log keeps them, with the reason.
    """
    from speclab.runlog import RunLog

    if not reason.strip():
        raise UsageError("--reason is empty", hint="Say why these records need not arrive.")
    with open_reader(runlog) as log:
        chosen = _named(log, ids, of=())
        path = log.path
    with RunLog.open(path) as writer:
        discarded = writer.discard([failure.id for failure in chosen], reason.strip())
    print_message(f"{discarded} discarded")


def _ids_and_specs(log: RunLogReader, which: Sequence[str]) -> tuple[list[str], list[str]]:
    ids = [one for one in which if _ID.fullmatch(one)]
    specs = [one for one in which if one not in ids]
    if len(specs) > 1:
        message = f"expected one spec and IDs of failures, got {specs[1]!r}"
        raise UsageError(message, hint="`speclab failures` lists the IDs.")
    return ids, [spec_id_of(log, name) for name in specs]


def _named(log: RunLogReader, ids: Sequence[str], *, of: Sequence[str]) -> list[FailureRow]:
    """Return the open failures with these IDs. Raises `UsageError` for an ID that is unknown, or of another spec."""
    chosen = []
    for one in dict.fromkeys(ids):
        failure = log.failure(one)
        if failure is None or (of and failure.spec_id not in of):
            raise UsageError(f"no failure {one!r} in {log.path}", hint="'speclab failures' lists them with their IDs.")
        if failure.state.is_open:
            chosen.append(failure)
        else:
            print_message(f"{one} is already {failure.state}")
    return chosen


def _chosen(
    log: RunLogReader, spec_id: str | None, error_class: ErrorClass | None, row: str | None
) -> list[FailureRow]:
    """Return the open failures that match, without those whose outcome is unknown."""
    found = log.failures(spec_id, error_class=error_class, row=row, limit=None)
    chosen = [failure for failure in found if failure.state is not FailureState.UNKNOWN]
    if skipped := len(found) - len(chosen):
        print_message(
            f"{skipped} with unknown outcome skipped. Check the target, then retry them by ID or discard them."
        )
    return chosen


def _retry(
    spec_id: str, chosen: Sequence[FailureRow], log: RunLogReader, patience: float, approve: Approve, *, as_json: bool
) -> int:
    """Retry failures of one spec, print the results and return the exit code."""
    try:
        again = _try_again(spec_id, [failure.id for failure in chosen], log.path, patience, approve)
    except SpeclabError as error:
        print_error(error)
        return error.exit_code
    if again.locked is not None:
        print_message(f"{again.locked.message}; that run retries these {len(chosen)}")
        return 1
    became = []
    for failure in chosen:
        now = log.failure(failure.id)
        assert now is not None  # noqa: S101 - failures that were open a moment ago are not pruned
        became.append((now, str(again.outcomes.get(now.id, now.state))))
    try:
        for now, came_to in became:
            _print(now, came_to, as_json=as_json)
    except OSError:  # these were retried, and those of other specs still have to be
        unprinted = end_output()
    else:
        unprinted = 0
    counts = Counter(came_to for _, came_to in became)
    print_message(f"{spec_id}: {', '.join(f'{count:,} {came_to}' for came_to, count in counts.most_common())}")
    if again.result is not None and again.result.error is not None:
        print_error(again.result.error)
        return again.result.error.exit_code
    return unprinted if counts.keys() <= _RESOLVED else 1


def _try_again(spec_id: str, ids: Sequence[str], runlog: Path, patience: float, approve: Approve) -> ManualRetry:
    import asyncio

    from speclab.cli.run import equip
    from speclab.cli.tuning import tuned_interpreter
    from speclab.spec.workspace import find_spec, workspace_of
    from speclab.sync.manual_retry import retry_failures
    from speclab.sync.run import RunOptions
    from speclab.sync.signals import cancelled_by_signals

    prepared, references, context = equip(find_spec(workspace_of(Path.cwd()), spec_id), approve)

    async def go() -> ManualRetry:
        with cancelled_by_signals(lambda: print_message(STOPPING)) as cancelled:
            options = RunOptions(wait_budget=patience)
            return await retry_failures(prepared, runlog, ids, references, context, options, cancelled)

    with tuned_interpreter():
        return asyncio.run(go())


def _print(failure: FailureRow, became: str, *, as_json: bool) -> None:
    if as_json:
        from speclab.runlog import failure_json

        print_json({**failure_json(failure), "became": became})
        return
    line = f"{became:<10} {failure.key}"
    if failure.state.is_open:
        place = f"{failure.file}:{failure.line}" + (f":{failure.column}" if failure.column else "")
        row = f" {failure.row}:" if failure.row else ""
        line += f"  {place}:{row} {failure.message}  {failure.id}"
    click.echo(line)
