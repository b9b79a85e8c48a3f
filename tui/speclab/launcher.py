"""Child processes: the command lines of speclab's own, and which of them end with this process.

`python -m` puts the working directory first on `sys.path`, so that a `click.py` in a workspace would be imported in
place of the installed package. `-P` (Python 3.11) leaves the working directory out.

Runs and the service go on without the process that started them. Everything else that is started is attached to it.
"""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from typing import Final


def speclab_command(*arguments: str) -> tuple[str, ...]:
    """Return the command line of `speclab ARGUMENTS...`."""
    return module_command("speclab", *arguments)


def module_command(module: str, *arguments: str) -> tuple[str, ...]:
    """Return the command line that runs an installed `module`, without the working directory on `sys.path`."""
    return (sys.executable, "-P", "-m", module, *arguments)


_ATTACHED: Final[set[int]] = set()
"""Children that end with this process."""


def attach(pid: int) -> None:
    """Let the child `pid`, and the process group that it leads, be killed where this process cannot wait for it."""
    _ATTACHED.add(pid)


def detach(pid: int) -> None:
    """Forget the child `pid`: it ended."""
    _ATTACHED.discard(pid)


def kill_attached() -> None:
    """Kill the attached children."""
    for pid in tuple(_ATTACHED):
        with suppress(ProcessLookupError, PermissionError):  # it has ended; macOS says so of zombies
            kill = os.killpg if os.getpgid(pid) == pid else os.kill
            kill(pid, signal.SIGKILL)
