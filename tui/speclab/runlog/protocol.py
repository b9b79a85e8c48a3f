"""`RunStore`: what a run needs of its store, and the store of a dry run, which keeps nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Protocol

from speclab.core.json import Json, Record
from speclab.core.locks import ProcessIdentity
from speclab.core.outcome import ErrorClass, Level, RunState
from speclab.runlog.rows import (
    FailureRow,
    FullScan,
    MissingRecord,
    NewFailure,
    PageResult,
    RetryResult,
    RunRow,
    ScanCounts,
)


class RunStoreView(Protocol):
    """What a run reads from earlier runs of a spec."""

    def get_cursor(self, spec_id: str) -> Json:
        """Return the cursor that the next run resumes from; None to read from the start."""

    def get_route(self, spec_id: str) -> str | None:
        """Return the fingerprint of the source and target that the cursor belongs to; None if not recorded."""

    def get_field_profile(self, spec_id: str) -> Json:
        """Return the field profile saved last; None if no run saved one."""

    def get_last_run_state(self, spec_id: str) -> RunState | None:
        """Return the state of the latest run that has ended; None if no run has."""

    def get_hashes(self, spec_id: str, keys: Sequence[str]) -> dict[str, bytes]:
        """Return the hash of the record at the target, for those of `keys` that are known to be there."""

    def get_unknown_failures(self, spec_id: str, keys: Sequence[str]) -> list[FailureRow]:
        """Return the open failures of `keys` whose outcome is unknown, with the payload that was sent."""

    def get_due_failures(self, spec_id: str, now: datetime | str, limit: int = 100) -> list[FailureRow]:
        """Return records of the retry queue that are due at `now`, the longest due first, in full."""

    def count_due_failures(self, spec_id: str, now: datetime) -> int:
        """Return how many records of the retry queue are due at `now`."""

    def get_missing(self, spec_id: str, limit: int, after: str = "") -> list[MissingRecord]:
        """Return the first missing records that are not handled yet, with a key greater than `after`."""

    def get_tombstones(self, spec_id: str, keys: Sequence[str]) -> dict[str, Record]:
        """Return the identity at the target of those of `keys` that are missing and were to be deleted."""


class RunStore(RunStoreView, Protocol):
    """The calls that a sync run makes: one `commit_page` per batch, one `commit_retries` per group of retries.

    Each writing call is atomic. Implementations raise `RunLogError` if the store cannot be read or written.
    """

    def register(self, spec_id: str, *, title: str, path: str, status: str, schedule: str) -> None:
        """Record the title, the spec file, the status and the schedule of an integration."""

    def start_run(self, spec_id: str, spec_hash: str, trigger: str) -> str:
        """Start a run of this process and return its id."""

    def save_spec_version(self, spec_hash: str, spec: str) -> None:
        """Keep the text of a spec, so that a run can show what it ran."""

    def commit_page(self, run: str, page: PageResult) -> None:
        """Record the outcomes, failures, record states and cursor of one page.

        Raise `ValueError` if a waiting, dead or unknown record has no failure, or a key has two failures.
        """

    def commit_retries(self, run: str, results: Sequence[RetryResult], message: str = "") -> None:
        """Record the results of retries that `run` made.

        Raise `UsageError` for a failure that does not exist, and `ValueError` for a result that failed again without
        a new failure.
        """

    def save_progress(self, run: str, progress: Record) -> RunRow:
        """Store the progress of a run within its page, and return its row, with requests to cancel it."""

    def finish_run(
        self,
        run: str,
        error: str | None = None,
        state: RunState | None = None,
        error_class: ErrorClass | None = None,
    ) -> RunRow:
        """End a run, check that its counts match, and return its final row."""

    def mark_interrupted(self, is_running: Callable[[str, ProcessIdentity], bool] | None = None) -> list[RunRow]:
        """Mark runs whose process is gone as interrupted, and return them."""

    def log_event(
        self,
        spec_id: str,
        run: str | None,
        level: Level,
        kind: str,
        message: str,
        fields: Mapping[str, Json] | None = None,
    ) -> None:
        """Append one line to the event log."""

    def save_field_profile(self, spec_id: str, profile: Json) -> None:
        """Replace the field profile of an integration's source."""

    def set_hashes(self, spec_id: str, states: Mapping[str, bytes | None]) -> None:
        """Set hashes of records at the target: `UNKNOWN_HASH` before a write, None to forget the record."""

    def open_full_scan(self, spec_id: str, target: str) -> FullScan:
        """Return the state of full scans whose missing records are deleted at `target`; reset it for a new target."""

    def count_scan(self, run: str, deleted: bytes) -> ScanCounts:
        """Return the counts after a full scan; `deleted` is the hash of a record that was deleted at the target."""


