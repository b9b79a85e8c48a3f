"""The `speclab` command itself: what it is called with decides between a subcommand and the app on a directory."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from speclab import __version__
from speclab.core.errors import UsageError

_COMMANDS = {
    "demo": "speclab.cli.app:demo",
    "new": "speclab.cli.specs:new",
    "lint": "speclab.cli.specs:lint",
    "show": "speclab.cli.specs:show",
    "set": "speclab.cli.specs:set_",
    "map": "speclab.cli.specs:map_",
    "fields": "speclab.cli.systems:fields",
    "trust": "speclab.cli.trust:trust",
    "auth": "speclab.cli.systems:auth",
    "plan": "speclab.cli.plan:plan",
    "run": "speclab.cli.run:run",
    "up": "speclab.cli.service:up",
    "cancel": "speclab.cli.run:cancel",
    "pause": "speclab.cli.service:pause",
    "resume": "speclab.cli.service:resume",
    "status": "speclab.cli.runlog:status",
    "runs": "speclab.cli.runlog:runs",
    "failures": "speclab.cli.runlog:failures",
    "retry": "speclab.cli.retry:retry",
    "discard": "speclab.cli.retry:discard",
    "watch": "speclab.cli.watch:watch",
    "completion": "speclab.cli.completion:completion",
}
_APP = "speclab.cli.app:open_app"


class SeenEnough(Exception):
    """Whoever reads our output has closed it."""


class SpeclabGroup(click.Group):
    """A group whose commands are imported when they are asked for, and whose default is the app."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """The commands in the order a newcomer needs them."""
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """The command of that name, imported now."""
        if cmd_name not in _COMMANDS:
            return None
        return _load(_COMMANDS[cmd_name])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that `args` start with; where they start with a directory, the app on it."""
        name = args[0]
        if name in _COMMANDS:
            return super().resolve_command(ctx, args)
        if not name.startswith("-") and not Path(name).is_dir():
            raise UsageError(f"there is no command and no directory {name!r}", hint=_nearest(name))
        return "speclab", _load(_APP), args

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: object
    ) -> click.Context:
        """Read `args`; where they ask for help, it is printed here."""
        with _to_a_reader():
            return super().make_context(info_name, args, parent, **extra)

    def invoke(self, ctx: click.Context) -> object:
        """Do it."""
        with _to_a_reader():
            return super().invoke(ctx)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """`speclab` alone, and `speclab --read-only`, open the app here."""
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
    """The spec is the integration: edit it, map it, run it and watch it run, in a terminal.

    Without a command, the app opens on the specs in DIR (default: here); `speclab . --help` tells its options.
    """


@contextmanager
def _to_a_reader() -> Iterator[None]:
    """A reader of our output that has seen enough (`| head`) is no error, as click would have it."""
    try:
        yield
    except BrokenPipeError as error:
        raise SeenEnough from error


def _load(where: str) -> click.Command:
    module, _, name = where.partition(":")
    command: click.Command = getattr(importlib.import_module(module), name)
    return command


def _nearest(name: str) -> str:
    from rapidfuzz import process

    found = process.extractOne(name, list(_COMMANDS), score_cutoff=60)
    return f"Did you mean 'speclab {found[0]}'?" if found else "'speclab --help' lists the commands."
