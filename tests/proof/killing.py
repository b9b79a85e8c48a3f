"""Runs in separate processes, killed with `kill -9` after a number of requests; afterwards their counts must match.

A test adds its source, its target and the rows expected at the target.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import signal
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from random import Random
from typing import ClassVar, Final

from aiohttp import web
from tests.proof.conftest import SPEC, assert_balanced

from speclab.cli import main
from speclab.core.outcome import RunState
from speclab.runlog import RunLogReader, RunRow

_CONNECTORS: Final = (
    "speclab.connectors.http.reader",
    "speclab.connectors.http.writer",
    "speclab.connectors.sql.writer",
)
_FORKS: Final = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["pytest", "speclab.cli.run", "speclab.sync.run", *_CONNECTORS])


class Systems:
    """The source and target of a test; they count their requests."""

    seconds: ClassVar = 0.002
    """Seconds before each response."""

    def __init__(self) -> None:
        self.random = Random(20261124)
        self.requests = self.enough = 0
        self.were_enough = asyncio.Event()

    async def answer(self, request: web.Request) -> web.Response:
        """Respond to a request."""
        raise NotImplementedError

    async def __call__(self, request: web.Request) -> web.Response:
        self.requests += 1
        if self.requests == self.enough:
            self.were_enough.set()
        await asyncio.sleep(self.seconds)
        return await self.answer(request)


@dataclass
class Killing:
    """A spec in a temporary directory whose runs are killed: the loop that all kill tests share."""

    directory: Path
    systems: Systems
    kills: int = 0

    def write(self, source: str, target: str, rows: str) -> None:
        """Write the spec."""
        auth, retry = "type: none", "base: 10ms"
        text = SPEC.format(source=source, target=target, mapping=rows, auth=auth, retry=retry, volume="")
        self._spec.write_text(text)

    @property
    def _spec(self) -> Path:
        return self.directory / "people.md"

    async def run_and_kill(self, after: int) -> None:
        """Run the spec and kill the run after that many requests, unless it ends before."""
        self.systems.enough = self.systems.requests + after
        self.systems.were_enough.clear()
        run = self._start()
        over, enough = asyncio.create_task(_wait(run)), asyncio.create_task(self.systems.were_enough.wait())
        await asyncio.wait((over, enough), return_when=asyncio.FIRST_COMPLETED)
        enough.cancel()
        if not over.done():
            run.kill()
        await over
        run.join()
        self.kills += run.exitcode == -signal.SIGKILL

    async def run_to_end(self) -> None:
        """Run the spec to its end and assert success."""
        run = self._start()
        await _wait(run)
        run.join()
        assert run.exitcode == 0

    def check_runs(self) -> None:
        """Assert that every run that was not killed succeeded, and that the counts of all runs match."""
        with RunLogReader.open(self.directory / ".speclab" / "runlog.db") as log:
            states = check_runs(log.runs(limit=100), self.kills)
        assert states.keys() <= {RunState.SUCCEEDED, RunState.INTERRUPTED}

    def _start(self) -> ForkServerProcess:
        """Start a run in a process forked from one that has imported speclab: importing takes longer than a run."""
        run = _FORKS.Process(target=main, args=(["run", str(self._spec)],))
        run.start()
        return run


async def _wait(run: ForkServerProcess) -> None:
    """Wait until a process ends."""
    loop, over = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(run.sentinel, over.set)
    try:
        await over.wait()
    finally:
        loop.remove_reader(run.sentinel)


def check_runs(runs: Sequence[RunRow], kills: int) -> Counter[RunState]:
    """Assert that the states and counts of `runs` are correct after `kills` kills; return the number in each state."""
    for row in runs:
        assert_balanced(row)
        assert row.ended_at is not None
    states = Counter(row.state for row in runs)
    assert states.get(RunState.INTERRUPTED, 0) <= kills
    assert states.keys().isdisjoint({RunState.RUNNING, RunState.CANCELLED})
    return states
