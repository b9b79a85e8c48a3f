"""The command line: one thin module a command group, over the same library that the app uses.

Data goes to stdout and talk to stderr. Exit codes: 0 well, 1 problems found or a run not fully successful, 2 wrong
usage, 3 a spec that cannot run, 4 a system cannot be reached or refuses the credentials, 130 interrupted.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import NoReturn

import click

from speclab.cli.group import SeenEnough, speclab
from speclab.cli.output import tell_error
from speclab.errors import SpeclabError

INTERRUPTED = 130


def main(args: Sequence[str] | None = None) -> NoReturn:
    """Run the command line `args` (default: the process's own) and exit with its code."""
    try:
        code = speclab.main(args, prog_name="speclab", standalone_mode=False)
        sys.stdout.flush()
    except SpeclabError as error:
        tell_error(error)
        code = error.exit_code
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        code = INTERRUPTED
    except (SeenEnough, BrokenPipeError):
        # Python would complain once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    sys.exit(code if isinstance(code, int) else 0)
