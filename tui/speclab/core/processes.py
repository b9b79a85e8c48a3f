"""Child processes: launching them, and ending them when the terminal closes."""

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


def speclab_command(*arguments: str) -> tuple[str, ...]:
    """Return the command line of `speclab ARGUMENTS...`."""
    return module_command("speclab", *arguments)


def module_command(module: str, *arguments: str) -> tuple[str, ...]:
    """Return the command line that runs an installed `module`, without the working directory on `sys.path`."""
    return (sys.executable, "-P", "-m", module, *arguments)


_ATTACHED: Final[set[int]] = set()
"""Children that end with this process."""


def attach_child(pid: int) -> None:
    """Let the child `pid`, and the process group that it leads, be killed where this process cannot wait for it."""
    _ATTACHED.add(pid)


def detach_child(pid: int) -> None:
    """Forget the child `pid`: it ended."""
    _ATTACHED.discard(pid)


def kill_attached_children() -> None:
    """Kill the attached children."""
    for pid in tuple(_ATTACHED):
        with suppress(ProcessLookupError, PermissionError):  # it has ended; macOS says so of zombies
            kill = os.killpg if os.getpgid(pid) == pid else os.kill
            kill(pid, signal.SIGKILL)


GRACE: Final = 5.0
"""Seconds from the end of the terminal, or from SIGHUP or SIGTERM, until what still runs is killed."""

_INTERVAL: Final = 0.25
"""Seconds between two checks of the terminal."""


class Hangup:
    """Ends this process on SIGHUP, on SIGTERM and when its terminal is gone.

    The main thread gets `SystemExit`, so that what it uses is closed. While `ask` is set, that is called instead, in
    the main thread: an event loop ends in its own way. A process that has not ended after `GRACE` seconds is killed,
    with the children that are attached to it (`speclab.core.processes`).

    To be made in the main thread; it stays in force until the process ends.
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
        """Let the block run to its end, such as the start of a process, before the main thread gets `SystemExit`."""
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
            return  # it often comes twice, and what is being closed should be
        self._asked = True
        if self.ask is None:
            raise SystemExit(128 + number)
        self.ask()

    def _watch(self) -> None:
        """Check the terminal until it is gone or the process is asked to end; then see that it does."""
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
        """Let output that nobody can see any more go nowhere: every write to the terminal would fail."""
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for number in self._terminals:
            if number > 0:
                os.dup2(nowhere, number)


def _wait() -> None:
    """Do nothing now."""


def _is_terminal(number: int) -> bool:
    """Whether the descriptor is a terminal, or was one that is gone."""
    return os.isatty(number) or _is_gone(number)


def _is_gone(number: int) -> bool:
    """Whether the descriptor is a terminal that was closed on the other side."""
    try:
        termios.tcgetattr(number)
    except termios.error as error:
        return error.args[0] in {errno.EIO, errno.ENXIO}
    return False
