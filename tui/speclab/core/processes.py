"""Child processes: starting them, waiting for them, and ending them when the terminal closes."""

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
from pathlib import Path
from threading import Thread
from types import FrameType
from typing import IO, TYPE_CHECKING, Final

from speclab.core.errors import SpeclabError
from speclab.core.files import open_private

LOG_DESCRIPTOR: Final = "SPECLAB_LOG_FD"
"""Environment variable of a run with the descriptor that is the standard error of the `speclab up` that started it."""


if TYPE_CHECKING:
    import subprocess


def module_command(module: str, *arguments: str) -> tuple[str, ...]:
    """Return the command line that runs an installed `module`, without the working directory on `sys.path`."""
    return (sys.executable, "-P", "-m", module, *arguments)


_STARTED: Final[list[subprocess.Popen[bytes]]] = []
"""Processes that may outlive their user here: kept until they have ended, so that each one is waited for."""


def start_module(
    module: str,
    *arguments: str,
    stdout: int | IO[bytes],
    stderr: int | IO[bytes] | None,
    stdin: int | None = None,
    directory: Path | None = None,
    log_descriptor: int | None = None,
) -> subprocess.Popen[bytes]:
    """Start an installed `module` in `directory` (default: here); without `stdin`, it reads nothing.

    It has a separate session, so that ctrl+c and the end of the terminal do not reach it, and the environment of this
    process. `log_descriptor` is passed on as `LOG_DESCRIPTOR`. Raises `SpeclabError` if no process can be started.
    """
    import subprocess

    log = {} if log_descriptor is None else {LOG_DESCRIPTOR: str(log_descriptor)}
    _STARTED[:] = [earlier for earlier in _STARTED if earlier.poll() is None]
    try:
        process = subprocess.Popen(
            module_command(module, *arguments),
            cwd=directory,
            stdin=subprocess.DEVNULL if stdin is None else stdin,
            stdout=stdout,
            stderr=stderr,
            start_new_session=True,
            pass_fds=() if log_descriptor is None else (log_descriptor,),
            env={**os.environ, **log},
        )
    except OSError as error:
        raise SpeclabError(f"{error.filename or 'cannot start a process'}: {error.strerror or error}") from error
    _STARTED.append(process)
    return process


def start_speclab(
    *arguments: str,
    output: Path,
    stdout: IO[bytes] | None = None,
    directory: Path | None = None,
    log_descriptor: int | None = None,
) -> subprocess.Popen[bytes]:
    """Start `speclab ARGUMENTS...` as `start_module` does; its messages, and its data without `stdout`, go to `output`.

    Only the user may read that file. Its directory is created, but not the one above: a deleted workspace stays
    deleted.
    """
    try:
        output.parent.mkdir(0o700, exist_ok=True)
        descriptor = open_private(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    except OSError as error:
        raise SpeclabError(f"{error.filename or output}: {error.strerror or error}") from error
    with os.fdopen(descriptor, "wb") as file:
        return start_module(
            "speclab",
            *arguments,
            stdout=stdout or file,
            stderr=file,
            directory=directory,
            log_descriptor=log_descriptor,
        )


_LOOK: Final = 0.1
"""Seconds between two checks whether a process has ended."""


async def wait_for_exit(process: subprocess.Popen[bytes]) -> int:
    """Wait until `process` has ended and return its exit code, which is negative for the signal that killed it."""
    import asyncio

    while (code := process.poll()) is None:  # noqa: ASYNC110 (asyncio would kill its own processes with its loop)
        await asyncio.sleep(_LOOK)
    return code


def describe_exit(code: int) -> str:
    """Return how a process ended: `killed by SIGTERM`, or `exit code 3`."""
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


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
    """Whether the descriptor is a terminal, also if that terminal is gone."""
    return os.isatty(number) or _is_gone(number)


def _is_gone(number: int) -> bool:
    """Whether the descriptor is a terminal whose other side is closed."""
    try:
        termios.tcgetattr(number)
    except termios.error as error:
        return error.args[0] in {errno.EIO, errno.ENXIO}
    return False
