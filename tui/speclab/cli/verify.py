"""Commands that check an integration against its spec: `verify` and `reconcile`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from speclab.cli.output import (
    STOPPING,
    json_option,
    print_error,
    print_json,
    print_message,
    runlog_option,
    spec_argument,
    spec_id_and_runlog,
)
from speclab.cli.systems import approval, trust_option
from speclab.core.errors import UsageError
from speclab.core.text import format_count

if TYPE_CHECKING:
    from speclab.connectors.api import RuntimeContext
    from speclab.connectors.secrets.references import References
    from speclab.monitor.criteria import CriterionResult, Verification
    from speclab.spec.document import Document
    from speclab.sync.prepare import PreparedSpec
    from speclab.sync.reconcile import Reconciliation
    from speclab.sync.repair import Repair
    from speclab.sync.run import RunResult

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


_WIDTH: Final = 60
_KINDS: Final = {
    "missing": "only the source has them",
    "extra": "only the target has them",
    "field": "a field has another value",
    "type": "a field has the same value with another type",
    "duplicate": "the key occurs more than once",
}


@click.command(short_help="Compare the mapped source with the target, and repair it.")
@spec_argument
@click.option("--sample", type=click.IntRange(1), help="Compare only so many source records, chosen at random.")
@click.option(
    "--show", type=click.IntRange(0), default=20, show_default=True, help="Differences of each kind that are listed."
)
@click.option(
    "--format",
    "form",
    type=click.Choice(("table", "json", "html")),
    default="table",
    show_default=True,
    help="How the report is printed.",
)
@click.option("--repair", "repairs", is_flag=True, help="Write what is missing or different, after a confirmation.")
@click.option("--delete", is_flag=True, help="With --repair: also delete what only the target has.")
@click.option("--yes", is_flag=True, help="With --repair: do not ask.")
@trust_option
@runlog_option
@json_option
def reconcile(
    spec: Path,
    sample: int | None,
    show: int,
    form: str,
    repairs: bool,  # noqa: FBT001 - click passes flags by name
    delete: bool,  # noqa: FBT001
    yes: bool,  # noqa: FBT001
    trust: bool,  # noqa: FBT001
    runlog: Path | None,
    as_json: bool,  # noqa: FBT001
) -> None:
    r"""Compare the source of SPEC, mapped, with the target as it is: counts, missing and extra records, and fields.

    A target that can be listed (a table, a file, an API with `read`) is compared as a whole, in constant memory. Any
    other is asked for each record; --sample limits how many. The result is kept in the run log, for criteria with
    `reconciled()`. Neither system is changed.

    --repair then shows what it would write, asks, and does it as a run: with outcomes, dead letters and the run log.

    \b
    speclab reconcile crm
    speclab reconcile crm --sample 500 --json
    speclab reconcile crm --format html > report.html
    speclab reconcile crm --repair

    Exits 0 if source and target are equal or were repaired, 1 if they differ, 3 if the target cannot be compared, 4 if
    a system cannot be reached.
    """
    import asyncio

    from speclab.cli.run import equip, tuned_interpreter
    from speclab.spec.workspace import runlog_path
    from speclab.sync.reconcile import ReconcileOptions
    from speclab.sync.reconcile import reconcile as compare
    from speclab.sync.reconcile_store import ReconcileStore
    from speclab.sync.repair import Repair

    if (delete or yes) and not repairs:
        raise UsageError("--delete and --yes need --repair")
    prepared, references, context = equip(spec, approval(trust=trust))
    log_path = runlog or runlog_path(prepared.workspace)
    options = ReconcileOptions(sample, show)
    with ReconcileStore.open() as store:
        with tuned_interpreter():
            result = asyncio.run(compare(prepared, log_path, references, context, store, options))
        _print_reconciliation(result, "json" if as_json else form)
        code = 0 if result.is_equal else 1
        if repairs and result.total:
            repair = Repair.plan(prepared, result, store, delete=delete)
            done = _repair(prepared, repair, references, context, log_path, ask=not yes)
            code = 0 if done and result.total == repair.writes + repair.deletes and not result.unknown else 1
    click.get_current_context().exit(code)


def _repair(
    prepared: PreparedSpec,
    repair: Repair,
    references: References,
    context: RuntimeContext,
    log_path: Path,
    *,
    ask: bool,
) -> bool:
    """Show what `repair` writes, ask, and run it; return whether every record was written."""
    import asyncio

    from speclab.cli.run import print_reconciliation, tuned_interpreter
    from speclab.core.outcome import RunState, Trigger
    from speclab.runlog import RunLog
    from speclab.sync.run import RunOptions, run
    from speclab.sync.run_control import cancelled_by_signals

    for note in repair.notes:
        print_message(note)
    counts = ((repair.writes, "write"), (repair.deletes, "delete"))
    plan = " and ".join(f"{what} {format_count(count, 'record')}" for count, what in counts if count)
    if not plan:
        print_message("nothing to repair")
        return False
    if ask and not (sys.stdin.isatty() and click.confirm(f"{plan} at the target?", err=True)):
        print_message(f"not repaired. `--repair --yes` would {plan} at the target.")
        return False
    options = RunOptions(trigger=Trigger.REPAIR.value, repair=repair)

    async def go(log: RunLog) -> RunResult:
        with cancelled_by_signals(lambda: print_message(STOPPING)) as cancelled:
            return await run(prepared, log, references, context, options, cancelled)

    with RunLog.open(log_path) as log, tuned_interpreter():
        result = asyncio.run(go(log))
    with redirect_stdout(sys.stderr):
        print_reconciliation(result.row, log_path)
    if result.error is not None:
        print_error(result.error)
    return result.row.state is RunState.SUCCEEDED


def _print_reconciliation(result: Reconciliation, form: str) -> None:
    if form == "json":
        print_json(result.to_json())
        return
    lines = _render_html(result) if form == "html" else _render_table(result)
    for line in lines:
        click.echo(line)


def _list_counts(result: Reconciliation) -> Iterator[tuple[str, int, str]]:
    """Yield the counts with their names and explanations."""
    parts = [f"{count:,} {name}" for count, name in ((result.filtered, "filtered"), (result.failed, "failed")) if count]
    yield "source", result.source, f"mapped, of {result.read:,} read" + "".join(f", {part}" for part in parts)
    yield "target", result.target, "listed" if result.is_list else "found by lookup"
    yield "same", result.same, ""
    for kind, count in result.differences.items():
        yield kind.value, count, _KINDS[kind]
    if result.unknown:
        yield "unknown", result.unknown, "the target did not say whether it has them"


def _render_table(result: Reconciliation) -> Iterator[str]:
    listed = None
    yield f"{result.spec_id}: {_summarize(result)}\n"
    for name, count, explanation in _list_counts(result):
        yield f"  {name:<10}{count:>11,}{f'   {explanation}' if explanation else ''}"
    for example in result.examples:
        if example.kind is not listed or example.changes:
            yield ""
        listed = example.kind
        yield f"  {example.kind} {example.key}{f': {example.detail}' if example.detail else ''}"
        for change in example.changes:
            yield f"    {change.field}: {_shorten(change.was) or 'no such field'} → {_shorten(change.becomes)}"
    for kind, count in result.differences.items():
        shown = sum(example.kind is kind for example in result.examples)
        if count > shown:
            yield f"\n  and {count - shown:,} more {kind}"
    for note in result.notes:
        yield f"\n  note: {note}"


def _summarize(result: Reconciliation) -> str:
    of = "" if result.sample is None else f" in a sample of {result.source:,}"
    if result.total:
        return f"source and target differ{of}: {format_count(result.total, 'difference')}"
    return f"source and target are equal{of}" if result.is_equal else f"not all records could be compared{of}"


def _shorten(text: str) -> str:
    return text if len(text) <= _WIDTH else f"{text[: _WIDTH - 1]}…"


_STYLE: Final = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60em;margin:2em auto;padding:0 1em}"
    "table{border-collapse:collapse;margin:1em 0}td,th{padding:.2em .8em;border:1px solid #8888;text-align:left;"
    "vertical-align:top}td.n{text-align:right}code{overflow-wrap:anywhere}"
)


def _render_html(result: Reconciliation) -> Iterator[str]:
    """Yield a page without scripts and external parts, to be kept or sent."""
    from html import escape

    title = escape(f"Reconciliation of {result.spec_id}")
    yield f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
    yield f"<style>{_STYLE}</style></head><body>\n<h1>{title}</h1>"
    yield f"<p>{escape(_summarize(result))}. Compared at {escape(result.at)}.</p>\n<table>"
    for name, count, explanation in _list_counts(result):
        yield f'<tr><th>{name}</th><td class="n">{count:,}</td><td>{escape(explanation)}</td></tr>'
    yield "</table>"
    yield from (f"<p>{escape(note)}</p>" for note in result.notes)
    if result.examples:
        yield "<table><tr><th>Difference</th><th>Key</th><th>Field</th><th>Target</th><th>Source</th></tr>"
    for example in result.examples:
        first = f"<td>{example.kind}</td><td><code>{escape(example.key)}</code></td>"
        if not example.changes:
            yield f'<tr>{first}<td colspan="3">{escape(example.detail)}</td></tr>'
        for change in example.changes:
            cells = (change.field, change.was or "no such field", change.becomes)
            yield f"<tr>{first}{''.join(f'<td><code>{escape(cell)}</code></td>' for cell in cells)}</tr>"
    yield "</table>\n</body></html>" if result.examples else "</body></html>"
