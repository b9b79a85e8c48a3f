"""Commands about what a spec connects to: `auth`, `fields` and `trust`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from speclab.cli.output import (
    complete_spec,
    json_option,
    print_error,
    print_json,
    print_message,
    print_rows,
    report,
    spec_argument,
)
from speclab.core.errors import SpecError, UsageError
from speclab.core.text import format_count

if TYPE_CHECKING:
    from speclab.connectors.api import DiscoveredSchema, RuntimeContext
    from speclab.connectors.auth.login import LoginPrompt
    from speclab.connectors.check import ConnectionCheck
    from speclab.connectors.secrets.references import References
    from speclab.connectors.trust import Approve, Wanted
    from speclab.core.json import JsonView, Record
    from speclab.mapping.fields import Field
    from speclab.spec.integration import Endpoint, Role

Function = TypeVar("Function", bound=Callable[..., object])


def trust_option(function: Function) -> Function:
    """Add `--trust`, for commands that connect, start programs or resolve secrets."""
    return click.option(
        "--trust",
        is_flag=True,
        help="Trust the spec for this command only (see speclab trust).",
    )(function)


def approval(*, trust: bool) -> Approve:
    """Return what decides about an untrusted spec: `--trust`, or the person at the terminal if there is one."""
    return (lambda _wanted: True) if trust else _ask


@click.command(short_help="List what a spec uses outside its workspace, and trust it.")
@click.argument("spec", required=False, shell_complete=complete_spec)
@click.option("--yes", is_flag=True, help="Trust without asking.")
@click.option("--revoke", is_flag=True, help="Revoke the trust.")
@json_option
def trust(spec: str | None, yes: bool, revoke: bool, as_json: bool) -> None:  # noqa: FBT001 - click hands flags by name
    """List the hosts, databases, commands, secrets and outside paths that SPEC uses, and ask whether to trust it.

    Commands that connect (run, plan, retry, auth, fields, up) need a trusted spec. The decision is stored for this
    user, outside the workspace, and holds until the spec uses more. Without SPEC, lists the specs in the current
    directory. This command connects to nothing, starts nothing and resolves no secrets.

    --yes trusts without asking. The option --trust of the other commands trusts once; the environment variable
    SPECLAB_TRUST=all trusts every spec, for example in a container.

    \b
    speclab trust crm
    speclab trust crm --yes
    speclab trust crm --revoke
    """  # noqa: D301 - click's mark for a paragraph that keeps its lines
    from speclab.spec.workspace import find_spec, find_specs

    if spec is None:
        if yes or revoke:
            raise UsageError("no spec given", hint="Name a spec; `speclab trust` lists them.")
        rows = [_row(found.path) for found in find_specs(Path()) if found.type == "integration"]
        _print_trust(rows, as_json=as_json)
        return
    path = find_spec(Path(), spec)
    if revoke:
        _revoke(path)
    else:
        _trust(path, yes=yes, as_json=as_json)


def _trust(path: Path, *, yes: bool, as_json: bool) -> None:
    """List what the spec uses, and trust it if the user agrees."""
    from speclab.connectors.trust import describe_reach, give_trust, read_wanted

    wanted = read_wanted(path)
    if as_json:
        print_json({**_row(path), "reaches": [describe_reach(reach) for reach in sorted(wanted.reaches)]})
    else:
        for reach in sorted(wanted.reaches):
            click.echo(f"{'  ' if str(reach) in wanted.granted else '+ '}{describe_reach(reach)}")
    if not wanted.reaches:
        print_message(f"{path} uses nothing outside its workspace and needs no trust.")
    elif not wanted.missing:
        print_message(f"{path} is trusted.")
    elif yes:
        give_trust(wanted)
        print_message(f"{path} is now trusted.")
    elif not (_has_person() and _ask(wanted, listed=True)):
        print_message(f"{path} is not trusted. Trust it with `speclab trust {path} --yes`.")
        click.get_current_context().exit(1)


def _revoke(path: Path) -> None:
    from speclab.connectors.trust import revoke_trust

    was_trusted = revoke_trust(path)
    print_message(f"{path} is no longer trusted." if was_trusted else f"{path} was not trusted.")


def _row(path: Path) -> dict[str, JsonView]:
    """Return the row of one spec."""
    from speclab.connectors.trust import read_wanted

    try:
        wanted = read_wanted(path)
    except SpecError as error:
        return {
            "spec": str(path),
            "trust": "unknown",
            "uses": None,
            "why": str(error.problems[0] if error.problems else error),
        }
    new = len(wanted.missing)
    state = "not needed" if not wanted.reaches else "trusted" if not new else "changed" if wanted.granted else "none"
    return {
        "spec": str(path),
        "trust": state,
        "uses": len(wanted.reaches),
        "why": f"{format_count(new, 'new use')}" if new else "",
    }


def _print_trust(rows: list[dict[str, JsonView]], *, as_json: bool) -> None:
    if as_json:
        for row in rows:
            print_json(row)
    elif rows:
        print_rows(rows, ("spec", "trust", "uses", "why"))
    else:
        print_message("No specs found.")


def _has_person() -> bool:
    return sys.stdin.isatty() and sys.stderr.isatty()


def _ask(wanted: Wanted, *, listed: bool = False) -> bool:
    """Show the person at the terminal what the spec uses, and store the trust if they agree."""
    import os

    from speclab.connectors.trust import describe_reach, give_trust

    if not _has_person():
        return False
    path = os.path.relpath(wanted.spec)
    if not listed:
        print_message(f"{path} uses{' more than you trusted' if wanted.granted else ''}:")
        for reach in wanted.missing:
            print_message(f"  {describe_reach(reach)}")
    if not click.confirm(f"Do you trust {path} to use this?", err=True):
        return False
    give_trust(wanted)
    return True


ROLES: tuple[Role, ...] = ("source", "target")


@click.command(short_help="Check the credentials, and log in.")
@spec_argument
@click.argument("end", type=click.Choice(ROLES), required=False)
@click.option("--renew", is_flag=True, help="Request a new token or log in again even if the stored one is valid.")
@click.option("--browser/--no-browser", default=True, help="Open the login page in a browser, if there is one.")
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
    """Check the credentials of SPEC's source and target, or of one of them.

    Resolves the secrets, requests a token if one is needed, and makes the cheapest request that needs the credentials:
    the source's first page, a lookup at the target. Nothing is written. Where a person has to log in, the page to open
    is shown, and the login is stored for later runs.

    Exits 0 if connected, 3 if a secret cannot be resolved, 4 if a system refuses or cannot be reached.
    """
    import asyncio

    from speclab.connectors.trust import this_machine
    from speclab.core.processes import Hangup
    from speclab.spec.document import Document
    from speclab.spec.parser import read_endpoint

    Hangup()
    document = Document.load(spec)
    ends = [read_endpoint(document, role) for role in ([end] if end else ROLES)]
    approve = approval(trust=trust)
    this_machine(spec, ends, approve)  # asks once for both
    codes = []
    for found in ends:
        machine = this_machine(spec, [found], approve, report)
        access = asyncio.run(_tried(found, *machine, renew=renew, browser=browser))
        if as_json:
            print_json(_connection_row(found, access))
        else:
            _print_check(found, access)
        if access.error is not None and not as_json:
            print_error(access.error)
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
    """Print a login prompt to standard error and, where there is a browser, open its page."""
    from speclab.connectors.auth.oauth2 import has_browser, open_browser
    from speclab.spec.settings_types import format_duration

    minutes = format_duration(prompt.seconds)
    if prompt.code:
        print_message(f"{role}: open {prompt.url} on any device and enter the code {prompt.code}, within {minutes}")
        if prompt.direct:
            print_message(f"  or open {prompt.direct}")
    else:
        print_message(f"{role}: log in within {minutes} at\n  {prompt.url}")
    if browser and has_browser() and sys.stderr.isatty():
        open_browser(prompt.direct or prompt.url)


def _print_check(end: Endpoint, access: ConnectionCheck) -> None:
    click.echo(f"{end.role}: {end.system.connector}, {end.login}")
    if access.references:
        click.echo(f"  secrets  {', '.join(access.references)}")
    if access.token is not None:
        until = access.token_expires_at
        expires = f"expires at {until}" if until else "expiry unknown"
        click.echo(f"  token    {'new' if access.is_new else 'stored'}, {expires}")
    if access.request:
        click.echo(f"  request  {access.request}")
    click.echo(f"  {'connected' if access.granted else 'refused'}")


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


@click.command(short_help="List the fields of a system with their types.")
@spec_argument
@click.argument("end", type=click.Choice(ROLES))
@click.option(
    "--limit", type=click.IntRange(min=1), default=500, show_default=True, help="Maximum number of records to read."
)
@trust_option
@json_option
def fields(spec: Path, end: Role, limit: int, trust: bool, as_json: bool) -> None:  # noqa: FBT001 - click hands flags by name
    """List the fields of SPEC's source or target system with their types. Nothing is written.

    A database reports its columns, a Singer tap its schema; of other systems the first records are read. `share` is the
    share of these records that have the field, `example` one of its values. An HTTP target needs a `read` setting.

    Exits 0 if the fields are known, 1 if not, 4 if the system refuses or cannot be reached.
    """
    import asyncio

    found = asyncio.run(_described(spec, end, limit, approval(trust=trust)))
    if as_json:
        for field in found.fields:
            print_json({"end": end, **_field_row(field)})
        return
    print_rows(map(_shown, found.fields), ("field", "type", "required", "share", "example"))
    print_message(f"{end}: {format_count(len(found.fields), 'field')}, from {found.origin}")


async def _described(spec: Path, role: Role, limit: int, approve: Approve) -> DiscoveredSchema:
    from speclab.connectors.check import discover_schema
    from speclab.connectors.trust import this_machine
    from speclab.spec.document import Document
    from speclab.spec.parser import read_endpoint

    end = read_endpoint(Document.load(spec), role)
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
    """Return the type as the system names it, or the kinds of values found."""
    return field.declared or " or ".join(str(kind.name).lower() for kind in field.kind)
