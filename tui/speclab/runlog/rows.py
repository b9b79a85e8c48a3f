"""Values that go in and out of the run log, their JSON form, and their columns in SQLite."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, NamedTuple

from speclab.core.json import Json, Record
from speclab.core.masking import DEFAULT_POLICY, FieldPolicy, has_masks
from speclab.core.outcome import (
    AlertState,
    Effect,
    ErrorClass,
    FailureState,
    Level,
    NoticeKind,
    NoticeState,
    Outcome,
    RunState,
    Stage,
)
from speclab.core.text import escape_controls, format_count
from speclab.runlog.schema import OPEN, READ_TO_END


@dataclass(frozen=True, slots=True)
class IntegrationRow:
    """One integration, with the counts of its retry queue and dead letters.

    `waiting`, `dead` and `unknown` count open failures; `oldest_waiting` is when the oldest record in the retry queue
    first failed, `next_attempt_at` when the next one is due. `succeeded_at` is the end of the last run that succeeded;
    `arrived_at` is the *start* of the last run that read its source to the end, succeeded or partial. `firing` counts
    alerts. `revision` is incremented by every change to anything of the integration. `paused_at` is the time since
    when `speclab up` skips it (None: not paused), by `paused_by` for `paused_reason`.
    """

    spec_id: str
    title: str
    path: str
    status: str
    schedule: str
    registered_at: str
    revision: int
    waiting: int
    dead: int
    unknown: int
    oldest_waiting: str | None
    next_attempt_at: str | None
    succeeded_at: str | None
    arrived_at: str | None
    firing: int
    paused_at: str | None = None
    paused_by: str | None = None
    paused_reason: str | None = None


@dataclass(frozen=True, slots=True)
class RunRow:
    """One run, as `speclab runs --json` prints it. Times are UTC ISO 8601 with milliseconds; `run` ids sort by time.

    `read = written + unchanged + filtered + waiting + dead + unknown`, or the run is failed.
    """

    run: str
    spec_id: str
    spec_hash: str
    trigger: str  # manual | schedule | retry | repair | demo | any name that a script reports
    state: RunState
    started_at: str
    ended_at: str | None
    read: int
    written: int
    created: int
    updated: int
    deleted: int
    unchanged: int
    filtered: int
    waiting: int
    dead: int
    unknown: int
    bytes_in: int
    bytes_out: int
    cursor: Json
    error: str | None
    total: int | None = None
    """Records in the whole read, if the source reports it; for progress, not in JSON."""
    cancel: int = 0
    """Requests to stop: 0, `CANCEL_AFTER_PAGE` or `CANCEL_NOW`; not in JSON."""
    progress: Record | None = None
    """Progress within the page (see `format_progress`) while it runs; not in JSON."""


@dataclass(frozen=True, slots=True)
class FailureRow:
    """One failed record, as `speclab failures --json` prints it; the last four only with `--full`."""

    id: str
    run: str
    spec_id: str
    key: str
    state: FailureState
    stage: Stage
    error_class: ErrorClass  # "class" in JSON
    status: int | None
    message: str
    row: str | None  # target path of the mapping row that failed
    column: int | None
    file: str
    line: int
    attempts: int
    first_at: str
    last_at: str
    next_attempt_at: str | None
    source: Record | None = None  # the record before mapping
    payload: Record | None = None
    request: str | None = None
    response: str | None = None
    spec_hash: str = ""
    idempotency_key: str | None = None

    @property
    def masked(self) -> bool:
        """Whether values of the source record or the payload are masked."""
        return has_masks(self.source) or has_masks(self.payload)


@dataclass(frozen=True, slots=True)
class FailureGroup:
    """Open failures of one integration with the same stage, row, class, status, state and shape of message.

    `shape` is the message without the parts that vary by record; `message` is the full message of the newest one.
    """

    spec_id: str
    stage: Stage
    row: str | None
    error_class: ErrorClass
    status: int | None
    state: FailureState
    shape: str
    count: int
    last_at: str
    message: str


@dataclass(frozen=True, slots=True)
class AlertRow:
    """An alert as evaluated last: its state, the time since when it has it, and the figures found.

    `notified_at` is the time of the last message about its firing. `fired` are the times at which it started to fire
    within the last hour. `settled_at` is the time since when a flapping alert, which is still firing, is not true.
    """

    spec_id: str
    name: str
    state: AlertState
    since: str
    detail: str
    severity: str = "warning"
    notified_at: str | None = None
    fired: tuple[str, ...] = ()
    settled_at: str | None = None


@dataclass(frozen=True, slots=True)
class NewNotice:
    """A notification to deliver to one channel of a spec, not before `due_at`. `since` is when the alert fired."""

    alert: str
    kind: NoticeKind
    since: str
    channel: str
    severity: str
    content: Record
    due_at: str


@dataclass(frozen=True, slots=True)
class NoticeRow:
    """A notification in the outbox; `error` is that of the last attempt."""

    id: int
    spec_id: str
    alert: str
    kind: NoticeKind
    since: str
    channel: str
    severity: str
    content: Record
    state: NoticeState
    created_at: str
    due_at: str
    attempts: int
    error: str | None
    closed_at: str | None


@dataclass(frozen=True, slots=True)
class SilenceRow:
    """Alerts that notify nobody until `until`: the one named `alert`, or all of the spec (None)."""

    id: int
    spec_id: str
    alert: str | None
    since: str
    until: str
    by: str
    reason: str


@dataclass(frozen=True, slots=True)
class ReconciliationRow:
    """A comparison of the mapped source with the target: `counts` of records, and of differences by kind.

    `sample` is the maximum number of records that were compared, None if all were.
    """

    spec_id: str
    at: str
    spec_hash: str
    sample: int | None
    differences: int
    counts: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class EventRow:
    """One line of the event log."""

    id: int
    at: str
    spec_id: str
    run: str | None
    level: Level
    kind: str  # page | retry | rate_limit | state | guard | log ...
    message: str
    fields: Mapping[str, Json] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class NewFailure:
    """A failure to store; `attempts` counts the attempts so far, `policy` says which fields are stored masked."""

    key: str
    state: FailureState
    stage: Stage
    error_class: ErrorClass
    message: str
    file: str
    line: int
    source: Record
    status: int | None = None
    row: str | None = None
    column: int | None = None
    payload: Record | None = None
    request: str | None = None
    response: str | None = None
    idempotency_key: str | None = None
    attempts: int = 1
    next_attempt_at: str | None = None
    policy: FieldPolicy = DEFAULT_POLICY


@dataclass(frozen=True, slots=True)
class FullScan:
    """Numbers of full scans of a source: of the latest, and of the scan that the checkpoint is inside of (or 0)."""

    latest: int
    held: int


@dataclass(frozen=True, slots=True)
class SeenRecords:
    """The source keys of one page.

    `full_scan` is the number of the full scan that the page belongs to, or 0. `identities` maps the key of each record
    to what the target identifies it by; None for a record that was not mapped. `keyless` is True if the page had
    records without a key: then missing records cannot be derived from this scan. `ends` is True for the last page.
    """

    full_scan: int
    identities: Mapping[str, Record | None]
    keyless: bool
    ends: bool


@dataclass(frozen=True, slots=True)
class MissingRecord:
    """A record that the source no longer has; `identity` is what the target identifies it by, None if unknown."""

    key: str
    identity: Record | None


@dataclass(frozen=True, slots=True)
class ScanCounts:
    """Counts after a full scan: missing records that can be deleted, and records known to be at the target.

    `nameless` counts further records that are or may be missing, but whose identity at the target is unknown; it is 0
    unless the number changed since the last scan. `replaced` are keys of missing records whose identity at the target
    now belongs to another record of the source; no count includes them. `balanced` is True if every record that the
    run has read so far has an outcome.
    """

    missing: int
    nameless: int
    known: int
    replaced: Sequence[str] = ()
    balanced: bool = True


class TargetState(NamedTuple):
    """What identifies a record at the target: its id, and its version (an ETag, a row version) after the last write.

    Each is None if it is not known. The id is also None if it is the key of the record.
    """

    target_id: str | None = None
    version: str | None = None

    def keep_id(self, earlier: TargetState | None) -> TargetState:
        """Return the state with the id of an `earlier` one if this one has none."""
        return self if self.target_id is not None or earlier is None else self._replace(target_id=earlier.target_id)


@dataclass(frozen=True, slots=True)
class PageResult:
    """All that one page adds to the run log, in one transaction: outcomes, failures, record states and the cursor.

    `read` counts the records as they arrived, before any processing: the outcomes are checked against it. `keys` are
    their keys: older open failures of these keys are superseded, regardless of the outcome. `states` are the (key,
    hash) pairs now known to be at the target, `targets` their ids and versions there, as far as the target returned
    them. `keep_cursor` is True for a page that does not move the checkpoint, such
    as a retry or a page that was cut short. `route` is the fingerprint of the source and the target that the cursor
    belongs to.
    """

    read: int
    outcomes: Mapping[Outcome, int]
    effects: Mapping[Effect, int]
    bytes_in: int
    bytes_out: int
    cursor: Json
    failures: Sequence[NewFailure] = ()
    keys: Sequence[str] = ()
    states: Sequence[tuple[str, bytes]] = ()
    targets: Mapping[str, TargetState] = field(default_factory=dict)
    keep_cursor: bool = False
    route: str | None = None
    message: str = ""
    """The page's event line, such as `page 7, 200 read, 198 written`; no event if empty."""
    total: int | None = None
    """Records in the whole read, if the source reports it."""
    seen: SeenRecords | None = None
    """The source keys of the page, for specs that delete missing records."""
    tombstones: Sequence[str] = ()
    """Keys of missing records that are handled with this page."""


