"""`speclab completion`: the script that teaches a shell to complete our commands and specs."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

SHELLS = ("bash", "zsh", "fish")


@click.command(short_help="Print the completion script for a shell.")
@click.argument("shell", type=click.Choice(SHELLS))
def completion(shell: str) -> None:
    """Print the completion script for SHELL.

    For bash: `speclab completion bash > ~/.local/share/bash-completion/completions/speclab`
    """
    from speclab.cli.group import speclab

    kind = get_completion_class(shell)
    assert kind is not None  # noqa: S101 - the choice above lists what click has
    click.echo(kind(speclab, {}, "speclab", "_SPECLAB_COMPLETE").source())
