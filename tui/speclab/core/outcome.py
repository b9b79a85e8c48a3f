"""The vocabulary of runs: states, outcomes, stages and error classes, shared by the run log, JSON rows and the app."""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class RunState(StrEnum):
    """The state of a run."""

    RUNNING = "running"
    SUCCEEDED = "succeeded"
    PARTIAL = "partial"
    FAILED = "failed"
    CANCELLED = "cancelled"
    INTERRUPTED = "interrupted"


class Trigger(StrEnum):
    """Why a run is started, as the run log names it."""

    SCHEDULE = "schedule"  # the time of its schedule has come
    RETRY = "retry"  # records in its retry queue are due
    REPAIR = "repair"  # differences that `speclab reconcile` found are written


DRY_RUN_EVENT: Final = "dry_run"
"""The kind of the event that records a dry run that succeeded."""


class Outcome(StrEnum):
    """The outcome of one record; every record read has exactly one."""

    WRITTEN = "written"
    UNCHANGED = "unchanged"
    FILTERED = "filtered"
    WAITING = "waiting"
    DEAD = "dead"
    UNKNOWN = "unknown"


class Effect(StrEnum):
    """The effect of a write at the target; `WRITTEN` if the target does not report it."""

    WRITTEN = "written"
    CREATED = "created"
    UPDATED = "updated"
    DELETED = "deleted"


class Stage(StrEnum):
    """The stage in which a record failed."""

    READ = "read"
    MAP = "map"
    CHECK = "check"
    WRITE = "write"


class ErrorClass(StrEnum):
    """The class of a failure; error counts and Error Types are grouped by it."""

    MAPPING = "mapping"  # a step or an expression rejected the value
    CONTRACT = "contract"  # the mapped record violates `check:`
    NETWORK = "network"  # refused, reset, no route
    TIMEOUT = "timeout"  # no response in time, and 408
    RATE_LIMIT = "rate_limit"  # 429
    SERVER = "server"  # 5xx
    UNAUTHORIZED = "unauthorized"  # 401, 403
    CONFLICT = "conflict"  # 409, 412
    REJECTED = "rejected"  # any other 4xx, or a row that a database rejects
    BAD_ANSWER = "bad_answer"  # a response that does not match the spec


class FailureState(StrEnum):
    """The state of a failure."""

    WAITING = "waiting"  # in the retry queue
    DEAD = "dead"  # a dead letter
    UNKNOWN = "unknown"  # sent without response or idempotency: check the target
    RESOLVED = "resolved"  # a retry wrote it
    SUPERSEDED = "superseded"  # replaced by a newer write of the same key
    DISCARDED = "discarded"  # discarded by a user, with a reason

    @property
    def is_open(self) -> bool:
        """Whether the record is not delivered yet, and should be."""
        return self in (FailureState.WAITING, FailureState.DEAD, FailureState.UNKNOWN)


class AlertState(StrEnum):
    """The state of an alert."""

    OK = "ok"
    PENDING = "pending"  # true, but not for the required time
    FIRING = "firing"


class NoticeKind(StrEnum):
    """Why a notification is sent."""

    FIRING = "firing"
    REMINDER = "reminder"
    RESOLVED = "resolved"


class NoticeState(StrEnum):
    """The state of a notification in the outbox."""

    DUE = "due"
    DELIVERED = "delivered"
    FAILED = "failed"  # given up after a day
    DROPPED = "dropped"  # the spec has no such channel any more


class Level(StrEnum):
    """The severity of an event or a problem."""

    ERROR = "error"
    WARNING = "warning"
    INFO = "info"

    @property
    def severity(self) -> int:
        """A number that is greater for a more severe level."""
        return (Level.INFO, Level.WARNING, Level.ERROR).index(self)
