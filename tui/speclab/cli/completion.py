"""`speclab completion`: the completion script for a shell."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

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
    from speclab.cli.group import speclab

    kind = get_completion_class(shell)
    assert kind is not None  # noqa: S101 - the choice above lists what click has
    click.echo(kind(speclab, {}, "speclab", "_SPECLAB_COMPLETE").source())
