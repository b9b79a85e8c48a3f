"""Command lines of speclab's own processes. Every process that runs Python is started with one of these.

`python -m` puts the working directory first on `sys.path`, so that a `click.py` in a workspace would be imported in
place of the installed package. `-P` (Python 3.11) leaves the working directory out.
"""

from __future__ import annotations

import sys


def speclab_command(*arguments: str) -> tuple[str, ...]:
    """Return the command line of `speclab ARGUMENTS...`."""
    return module_command("speclab", *arguments)


def module_command(module: str, *arguments: str) -> tuple[str, ...]:
    """Return the command line that runs an installed `module`, without the working directory on `sys.path`."""
    return (sys.executable, "-P", "-m", module, *arguments)
