"""What users wait for: `speclab --help` and the first paint of the app; and the costs of the idle app."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Final

import pexpect
from tests.bench.budget import at_most
from tests.bench.contacts import spec

ROUNDS: Final = 9
IDLE: Final = 10.0
_SPECLAB: Final = [sys.executable, "-P", "-m", "speclab"]
_BARE: Final = """
from textual.app import App
from textual.widgets import Static

class Bare(App[None]):
    def compose(self):
        yield Static("ready")

Bare().run()
"""


def main() -> None:
    """Measure and print the results."""
    bare = median(_seconds([sys.executable, "-c", "pass"]) for _ in range(ROUNDS))
    help_ = median(_seconds([*_SPECLAB, "--help"]) for _ in range(ROUNDS))
    print(f"terminal: python -c pass {bare * 1000:.0f} ms, speclab --help {help_ * 1000:.0f} ms")
    at_most("speclab --help, over python -c pass", (help_ - bare) * 1000, 150, " ms")
    with TemporaryDirectory(prefix="speclab-bench-") as directory:
        (Path(directory) / "bench.md").write_text(spec())
        bare = median(_first_paint([sys.executable, "-c", _BARE], "ready") for _ in range(ROUNDS))
        ours = median(_first_paint([*_SPECLAB, directory], "Monitor") for _ in range(ROUNDS))
        busy, sent = _idle([*_SPECLAB, directory])
    print(f"  first paint: a bare Textual app {bare * 1000:.0f} ms, speclab {ours * 1000:.0f} ms")
    at_most("first paint, times the bare app's", ours / bare, 1.5)
    at_most("idle, of a processor", busy * 100, 0.5, " %")
    at_most("idle, to the terminal", sent, 100, " bytes/s")


def _seconds(command: list[str]) -> float:
    began = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def _started(command: list[str]) -> pexpect.spawn[str]:
    environ = {**os.environ, "TERM": "xterm-256color", "COLORTERM": "truecolor"}
    return pexpect.spawn(command[0], command[1:], dimensions=(45, 160), env=environ, encoding="utf-8", timeout=30)


def _first_paint(command: list[str], text: str) -> float:
    """Return the seconds until `text` is written to the terminal."""
    began = time.perf_counter()
    child = _started(command)
    try:
        child.expect_exact(text)
        return time.perf_counter() - began
    finally:
        child.close(force=True)


def _idle(command: list[str]) -> tuple[float, float]:
    """Return the share of a processor that the idle app uses, and the bytes per second that it sends."""
    child = _started(command)
    try:
        child.expect_exact("Monitor")
        _sent(child, 5)
        assert child.pid is not None
        before = _ticks(child.pid)
        sent = _sent(child, IDLE)
        ticks = _ticks(child.pid) - before
        return ticks / os.sysconf("SC_CLK_TCK") / IDLE, sent / IDLE
    finally:
        child.close(force=True)


def _sent(child: pexpect.spawn[str], seconds: float) -> int:
    """Return the number of bytes that arrive within that time."""
    sent, end = 0, time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        try:
            sent += len(child.read_nonblocking(65536, timeout=left).encode())
        except pexpect.TIMEOUT:
            break
    return sent


def _ticks(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


if __name__ == "__main__":
    main()
