"""`speclab auth`: tries the credentials of each end, says what happened, and logs a person in where it takes one."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from speclab.cli.output import json_option, print_json, report, tell, tell_error
from speclab.cli.place import spec_argument
from speclab.cli.trust import approval, trust_option

if TYPE_CHECKING:
    from speclab.connectors import Access, References
    from speclab.connectors.auth.login import Prompt
    from speclab.connectors.base import Seams
    from speclab.jsonvalue import Record
    from speclab.spec.integration import End, Role

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

    from speclab.connectors import this_machine
    from speclab.hangup import Hangup
    from speclab.spec.document import Document
    from speclab.spec.read import read_end

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
            print_json(_row(found, access))
        else:
            _print(found, access)
        if access.error is not None and not as_json:
            tell_error(access.error)
        codes.append(access.error.exit_code if access.error is not None else 0)
    click.get_current_context().exit(max(codes))


async def _tried(end: End, references: References, seams: Seams, *, renew: bool, browser: bool) -> Access:
    from speclab.connectors import try_access

    def show(prompt: Prompt) -> None:
        _show(prompt, end.role, browser=browser)

    return await try_access(end, references, seams, show=show, renew=renew)


def _show(prompt: Prompt, role: Role, *, browser: bool) -> None:
    """Put a prompt on stderr and, where a person sits at a browser, open its page there."""
    from speclab.connectors.auth.browser import has_browser, open_page
    from speclab.spec.units import duration_text

    minutes = duration_text(prompt.seconds)
    if prompt.code:
        tell(f"{role}: open {prompt.url} on any device and enter the code {prompt.code}, within {minutes}")
        if prompt.direct:
            tell(f"  with the code in it: {prompt.direct}")
    else:
        tell(f"{role}: log in within {minutes} at\n  {prompt.url}")
    if browser and has_browser() and sys.stderr.isatty():
        open_page(prompt.direct or prompt.url)


def _print(end: End, access: Access) -> None:
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


def _row(end: End, access: Access) -> Record:
    from speclab.errors import SystemFailure

    error = access.error
    return {
        "end": end.role,
        "connector": end.system.connector,
        "auth": end.login,
        "granted": access.granted,
        "references": list(access.references),
        "token": None if access.token is None else ("new" if access.is_new else "kept"),
        "token_expires_at": access.token_expires_at,
        "request": access.request or (error.request if isinstance(error, SystemFailure) else ""),
        "response": error.response if isinstance(error, SystemFailure) else "",
        "error": None if error is None else error.message,
        "hint": "" if error is None else error.hint,
    }
