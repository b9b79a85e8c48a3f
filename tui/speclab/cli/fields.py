"""`speclab fields`: what fields the source or the target has, with types, how many records have each, and a value."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from speclab.cli.auth import ROLES
from speclab.cli.output import json_option, print_json, print_rows, report, tell
from speclab.cli.place import spec_argument
from speclab.cli.trust import approval, trust_option
from speclab.plural import plural

if TYPE_CHECKING:
    from speclab.connectors.base import Description
    from speclab.connectors.trust import Approve
    from speclab.jsonvalue import JsonView
    from speclab.mapping.fields import Field
    from speclab.spec.integration import Role


@click.command(short_help="Say what fields a system has, with types.")
@spec_argument
@click.argument("end", type=click.Choice(ROLES))
@click.option(
    "--limit", type=click.IntRange(min=1), default=500, show_default=True, help="How many records to look at."
)
@trust_option
@json_option
def fields(spec: Path, end: Role, limit: int, trust: bool, as_json: bool) -> None:  # noqa: FBT001 - click hands flags by name
    """Say what fields the system at one END of SPEC has, with their types; nothing is written.

    A database tells its columns, a Singer tap its schema; of other systems the first records are read. `share` is the
    part of the records looked at that have the field, and `example` one of its values. A target over HTTP needs a
    `read` setting for that.

    Exits 0 if it can be known, 1 if not, 4 if the system refuses or cannot be reached.
    """
    import asyncio

    found = asyncio.run(_described(spec, end, limit, approval(trust=trust)))
    if as_json:
        for field in found.fields:
            print_json({"end": end, **_row(field)})
        return
    print_rows(map(_shown, found.fields), ("field", "type", "required", "share", "example"))
    tell(f"{end}: {plural(len(found.fields), 'field')}, by {found.origin}")


async def _described(spec: Path, role: Role, limit: int, approve: Approve) -> Description:
    from speclab.connectors import describe, this_machine
    from speclab.spec.document import Document
    from speclab.spec.read import read_end

    end = read_end(Document.load(spec), role)
    references, seams = this_machine(spec, [end], approve, report)
    return await describe(end, references, seams, limit)


def _row(field: Field) -> dict[str, JsonView]:
    return {
        "field": str(field.path),
        "type": _type(field),
        "required": field.required,
        "share": field.share,
        "example": field.values[0] if field.values else None,
    }


def _shown(field: Field) -> dict[str, JsonView]:
    from speclab.mapping.kinds import show

    share = None if field.share is None else f"{field.share:.0%}"
    example = show(field.values[0]) if field.values else None
    return {**_row(field), "required": "yes" if field.required else None, "share": share, "example": example}


def _type(field: Field) -> str:
    """Its type as the system calls it, or else the kinds of values that were seen."""
    return field.declared or " or ".join(str(kind.name).lower() for kind in field.kind)