@dataclass(frozen=True, slots=True)
class RetryResult:
    """The result of one retry of a failure.

    `new_failure` is how it failed this time, if the outcome is waiting, dead or unknown; its `attempts` are those made
    now, and its payload, request and location replace the older ones. `state` is the (key, hash) now known to be at the
    target, after a write or because it was there already; `target` is its id and version there.
    """

    failure: str
    outcome: Outcome
    effect: Effect | None = None
    new_failure: NewFailure | None = None
    state: tuple[str, bytes] | None = None
    target: TargetState | None = None
    bytes_out: int = 0


CANCEL_AFTER_PAGE: Final = 1
"""`RunRow.cancel` of a run that was asked to stop after the page in progress."""
CANCEL_NOW: Final = 2
"""`RunRow.cancel` of a run that was asked to stop at once."""


def format_progress(run: RunRow, now: datetime | None = None) -> str:
    """Return the progress of a run: `page 3: 40 of 200 sent, 41 requests, waits 28 s: the rate limit is used up`.

    Without `now`, a wait comes first and with the local time at which it ends: for text that is not redrawn every
    second and has little room.
    """
    progress = run.progress or {}
    parts = []
    if progress.get("page"):
        records = progress.get("records")
        doing = f"{progress.get('sent', 0):,} of {records:,} sent" if records else "reading"
        parts.append(f"page {progress['page']:,}: {doing}")
    if requests := progress.get("requests"):
        parts.append(format_count(int(str(requests)), "request"))
    if until := progress.get("until"):
        end = datetime.fromisoformat(str(until))
        if now is None:
            parts.insert(0, f"waits until {end.astimezone():%H:%M:%S}: {progress.get('wait')}")
        else:
            parts.append(f"waits {max(0, round((end - now).total_seconds())):,} s: {progress.get('wait')}")
    if run.cancel:
        parts.insert(0, "stopping now" if run.cancel == CANCEL_NOW else "stopping after this page")
    return ", ".join(parts)


