"""Run a spec in a separate process: start `speclab run`, ask it to stop, and read its result."""

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
from speclab.core.files import open_private
from speclab.core.json import Record
from speclab.core.outcome import Trigger
from speclab.core.processes import LOG_DESCRIPTOR, speclab_command

_COMMAND: Final = speclab_command("run")
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
        """Start a run of the spec at `spec` with additional `options`; its standard error goes to `output`.

        Raises `SpeclabError` if the process cannot be started.
        """
        mode: Sequence[str] = ("--retries",) if trigger is Trigger.RETRY else ()
        events = os.dup(2)  # for specs whose events go to standard error
        try:
            output.parent.mkdir(0o700, exist_ok=True)  # without parents: a deleted workspace is not created again
            with os.fdopen(open_private(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), "wb") as file:
                process = await asyncio.create_subprocess_exec(
                    *_COMMAND, str(spec), "--runlog", str(runlog), "--trigger", trigger, "--json", *mode, *options,
                    cwd=workspace,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=asyncio.subprocess.PIPE,
                    stderr=file,
                    start_new_session=True,
                    pass_fds=(events,),
                    env={**os.environ, LOG_DESCRIPTOR: str(events)},
                )  # fmt: skip
        except OSError as error:
            where = error.filename or "cannot start a process"
            raise SpeclabError(f"{where}: {error.strerror or error}") from error
        finally:
            os.close(events)
        return cls(process, output)

    def stop(self) -> None:
        """Ask the run to finish the page in progress and end."""
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """End the process at once."""
        self._signal(signal.SIGKILL)

    async def wait(self) -> ProcessExit:
        """Wait until the process has ended."""
        printed, _ = await self._process.communicate()
        code = self._process.returncode or 0
        if (row := _parse_row(printed)) is not None:
            return ProcessExit(code, row)
        if code < 0:
            return ProcessExit(code, None, f"killed by {signal.Signals(-code).name}")
        return ProcessExit(code, None, self._read_last_error() or f"exit code {code}")

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
