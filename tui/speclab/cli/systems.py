"""Commands that ask one system: `auth` and `fields`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from speclab.cli.arguments import spec_argument
from speclab.cli.output import json_option, print_json, print_rows, report, tell, tell_error
from speclab.cli.trust import approval, trust_option
from speclab.core.text import format_count

if TYPE_CHECKING:
    from speclab.connectors.api import DiscoveredSchema, RuntimeContext
    from speclab.connectors.auth.login import LoginPrompt
    from speclab.connectors.check import ConnectionCheck
    from speclab.connectors.secrets.references import References
    from speclab.connectors.trust import Approve
    from speclab.core.json import JsonView, Record
    from speclab.mapping.fields import Field
    from speclab.spec.integration import Endpoint, Role


ROLES: tuple[Role, ...] = ("source", "target")


@click.command(short_help="Try the credentials, and log in.")
@spec_argument
@click.argument("end", type=click.Choice(ROLES), required=False)
@click.option("--renew", is_flag=True, help="Get a new token or log in anew, though what is kept is still good.")
@click.option("--browser/--no-browser", default=True, help="Open the login page in a browser, where there is one.")
@trust_option
@json_option
def auth(
    spec: Path,
    end: Role | None,
    renew: bool,  # noqa: FBT001 - click hands flags by name
    browser: bool,  # noqa: FBT001
    trust: bool,  # noqa: FBT001
    as_json: bool,  # noqa: FBT001
) -> None:
    """Try the credentials of SPEC's source and target, or of one END, and say how far they go.

    What they refer to is resolved, a token is got where they take one, and the cheapest request is made that needs
    them: the source's first page, a look at the target. Nothing is written. Where a person has to log in, a page to
    open is shown, and the login is kept for the runs to come.

    Exits 0 if both let us in, 3 if a reference names nothing, 4 if one refuses or cannot be reached.
    """
    import asyncio

    from speclab.connectors.machine import this_machine
    from speclab.core.processes import Hangup
    from speclab.spec.document import Document
    from speclab.spec.parser import read_end

    Hangup()
    document = Document.load(spec)
    ends = [read_end(document, role) for role in ([end] if end else ROLES)]
    approve = approval(trust=trust)
    this_machine(spec, ends, approve)  # asks once about both
    codes = []
    for found in ends:
        machine = this_machine(spec, [found], approve, report)
        access = asyncio.run(_tried(found, *machine, renew=renew, browser=browser))
        if as_json:
            print_json(_connection_row(found, access))
        else:
            _print(found, access)
        if access.error is not None and not as_json:
            tell_error(access.error)
        codes.append(access.error.exit_code if access.error is not None else 0)
    click.get_current_context().exit(max(codes))


async def _tried(
    end: Endpoint, references: References, context: RuntimeContext, *, renew: bool, browser: bool
) -> ConnectionCheck:
    from speclab.connectors.check import check_connection

    def show(prompt: LoginPrompt) -> None:
        _show(prompt, end.role, browser=browser)

    return await check_connection(end, references, context, show=show, renew=renew)


def _show(prompt: LoginPrompt, role: Role, *, browser: bool) -> None:
    """Put a prompt on stderr and, where a person sits at a browser, open its page there."""
    from speclab.connectors.auth.oauth2 import has_browser, open_browser
    from speclab.spec.units import format_duration

    minutes = format_duration(prompt.seconds)
    if prompt.code:
        tell(f"{role}: open {prompt.url} on any device and enter the code {prompt.code}, within {minutes}")
        if prompt.direct:
            tell(f"  with the code in it: {prompt.direct}")
    else:
        tell(f"{role}: log in within {minutes} at\n  {prompt.url}")
    if browser and has_browser() and sys.stderr.isatty():
        open_browser(prompt.direct or prompt.url)


def _print(end: Endpoint, access: ConnectionCheck) -> None:
    click.echo(f"{end.role}: {end.system.connector}, {end.login}")
    if access.references:
        click.echo(f"  names    {', '.join(access.references)}")
    if access.token is not None:
        until = access.token_expires_at
        good = f"good until {until}" if until else "the server does not say until when it is good"
        click.echo(f"  token    {'new' if access.is_new else 'kept'}, {good}")
    if access.request:
        click.echo(f"  request  {access.request}")
    click.echo(f"  {'let in' if access.granted else 'not let in'}")


def _connection_row(end: Endpoint, access: ConnectionCheck) -> Record:
    from speclab.core.errors import EndpointError

    error = access.error
    return {
        "end": end.role,
        "connector": end.system.connector,
        "auth": end.login,
        "granted": access.granted,
        "references": list(access.references),
        "token": None if access.token is None else ("new" if access.is_new else "kept"),
        "token_expires_at": access.token_expires_at,
        "request": access.request or (error.request if isinstance(error, EndpointError) else ""),
        "response": error.response if isinstance(error, EndpointError) else "",
        "error": None if error is None else error.message,
        "hint": "" if error is None else error.hint,
    }


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
            print_json({"end": end, **_field_row(field)})
        return
    print_rows(map(_shown, found.fields), ("field", "type", "required", "share", "example"))
    tell(f"{end}: {format_count(len(found.fields), 'field')}, by {found.origin}")


async def _described(spec: Path, role: Role, limit: int, approve: Approve) -> DiscoveredSchema:
    from speclab.connectors.machine import this_machine
    from speclab.connectors.schema_discovery import discover_schema
    from speclab.spec.document import Document
    from speclab.spec.parser import read_end

    end = read_end(Document.load(spec), role)
    references, context = this_machine(spec, [end], approve, report)
    return await discover_schema(end, references, context, limit)


def _field_row(field: Field) -> dict[str, JsonView]:
    return {
        "field": str(field.path),
        "type": _type(field),
        "required": field.required,
        "share": field.share,
        "example": field.values[0] if field.values else None,
    }


def _shown(field: Field) -> dict[str, JsonView]:
    from speclab.mapping.types import format_value

    share = None if field.share is None else f"{field.share:.0%}"
    example = format_value(field.values[0]) if field.values else None
    return {**_field_row(field), "required": "yes" if field.required else None, "share": share, "example": example}


def _type(field: Field) -> str:
    """Its type as the system calls it, or else the kinds of values that were seen."""
    return field.declared or " or ".join(str(kind.name).lower() for kind in field.kind)
