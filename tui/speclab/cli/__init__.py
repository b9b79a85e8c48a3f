"""The command line: thin commands over the library that the app uses, one module for each group of them.

Data goes to standard output, messages to standard error. Exit codes: 0 success, 1 problems found or a run not fully
successful, 2 usage error, 3 a spec cannot run, 4 a system cannot be reached or refuses the credentials, 130
interrupted.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import NoReturn

import click

from speclab.cli.group import OutputClosed, speclab
from speclab.cli.output import STDOUT, end_output, open_streams, print_error, print_message, print_os_error
from speclab.core.errors import SpeclabError, UsageError

INTERRUPTED = 130


def main(args: Sequence[str] | None = None) -> NoReturn:
    """Run the command line `args` (default: the process's own) and exit with its code."""
    open_streams()
    try:
        code = speclab.main(args, prog_name="speclab", standalone_mode=False)
    except SpeclabError as error:
        print_error(error)
        code = error.exit_code
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except (click.Abort, KeyboardInterrupt):
        print_message("interrupted")
        code = INTERRUPTED
    except OutputClosed:
        code = 0
    except OSError as error:
        if error.filename is None:
            if not _has_current_directory():
                print_error(UsageError("the current directory was removed", hint="Change to a directory that exists."))
                sys.exit(max(UsageError.exit_code, end_output()))
            raise
        code = 1
        if error.filename != STDOUT:  # `end_output` reports that one
            print_os_error(error)
    sys.exit(max(code if isinstance(code, int) else 0, end_output()))


def _has_current_directory() -> bool:
    """Return whether the current directory still exists."""
    try:
        os.getcwd()  # noqa: PTH109 (`Path.cwd` does the same)
    except FileNotFoundError:
        return False
    return True
