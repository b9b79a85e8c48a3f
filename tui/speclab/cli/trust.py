"""`speclab trust`, the option `--trust`, and the question before a spec uses anything outside its workspace."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from speclab.cli.arguments import complete_spec
from speclab.cli.output import json_option, print_json, print_message, print_rows
from speclab.core.errors import SpecError, UsageError
from speclab.core.text import format_count

if TYPE_CHECKING:
    from speclab.connectors.trust import Approve, Wanted
    from speclab.core.json import JsonView

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
        _print(rows, as_json=as_json)
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


def _print(rows: list[dict[str, JsonView]], *, as_json: bool) -> None:
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