INTERNAL: Final = ("total", "cancel", "progress")
"""Fields of a run that are not in JSON."""


def run_json(row: RunRow) -> dict[str, Json]:
    """Return a run as a JSON row, with the fields of the reference in its order."""
    return {name: getattr(row, name) for name in RunRow.__slots__ if name not in INTERNAL}


def failure_json(row: FailureRow, *, full: bool = False) -> dict[str, Json]:
    """Return a failure as a JSON row, with the fields of the reference; `full` adds records, request and response."""
    more = ("source", "payload", "request", "response")
    inner = (*more, "spec_hash", "idempotency_key")
    names = [name for name in FailureRow.__slots__ if name not in inner] + list(more if full else ())
    return {"class" if name == "error_class" else name: getattr(row, name) for name in names}


def event_json(row: EventRow) -> dict[str, Json]:
    """Return an event as a JSON row, with the fields of the reference in its order."""
    return {name: getattr(row, name) for name in EventRow.__slots__}


def format_event(row: EventRow) -> str:
    """Return an event as one line of text with its local time."""
    at = datetime.fromisoformat(row.at).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    message = escape_controls(row.message).replace("\r", "\\r").replace("\n", "\\n")
    return f"{at} {row.level:<7} {row.spec_id}: {message}"


INTEGRATION: Final = f"""
SELECT spec_id, title, path, status, schedule, registered_at, revision, waiting, dead, unknown,
    (SELECT min(first_at) FROM failure f WHERE f.spec_id = i.spec_id AND state = 'waiting'),
    (SELECT min(next_attempt_at) FROM failure f WHERE f.spec_id = i.spec_id AND state = 'waiting'),
    (SELECT max(ended_at) FROM run r WHERE r.spec_id = i.spec_id AND state = 'succeeded'),
    (SELECT max(started_at) FROM run r WHERE r.spec_id = i.spec_id AND {READ_TO_END} AND trigger <> 'repair'),
    (SELECT count(*) FROM alert a WHERE a.spec_id = i.spec_id AND state = 'firing'),
    paused_at, paused_by, paused_reason
FROM integration i"""
"""Selects an `IntegrationRow` per integration; each subquery is one index lookup."""

