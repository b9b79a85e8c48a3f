"""Processes that runs belong to, so that a run whose process is gone can be told from one that is slow."""

from __future__ import annotations

import os
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Process:
    """A process on a machine; `started` tells it from a later one that was given the same pid."""

    pid: int
    host: str
    started: str

    @classmethod
    def of(cls, pid: int) -> Process:
        """The process `pid` on this machine; `started` is empty if there is none."""
        return cls(pid, socket.gethostname(), _started(pid))


def alive(process: Process) -> bool:
    """Whether `process` still runs; one on another machine is taken to, since nobody here can know."""
    return process.host != socket.gethostname() or (process.started != "" and process.started == _started(process.pid))


def _started(pid: int) -> str:
    """When `pid` was started, in whatever words the system has for it; empty if it is not running."""
    stat = Path(f"/proc/{pid}/stat")
    if Path("/proc/self/stat").exists():
        try:
            fields = stat.read_text(errors="replace").rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            return ""
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        state, ticks = fields[0], fields[19]  # proc(5): field 3 and field 22
        return "" if state == "Z" else f"{boot}/{ticks}"
    found = subprocess.run(
        ["/bin/ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False,
        env={**os.environ, "LC_ALL": "C", "TZ": "UTC"},
    )  # fmt: skip
    return found.stdout.strip()
