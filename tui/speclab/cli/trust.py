"""`speclab trust`, the option `--trust`, and the question before a spec uses anything outside of its workspace."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from speclab.cli.arguments import complete_spec
from speclab.cli.output import json_option, print_json, print_rows, tell
from speclab.core.errors import SpecError, UsageError
from speclab.core.text import format_count

if TYPE_CHECKING:
    from speclab.connectors.trust import Approve, Wanted
    from speclab.core.json import JsonView

Function = TypeVar("Function", bound=Callable[..., object])


def trust_option(function: Function) -> Function:
    """`--trust`, for commands that connect, start programs or resolve secrets."""
    return click.option(
        "--trust",
        is_flag=True,
        help="Let the spec use all that it names outside of its workspace, for this command alone (see speclab trust).",
    )(function)


def approval(*, trust: bool) -> Approve:
    """What decides about a spec that is not trusted yet: `--trust`, or a person at a terminal, or nobody."""
    return (lambda _wanted: True) if trust else _ask


@click.command(short_help="List what a spec uses outside of its workspace, and trust it.")
@click.argument("spec", required=False, shell_complete=complete_spec)
@click.option("--yes", is_flag=True, help="Trust it without asking.")
@click.option("--revoke", is_flag=True, help="Forget that it is trusted.")
@json_option
def trust(spec: str | None, yes: bool, revoke: bool, as_json: bool) -> None:  # noqa: FBT001 - click hands flags by name
    """List the hosts, databases, commands, references and outside paths that SPEC uses, and ask whether it may.

    A run, a plan, a retry, a test of credentials and a look at fields need that decision. It is kept for this user,
    outside of the workspace, and holds until the spec uses more. Without SPEC, list all specs here. Nothing is
    connected, started or resolved by this.

    --yes agrees without a question; so does the option --trust of the other commands, for once, and the environment
    variable SPECLAB_TRUST=all for every spec, such as in a container.

    \b
    speclab trust crm
    speclab trust crm --yes
    speclab trust crm --revoke
    """  # noqa: D301 - click's mark for a paragraph that keeps its lines
    from speclab.spec.workspace import find_spec, find_specs

    if spec is None:
        if yes or revoke:
            raise UsageError("which spec?", hint="Name one; `speclab trust` lists them.")
        rows = [_row(found.path) for found in find_specs(Path()) if found.type == "integration"]
        _print(rows, as_json=as_json)
        return
    path = find_spec(Path(), spec)
    if revoke:
        _revoke(path)
    else:
        _give(path, yes=yes, as_json=as_json)


def _give(path: Path, *, yes: bool, as_json: bool) -> None:
    """List what the spec uses, and agree to it where that is wanted."""
    from speclab.connectors.trust import describe_reach, give_trust, read_wanted

    wanted = read_wanted(path)
    if as_json:
        print_json({**_row(path), "reaches": [describe_reach(reach) for reach in sorted(wanted.reaches)]})
    else:
        for reach in sorted(wanted.reaches):
            click.echo(f"{'  ' if str(reach) in wanted.granted else '+ '}{describe_reach(reach)}")
    if not wanted.reaches:
        tell(f"{path} uses nothing outside of its workspace, and needs no trust.")
    elif not wanted.missing:
        tell(f"{path} is trusted.")
    elif yes:
        give_trust(wanted)
        tell(f"{path} is trusted now.")
    elif not (_has_person() and _ask(wanted, listed=True)):
        tell(f"{path} is not trusted; `speclab trust {path} --yes` trusts it.")
        click.get_current_context().exit(1)


def _revoke(path: Path) -> None:
    from speclab.connectors.trust import revoke_trust

    was = revoke_trust(path)
    tell(f"{path} is not trusted {'any more' if was else 'and was not before'}.")


def _row(path: Path) -> dict[str, JsonView]:
    """How it stands with one spec."""
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
        "why": f"{format_count(new, 'thing')} new" if new else "",
    }


def _print(rows: list[dict[str, JsonView]], *, as_json: bool) -> None:
    if as_json:
        for row in rows:
            print_json(row)
    elif rows:
        print_rows(rows, ("spec", "trust", "uses", "why"))
    else:
        tell("There is no spec here.")


def _has_person() -> bool:
    return sys.stdin.isatty() and sys.stderr.isatty()


def _ask(wanted: Wanted, *, listed: bool = False) -> bool:
    """Show what the spec uses to the person at the terminal and keep what they agree to."""
    import os

    from speclab.connectors.trust import describe_reach, give_trust

    if not _has_person():
        return False
    path = os.path.relpath(wanted.spec)
    if not listed:
        tell(f"{path} uses{' more than you agreed to' if wanted.granted else ''}:")
        for reach in wanted.missing:
            tell(f"  {describe_reach(reach)}")
    if not click.confirm(f"Do you trust {path} to use this?", err=True):
        return False
    give_trust(wanted)
    return True