class DryRunStore:
    """A `RunStore` that reads record states, cursor and field profile from `real` and writes only to `scratch`.

    Each failure is passed to `on_failure`, because the scratch store is deleted afterwards.
    """

    def __init__(self, real: RunStoreView, scratch: RunStore, on_failure: Callable[[NewFailure], None]) -> None:
        self._real = real
        self._scratch = scratch
        self._on_failure = on_failure

    def get_cursor(self, spec_id: str) -> Json:
        """Return the cursor that the next real run resumes from."""
        return self._real.get_cursor(spec_id)

    def get_route(self, spec_id: str) -> str | None:
        """Return the route that the real cursor belongs to."""
        return self._real.get_route(spec_id)

    def get_field_profile(self, spec_id: str) -> Json:
        """Return the field profile of real runs."""
        return self._real.get_field_profile(spec_id)

    def get_hashes(self, spec_id: str, keys: Sequence[str]) -> dict[str, bytes]:
        """Return the hashes of records at the real target."""
        return self._real.get_hashes(spec_id, keys)

    def get_last_run_state(self, spec_id: str) -> RunState | None:
        """Return the state of the latest run in the scratch store."""
        return self._scratch.get_last_run_state(spec_id)

    def get_unknown_failures(self, spec_id: str, keys: Sequence[str]) -> list[FailureRow]:
        """Return failures of this dry run; see `RunStoreView`."""
        return self._scratch.get_unknown_failures(spec_id, keys)

    def get_due_failures(self, spec_id: str, now: datetime | str, limit: int = 100) -> list[FailureRow]:
        """Return failures of this dry run; see `RunStoreView`."""
        return self._scratch.get_due_failures(spec_id, now, limit)

    def count_due_failures(self, spec_id: str, now: datetime) -> int:
        """Return the number of failures of this dry run; see `RunStoreView`."""
        return self._scratch.count_due_failures(spec_id, now)

    def get_missing(self, spec_id: str, limit: int, after: str = "") -> list[MissingRecord]:
        """Return missing records of this dry run; see `RunStoreView`."""
        return self._scratch.get_missing(spec_id, limit, after)

    def get_tombstones(self, spec_id: str, keys: Sequence[str]) -> dict[str, Record]:
        """Return tombstones of this dry run; see `RunStoreView`."""
        return self._scratch.get_tombstones(spec_id, keys)

    def register(self, spec_id: str, *, title: str, path: str, status: str, schedule: str) -> None:
        """Register the integration in the scratch store."""
        self._scratch.register(spec_id, title=title, path=path, status=status, schedule=schedule)

    def start_run(self, spec_id: str, spec_hash: str, trigger: str) -> str:
        """Start the dry run and return its id."""
        return self._scratch.start_run(spec_id, spec_hash, trigger)

    def save_spec_version(self, spec_hash: str, spec: str) -> None:
        """Keep nothing: the real run saves its spec."""

    def commit_page(self, run: str, page: PageResult) -> None:
        """Report each failure of the page, and count its outcomes."""
        for failure in page.failures:
            self._on_failure(failure)
        self._scratch.commit_page(run, page)

    def commit_retries(self, run: str, results: Sequence[RetryResult], message: str = "") -> None:
        """Record retries of this dry run."""
        self._scratch.commit_retries(run, results, message)

    def save_progress(self, run: str, progress: Record) -> RunRow:
        """Store the progress of the dry run."""
        return self._scratch.save_progress(run, progress)

    def finish_run(
        self,
        run: str,
        error: str | None = None,
        state: RunState | None = None,
        error_class: ErrorClass | None = None,
    ) -> RunRow:
        """End the dry run and return its row."""
        return self._scratch.finish_run(run, error, state, error_class)

    def mark_interrupted(self, is_running: Callable[[str, ProcessIdentity], bool] | None = None) -> list[RunRow]:
        """Mark interrupted runs of the scratch store."""
        return self._scratch.mark_interrupted(is_running)

    def log_event(
        self,
        spec_id: str,
        run: str | None,
        level: Level,
        kind: str,
        message: str,
        fields: Mapping[str, Json] | None = None,
    ) -> None:
        """Append one line to the event log of the scratch store."""
        self._scratch.log_event(spec_id, run, level, kind, message, fields)

    def save_field_profile(self, spec_id: str, profile: Json) -> None:
        """Save the field profile in the scratch store, where nothing reads it."""
        self._scratch.save_field_profile(spec_id, profile)

    def set_hashes(self, spec_id: str, states: Mapping[str, bytes | None]) -> None:
        """Set hashes in the scratch store, where nothing reads them."""
        self._scratch.set_hashes(spec_id, states)

    def open_full_scan(self, spec_id: str, target: str) -> FullScan:
        """Return the full scans of the scratch store."""
        return self._scratch.open_full_scan(spec_id, target)

    def count_scan(self, run: str, deleted: bytes) -> ScanCounts:
        """Return the counts of the scratch store."""
        return self._scratch.count_scan(run, deleted)
