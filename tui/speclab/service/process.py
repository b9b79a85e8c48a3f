"""Run a spec in a separate process: start `speclab run`, ask it to stop, and read its result."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, TYPE_CHECKING, Final

import orjson

from speclab.core.errors import SpeclabError
from speclab.core.json import Record
from speclab.core.outcome import Trigger
from speclab.core.processes import describe_exit, start_speclab, wait_for_exit

if TYPE_CHECKING:
    import subprocess

_PREFIX: Final = "speclab: "
"""The prefix of errors that `speclab` prints."""


@dataclass(frozen=True, slots=True)
class ProcessExit:
    """How the process of a run ended: its exit code, and the row of the run (`speclab runs --json`), if there is one.

    Without a row, `reason` is the error the process printed, or the signal that killed it.
    """

    code: int
    row: Record | None
    reason: str = ""

    @property
    def has_changes(self) -> bool:
        """Whether the run wrote records, or left some waiting for a retry."""
        return self.row is not None and any(self.row[name] for name in ("written", "waiting"))


class RunProcess:
    """A run in a new session, so that the service and not the terminal decides what ctrl+c does to it."""

    def __init__(self, process: subprocess.Popen[bytes], rows: IO[bytes], output: Path) -> None:
        self._process = process
        self._rows = rows
        self._output = output

    @classmethod
    def start(
        cls,
        spec: Path,
        trigger: Trigger,
        runlog: Path,
        workspace: Path,
        output: Path,
        options: Sequence[str] = (),
    ) -> RunProcess:
        """Start a run of the spec at `spec` with additional `options`; its standard error goes to `output`.

        Raises `SpeclabError` if the process cannot be started.
        """
        mode: Sequence[str] = ("--retries",) if trigger is Trigger.RETRY else ()
        arguments = (str(spec), "--runlog", str(runlog), "--trigger", trigger, "--json", *mode, *options)
        rows = TemporaryFile()  # noqa: SIM115 - `wait` closes it
        events = os.dup(2)  # for specs whose events go to standard error
        try:
            process = start_speclab(
                "run", *arguments, output=output, stdout=rows, directory=workspace, log_descriptor=events
            )
        except SpeclabError:
            rows.close()
            raise
        finally:
            os.close(events)
        return cls(process, rows, output)

    def stop(self) -> None:
        """Ask the run to finish the page in progress and end."""
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """End the process at once."""
        self._signal(signal.SIGKILL)

    async def wait(self) -> ProcessExit:
        """Wait until the process has ended; if the wait is cancelled, end it at once."""
        with self._rows:
            try:
                code = await wait_for_exit(self._process)
            except asyncio.CancelledError:
                self.kill()
                self._process.wait()
                raise
            self._rows.seek(0)
            row = _parse_row(self._rows.read())
        if row is not None:
            return ProcessExit(code, row)
        return ProcessExit(code, None, (self._read_last_error() if code >= 0 else "") or describe_exit(code))

    def _signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):  # the process has just ended
            self._process.send_signal(number)

    def _read_last_error(self) -> str:
        """Return the last error in the output, or its last line; empty if the output cannot be read."""
        try:
            lines = self._output.read_text("utf-8", "replace").splitlines()
        except OSError:
            return ""
        errors = [line.removeprefix(_PREFIX) for line in lines if line.startswith(_PREFIX)]
        return errors[-1] if errors else lines[-1] if lines else ""


def _parse_row(printed: bytes) -> Record | None:
    """Return the row of the run: the last line, because a connector may print something before it."""
    *_, last = printed.splitlines() or [b""]
    with suppress(orjson.JSONDecodeError):
        row = orjson.loads(last)
        if isinstance(row, dict) and "state" in row:
            return row
    return None
