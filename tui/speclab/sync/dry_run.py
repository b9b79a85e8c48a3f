"""The dry run: the same run, against a target that only nods and a run log that is thrown away."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from speclab.connectors.api import MappedRecord, Report, WriteResult
from speclab.core.json import Json
from speclab.core.outcome import Effect, Level
from speclab.runlog import PageResult, RunLog

_NOD: Final = WriteResult(effect=Effect.WRITTEN)


class NullWriter:
    """A target that takes everything and keeps nothing."""

    batch = 1000
    idempotent = True
    keyed = False
    deletes = True

    async def write(self, items: Sequence[MappedRecord]) -> Sequence[WriteResult]:
        """A good answer for each."""
        return [_NOD] * len(items)

    async def close(self) -> None:
        """Nothing is open."""


class DryRunLog(RunLog):
    """A run log of its own that knows what the real one knows, and tells failures instead of keeping them for later."""

    real: RunLog
    report: Report

    def checkpoint(self, spec_id: str) -> Json:
        """Where the real run would go on."""
        return self.real.checkpoint(spec_id)

    def way(self, spec_id: str) -> str | None:
        """Which way that is."""
        return self.real.way(spec_id)

    def usual(self, spec_id: str) -> Json:
        """What real runs learned."""
        return self.real.usual(spec_id)

    def hashes(self, spec_id: str, keys: Sequence[str]) -> dict[str, bytes]:
        """What is really at the target."""
        return self.real.hashes(spec_id, keys)

    def commit_page(self, run: str, page: PageResult) -> None:
        """Count, and tell each failure with its place."""
        for failure in page.failures:
            place = f"{failure.file}:{failure.line}" + (f":{failure.column}" if failure.column else "")
            blame = f"{failure.row}: " if failure.row else ""
            self.report(Level.ERROR, f"{place}: {failure.key}: {blame}{failure.message}")
        super().commit_page(run, page)


@contextmanager
def dry_run_log(real: RunLog, report: Report) -> Iterator[RunLog]:
    """A run log for a dry run of what `real` is the run log of."""
    with (
        TemporaryDirectory(prefix="speclab-dry-run-") as directory,
        DryRunLog.open(Path(directory) / "runlog.db") as log,
    ):
        log.real, log.report = real, report
        yield log
