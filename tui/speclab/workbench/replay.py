"""Replaying dead letters: which failures a changed mapping may fix, and the `speclab retry` that sends them again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from speclab.core.errors import SpeclabError
from speclab.core.json import Record
from speclab.core.outcome import ErrorClass, FailureState
from speclab.workbench.launcher import launch_retry
from speclab.workbench.mapping_state import MappingState

if TYPE_CHECKING:
    from speclab.runlog import FailureRow, RunLogReader


@dataclass(frozen=True, slots=True)
class SimilarFailures:
    """Failures that one change may fix: those of one mapping row or, if no row is known, of one error class."""

    spec_id: str
    row: str | None
    error_class: ErrorClass | None
    """None for failures of a row, which may be of any class."""

    @classmethod
    def of(cls, failure: FailureRow) -> SimilarFailures:
        """Return the group that `failure` belongs to."""
        return cls(failure.spec_id, failure.row, failure.error_class if failure.row is None else None)

    def read(self, reader: RunLogReader, limit: int | None, *, full: bool) -> list[FailureRow]:
        """Return the open failures of the group, newest first."""
        return reader.failures(self.spec_id, row=self.row, error_class=self.error_class, limit=limit, full=full)

    @property
    def options(self) -> tuple[str, ...]:
        """The options of `speclab retry` that select the group."""
        return ("--class", self.error_class.value) if self.error_class is not None else ("--row", self.row or "")

    def __str__(self) -> str:
        return f"as {self.error_class.replace('_', ' ')}" if self.error_class is not None else f"on {self.row}"


@dataclass(frozen=True, slots=True)
class ReplayReport:
    """The result of a replay: a row per record, the last line of output, and why it failed, if it did."""

    rows: Sequence[Record]
    last_line: str
    error: SpeclabError | None

    @property
    def still_open(self) -> Record | None:
        """The first record that failed again."""
        return next(filter(_is_open, self.rows), None)

    def __str__(self) -> str:
        counts = Counter(str(row["became"]) for row in self.rows)
        text = ", ".join(f"{count:,} {became}" for became, count in counts.most_common())
        if (row := self.still_open) is not None:
            location = f"{row['row']}: " if row["row"] else ""
            text = f"{text}. Of those: {location}{row['message']}"
        return text


class Replay:
    """The replays of this session. `results` has the outcome of each replayed failure by id."""

    def __init__(self) -> None:
        self.results: dict[str, str] = {}
        self.in_progress = ""
        self._closed: set[str] = set()

    def why_not(self, state: MappingState) -> str | None:
        """Return why the current record cannot be replayed; None if it can."""
        failure = state.failure
        if failure is None:
            return "these are no dead letters: o opens them as the sample, e in the Monitor opens one here"
        if self.in_progress:
            return f"{self.in_progress} are being replayed"
        if failure.id in self._closed:
            return f"it was replayed, and is {self.results[failure.id]}"
        if state.current_verdict is None:
            return "the sample records are being checked"
        return None if find_passing(state) else "none of the records passes yet"

    def begin(self, records: str) -> None:
        """Mark `records`, in words, as being replayed; `run` follows."""
        self.in_progress = records

    async def run(self, spec_id: str, selection: Sequence[str], workspace: Path, run_log: Path) -> ReplayReport:
        """Run `speclab retry` for `selection` and keep its results."""
        lines: Sequence[str]
        rows: Sequence[Record]
        try:
            launched = launch_retry(spec_id, selection, workspace, run_log)
            error = await launched.end()
            lines, rows = launched.read_lines(), launched.read_rows()
        except SpeclabError as failed:
            error, lines, rows = failed, (), ()
        finally:
            self.in_progress = ""
        self.results |= {str(row["id"]): str(row["became"]) for row in rows}
        self._closed |= {str(row["id"]) for row in rows if not _is_open(row)}
        return ReplayReport(rows, lines[-1] if lines else "", error)


def find_passing(state: MappingState) -> list[int]:
    """Return the indices of the samples that failed as the current record did and pass the mapping now."""
    if state.failure is None or state.current_verdict is None:
        return []
    similar = SimilarFailures.of(state.failure)
    failing = {number for numbers in state.current_verdict.failing.values() for number in numbers}
    return [
        number
        for number, other in enumerate(state.samples.failures)
        if number not in failing and SimilarFailures.of(other) == similar
    ]


def _is_open(row: Record) -> bool:
    """Return whether the failure in a row of `speclab retry --json` is still open."""
    return FailureState(str(row["state"])).is_open
