"""The group of all commands, loaded when they are called, and shell completion."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from click.shell_completion import get_completion_class

from speclab import __version__
from speclab.core.errors import UsageError

SHELLS = ("bash", "zsh", "fish")


@click.command(short_help="Print the completion script for a shell.")
@click.argument("shell", type=click.Choice(SHELLS))
def completion(shell: str) -> None:
    """Print a shell script that completes commands, options and specs.

    \b
    bash  speclab completion bash > ~/.local/share/bash-completion/completions/speclab
    zsh   speclab completion zsh > DIR/_speclab, where DIR is in $fpath
    fish  speclab completion fish > ~/.config/fish/completions/speclab.fish
    """  # noqa: D301 - click's mark for a paragraph that keeps its lines
    kind = get_completion_class(shell)
    assert kind is not None  # noqa: S101 - the choice above lists what click has
    click.echo(kind(speclab, {}, "speclab", "_SPECLAB_COMPLETE").source())


_COMMANDS = {
    "demo": "speclab.cli.app:demo",
    "new": "speclab.cli.specs:new",
    "lint": "speclab.cli.specs:lint",
    "show": "speclab.cli.specs:show",
    "set": "speclab.cli.specs:set_",
    "decompose": "speclab.cli.lifecycle:decompose",
    "approve": "speclab.cli.lifecycle:approve",
    "map": "speclab.cli.specs:map_",
    "fields": "speclab.cli.systems:fields",
    "trust": "speclab.cli.systems:trust",
    "auth": "speclab.cli.systems:auth",
    "plan": "speclab.cli.run:plan",
    "run": "speclab.cli.run:run",
    "verify": "speclab.cli.verify:verify",
    "reconcile": "speclab.cli.verify:reconcile",
    "up": "speclab.cli.service:up",
    "cancel": "speclab.cli.run:cancel",
    "pause": "speclab.cli.service:pause",
    "resume": "speclab.cli.service:resume",
    "alerts": "speclab.cli.alerts:alerts",
    "status": "speclab.cli.runlog:status",
    "runs": "speclab.cli.runlog:runs",
    "logs": "speclab.cli.diagnose:logs",
    "failures": "speclab.cli.runlog:failures",
    "retry": "speclab.cli.runlog:retry",
    "discard": "speclab.cli.runlog:discard",
    "log": "speclab.cli.report:log",
    "wrap": "speclab.cli.report:wrap",
    "watch": "speclab.cli.service:watch",
    "doctor": "speclab.cli.diagnose:doctor",
    "completion": "speclab.cli.group:completion",
}
_APP = "speclab.cli.app:open_app"


class OutputClosed(Exception):
    """The reader of standard output has closed it."""


class SpeclabGroup(click.Group):
    """A group that imports a command when it is used, and opens the app by default."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Return the command names in the order a new user needs them."""
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Import and return the command of that name."""
        if cmd_name not in _COMMANDS:
            return None
        return _load(_COMMANDS[cmd_name])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command that `args` start with, or the app where they start with a directory."""
        name = args[0]
        if name in _COMMANDS:
            return super().resolve_command(ctx, args)
        if not name.startswith("-") and not Path(name).is_dir():
            raise UsageError(f"no such command or directory: {name!r}", hint=_suggest_command(name))
        return "speclab", _load(_APP), args

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: object
    ) -> click.Context:
        """Parse `args`; prints the help they ask for."""
        with _raise_output_closed():
            return super().make_context(info_name, args, parent, **extra)

    def invoke(self, ctx: click.Context) -> object:
        """Run the command."""
        with _raise_output_closed():
            return super().invoke(ctx)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse `args`; without a command they are those of the app, on the current directory."""
        own = {name for parameter in self.get_params(ctx) for name in parameter.opts}
        if not ctx.resilient_parsing and (not args or (args[0].startswith("-") and args[0] not in own)):
            args = [".", *args]
        return super().parse_args(ctx, args)


@click.group(
    cls=SpeclabGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100, "color": True},
    options_metavar="[DIR]",
    subcommand_metavar="| COMMAND [ARGS]...",
)
@click.version_option(__version__, message="speclab %(version)s")
def speclab() -> None:
    """Edit, map, run and monitor integrations, each defined by one Markdown spec.

    Without a command, opens the app on the specs in DIR (default: current directory). Its options: `speclab . --help`.
    """


@contextmanager
def _raise_output_closed() -> Iterator[None]:
    """Raise `OutputClosed` for a broken pipe (`| head`), which click would treat as an error."""
    try:
        yield
    except BrokenPipeError as error:
        raise OutputClosed from error


def _load(reference: str) -> click.Command:
    module, _, name = reference.partition(":")
    command: click.Command = getattr(importlib.import_module(module), name)
    return command


def _suggest_command(name: str) -> str:
    from rapidfuzz import process

    found = process.extractOne(name, list(_COMMANDS), score_cutoff=60)
    return f"Did you mean 'speclab {found[0]}'?" if found else "'speclab --help' lists the commands."
