"""The run log's rows as values: what goes in, what comes out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from speclab.jsonvalue import Json, Record
from speclab.outcome import AlertState, Effect, ErrorClass, FailureState, Level, Outcome, RunState, Stage
from speclab.runlog.presence import Seen


@dataclass(frozen=True, slots=True)
class IntegrationRow:
    """One integration, and how its retry queue and its dead letters are right now.

    `waiting`, `dead` and `unknown` count open failures; `oldest_waiting` is when the one longest in the retry queue
    first failed, `next_attempt_at` when the next one is due. `succeeded_at` is when a run last ended as succeeded;
    `arrived_at` when the last run *began* that went through its source to the end, succeeded or partial. `firing`
    counts alerts. `revision` grows with every change to anything of the integration. `paused_at` is since when
    `speclab up` leaves it alone (None: it does not), `paused_by` and `paused_reason` are who said so and why.
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
    trigger: str  # manual | schedule | retry | demo | whatever a reporting script calls it
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
    """Records the source says the whole read holds, where it says so; for progress, not in JSON."""
    cancel: int = 0
    """Whether it was asked to stop: 1 after the page in progress, 2 now; not in JSON."""
    progress: Record | None = None
    """What it does within its page (`progress_text`), while it runs; not in JSON."""


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
    row: str | None  # target path of the mapping row to blame
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


@dataclass(frozen=True, slots=True)
class FailureGroup:
    """Open failures of one integration that look the same: same place, class, status, state and shape of message.

    `shape` is the message without what differs from record to record; `message` is the newest one's, whole.
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
    """An alert as last evaluated: its state, since when, and what was found, in words."""

    spec_id: str
    name: str
    state: AlertState
    since: str
    detail: str


@dataclass(frozen=True, slots=True)
class EventRow:
    """One line of the append-only event table."""

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
    """A failure to store with a page's books; `attempts` counts tries so far."""

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


@dataclass(frozen=True, slots=True)
class PageBooks:
    """All that one page adds to the run log, in one transaction: outcomes, failures, states and the cursor.

    `read` is how many records came, counted before anything was done with them: what a run's balance is checked
    against. `keys` are those of all of them: whatever came of a record now, older waiting and dead failures of its
    key are superseded. `states` are the (key, hash) pairs now known to be at the target. `keep_cursor` is True for a
    page that does not move the checkpoint (one that was cut short; a retry). `way` names the source and the target that
    the cursor is of.
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
    keep_cursor: bool = False
    way: str | None = None
    message: str = ""
    """The page's event line, such as `page 7, 200 read, 198 written`; no event if empty."""
    total: int | None = None
    """Records the source says the whole read holds, where it says so."""
    seen: Seen | None = None
    """What the page tells of the records that the source has, where those it has no more are deleted."""
    gone: Sequence[str] = ()
    """Keys of records that the source has no more, of which it is decided now."""


@dataclass(frozen=True, slots=True)
class Settled:
    """What became of one failure that was tried again.

    `again` says how it failed this time, if the outcome is waiting, dead or unknown; its `attempts` are those made
    now, and its payload, request and place replace the older ones. `state` is the (key, hash) now known to be at the
    target, after a write or where it turned out to be there already.
    """

    failure: str
    outcome: Outcome
    effect: Effect | None = None
    again: NewFailure | None = None
    state: tuple[str, bytes] | None = None
    bytes_out: int = 0


_INTERNAL = ("total", "cancel", "progress")


def run_json(row: RunRow) -> dict[str, Json]:
    """A run as a JSON row: the fields of the reference, in its order."""
    return {name: getattr(row, name) for name in RunRow.__slots__ if name not in _INTERNAL}


def failure_json(row: FailureRow, *, full: bool = False) -> dict[str, Json]:
    """A failure as a JSON row: the fields of the reference, in its order; `full` adds records, request and answer."""
    more = ("source", "payload", "request", "response")
    inner = (*more, "spec_hash", "idempotency_key")
    names = [name for name in FailureRow.__slots__ if name not in inner] + list(more if full else ())
    return {"class" if name == "error_class" else name: getattr(row, name) for name in names}
