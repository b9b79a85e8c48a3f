"""Commands that check an integration against its spec: `verify` and `reconcile`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from speclab.cli.output import (
    json_option,
    print_json,
    print_message,
    runlog_option,
    spec_argument,
    spec_id_and_runlog,
)
from speclab.core.text import format_count

if TYPE_CHECKING:
    from speclab.monitor.criteria import CriterionResult, Verification
    from speclab.spec.document import Document

_INDENT: Final = " " * 9


@click.command(short_help="Evaluate the acceptance criteria of a spec.")
@spec_argument
@click.option("--write", is_flag=True, help="Tick the criteria that pass, and append run and date.")
@click.option("--untick", is_flag=True, help="Untick the criteria that fail now.")
@runlog_option
@json_option
def verify(spec: Path, write: bool, untick: bool, runlog: Path | None, as_json: bool) -> None:  # noqa: FBT001 - click passes flags by name
    """Evaluate the Acceptance Criteria of SPEC that end in a CEL expression in backquotes, over the run log.

    Each criterion passes, fails (with the figures found), has no data yet, or is manual: it has no expression and is
    left to people. For a criterion in plain words, an expression is suggested where one fits; add it yourself.

    --write ticks what passes, one changed line per criterion. Nothing is changed twice. --untick removes the ticks of
    criteria that fail.

    Exits 0 if no criterion fails, 1 if one fails or has no data yet.
    """
    from speclab.core.clock import SystemClock
    from speclab.monitor.criteria import update_ticks
    from speclab.monitor.criteria import verify as verify_criteria
    from speclab.runlog import RunLog
    from speclab.spec import store
    from speclab.spec.document import Document

    document = Document.load(spec)
    spec_id, log_path = spec_id_and_runlog(spec, runlog)
    with RunLog.reader(log_path) as reader:
        verification = verify_criteria(document, reader, spec_id, SystemClock().now())
    if as_json:
        for result in verification.results:
            print_json(result.to_json())
    else:
        _print_results(spec_id, verification)
    after = update_ticks(document, verification, tick=write, untick=untick)
    if after.text != document.text:
        store.save(after, document)
    if write or untick:
        _print_changes(spec, document, after)
    met = all(result.state.is_met for result in verification.results)
    click.get_current_context().exit(0 if met else 1)


def _print_results(spec_id: str, verification: Verification) -> None:
    from speclab.monitor.criteria import CriterionState

    results = verification.results
    if not results:
        print_message(f"{spec_id} has no acceptance criteria: lines such as `- [ ] No dead letters` in that section.")
        return
    for result in results:
        click.echo(f"{result.state:<9}{result.criterion.text}")
        for line in _describe(result):
            click.echo(f"{_INDENT}{line}")
    counts = {state: sum(result.state is state for result in results) for state in CriterionState}
    names = {CriterionState.PASS: "passed", CriterionState.FAIL: "failed", CriterionState.NO_DATA: "without data"}
    click.echo(f"\n{', '.join(f'{count} {names.get(state, state)}' for state, count in counts.items() if count)}")


def _describe(result: CriterionResult) -> Iterator[str]:
    if result.detail:
        yield result.detail
    if result.suggestion is not None:
        yield f"suggestion: append `{result.suggestion}`"


def _print_changes(path: Path, before: Document, after: Document) -> None:
    from speclab.monitor.criteria import find_criteria

    pairs = list(zip(find_criteria(before), find_criteria(after), strict=True))
    ticked = sum(new.ticked and not old.ticked for old, new in pairs)
    unticked = sum(old.ticked and not new.ticked for old, new in pairs)
    changes = [
        f"{format_count(count, 'criterion', 'criteria')} {what}"
        for count, what in ((ticked, "ticked"), (unticked, "unticked"))
        if count
    ]
    print_message(f"{path}: {', '.join(changes) or 'nothing to change'}")
