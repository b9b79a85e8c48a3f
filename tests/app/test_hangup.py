"""A closed terminal leaves no process: not the app, not the demo, and none of their child processes."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

SPECLAB = Path(sys.executable).with_name("speclab")
LEAD = "import fcntl,os,sys,termios;os.setsid();fcntl.ioctl(0,termios.TIOCSCTTY,0);os.execvp(sys.argv[1],sys.argv[1:])"
"""Runs a command as the leader of a session whose terminal is its stdin."""

PATIENCE = 30.0
"""Seconds in which all should have ended, on a machine that is busy."""

needs_proc = pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs /proc to find processes")


@dataclass
class Terminal:
    """A terminal and the command that leads its session; a variable in the environment marks its processes."""

    command: list[str]
    directory: Path

    def __post_init__(self) -> None:
        self.mark = f"HANGUP_TEST={uuid.uuid4().hex}"
        self.master, slave = os.openpty()
        name, _, value = self.mark.partition("=")
        env = {**os.environ, "TERM": "xterm-256color", "MAKEFLAGS": "", name: value}
        lead = [sys.executable, "-IS", "-c", LEAD, *self.command]
        self.leader = subprocess.Popen(lead, stdin=slave, stdout=slave, stderr=slave, cwd=self.directory, env=env)
        os.close(slave)
        os.set_blocking(self.master, False)

    def read(self) -> bytes:
        """Return the output since the last call."""
        with suppress(BlockingIOError, OSError):
            return os.read(self.master, 1 << 20)
        return b""

    def watch(self, seconds: float, until: bytes | None = None) -> None:
        """Read the terminal for that long, or until it shows `until`."""
        seen, end = b"", time.monotonic() + seconds
        while time.monotonic() < end and (until is None or until not in seen):
            seen += self.read()
            time.sleep(0.02)
        assert until is None or until in seen, seen[-2000:]

    def close(self) -> list[str]:
        """Close the terminal; kill processes that still run after some time, and return their command lines."""
        os.close(self.master)
        end = time.monotonic() + PATIENCE
        while (left := self.processes()) and time.monotonic() < end:
            time.sleep(0.2)
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.leader.wait()
        return list(left.values())

    def processes(self) -> dict[int, str]:
        """Return the marked processes by pid."""
        self.leader.poll()
        found = {}
        for directory in Path("/proc").iterdir():
            if directory.name.isdigit():
                with suppress(OSError):
                    if self.mark.encode() in (directory / "environ").read_bytes():
                        found[int(directory.name)] = (directory / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        return found


def under(way: str, command: str, directory: Path) -> list[str]:
    """Return a command line that runs `speclab COMMAND` directly, in a shell script, or in a make recipe."""
    line = f"{shlex.quote(str(SPECLAB))} {command}"
    if way == "sh":
        return ["sh", "-c", f"{line}; exit $?"]
    if way == "make":
        (directory / "Makefile").write_text(f"open:\n\t@{line}\n", "utf-8")
        return ["make", "open"]
    return shlex.split(line)


MOMENTS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0, 1.2, 1.4, 1.6, 1.8, 2.0, 2.3, 2.6, 3.0, 3.5, 4.2, 5.0)


@needs_proc
@pytest.mark.parametrize("way", ["bare", "sh", "make"])
def test_terminal_closed_at_any_moment_leaves_no_process(tmp_path: Path, way: str) -> None:
    def close_after(number: int) -> list[str]:
        directory = tmp_path / str(number)
        directory.mkdir()
        terminal = Terminal(under(way, ("demo here", ".")[number % 2], directory), directory)
        terminal.watch(MOMENTS[number])
        return terminal.close()

    with ThreadPoolExecutor(6) as pool:
        left = dict(zip(MOMENTS, pool.map(close_after, range(len(MOMENTS))), strict=True))
    assert {moment: commands for moment, commands in left.items() if commands} == {}


@needs_proc
def test_app_that_ignores_hangups_ends_with_its_terminal(filled: Any) -> None:
    terminal = Terminal(["sh", "-c", f"trap '' HUP; {shlex.quote(str(SPECLAB))} .; exit $?"], filled.directory)
    terminal.watch(60, until=b"people")
    assert terminal.close() == []


@needs_proc
def test_runs_continue_when_the_terminal_closes(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from speclab.core import processes\n"
        "from speclab.workbench import launcher; "
        "from speclab.core.processes import Hangup\n"
        "processes.module_command = lambda *args: (sys.executable, '-c', 'import time; time.sleep(60)')\n"
        "Hangup(); launcher.launch(Path('a.md'), 'a', Path(), Path('a.db')); print('started', flush=True); input()"
    )
    (tmp_path / ".speclab").mkdir()
    terminal = Terminal([sys.executable, "-c", script], tmp_path)
    terminal.watch(60, until=b"started")
    os.close(terminal.master)
    terminal.leader.wait(PATIENCE)
    (run,) = terminal.processes()
    os.kill(run, signal.SIGKILL)


STUCK = """
import subprocess, sys, time
from concurrent.futures import ThreadPoolExecutor
from speclab.core import processes
from speclab.core.processes import attach_child
processes.GRACE = 0.5
stuck = processes.Hangup()
{more}
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True)
attach_child(child.pid)
ThreadPoolExecutor().submit(time.sleep, 60)
print("started", flush=True)
while True:
    time.sleep(60)
"""


@needs_proc
@pytest.mark.parametrize("more", ["", "stuck.ask = lambda: None"], ids=["in a thread", "in its event loop"])
@pytest.mark.parametrize("signalled", [False, True], ids=["closed", "SIGTERM"])
def test_stuck_process_is_killed_with_its_children(tmp_path: Path, more: str, *, signalled: bool) -> None:
    terminal = Terminal([sys.executable, "-c", STUCK.format(more=more)], tmp_path)
    terminal.watch(60, until=b"started")
    if signalled:
        terminal.leader.terminate()
    assert terminal.close() == []


@needs_proc
def test_terminal_that_stops_reading_does_not_block_the_end_of_the_app(filled: Any) -> None:
    terminal = Terminal([str(SPECLAB), str(filled.directory)], filled.directory)
    terminal.watch(60, until=b"people")
    for _ in range(200):
        os.write(terminal.master, b"\x0c")  # redraw without a reader: the output thread blocks
        time.sleep(0.01)
    os.kill(terminal.leader.pid, signal.SIGTERM)
    terminal.leader.wait(PATIENCE)
    assert terminal.close() == []
