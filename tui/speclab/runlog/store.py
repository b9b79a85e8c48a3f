"""`RunLog`: writes the run log, through one connection per process, in short transactions.

After each transaction, the counts of every run match the outcomes of its records.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from datetime import datetime
from itertools import chain
from os import PathLike, getpid
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from speclab.core.clock import Clock, SystemClock, format_timestamp
from speclab.core.errors import RunLogError, RunLogTooOld, UsageError
from speclab.core.json import Json, Record
from speclab.core.locks import ProcessIdentity, is_alive
from speclab.core.outcome import ErrorClass, FailureState, Level, Outcome, RunState
from speclab.runlog import accounting, runs
from speclab.runlog.connection import DESTINATION_EVENT, EventTable, IdGenerator, WriteConnection, open_for_writing
from speclab.runlog.outbox import Outbox, add_silence, end_silences, prune_notices, save_alerts
from speclab.runlog.private import PrivateRecords, mask_message
from speclab.runlog.reader import RunLogReader
from speclab.runlog.retention import KeptSince, Pruned, prune
from speclab.runlog.rows import (
    AlertRow,
    FullScan,
    NewNotice,
    PageResult,
    ReconciliationRow,
    RetryResult,
    RunRow,
    ScanCounts,
    SilenceRow,
)
from speclab.runlog.runs import EarlierRuns, ReportedRun, report_run
from speclab.runlog.schema import DEFAULT_FLOW

if TYPE_CHECKING:
    from speclab.runlog.destinations import LogDestination, Write

THIS_PROCESS: Final = 0
"""Stands for the pid of this process, in `RunLog.start_run`."""


class RunLog(EarlierRuns, AbstractContextManager["RunLog"]):
    """The run log at a path, for writing: the SQLite implementation of `RunStore`.

    Any number of processes may write; their transactions take turns. A committed page survives a killed process. It
    survives a power cut only after SQLite's next checkpoint (`synchronous = NORMAL`): the last pages may be lost, each
    as a whole and together with its cursor. They are read and sent again with the same idempotency keys.

    Methods may be called from any thread. They raise `RunLogError` if the file cannot be written, and if it was
    deleted or replaced, because writes to the old file would be lost.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        path: Path,
        clock: Clock,
        on_retries: Callable[[Sequence[RetryResult]], None] | None = None,
    ) -> None:
        super().__init__(WriteConnection(connection, path, self._on_commit, self._on_rollback), PrivateRecords(path))
        self.path = path
        self._on_retries = on_retries
        self._db = connection
        self._transaction = self._connection.transaction
        self._clock = clock
        self._ids = IdGenerator(clock)
        self._events = EventTable()

    @classmethod
    def open(
        cls,
        path: str | PathLike[str],
        clock: Clock | None = None,
        *,
        on_retries: Callable[[Sequence[RetryResult]], None] | None = None,
    ) -> Self:
        """Open the run log at `path`: create it with its directory if it is missing, and migrate an older one.

        `on_retries` is called with the results of retries after each `commit_retries`.
        Raises `RunLogTooNew` if a newer speclab wrote it, and `RunLogError` if it is empty or cannot be opened.
        """
        path = Path(path)
        return cls(open_for_writing(path), path, clock or SystemClock(), on_retries)

    @classmethod
    def reader(cls, path: str | PathLike[str]) -> RunLogReader:
        """Return a reader of the run log at `path`; migrate the run log first if an older speclab wrote it.

        Raises like `RunLogReader.open`, and like `open` if it cannot be migrated.
        """
        try:
            return RunLogReader.open(path)
        except RunLogTooOld:
            cls.open(path).close()
        return RunLogReader.open(path)

    def close(self) -> None:
        """Close the file."""
        self._db.close()
        self._private.close()
        self._events.close()

    def send_events(self, spec_id: str, destination: LogDestination, write: Write | None = None) -> None:
        """Send the events of an integration that this process logs also to `destination`; `write` prints a line.

        A destination that cannot be written is reported in the event log.
        """
        self._events.add_destination(spec_id, destination, write, self._report)

    def __exit__(self, *_: object) -> None:
        self.close()

    def register(self, spec_id: str, *, title: str, path: str, status: str, schedule: str) -> None:
        """Save the title, the path of the spec, the status and the schedule of an integration."""
        with self._transaction() as db:
            runs.touch(db, spec_id, self._now())
            runs.save_description(db, spec_id, title=title, path=path, status=status, schedule=schedule)

    def pause(self, spec_id: str, by: str, reason: str = "") -> bool:
        """Have `speclab up` skip an integration until `resume`. Return False if it was paused already."""
        with self._transaction() as db:
            if runs.is_paused(db, spec_id):
                return False
            at = self._now()
            runs.pause(db, spec_id, at, by, reason)
            message = f"paused by {by}: {reason}" if reason else f"paused by {by}"
            self._events.add(db, at, spec_id, None, Level.INFO, "pause", message, {"paused": True})
        return True

    def resume(self, spec_id: str, by: str) -> bool:
        """End a pause. Return False if the integration was not paused."""
        with self._transaction() as db:
            if not runs.is_paused(db, spec_id):
                return False
            at = self._now()
            runs.resume(db, spec_id, at)
            self._events.add(db, at, spec_id, None, Level.INFO, "pause", f"resumed by {by}", {"paused": False})
        return True

    def start_run(
        self,
        spec_id: str,
        spec_hash: str,
        trigger: str,
        *,
        pid: int | None = THIS_PROCESS,
        flow: str = DEFAULT_FLOW,
    ) -> str:
        """Start a run and return its id.

        A run with the `pid` of its process is marked as interrupted once that process is gone. A run with None, such
        as a run reported by a script, stays open until `finish_run`.
        """
        process = None if pid is None else ProcessIdentity.of(pid or getpid())
        run = self._ids.generate()
        with self._transaction() as db:
            flow_id = self._touch_flow(db, spec_id, flow)
            self._states.begin_run(db, flow_id)
            at = self._now()
            runs.add_run(db, accounting.RunEntry(run, spec_id, spec_hash, flow, flow_id, at), trigger, process)
            self._events.add(db, at, spec_id, run, Level.INFO, "state", f"started by {trigger}", {"state": "running"})
        return run

    def save_spec_version(self, spec_hash: str, spec: str) -> None:
        """Keep the text of a spec, so that a run can show what it ran."""
        if self.get_spec_version(spec_hash) is None:
            with self._transaction() as db:
                runs.save_spec_version(db, spec_hash, spec, self._now())

    def commit_page(self, run: str, page: PageResult) -> None:
        """Record the outcomes, failures, record states and cursor of one page, in one transaction.

        Raises `ValueError` if the page counts a waiting, dead or unknown record without a failure, or has two failures
        of one key.
        """
        accounting.validate_page(page)
        with self._transaction() as db:
            entry = self._get_entry(db, run)
            accounting.add_counts(db, run, entry.spec_id, entry.flow, entry.at, accounting.count_page(page))
            accounting.supersede(
                db, entry, chain(page.keys, (key for key, _ in page.states), (f.key for f in page.failures))
            )
            ids = [self._ids.generate() for _ in page.failures]
            stored = self._private.protect(list(zip(ids, page.failures, strict=True)))
            accounting.add_failures(db, entry, stored, ids)
            self._states.add(db, entry.flow_id, page.states, page.targets)
            if not page.keep_cursor:
                runs.move_cursor(db, entry, page.cursor, page.route)
            if page.seen is not None:
                self._source_keys.add(db, entry.flow_id, page.seen, moves=not page.keep_cursor)
            elif not page.keep_cursor:
                self._source_keys.interrupt_scan(db, entry.flow_id)
            if page.tombstones:
                self._source_keys.mark_handled(db, entry.flow_id, page.tombstones, [key for key, _ in page.states])
            if page.total is not None:
                db.execute("UPDATE run SET total = ? WHERE id = ?", (page.total, run))
            if message := mask_message(page.message, page.failures, stored):
                fields = {"read": page.read} | {outcome.value: n for outcome, n in page.outcomes.items() if n}
                level = Level.WARNING if page.failures else Level.INFO
                self._events.add(db, entry.at, entry.spec_id, run, level, "page", message, fields)

    def commit_retries(self, run: str, results: Sequence[RetryResult], message: str = "") -> None:
        """Record the results of retries that `run` made, in one transaction; see `accounting.commit_retry`.

        Raises `UsageError` for a failure that does not exist, and `ValueError` as `accounting.validate_retries`.
        """
        accounting.validate_retries(results)
        with self._transaction() as db:
            entry = self._get_entry(db, run)
            failed = [(one.failure, one.new_failure) for one in results if one.new_failure is not None]
            stored = dict(zip((id_ for id_, _ in failed), self._private.protect(failed), strict=True))
            for result in results:
                accounting.commit_retry(db, entry, replace(result, new_failure=stored.get(result.failure)))
            states = [one.state for one in results if one.state is not None]
            targets = {one.state[0]: one.target for one in results if one.state is not None and one.target is not None}
            self._states.add(db, entry.flow_id, states, targets)
            if message:
                tried = {"tried": len(results)}
                self._events.add(db, entry.at, entry.spec_id, run, Level.INFO, "retry", message, tried)
        if self._on_retries is not None:
            self._on_retries(results)

    def save_progress(self, run: str, progress: Record) -> RunRow:
        """Store the progress of a run within its page, if it changed, and return its row."""
        with self._connection.reading() as db:
            row = runs.get_run(db, run)
        if row.progress == progress:
            return row
        with self._transaction() as db:
            return runs.save_progress(db, run, progress)

    def cancel(self, spec_id: str, by: str, *, now: bool = False) -> list[RunRow]:
        """Ask the running runs of an integration to stop, and return them.

        At the first request they finish the page in progress; with `now`, or at the second, they stop at once. Runs
        look for requests once a second.
        """
        with self._transaction() as db:
            cancelled = runs.request_cancel(db, spec_id, now=now)
            for run in cancelled:
                runs.touch(db, spec_id, self._now())
                message, fields = runs.describe_cancel(run, by)
                self._events.add(db, self._now(), spec_id, run.run, Level.INFO, "cancel", message, fields)
        return cancelled

    def finish_run(
        self,
        run: str,
        error: str | None = None,
        state: RunState | None = None,
        error_class: ErrorClass | None = None,
    ) -> RunRow:
        """End a run, check that its counts match, and return its final row.

        Without a `state`, it is failed if there is an `error`, partial if records are waiting, dead or unknown, and
        succeeded otherwise. A run whose counts do not match is failed in any case. A failed run counts as an error, of
        `error_class` if it has one.
        """
        with self._transaction() as db:
            entry = self._get_entry(db, run)
            row = runs.get_run(db, run)
            state, error = runs.decide_state(row, state, error)
            ended = self._end_run(db, entry, row, state, error, error_class)
        self._delete_private(ended.spec_id)
        return ended

    def mark_interrupted(self, is_running: Callable[[str, ProcessIdentity], bool] | None = None) -> list[RunRow]:
        """Mark runs whose process is gone as interrupted, and return them.

        `is_running` decides whether a run is still running, by its spec_id and process; the default is `is_alive`.
        """
        ended: list[RunRow] = []
        with self._transaction() as db:
            for row, process in runs.get_processes(db):
                if not (is_running(row.spec_id, process) if is_running else is_alive(process)):
                    error = f"process {process.pid} on {process.host} died before finishing the run"
                    ended.append(self._end_run(db, self._get_entry(db, row.run), row, RunState.INTERRUPTED, error))
        return ended

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
        with self._transaction() as db:
            runs.touch(db, spec_id, self._now())
            self._events.add(db, self._now(), spec_id, run, level, kind, message, fields or {})

    def clear_checkpoint(self, spec_id: str, flow: str = DEFAULT_FLOW) -> None:
        """Delete the cursor: the next run reads from the start."""
        with self._transaction() as db:
            runs.touch(db, spec_id, self._now())
            db.execute("DELETE FROM checkpoint WHERE spec_id = ? AND flow = ?", (spec_id, flow))

    def save_field_profile(self, spec_id: str, profile: Json) -> None:
        """Replace the field profile of an integration's source."""
        with self._transaction() as db:
            runs.save_field_profile(db, spec_id, profile)

    def open_full_scan(self, spec_id: str, target: str, flow: str = DEFAULT_FLOW) -> FullScan:
        """Return the state of full scans whose missing records are deleted at `target`; reset it for a new target."""
        with self._transaction() as db:
            return self._source_keys.open_full_scan(db, self._touch_flow(db, spec_id, flow), target)

    def count_scan(self, run: str, deleted: bytes) -> ScanCounts:
        """Return how many records are missing after a full scan of `run`, which is still running; see `RunStore`."""
        with self._transaction() as db:
            flow_id = self._get_entry(db, run).flow_id
            self._states.merge(db, flow_id)
            return self._source_keys.count_scan(db, flow_id, run, deleted)

    def set_hashes(self, spec_id: str, states: Mapping[str, bytes | None], flow: str = DEFAULT_FLOW) -> None:
        """Set hashes of records at the target: `UNKNOWN_HASH` before a write, None to forget the record."""
        if states:
            with self._transaction() as db:
                flow_id = self._touch_flow(db, spec_id, flow)
                self._states.add(db, flow_id, [(key, hash_) for key, hash_ in states.items() if hash_ is not None])
                self._states.drop(db, flow_id, [key for key, hash_ in states.items() if hash_ is None])

    def discard(self, failures: Sequence[str], reason: str) -> int:
        """Discard open failures, by id, for a reason. Return how many were open."""
        return self._change_states(failures, FailureState.DISCARDED, Outcome.DEAD, f"discarded: {reason}")

    def requeue(self, failures: Sequence[str]) -> int:
        """Move open failures, by id, to the front of the retry queue, including dead letters. Return how many."""
        return self._change_states(failures, FailureState.WAITING, Outcome.WAITING, "put back into the retry queue")

    @property
    def outbox(self) -> Outbox:
        """The notifications to deliver."""
        return Outbox(self._transaction)

    def save_alerts(
        self,
        spec_id: str,
        alerts: Sequence[AlertRow],
        notices: Sequence[NewNotice] = (),
        expected: Mapping[str, AlertRow] | None = None,
    ) -> bool:
        """Replace the alerts of an integration, log those that started or stopped firing, and queue `notices`.

        Return False, without a change, if its alerts are not the `expected` ones, by name, any more.
        """
        with self._transaction() as db:
            runs.touch(db, spec_id, self._now())
            changes = save_alerts(db, spec_id, alerts, notices, expected, self._now())
            for change in changes or ():
                fields: dict[str, Json] = {"state": change.state.value}
                self._events.add(db, self._now(), spec_id, None, change.level, "alert", change.message, fields)
        return changes is not None

    def silence(self, spec_id: str, alert: str | None, until: datetime, by: str, reason: str) -> None:
        """Have an alert, or all alerts of an integration (None), notify nobody until `until`."""
        with self._transaction() as db:
            runs.touch(db, spec_id, self._now())
            at, end = self._now(), format_timestamp(until)
            end_silences(db, spec_id, alert, at)
            add_silence(db, SilenceRow(0, spec_id, alert, at, end, by, reason))
            message = f"{alert or 'all alerts'}: silenced until {end} by {by}: {reason}"
            self._events.add(db, at, spec_id, None, Level.INFO, "silence", message, {"alert": alert, "until": end})

    def end_silence(self, spec_id: str, alert: str | None, by: str) -> bool:
        """End the silence of an alert, or the one of all alerts (None). Return False if there was none."""
        with self._transaction() as db:
            at = self._now()
            if not end_silences(db, spec_id, alert, at):
                return False
            runs.touch(db, spec_id, self._now())
            message = f"{alert or 'all alerts'}: no longer silenced, by {by}"
            self._events.add(db, at, spec_id, None, Level.INFO, "silence", message, {"alert": alert, "until": None})
        return True

    def save_reconciliation(self, row: ReconciliationRow, message: str) -> None:
        """Keep the result of a comparison of source and target, with an event."""
        with self._transaction() as db:
            runs.touch(db, row.spec_id, self._now())
            runs.add_reconciliation(db, row)
            level = Level.WARNING if row.differences else Level.INFO
            self._events.add(db, self._now(), row.spec_id, None, level, "reconcile", message, dict(row.counts))

    def prune(
        self,
        spec_id: str,
        *,
        retention: float,
        failures: float,
        runs: float | None = None,
        payloads: float | None = None,
    ) -> Pruned:
        """Delete rows that are older than the Logging section of an integration allows, in seconds.

        `runs` are kept as long as events (`retention`) by default, the records of closed failures (`payloads`) as long
        as `failures`. See `retention.prune` for rows that are kept regardless of their age.
        """
        now = self._clock.now()
        ages = KeptSince.before(now, retention, failures, runs=runs, payloads=payloads)
        with self._transaction() as db:
            prune_notices(db, spec_id, ages.events)
        pruned = prune(self._transaction, spec_id, ages, format_timestamp(now))
        self._delete_private(spec_id)
        return pruned

    @contextmanager
    def run(self, spec_id: str, *, title: str = "", trigger: str = "script") -> Iterator[ReportedRun]:
        """Report a run of a script, from its start to its end.

        >>> with RunLog.open(".speclab/runlog.db") as log, log.run("nightly-export") as run:
        ...     run.add(read=120, written=119)
        ...     run.fail("c_8841", "no such country: XX", source={"id": "c_8841", "country": "XX"})

        An exception ends it as failed and is raised again. At the end its counts must match, like those of any run.
        """
        if title:
            self.register(spec_id, title=title, path="", status="", schedule="")
        with report_run(self, spec_id, self.start_run(spec_id, "", trigger)) as run:
            yield run

    def _on_commit(self) -> None:
        self._events.send()

    def _on_rollback(self) -> None:
        self._states.reset()
        self._source_keys.reset()
        self._events.discard()

    def _change_states(self, failures: Sequence[str], state: FailureState, outcome: Outcome, message: str) -> int:
        """Change the state of open failures, and their outcome if the run that counts them is still running."""
        with self._transaction() as db:
            at = self._now()
            self._states.resolve_unknown(db, failures, arrived=state is FailureState.DISCARDED)
            changed = accounting.change_states(db, failures, state, outcome, at)
            for spec_id, count in changed.items():
                runs.touch(db, spec_id, self._now())
                self._events.add(db, at, spec_id, None, Level.INFO, state.value, f"{count} {message}", {"count": count})
        if state is FailureState.DISCARDED and changed:
            self._delete_private(next(iter(changed)))
        return changed.total()

    def _now(self) -> str:
        return format_timestamp(self._clock.now())

    def _get_entry(self, db: sqlite3.Connection, run: str) -> accounting.RunEntry:
        """Return the run that this transaction counts for. Raise `UsageError` if it is not running."""
        entry = runs.touch_run(db, run, self._now())
        if entry is None:
            raise UsageError(f"{self.path}: run {run} does not exist or has ended")
        return entry

    def _touch_flow(self, db: sqlite3.Connection, spec_id: str, flow: str) -> int:
        """Return the id of a flow that this transaction changes."""
        runs.touch(db, spec_id, self._now())
        return runs.add_flow(db, spec_id, flow)

    def _end_run(
        self,
        db: sqlite3.Connection,
        entry: accounting.RunEntry,
        row: RunRow,
        state: RunState,
        error: str | None,
        error_class: ErrorClass | None = None,
    ) -> RunRow:
        self._states.end_run(db, entry.flow_id)
        level, message, fields = runs.describe_end(state, error, error_class)
        self._events.add(db, entry.at, entry.spec_id, entry.run, level, "state", message, fields)
        return runs.end_run(db, entry, row, state, error, error_class)

    def _report(self, spec_id: str, message: str) -> None:
        self.log_event(spec_id, None, Level.WARNING, DESTINATION_EVENT, message)

    def _delete_private(self, spec_id: str) -> None:
        """Delete the masked values of closed failures, in a transaction: other processes save them in theirs."""
        if not self._private.path.exists():
            return
        try:
            with self._transaction() as db:
                self._private.delete_closed(lambda ids: accounting.find_open(db, ids))
        except RunLogError as error:
            self._report(spec_id, f"masked values of closed failures are kept until the next run: {error.message}")
