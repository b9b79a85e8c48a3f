"""The books of a run, printed for a person: what was read, what became of it, and where the failures are."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from speclab.outcome import Outcome

if TYPE_CHECKING:
    from speclab.runlog import RunRow

_GROUPS: Final = 12


def print_books(row: RunRow, log_path: Path) -> None:
    """Print the run `row` and the failures it left in the run log at `log_path`."""
    click.echo(f"{row.spec_id}: {row.state}{_took(row)}")
    if row.error:
        click.echo(f"  {row.error}")
    click.echo()
    click.echo(f"  {'read':<10}{row.read:>9,}")
    for outcome in Outcome:
        count = getattr(row, outcome)
        click.echo(f"  {outcome:<10}{count:>9,}{_effects(row) if outcome is Outcome.WRITTEN else ''}")
    outcomes = sum(getattr(row, outcome) for outcome in Outcome)
    verdict = "the books balance" if outcomes == row.read else "THE BOOKS DO NOT BALANCE"
    click.echo(f"  {'':<10}{outcomes:>9,}   {verdict}")
    _print_failures(row, log_path)


def _took(row: RunRow) -> str:
    if row.ended_at is None:
        return ""
    seconds = (datetime.fromisoformat(row.ended_at) - datetime.fromisoformat(row.started_at)).total_seconds()
    return f" in {seconds:.1f} s"


def _effects(row: RunRow) -> str:
    told = [f"{getattr(row, name):,} {name}" for name in ("created", "updated", "deleted") if getattr(row, name)]
    return "   " + ", ".join(told) if told else ""


def _print_failures(row: RunRow, log_path: Path) -> None:
    """The failures of the run that are still open, grouped by what they have in common, each group at its place."""
    from speclab.runlog import RunLogReader
    from speclab.spec.workspace import runlog_path, workspace_of

    with RunLogReader.open(log_path) as log:
        groups = log.groups(row.spec_id)
        shown = [(group, log.members(group, limit=1)[0]) for group in groups[:_GROUPS]]
    if not groups:
        return
    click.echo("\n  failures in the run log, by place")
    for group, newest in shown:
        where = f"{newest.file}:{newest.line}" + (f":{newest.column}" if newest.column else "")
        blame = f"{group.row}: " if group.row else ""
        click.echo(f"  {group.count:>7,}  {where}: {group.state} at {group.stage}: {blame}{group.message}")
    if len(groups) > _GROUPS:
        click.echo(f"           and {len(groups) - _GROUPS} more kinds")
    elsewhere = "" if log_path.resolve() == runlog_path(workspace_of(Path.cwd())) else f" --runlog {log_path}"
    click.echo(f"\n  each of them, with its record: speclab failures {row.spec_id} --full{elsewhere}")
