"""The run log as it is written: by one connection a process, in short transactions that each leave balanced books."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from itertools import chain
from os import PathLike, getpid
from pathlib import Path
from threading import RLock
from types import TracebackType
from typing import Any, Final, Self

from speclab.core.clock import Clock, SystemClock, format_timestamp
from speclab.core.errors import RunLogTooOld, UsageError
from speclab.core.json import Json, Record
from speclab.core.locks import ProcessIdentity, is_alive
from speclab.core.outcome import ErrorClass, FailureState, Level, Outcome, RunState
from speclab.core.state_files import make_private_directory
from speclab.runlog import accounting, integrations, migrations, runs, schema
from speclab.runlog.connection import (
    Ids,
    as_json,
    create_if_missing,
    file_id,
    refuse_empty,
    refuse_linked,
    refuse_other,
    telling,
    text,
)
from speclab.runlog.reader import RunLogReader
from speclab.runlog.record_state import RecordStates
from speclab.runlog.report import ReportedRun
from speclab.runlog.retention import Pruned, prune
from speclab.runlog.rows import (
    FAILURE_COLUMNS,
    AlertRow,
    BatchState,
    FailureRow,
    FullScan,
    MissingRecord,
    PageResult,
    RetryResult,
    RunRow,
    ScanCounts,
    failure_row,
)
from speclab.runlog.schema import DEFAULT_FLOW
from speclab.runlog.source_keys import SourceKeys

THIS_PROCESS: Final = 0
"""The pid to give for this very process, whichever it is."""

_BUSY_SECONDS: Final = 10.0
_WAL_PAGES: Final = 4000  # 16 MB between checkpoints: fewer syncs, and pages of record_state written once, not often
_DUE: Final = "failure WHERE spec_id = ? AND flow = ? AND state = 'waiting' AND next_attempt_at <= ?"


class RunLog:
    """The run log at a path, to be written. Any number of processes may; each transaction waits its turn.

    A page's transaction is durable against a killed process at once. Against a power cut it is only after SQLite's
    next checkpoint (`synchronous = NORMAL`): the last pages may be gone then, whole, and the cursor with them. They
    are read and sent again with the same idempotency keys, like any page in doubt.

    Methods may be called from any thread. They raise `RunLogError` when the file cannot be written, and when it was
    deleted or replaced: what is written to a file that nobody can open any more is lost.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        path: Path,
        clock: Clock,
        on_retries: Callable[[Sequence[RetryResult]], None] | None = None,
    ) -> None:
        self.path = path
        self._on_retries = on_retries
        self._db = connection
        self._clock = clock
        self._ids = Ids(clock)
        self._states = RecordStates()
        self._source_keys = SourceKeys()
        self._lock = RLock()
        self._file = file_id(path)

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
        Raises `RunLogTooNew` if a newer speclab wrote it, and `RunLogError` if it is empty, something else or out of
        reach.
        """
        path = Path(path)
        with telling(path):
            refuse_linked(path)
            make_private_directory(path.parent)
            create_if_missing(path)
            refuse_empty(path, path.stat().st_size)
            connection = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)
            try:
                schema.read_version(connection, path)  # before anything is changed: it may be somebody else's file
                connection.execute("PRAGMA journal_mode = WAL")
                connection.execute("PRAGMA synchronous = NORMAL")
                connection.execute(f"PRAGMA wal_autocheckpoint = {_WAL_PAGES}")
                connection.execute("PRAGMA cache_size = -8000")
                connection.execute("PRAGMA secure_delete = FAST")
                migrations.ensure_current(connection, path)
            except BaseException:
                connection.close()
                raise
        return cls(connection, path, clock or SystemClock(), on_retries)

    @classmethod
    def reader(cls, path: str | PathLike[str]) -> RunLogReader:
        """A reader of the run log at `path`, which is brought up to date first if an older speclab wrote it.

        Raises as `RunLogReader.open`, and as `open` where it cannot be brought up to date.
        """
        try:
            return RunLogReader.open(path)
        except RunLogTooOld:
            cls.open(path).close()
        return RunLogReader.open(path)

    def close(self) -> None:
        """Give the file back."""
        self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def register(self, spec_id: str, *, title: str, path: str, status: str, schedule: str) -> None:
        """Say what an integration is called, where its spec is, and when it runs."""
        with self._transaction() as db:
            self._touch(db, spec_id)
            integrations.save_description(db, spec_id, title=title, path=path, status=status, schedule=schedule)

    def pause(self, spec_id: str, by: str, reason: str = "") -> bool:
        """Have `speclab up` leave an integration alone until `resume`; False if it did already, and nothing changed."""
        with self._transaction() as db:
            if integrations.is_paused(db, spec_id):
                return False
            self._touch(db, spec_id)
            at = self._now()
            integrations.pause(db, spec_id, at, by, reason)
            message = f"paused by {by}: {reason}" if reason else f"paused by {by}"
            self._event(db, at, spec_id, None, Level.INFO, "pause", message, {"paused": True})
        return True

    def resume(self, spec_id: str, by: str) -> bool:
        """End a pause; False if there was none."""
        with self._transaction() as db:
            if not integrations.is_paused(db, spec_id):
                return False
            self._touch(db, spec_id)
            integrations.resume(db, spec_id)
            self._event(db, self._now(), spec_id, None, Level.INFO, "pause", f"resumed by {by}", {"paused": False})
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

        With the `pid` of the process that runs it, the run is seen as interrupted when that process is gone; with None
        (a run reported from elsewhere, call by call) it stays open until it is finished.
        """
        process = None if pid is None else ProcessIdentity.of(pid or getpid())
        run = self._ids.new()
        with self._transaction() as db:
            flow_id = self._touch_flow(db, spec_id, flow)
            self._states.begin(db, flow_id)
            at = self._now()
            runs.add_run(db, accounting.RunEntry(run, spec_id, spec_hash, flow, flow_id, at), trigger, process)
            self._event(db, at, spec_id, run, Level.INFO, "state", f"started by {trigger}", {"state": "running"})
        return run

    def save_spec_version(self, spec_hash: str, spec: str) -> None:
        """Keep the text of a spec, so that a run can show what it ran."""
        if self._read_one("SELECT 1 FROM spec_version WHERE hash = ?", (spec_hash,)) is None:
            with self._transaction() as db:
                db.execute(
                    "INSERT INTO spec_version (hash, text, saved_at) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
                    (spec_hash, text(spec), self._now()),
                )

    def get_spec_version(self, spec_hash: str) -> str | None:
        """Return the text of the spec with that hash; None if no run saved it, or retention deleted it."""
        row = self._read_one("SELECT text FROM spec_version WHERE hash = ?", (spec_hash,))
        return row[0] if row else None

    def commit_page(self, run: str, page: PageResult) -> None:
        """Record all that one page came to, in one transaction.

        Raises `ValueError` if the page counts a waiting, dead or unknown record it has no failure for, or has two
        failures of one key.
        """
        accounting.check(page)
        with self._transaction() as db:
            entry = self._entry(db, run)
            accounting.count(db, run, entry.spec_id, entry.flow, entry.at, accounting.page_counts(page))
            accounting.supersede(
                db, entry, chain(page.keys, (key for key, _ in page.states), (f.key for f in page.failures))
            )
            accounting.store(db, entry, page.failures, self._ids)
            self._states.add(db, entry.flow_id, page.states)
            if not page.keep_cursor:
                self._move_cursor(db, entry, page.cursor, page.route)
            if page.seen is not None:
                self._source_keys.add(db, entry.flow_id, page.seen, moves=not page.keep_cursor)
            elif not page.keep_cursor:
                self._source_keys.break_off(db, entry.flow_id)
            if page.tombstones:
                self._source_keys.decided(db, entry.flow_id, page.tombstones, [key for key, _ in page.states])
            if page.total is not None:
                db.execute("UPDATE run SET total = ? WHERE id = ?", (page.total, run))
            if page.message:
                fields = {"read": page.read} | {outcome.value: n for outcome, n in page.outcomes.items() if n}
                level = Level.WARNING if page.failures else Level.INFO
                self._event(db, entry.at, entry.spec_id, run, level, "page", page.message, fields)

    def commit_retries(self, run: str, results: Sequence[RetryResult], message: str = "") -> None:
        """Record what retries came to, in one transaction; `run` is the run that tried again.

        A failure of `run` itself moves from one of its counts to another; one of an earlier run is read once more by
        this one. Raises `UsageError` for a failure that is not there, and `ValueError` where one is said to have failed
        again but not how.
        """
        for result in results:
            failure = result.new_failure
            if result.outcome in accounting.FAILED and (failure is None or failure.state.value != result.outcome.value):
                raise ValueError(f"a retry with the outcome {result.outcome} needs a new failure in that state")
        with self._transaction() as db:
            entry = self._entry(db, run)
            for result in results:
                accounting.settle(db, entry, result)
            self._states.add(db, entry.flow_id, [one.state for one in results if one.state is not None])
            if message:
                self._event(db, entry.at, entry.spec_id, run, Level.INFO, "retry", message, {"tried": len(results)})
        if self._on_retries is not None:
            self._on_retries(results)

    def save_progress(self, run: str, progress: Record) -> RunRow:
        """Store what a run does within its page, if that is news, and return its row."""
        with telling(self.path), self._lock:
            row = runs.get_run(self._db, run)
        if row.progress == progress:
            return row
        with self._transaction() as db:
            return runs.save_progress(db, run, progress)

    def cancel(self, spec_id: str, by: str, *, now: bool = False) -> list[RunRow]:
        """Ask the running runs of an integration to stop, and return them.

        The first time they finish the page in progress; with `now`, or when asked again, they stop at once. A run looks
        once a second for such a request.
        """
        with self._transaction() as db:
            cancelled = runs.request_cancel(db, spec_id, now=now)
            for run in cancelled:
                self._touch(db, spec_id)
                message, fields = runs.describe_cancel(run, by)
                self._event(db, self._now(), spec_id, run.run, Level.INFO, "cancel", message, fields)
        return cancelled

    def finish_run(
        self,
        run: str,
        error: str | None = None,
        state: RunState | None = None,
        error_class: ErrorClass | None = None,
    ) -> RunRow:
        """End a run and check its books, which gives the row as it will stay.

        Without a `state` it is failed if there is an `error`, partial if records are waiting, dead or unknown, and
        succeeded otherwise. Books that do not balance make it failed, whatever else it is. A failed run counts as an
        error, of `error_class` if it has one.
        """
        with self._transaction() as db:
            entry = self._entry(db, run)
            row = runs.get_run(db, run)
            outcomes = row.written + row.unchanged + row.filtered + row.waiting + row.dead + row.unknown
            if row.read != outcomes:
                unbalanced = f"counts do not match: read {row.read}, outcomes {outcomes}"
                error, state = f"{error}; {unbalanced}" if error else unbalanced, RunState.FAILED
            if state is None:
                open_records = row.waiting + row.dead + row.unknown
                state = RunState.FAILED if error else RunState.PARTIAL if open_records else RunState.SUCCEEDED
            return self._end(db, entry, row, state, error, error_class)

    def mark_interrupted(self, is_running: Callable[[str, ProcessIdentity], bool] | None = None) -> list[RunRow]:
        """Mark the runs whose process is gone as interrupted; gives them.

        `is_running` decides whether a run is still running, by its spec_id and process; the default is `is_alive`.
        """
        ended = []
        with self._transaction() as db:
            for row, process in runs.get_processes(db):
                if not (is_running(row.spec_id, process) if is_running else is_alive(process)):
                    error = f"process {process.pid} on {process.host} died before finishing the run"
                    ended.append(self._end(db, self._entry(db, row.run), row, RunState.INTERRUPTED, error))
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
        """Add one line to the event log."""
        with self._transaction() as db:
            self._touch(db, spec_id)
            self._event(db, self._now(), spec_id, run, level, kind, message, fields or {})

    def get_cursor(self, spec_id: str, flow: str = DEFAULT_FLOW) -> Json:
        """The cursor the next run goes on from; None to start from the start."""
        row = self._read_one("SELECT cursor FROM checkpoint WHERE spec_id = ? AND flow = ?", (spec_id, flow))
        cursor: Json = json.loads(row[0]) if row else None
        return cursor

    def get_route(self, spec_id: str, flow: str = DEFAULT_FLOW) -> str | None:
        """The source and the target that the cursor is of, as `PageResult` named them; None where nobody did."""
        row = self._read_one("SELECT route FROM checkpoint WHERE spec_id = ? AND flow = ?", (spec_id, flow))
        return row[0] if row else None

    def clear_checkpoint(self, spec_id: str, flow: str = DEFAULT_FLOW) -> None:
        """Forget the cursor: the next run reads from the start."""
        with self._transaction() as db:
            self._touch(db, spec_id)
            db.execute("DELETE FROM checkpoint WHERE spec_id = ? AND flow = ?", (spec_id, flow))

    def get_field_profile(self, spec_id: str) -> Json:
        """What `learn` was given last; None if it never was."""
        with telling(self.path), self._lock:
            return integrations.get_field_profile(self._db, spec_id)

    def save_field_profile(self, spec_id: str, profile: Json) -> None:
        """Remember what the fields of an integration's source usually are; it takes the place of what was known."""
        with self._transaction() as db:
            integrations.save_field_profile(db, spec_id, profile)

    def get_last_run_state(self, spec_id: str) -> RunState | None:
        """How the latest run that is over ended; None if there is none."""
        row = self._read_one(
            "SELECT state FROM run WHERE spec_id = ? AND ended_at IS NOT NULL ORDER BY id DESC LIMIT 1", (spec_id,)
        )
        return RunState(row[0]) if row else None

    def open_full_scan(self, spec_id: str, target: str, flow: str = DEFAULT_FLOW) -> FullScan:
        """How the reads of a whole source stand, whose missing records are to be deleted at `target`."""
        with self._transaction() as db:
            return self._source_keys.open_full_scan(db, self._touch_flow(db, spec_id, flow), target)

    def count_scan(self, run: str, deleted: bytes) -> ScanCounts:
        """How many records the source has no more, since a read of all of it came to the end; `run` is under way.

        `deleted` is the hash of a record that was deleted at the target.
        """
        with self._transaction() as db:
            flow_id = self._entry(db, run).flow_id
            self._states.merge(db, flow_id)
            return self._source_keys.count_scan(db, flow_id, run, deleted)

    def get_missing(self, spec_id: str, limit: int, after: str = "", flow: str = DEFAULT_FLOW) -> list[MissingRecord]:
        """Return the first missing records that are not settled yet, with a key later than `after`."""
        with self._transaction() as db:
            return self._source_keys.missing(db, integrations.find_flow(db, spec_id, flow), after, limit)

    def get_tombstones(self, spec_id: str, keys: Sequence[str], flow: str = DEFAULT_FLOW) -> dict[str, Record]:
        """Those of `keys` that were booked as `gone` and did not come again, with what the target knows them by."""
        with telling(self.path), self._lock:
            return self._source_keys.get_tombstones(self._db, integrations.find_flow(self._db, spec_id, flow), keys)

    def get_hashes(self, spec_id: str, keys: Sequence[str], flow: str = DEFAULT_FLOW) -> dict[str, bytes]:
        """The hash of what is at the target, for those of `keys` that are known to be there."""
        with telling(self.path), self._lock:
            return self._states.get(self._db, integrations.find_flow(self._db, spec_id, flow), keys)

    def set_hashes(self, spec_id: str, states: Mapping[str, bytes | None], flow: str = DEFAULT_FLOW) -> None:
        """Set hashes of records at the target: `UNKNOWN_HASH` before a write, None to forget the record."""
        if states:
            with self._transaction() as db:
                flow_id = self._touch_flow(db, spec_id, flow)
                self._states.add(db, flow_id, [(key, hash_) for key, hash_ in states.items() if hash_ is not None])
                self._states.drop(db, flow_id, [key for key, hash_ in states.items() if hash_ is None])

    def get_batch_state(self, spec_id: str, keys: Sequence[str], flow: str = DEFAULT_FLOW) -> BatchState:
        """Return all that delivering a batch needs to know about its `keys`, in one read."""
        row = self._read_one(
            "SELECT flow.id, unknown FROM integration JOIN flow USING (spec_id) WHERE spec_id = ? AND name = ?",
            (spec_id, flow),
        )
        if row is None:
            return BatchState({}, {})
        flow_id, unknown = row
        failures = self.get_unknown_failures(spec_id, keys, flow) if unknown else []
        with telling(self.path), self._lock:
            hashes = self._states.get(self._db, flow_id, keys)
        return BatchState(hashes, {failure.key: failure for failure in failures})

    def get_due_failures(
        self, spec_id: str, now: datetime | str, limit: int = 100, flow: str = DEFAULT_FLOW
    ) -> list[FailureRow]:
        """The records waiting in the retry queue whose time has come, the longest due first, with all they hold."""
        now = now if isinstance(now, str) else format_timestamp(now)
        with telling(self.path), self._lock:
            rows = self._db.execute(
                f"SELECT {FAILURE_COLUMNS} FROM {_DUE} ORDER BY next_attempt_at LIMIT ?", (spec_id, flow, now, limit)
            ).fetchall()
        return [failure_row(row) for row in rows]

    def count_due_failures(self, spec_id: str, now: datetime, flow: str = DEFAULT_FLOW) -> int:
        """How many records wait in the retry queue whose time has come."""
        row = self._read_one(f"SELECT count(*) FROM {_DUE}", (spec_id, flow, format_timestamp(now)))
        return int(row[0])

    def get_unknown_failures(self, spec_id: str, keys: Sequence[str], flow: str = DEFAULT_FLOW) -> list[FailureRow]:
        """Those of `keys` of which it is not known whether they are at the target, with all that was sent."""
        with telling(self.path), self._lock:
            rows = self._db.execute(
                f"SELECT {FAILURE_COLUMNS} FROM failure WHERE spec_id = ? AND flow = ? AND {schema.OPEN} "
                "AND state = 'unknown' AND key <> '' AND key IN (SELECT value FROM json_each(?))",
                (spec_id, flow, json.dumps([text(key) for key in keys])),
            ).fetchall()
        return [failure_row(row) for row in rows]

    def discard(self, failures: Sequence[str], reason: str) -> int:
        """Give up open failures, by id, and say why; gives how many were open."""
        return self._decide(failures, FailureState.DISCARDED, Outcome.DEAD, f"discarded: {reason}")

    def requeue(self, failures: Sequence[str]) -> int:
        """Put open failures, by id, first into the retry queue, dead letters and unknown ones too; gives how many."""
        return self._decide(failures, FailureState.WAITING, Outcome.WAITING, "to be tried again now")

    def save_alerts(self, spec_id: str, alerts: Sequence[AlertRow]) -> None:
        """Record all alerts of an integration as just evaluated; one that begins or ends firing is an event."""
        with self._transaction() as db:
            self._touch(db, spec_id)
            for news in integrations.save_alerts(db, spec_id, alerts):
                fields: dict[str, Json] = {"state": news.state.value}
                self._event(db, self._now(), spec_id, None, news.level, "alert", news.message, fields)

    def prune(self, spec_id: str, *, retention: float, failures: float) -> Pruned:
        """Delete what is older than an integration's Logging section keeps it for, in seconds.

        See `retention.prune` for what stays all the same.
        """
        now = self._clock.now()
        kept, failures_kept = (format_timestamp(now - timedelta(seconds=seconds)) for seconds in (retention, failures))
        return prune(self._transaction, spec_id, kept, failures_kept, format_timestamp(now))

    @contextmanager
    def run(self, spec_id: str, *, title: str = "", trigger: str = "script") -> Iterator[ReportedRun]:
        """Report a run made elsewhere, from its start to its end.

        >>> with RunLog.open(".speclab/runlog.db") as log, log.run("nightly-export") as run:
        ...     run.add(read=120, written=119)
        ...     run.fail("c_8841", "no such country: XX", source={"id": "c_8841", "country": "XX"})

        An exception ends it as failed, and goes on; leaving it checks the books like those of any run.
        """
        if title:
            self.register(spec_id, title=title, path="", status="", schedule="")
        run = self.start_run(spec_id, "", trigger)
        try:
            yield ReportedRun(self, spec_id, run)
        except BaseException as error:
            state = RunState.CANCELLED if isinstance(error, KeyboardInterrupt) else RunState.FAILED
            self.finish_run(run, f"{type(error).__name__}: {error}", state)
            raise
        self.finish_run(run)

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """One transaction of this process at a time, and (BEGIN IMMEDIATE) of all processes."""
        with telling(self.path), self._lock:
            refuse_other(self.path, self._file)
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:  # a full disk has rolled back already
                    self._db.execute("ROLLBACK")
                self._states.forget()
                self._source_keys.forget()
                raise

    def _decide(self, failures: Sequence[str], state: FailureState, outcome: Outcome, message: str) -> int:
        """A person's decision about open failures: their new state, and the outcome in the books of a run under way."""
        with self._transaction() as db:
            at = self._now()
            self._states.decided(db, failures, there=state is FailureState.DISCARDED)
            decided = accounting.decide(db, failures, state, outcome, at)
            for spec_id, count in decided.items():
                self._touch(db, spec_id)
                self._event(db, at, spec_id, None, Level.INFO, state.value, f"{count} {message}", {"count": count})
        return decided.total()

    def _read_one(self, sql: str, values: Sequence[object]) -> Any:
        with telling(self.path), self._lock:
            return self._db.execute(sql, values).fetchone()

    def _now(self) -> str:
        return format_timestamp(self._clock.now())

    def _entry(self, db: sqlite3.Connection, run: str) -> accounting.RunEntry:
        """In whose books this transaction writes."""
        row = db.execute(
            "SELECT spec_id, spec_hash, flow FROM run WHERE id = ? AND ended_at IS NULL", (run,)
        ).fetchone()
        if row is None:
            raise UsageError(f"{self.path}: run {run} does not exist or has ended")
        spec_id, spec_hash, flow = row
        flow_id = self._touch_flow(db, spec_id, flow)
        return accounting.RunEntry(run, spec_id, spec_hash, flow, flow_id, self._now())

    def _touch(self, db: sqlite3.Connection, spec_id: str) -> None:
        integrations.touch(db, spec_id, self._now())

    def _touch_flow(self, db: sqlite3.Connection, spec_id: str, flow: str) -> int:
        """Return the id of a flow that this transaction changes."""
        self._touch(db, spec_id)
        return integrations.add_flow(db, spec_id, flow)

    def _move_cursor(self, db: sqlite3.Connection, entry: accounting.RunEntry, cursor: Json, route: str | None) -> None:
        as_text = as_json(cursor)
        db.execute("UPDATE run SET cursor = ? WHERE id = ?", (as_text, entry.run))
        db.execute(
            "INSERT INTO checkpoint (spec_id, flow, cursor, run, at, route) VALUES (?, ?, ?, ?, ?, ?) "
            "ON CONFLICT DO UPDATE SET cursor = excluded.cursor, run = excluded.run, at = excluded.at, "
            "route = excluded.route",
            (entry.spec_id, entry.flow, as_text, entry.run, entry.at, route),
        )

    def _end(
        self,
        db: sqlite3.Connection,
        entry: accounting.RunEntry,
        row: RunRow,
        state: RunState,
        error: str | None,
        error_class: ErrorClass | None = None,
    ) -> RunRow:
        if state is RunState.FAILED:
            accounting.count(db, entry.run, entry.spec_id, entry.flow, entry.at, accounting.error_counts(error_class))
        self._states.end(db, entry.flow_id)
        level = {RunState.FAILED: Level.ERROR, RunState.SUCCEEDED: Level.INFO}.get(state, Level.WARNING)
        message = f"{state}: {error}" if error else str(state)
        fields = {"state": state.value} | ({"class": error_class.value} if error_class else {})
        self._event(db, entry.at, entry.spec_id, entry.run, level, "state", message, fields)
        return runs.end_run(db, row, entry.at, state, error)

    def _event(
        self,
        db: sqlite3.Connection,
        at: str,
        spec_id: str,
        run: str | None,
        level: Level,
        kind: str,
        message: str,
        fields: Mapping[str, Json],
    ) -> None:
        db.execute(
            "INSERT INTO log_event (at, spec_id, run, level, kind, message, fields) VALUES (?, ?, ?, ?, ?, ?, ?)",
            (at, spec_id, run, level, kind, text(message), as_json(fields)),
        )
