"""Launching runs and the scheduler: processes in sessions of their own, which outlive the app."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import quote

from speclab.core.errors import SpeclabError
from speclab.core.json import Record, decode
from speclab.core.processes import speclab_command
from speclab.core.state_files import open_private

_LOOK: Final = 0.25
"""Seconds between two checks whether the process has ended."""

_PREFIX: Final = "speclab: "
"""The prefix of an error message of `speclab`."""

_MOST: Final = 2
"""Lines of a long error, such as the problems of a spec, that are shown."""

_CRASH: Final = "Traceback (most recent call last):"


@dataclass(frozen=True, slots=True)
class Launched:
    """A launched process, and the file with its output."""

    process: subprocess.Popen[bytes]
    output: Path

    def read_lines(self) -> list[str]:
        """Return the lines of output. Raises `SpeclabError` if the file is gone."""
        try:
            text = self.output.read_text("utf-8", "replace")
        except OSError as error:
            raise SpeclabError(f"the output cannot be read: {self.output}: {error.strerror or error}") from error
        return text.removesuffix("\n").split("\n") if text else []  # JSON may contain other line ends

    def read_rows(self) -> list[Record]:
        """Return the JSON rows of the output. Raises as `read_lines`."""
        values = (decode(line.encode()) for line in self.read_lines() if line.startswith("{"))
        return [value for value in values if isinstance(value, dict)]

    async def end(self) -> SpeclabError | None:
        """Wait until the process has ended and return its error; None if it has none."""
        while (code := self.process.poll()) is None:  # noqa: ASYNC110 (asyncio would kill it when the app closes)
            await asyncio.sleep(_LOOK)
        if code in (0, 130):
            return None
        how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        try:
            said = self.read_lines()
        except SpeclabError as error:
            return SpeclabError(f"{how}; {error.message}")
        starts = [number for number, line in enumerate(said) if line.startswith(_PREFIX)]
        if starts:
            first, *rest = (line.strip() for line in said[starts[-1] :])
            if (more := len(rest) - _MOST) > 1:
                rest[_MOST:] = [f"{more} more are in {self.output}"]
            return SpeclabError(first.removeprefix(_PREFIX), hint="\n".join(rest))
        if code == 1 and _CRASH not in said:
            return None  # it ran, and some records failed: the run log has the details
        last = said[-1] if said else "no output"
        return SpeclabError(f"{how}: {last}", hint=f"All output is in {self.output}.")


def launch(spec: Path, name: str, workspace: Path, runlog: Path) -> Launched:
    """Start a run of the spec at `spec`, called `name`; its output goes to `.speclab/runs/NAME.log`.

    Raises `SpeclabError` if no process can be started.
    """
    from speclab.spec.workspace import state_directory

    output = state_directory(workspace) / "runs" / f"{quote(name, safe=' ')}.log"
    return _start(("run", str(spec), "--runlog", str(runlog)), output)


def launch_retry(spec_id: str, which: Sequence[str], workspace: Path, runlog: Path) -> Launched:
    """Start `speclab retry --json` for failures of a spec; `which` are their ids, or options that select them.

    Raises as `launch`.
    """
    from speclab.spec.workspace import state_directory

    output = state_directory(workspace) / "runs" / f"{quote(spec_id, safe=' ')}.retry.log"
    return _start(("retry", spec_id, *which, "--json", "--runlog", str(runlog)), output, directory=workspace)


def launch_service(directory: Path, workspace: Path, runlog: Path) -> Launched:
    """Start `speclab up` for the specs in `directory`; its output goes to `.speclab/up.log`.

    The output of the previous one stays in `up.log.old`. Raises as `launch`.
    """
    from speclab.spec.workspace import state_directory

    output = state_directory(workspace) / "up.log"
    return _start(("up", str(directory), "--runlog", str(runlog)), output, before=output.with_name("up.log.old"))


def _start(
    arguments: Sequence[str], output: Path, before: Path | None = None, directory: Path | None = None
) -> Launched:
    """Start `speclab` with `arguments` in `directory` (default: here); move old content of `output` to `before`."""
    try:
        output.parent.mkdir(0o700, exist_ok=True)
        if before is not None and output.exists():
            output.replace(before)
        with os.fdopen(open_private(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), "wb") as file:
            process = subprocess.Popen(
                speclab_command(*arguments),
                cwd=directory,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
    except OSError as error:
        raise SpeclabError(f"{error.filename or output}: {error.strerror or error}") from error
    return Launched(process, output)
