"""Fixtures of the monitor tests: a run log that is written at chosen times."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.clocks import HeldClock

from speclab.core.outcome import ErrorClass, FailureState, Outcome, RunState, Stage
from speclab.runlog import NewFailure, PageResult, RunLog, RunLogReader, RunRow

START = datetime(2026, 11, 24, 10, 42, 7, tzinfo=UTC)


class World:
    """A run log, a reader of it, and the clock of both."""

    def __init__(self, log: RunLog, reader: RunLogReader, clock: HeldClock) -> None:
        self.log = log
        self.reader = reader
        self.clock = clock
        self._keys = 0

    @property
    def now(self) -> datetime:
        return self.clock.time

    def wait(self, **time: float) -> None:
        self.clock.time += timedelta(**time)

    def start(self, spec_id: str = "crm") -> str:
        return self.log.start_run(spec_id, "abc", "manual", pid=None)

    def page(
        self,
        run: str,
        *,
        written: int = 0,
        dead: int = 0,
        waiting: int = 0,
        unknown: int = 0,
        error_class: ErrorClass = ErrorClass.SERVER,
    ) -> None:
        states = [FailureState.DEAD] * dead + [FailureState.WAITING] * waiting + [FailureState.UNKNOWN] * unknown
        self.log.commit_page(
            run,
            PageResult(
                read=written + len(states),
                outcomes={
                    Outcome.WRITTEN: written, Outcome.DEAD: dead, Outcome.WAITING: waiting, Outcome.UNKNOWN: unknown,
                },
                effects={},
                bytes_in=100 * (written + len(states)),
                bytes_out=10 * written,
                cursor=None,
                failures=[self._failure(state, error_class) for state in states],
            ),
        )  # fmt: skip

    def run(
        self,
        spec_id: str = "crm",
        *,
        seconds: float = 10,
        error: str | None = None,
        state: RunState | None = None,
        **counts: int,
    ) -> RunRow:
        run = self.start(spec_id)
        self.page(run, **counts)  # type: ignore[arg-type]
        self.wait(seconds=seconds)
        return self.log.finish_run(run, error, state)

    def _failure(self, state: FailureState, error_class: ErrorClass) -> NewFailure:
        self._keys += 1
        return NewFailure(
            key=str(self._keys), state=state, stage=Stage.WRITE, error_class=error_class, message="no", file="a.md",
            line=1, source={}, next_attempt_at="2027-01-01T00:00:00.000Z" if state is FailureState.WAITING else None,
        )  # fmt: skip


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    clock = HeldClock(START)
    with RunLog.open(tmp_path / "runlog.db", clock) as log, RunLogReader.open(log.path) as reader:
        yield World(log, reader, clock)
