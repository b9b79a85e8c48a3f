"""Starting runs: each is `speclab run` in a session of its own, so that it outlives the app and never slows it."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import quote

from speclab.errors import SpeclabError

_LOOK: Final = 0.25
"""Seconds between two looks at whether the process has ended."""

_PREFIX: Final = "speclab: "
"""What `speclab` begins an error with."""

_CRASH: Final = "Traceback (most recent call last):"


@dataclass(frozen=True, slots=True)
class Launched:
    """A run that was started: its process, and the file with what it says."""

    process: subprocess.Popen[bytes]
    output: Path

    async def end(self) -> SpeclabError | None:
        """Wait until it has ended; gives what it complained about, if it did."""
        while (code := self.process.poll()) is None:  # noqa: ASYNC110 (asyncio would kill it when the app closes)
            await asyncio.sleep(_LOOK)
        if code in (0, 130):
            return None
        said = self.output.read_text("utf-8", "replace").splitlines()
        starts = [number for number, line in enumerate(said) if line.startswith(_PREFIX)]
        if starts:
            first, *rest = said[starts[-1] :]
            return SpeclabError(first.removeprefix(_PREFIX), hint="\n".join(line.strip() for line in rest))
        if code == 1 and _CRASH not in said:
            return None  # it ran, and some records did not arrive: the run log has it all
        last = said[-1] if said else "it said nothing"
        return SpeclabError(f"exit code {code}: {last}", hint=f"All it said is in {self.output}.")


def launch(spec: Path, name: str, workspace: Path, runlog: Path) -> Launched:
    """Start a run of the spec at `spec`, called `name`; what it says goes to `.speclab/runs/NAME.log`.

    Raises `SpeclabError` if no process can be started.
    """
    from speclab.spec.workspace import state_directory

    output = state_directory(workspace) / "runs" / f"{quote(name, safe=' ')}.log"
    command = [sys.executable, "-m", "speclab", "run", str(spec), "--runlog", str(runlog)]
    try:
        output.parent.mkdir(exist_ok=True)
        with output.open("wb") as file:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
    except OSError as error:
        raise SpeclabError(f"{error.filename or output}: {error.strerror or error}") from error
    return Launched(process, output)
