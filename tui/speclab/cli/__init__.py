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
from speclab.cli.output import STDOUT, end_output, open_streams, tell, tell_error, tell_os_error
from speclab.core.errors import SpeclabError, UsageError

INTERRUPTED = 130


def main(args: Sequence[str] | None = None) -> NoReturn:
    """Run the command line `args` (default: the process's own) and exit with its code."""
    open_streams()
    try:
        code = speclab.main(args, prog_name="speclab", standalone_mode=False)
    except SpeclabError as error:
        tell_error(error)
        code = error.exit_code
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except (click.Abort, KeyboardInterrupt):
        tell("interrupted")
        code = INTERRUPTED
    except SeenEnough:
        code = 0
    except OSError as error:
        if error.filename is None:
            if not _is_here():
                tell_error(UsageError("the current directory was removed", hint="Change to a directory that exists."))
                sys.exit(max(UsageError.exit_code, end_output()))
            raise
        code = 1
        if error.filename != STDOUT:  # of that we tell when we end
            tell_os_error(error)
    sys.exit(max(code if isinstance(code, int) else 0, end_output()))


def _is_here() -> bool:
    """Return whether the current directory still exists."""
    try:
        os.getcwd()  # noqa: PTH109 (`Path.cwd` does the same)
    except FileNotFoundError:
        return False
    return True
