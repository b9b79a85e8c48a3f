"""Child processes: command lines, and ending them when the terminal closes."""

from __future__ import annotations

import errno
import math
import os
import signal
import sys
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from threading import Thread
from types import FrameType
from typing import Final

LOG_DESCRIPTOR: Final = "SPECLAB_LOG_FD"
"""Environment variable of a run with the descriptor that is the standard error of the `speclab up` that started it."""


def speclab_command(*arguments: str) -> tuple[str, ...]:
    """Return the command line of `speclab ARGUMENTS...`."""
    return module_command("speclab", *arguments)


def module_command(module: str, *arguments: str) -> tuple[str, ...]:
    """Return the command line that runs an installed `module`, without the working directory on `sys.path`."""
    return (sys.executable, "-P", "-m", module, *arguments)


_ATTACHED: Final[set[int]] = set()
"""Children that are killed with this process."""


def attach_child(pid: int) -> None:
    """Register the child `pid`, and its process group, to be killed if this process cannot wait for it."""
    _ATTACHED.add(pid)


def detach_child(pid: int) -> None:
    """Unregister the child `pid`, which has ended."""
    _ATTACHED.discard(pid)


def kill_attached_children() -> None:
    """Kill the registered children."""
    for pid in tuple(_ATTACHED):
        with suppress(ProcessLookupError, PermissionError):  # it has ended; macOS raises EPERM for zombies
            kill = os.killpg if os.getpgid(pid) == pid else os.kill
            kill(pid, signal.SIGKILL)


GRACE: Final = 5.0
"""Seconds between the loss of the terminal, SIGHUP or SIGTERM, and killing the process."""

_INTERVAL: Final = 0.25
"""Seconds between two checks of the terminal."""


class Hangup:
    """Ends this process on SIGHUP, on SIGTERM and when its terminal is gone.

    The main thread gets `SystemExit`, so that resources are closed. If `ask` is set, it is called in the main thread
    instead, so that an event loop can end in order. A process that is still running after `GRACE` seconds is killed
    with its registered children.

    Create it in the main thread; it is active until the process ends.
    """

    def __init__(self) -> None:
        self.ask: Callable[[], object] | None = None
        self._asked = False
        self._terminals = [number for number in range(3) if _is_terminal(number)]
        for number in (signal.SIGHUP, signal.SIGTERM):
            signal.signal(number, self._end)
        if any(map(_is_gone, self._terminals)):
            raise SystemExit(128 + signal.SIGHUP)
        Thread(target=self._watch, name="hangup", daemon=True).start()

    @contextmanager
    def postponed(self) -> Iterator[None]:
        """Delay `SystemExit` until the block ends, for example while a process is started."""
        self.ask = _wait
        try:
            yield
        finally:
            self.ask = None
        if self._asked:
            raise SystemExit(128 + signal.SIGHUP)

    def _end(self, number: int, frame: FrameType | None) -> None:
        del frame
        if self._asked:
            return  # signals often arrive twice, and the first one is being handled
        self._asked = True
        if self.ask is None:
            raise SystemExit(128 + number)
        self.ask()

    def _watch(self) -> None:
        """Watch the terminal until it is gone or the process is asked to end, then make sure that the process ends."""
        gone, deadline = False, math.inf
        while time.monotonic() < deadline:
            time.sleep(_INTERVAL)
            if not gone and any(map(_is_gone, self._terminals)):
                gone = True
                self._mute()
                os.kill(os.getpid(), signal.SIGHUP)
            if (gone or self._asked) and deadline == math.inf:
                deadline = time.monotonic() + GRACE
        kill_attached_children()
        os._exit(128 + signal.SIGHUP)

    def _mute(self) -> None:
        """Redirect output to `/dev/null`: every write to the terminal would fail."""
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for number in self._terminals:
            if number > 0:
                os.dup2(nowhere, number)


def _wait() -> None:
    """Do nothing."""


def _is_terminal(number: int) -> bool:
    """Whether the descriptor is a terminal, or was one that is gone."""
    return os.isatty(number) or _is_gone(number)


def _is_gone(number: int) -> bool:
    """Whether the descriptor is a terminal whose other side is closed."""
    try:
        termios.tcgetattr(number)
    except termios.error as error:
        return error.args[0] in {errno.EIO, errno.ENXIO}
    return False
