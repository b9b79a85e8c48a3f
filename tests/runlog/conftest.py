"""Fixtures of the run log tests: a clock that does not move, a run log in a file, pages and failures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tests.clocks import HeldClock

from speclab.core.outcome import ErrorClass, FailureState, Outcome, Stage
from speclab.runlog import NewFailure, PageResult, RunLog, RunLogReader

START = datetime(2026, 11, 24, 10, 42, 7, 123000, tzinfo=UTC)


def failure(key: str = "c_1", state: FailureState = FailureState.WAITING, **given: object) -> NewFailure:
    """Build a failure like the ones of a run, except for the `given` fields."""
    values: dict[str, object] = {
        "stage": Stage.WRITE,
        "error_class": ErrorClass.SERVER,
        "message": "503 Service Unavailable",
        "file": "specs/crm.md",
        "line": 41,
        "source": {"id": key},
        "next_attempt_at": "2026-11-24T10:43:00.000Z" if state is FailureState.WAITING else None,
    }
    return NewFailure(key=key, state=state, **(values | given))  # type: ignore[arg-type]


def page(
    *failures: NewFailure,
    written: Sequence[str] = (),
    cursor: str = "next",
    message: str = "a page",
    hash_: bytes = b"h" * 16,
    **outcomes: int,
) -> PageResult:
    """Build a page result with these failures, written keys and counts of other outcomes; its `read` matches."""
    counts = {Outcome(name): count for name, count in outcomes.items()}
    counts[Outcome.WRITTEN] = counts.get(Outcome.WRITTEN, 0) + len(written)
    for one in failures:
        outcome = Outcome(one.state.value)
        counts[outcome] = counts.get(outcome, 0) + 1
    return PageResult(
        read=sum(counts.values()),
        outcomes=counts,
        effects={},
        bytes_in=1000,
        bytes_out=500,
        cursor=cursor,
        failures=failures,
        keys=[*written, *(one.key for one in failures)],
        states=[(key, hash_) for key in written],
        message=message,
    )


@pytest.fixture
def clock() -> HeldClock:
    return HeldClock(START)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / ".speclab" / "runlog.db"


@pytest.fixture
def log(path: Path, clock: HeldClock) -> Iterator[RunLog]:
    with RunLog.open(path, clock) as log:
        yield log


@pytest.fixture
def reader(log: RunLog) -> Iterator[RunLogReader]:
    with RunLogReader.open(log.path) as reader:
        yield reader