RUN_COLUMNS: Final = (
    "id, spec_id, spec_hash, trigger, state, started_at, ended_at, read, written, created, updated, deleted, "
    "unchanged, filtered, waiting, dead, unknown, bytes_in, bytes_out, cursor, error, total, cancel, progress"
)
FAILURE_SUMMARY: Final = (
    'id, run, spec_id, key, state, stage, class, status, message, "row", "column", file, line, attempts, first_at, '
    "last_at, next_attempt_at"
)
FAILURE_COLUMNS: Final = f"{FAILURE_SUMMARY}, source, payload, request, response, spec_hash, idempotency_key"
GROUPS: Final = f"""
SELECT spec_id, stage, "row", class, status, state, shape, count(*), max(last_at),
    (SELECT message FROM failure f WHERE f.spec_id = g.spec_id AND f.stage = g.stage AND f."row" IS g."row"
        AND f.class = g.class AND f.status IS g.status AND f.state = g.state AND f.shape = g.shape AND f.{OPEN}
        ORDER BY last_at DESC LIMIT 1)
FROM failure g INDEXED BY failure_open_group WHERE {OPEN}"""
"""Selects a `FailureGroup` per group by the first seven columns, from the index of open failures."""

_SOURCE, _PAYLOAD = 17, 18
EVENT_COLUMNS: Final = "id, at, spec_id, run, level, kind, message, fields"


def run_row(row: Sequence[Any]) -> RunRow:
    """Build a run from a row of `RUN_COLUMNS`."""
    values = list(row)
    values[4], values[19] = RunState(row[4]), json.loads(row[19])
    values[23] = None if row[23] is None else json.loads(row[23])
    return RunRow(*values)


def failure_row(row: Sequence[Any]) -> FailureRow:
    """Build a failure from a row of `FAILURE_COLUMNS` or `FAILURE_SUMMARY`."""
    values = list(row)
    values[4:7] = FailureState(row[4]), Stage(row[5]), ErrorClass(row[6])
    if len(values) > _SOURCE:
        values[_SOURCE] = json.loads(row[_SOURCE])
        values[_PAYLOAD] = None if row[_PAYLOAD] is None else json.loads(row[_PAYLOAD])
    return FailureRow(*values)


def group_row(row: Sequence[Any]) -> FailureGroup:
    """Build a group from a row of `GROUPS`."""
    values = list(row)
    values[1], values[3], values[5] = Stage(row[1]), ErrorClass(row[3]), FailureState(row[5])
    return FailureGroup(*values)


def event_row(row: Sequence[Any]) -> EventRow:
    """Build an event from a row of `EVENT_COLUMNS`."""
    values = list(row)
    values[4], values[7] = Level(row[4]), json.loads(row[7])
    return EventRow(*values)


ALERTS: Final = (
    "SELECT spec_id, name, state, since, detail, severity, notified_at, fired, settled_at FROM alert "
    "WHERE ?1 IS NULL OR spec_id = ?1 ORDER BY spec_id, name"
)
"""All alerts, or those of one integration."""


def alert_row(row: Sequence[Any]) -> AlertRow:
    """Return the alert in a row of `ALERTS`."""
    spec_id, name, state, since, detail, severity, notified_at, fired, settled_at = row
    found = tuple(json.loads(fired))
    return AlertRow(spec_id, name, AlertState(state), since, detail, severity, notified_at, found, settled_at)
