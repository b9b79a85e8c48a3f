"""Terminals for the app's tests: real ptys with what was sent to them, counted and drawn."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pexpect
import pyte
import pytest

_PRIVATE = re.compile(r"\x1b\[[<>=][0-9;]*[a-z]|\x1b\[\?[0-9;]*\$p")  # kitty's keyboard and mode queries: not for pyte


class Pty:
    """A program in a terminal of its own, which sees what a person would."""

    def __init__(self, command: list[str], *, width: int, height: int, **environ: str) -> None:
        env = {**os.environ, "TERM": "xterm-256color", "COLORTERM": "truecolor", **environ}
        self.screen = pyte.Screen(width, height)
        self._stream = pyte.Stream(self.screen)
        self.sent = ""
        self.child = pexpect.spawn(
            command[0], command[1:], dimensions=(height, width), env=env, encoding="utf-8", timeout=20
        )

    def read(self, seconds: float = 0.05) -> str:
        """What comes within that time, drawn on the screen too."""
        got = []
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            try:
                got.append(self.child.read_nonblocking(65536, timeout=left))
            except pexpect.TIMEOUT:
                break
            except pexpect.EOF:
                break
        text = "".join(got)
        self.sent += text
        self._stream.feed(_PRIVATE.sub("", text))
        return text

    @property
    def lines(self) -> list[str]:
        """The screen's lines, without blanks at their ends."""
        return [line.rstrip() for line in self.screen.display]

    @property
    def text(self) -> str:
        """The whole screen."""
        return "\n".join(self.lines)

    def until(self, seen: str | Callable[[str], bool], seconds: float = 20) -> str:
        """Wait until the screen shows `seen`; gives all that was sent meanwhile."""
        is_there = seen if callable(seen) else lambda text: seen in text
        got = ""
        end = time.monotonic() + seconds
        while not is_there(self.text):
            if time.monotonic() > end:
                raise AssertionError(f"never seen: {seen}\n{self.text}")
            got += self.read()
        return got + self.settle()

    def settle(self, quiet: float = 0.3) -> str:
        """Wait until nothing has come for a while; gives all that came."""
        got = ""
        while more := self.read(quiet):
            got += more
        return got

    def press(self, keys: str) -> None:
        """Type."""
        self.child.send(keys)

    def close(self) -> None:
        """End the program."""
        self.child.close(force=True)


@pytest.fixture
def pty() -> Iterator[Callable[..., Pty]]:
    """Starts Python programs in ptys: `pty("print(1)", width=80, height=24, NO_COLOR="1")`; ends them."""
    started: list[Pty] = []

    def start(program: str | Path, *arguments: str, width: int = 80, height: int = 24, **environ: str) -> Pty:
        how = [str(program)] if isinstance(program, Path) else ["-c", program]
        terminal = Pty([sys.executable, *how, *arguments], width=width, height=height, **environ)
        started.append(terminal)
        return terminal

    yield start
    for terminal in started:
        terminal.close()
