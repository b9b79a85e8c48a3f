"""A run as a process of its own: `speclab run`, started, asked to stop, and what came of it."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import orjson

from speclab.core.errors import SpeclabError
from speclab.core.json import Record
from speclab.core.outcome import Trigger
from speclab.core.processes import speclab_command
from speclab.core.state_files import open_private

_COMMAND: Final = speclab_command("run")
_PREFIX: Final = "speclab: "
"""What `speclab` begins an error with."""


@dataclass(frozen=True, slots=True)
class ProcessExit:
    """How a run's process ended: its exit code, and the row of the run, where there was one (`speclab runs --json`).

    Without a row, `why` says why there is none: what the process said last, or the signal that killed it.
    """

    code: int
    row: Record | None
    why: str = ""

    @property
    def news(self) -> bool:
        """Whether the run wrote anything, or will."""
        return self.row is not None and any(self.row[name] for name in ("written", "waiting"))


class RunProcess:
    """A run that was started, in a session of its own: a ctrl+c at the terminal is for the service to pass on."""

    def __init__(self, process: asyncio.subprocess.Process, output: Path) -> None:
        self._process = process
        self._output = output

    @classmethod
    async def start(
        cls,
        spec: Path,
        trigger: Trigger,
        runlog: Path,
        workspace: Path,
        output: Path,
        options: Sequence[str] = (),
    ) -> RunProcess:
        """Start a run of the spec at `spec`, with `options` beside; what it says goes to `output`.

        Raises `SpeclabError` where no process can be started.
        """
        only: Sequence[str] = ("--retries",) if trigger is Trigger.RETRY else ()
        try:
            output.parent.mkdir(0o700, exist_ok=True)  # no more: a workspace that is gone is not created again
            with os.fdopen(open_private(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), "wb") as file:
                process = await asyncio.create_subprocess_exec(
                    *_COMMAND, str(spec), "--runlog", str(runlog), "--trigger", trigger, "--json", *only, *options,
                    cwd=workspace,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=asyncio.subprocess.PIPE,
                    stderr=file,
                    start_new_session=True,
                )  # fmt: skip
        except OSError as error:
            where = error.filename or "no process can be started"
            raise SpeclabError(f"{where}: {error.strerror or error}") from error
        return cls(process, output)

    def stop(self) -> None:
        """Ask it to finish the page in hand and end."""
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it at once."""
        self._signal(signal.SIGKILL)

    async def end(self) -> ProcessExit:
        """Wait until it has ended."""
        printed, _ = await self._process.communicate()
        code = self._process.returncode or 0
        if (row := _row(printed)) is not None:
            return ProcessExit(code, row)
        if code < 0:
            return ProcessExit(code, None, f"killed by {signal.Signals(-code).name}")
        return ProcessExit(code, None, self._last_words() or f"exit code {code}")

    def _signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):  # it has just ended
            self._process.send_signal(number)

    def _last_words(self) -> str:
        """The error it ended with, or else the last line it said; empty where nobody can read that any more."""
        try:
            said = self._output.read_text("utf-8", "replace").splitlines()
        except OSError:
            return ""
        errors = [line.removeprefix(_PREFIX) for line in said if line.startswith(_PREFIX)]
        return errors[-1] if errors else said[-1] if said else ""


def _row(printed: bytes) -> Record | None:
    """The row of the run: the last line of what the process printed, for a connector may print something too."""
    *_, last = printed.splitlines() or [b""]
    with suppress(orjson.JSONDecodeError):
        row = orjson.loads(last)
        if isinstance(row, dict) and "state" in row:
            return row
    return None
