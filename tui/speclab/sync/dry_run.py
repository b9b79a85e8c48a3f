"""The dry run: a run with a target that accepts every record, and a run store that is discarded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from speclab.connectors.api import MappedRecord, Report, WriteResult
from speclab.core.outcome import Effect, Level
from speclab.runlog import DryRunStore, NewFailure, RunLog, RunStore, RunStoreView

_WRITTEN: Final = WriteResult(effect=Effect.WRITTEN)


class NullWriter:
    """A writer that accepts every record and writes nothing."""

    batch = 1000
    idempotent = True
    keyed = False
    deletes = True

    async def write(self, records: Sequence[MappedRecord]) -> Sequence[WriteResult]:
        """Return that each record was written."""
        return [_WRITTEN] * len(records)

    async def close(self) -> None:
        """Do nothing: nothing is open."""


@contextmanager
def dry_run_store(real: RunStoreView, report: Report) -> Iterator[RunStore]:
    """Open a store for a dry run against the state in `real`: failures are reported, nothing is kept."""

    def report_failure(failure: NewFailure) -> None:
        location = f"{failure.file}:{failure.line}" + (f":{failure.column}" if failure.column else "")
        row = f"{failure.row}: " if failure.row else ""
        report(Level.ERROR, f"{location}: {failure.key}: {row}{failure.message}")

    with (
        TemporaryDirectory(prefix="speclab-dry-run-") as directory,
        RunLog.open(Path(directory) / "runlog.db") as scratch,
    ):
        yield DryRunStore(real, scratch, report_failure)
