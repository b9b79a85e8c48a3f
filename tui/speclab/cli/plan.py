"""`speclab plan`: preview a run, with counts and examples."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from speclab.cli.arguments import runlog_option, spec_argument
from speclab.cli.output import json_option, print_json
from speclab.cli.trust import approval, trust_option
from speclab.core.text import format_count

if TYPE_CHECKING:
    from speclab.core.json import Json
    from speclab.sync.plan import Plan, PlanExample, PlannedPace

_FIELDS: Final = 6
_WIDTH: Final = 40


@click.command(short_help="Preview a run: counts and examples of changes.")
@spec_argument
@click.option("--full", is_flag=True, help="Plan a full read instead of only the changes since the last run.")
@click.option("--limit", type=click.IntRange(1), help="Maximum number of records to read.")
@click.option(
    "--lookups",
    type=click.IntRange(0),
    default=500,
    show_default=True,
    help="Maximum number of lookups at a target that takes one request per record.",
)
@trust_option
@runlog_option
@json_option
def plan(
    spec: Path,
    full: bool,  # noqa: FBT001 - click hands flags by name
    limit: int | None,
    lookups: int,
    trust: bool,  # noqa: FBT001
    runlog: Path | None,
    as_json: bool,  # noqa: FBT001
) -> None:
    """Preview a run of SPEC: the records it would create, update, delete, leave unchanged, and fail on.

    Reads the source as a run does, and looks records up at the target where it supports lookups. Nothing is written,
    neither there nor to the run log. What cannot be known is listed as such.

    Exits 0 if every record would arrive, 1 if some would fail or the guard would stop the run, 4 if a system cannot be
    reached.
    """
    import asyncio

    from speclab.cli.run import equip
    from speclab.spec.workspace import runlog_path
    from speclab.sync.plan import PlanOptions, build_plan

    prepared, references, context = equip(spec, approval(trust=trust))
    options = PlanOptions(full=full, limit=limit, lookups=lookups)
    made = asyncio.run(build_plan(prepared, runlog or runlog_path(prepared.workspace), references, context, options))
    if as_json:
        print_json(_json(made))
    else:
        for line in _lines(made):
            click.echo(line)
    click.get_current_context().exit(1 if made.faults or made.stops else 0)


def _lines(plan: Plan) -> Iterator[str]:
    """Render the plan as lines of text."""
    from speclab.sync.plan import PlannedEffect

    where = "from the checkpoint" if plan.resumed else "from the start of the source"
    yield f"{plan.spec_id}: a run would do this now, {where}"
    yield ""
    yield f"  {'read':<10}{plan.read:>9,}{'   and more, which were not read' if plan.cut else ''}"
    for would in (PlannedEffect.CREATE, PlannedEffect.UPDATE, PlannedEffect.DELETE):
        yield f"  {would:<10}{plan.effects[would]:>9,}"
    if plan.effects[PlannedEffect.SAME]:
        yield f"  {'send':<10}{plan.effects[PlannedEffect.SAME]:>9,}   though the target already has the same values"
    if plan.effects[PlannedEffect.UNKNOWN]:
        yield f"  {'write':<10}{plan.effects[PlannedEffect.UNKNOWN]:>9,}   create or update: cannot be known"
    yield f"  {'unchanged':<10}{plan.unchanged:>9,}"
    yield f"  {'filtered':<10}{plan.filtered:>9,}"
    yield f"  {'fail':<10}{sum(fault.count for fault in plan.faults):>9,}"
    if plan.waiting:
        yield f"\n  {plan.waiting:,} records in the retry queue are due and would be sent first"
    for fault in plan.faults:
        yield f"\n  {fault.count:,} would fail: {fault.place}: {fault.message}"
    for example in plan.examples:
        yield from _example(example)
    yield f"\n  source: {_calls(plan.source, 'page')}"
    yield f"  target: {_calls(plan.target, 'call')}"
    for alarm in plan.alarms:
        yield f"  {'the guard would stop the run' if alarm.stops else f'{alarm.level} of the guard'}: {alarm.message}"
    for note in plan.notes:
        yield f"  unknown: {note}"


def _example(example: PlanExample) -> Iterator[str]:
    yield f"\n  {example.effect} {example.key}"
    for change in example.changes[:_FIELDS]:
        was = f"{_short(change.was)} → " if change.was else ""
        yield f"    {change.field}: {was}{_short(change.becomes)}"
    if len(example.changes) > _FIELDS:
        yield f"    and {len(example.changes) - _FIELDS} more fields"


def _short(text: str) -> str:
    return text if len(text) <= _WIDTH else f"{text[: _WIDTH - 1]}…"


def _calls(pace: PlannedPace, name: str) -> str:
    from speclab.spec.units import format_duration

    count = format_count(pace.calls, name)
    if pace.at_least is None:
        return f"{count}; duration unknown, as the spec has no rate limit for it"
    return f"{count}; at least {format_duration(pace.at_least)} at the rate limit"


def _json(plan: Plan) -> Json:
    """Return the plan as JSON."""

    def pace(one: PlannedPace) -> Json:
        return {"calls": one.calls, "at_least": one.at_least}

    return {
        "spec_id": plan.spec_id,
        "resumed": plan.resumed,
        "cut": plan.cut,
        "read": plan.read,
        **{would.value: count for would, count in plan.effects.items()},
        "unchanged": plan.unchanged,
        "filtered": plan.filtered,
        "fail": sum(fault.count for fault in plan.faults),
        "waiting": plan.waiting,
        "faults": [{"count": one.count, "place": one.place, "message": one.message} for one in plan.faults],
        "examples": [
            {
                "would": one.effect.value,
                "key": one.key,
                "changes": [{"field": it.field, "was": it.was, "becomes": it.becomes} for it in one.changes],
            }
            for one in plan.examples
        ],
        "source": pace(plan.source),
        "target": pace(plan.target),
        "alarms": [{"level": one.level, "message": one.message, "stops": one.stops} for one in plan.alarms],
        "notes": list(plan.notes),
    }
