"""The words a run is told in: states, outcomes, stages and classes, the same in the run log, JSON rows and the app."""

from __future__ import annotations

from enum import StrEnum


class RunState(StrEnum):
    """Where a run is, or how it ended."""

    RUNNING = "running"
    SUCCEEDED = "succeeded"
    PARTIAL = "partial"
    FAILED = "failed"
    CANCELLED = "cancelled"
    INTERRUPTED = "interrupted"


class Trigger(StrEnum):
    """Why the service starts a run, as the run log names it."""

    SCHEDULE = "schedule"  # the time of its schedule has come
    RETRY = "retry"  # records in its retry queue are due


class Outcome(StrEnum):
    """What became of one record; every record read has exactly one."""

    WRITTEN = "written"
    UNCHANGED = "unchanged"
    FILTERED = "filtered"
    WAITING = "waiting"
    DEAD = "dead"
    UNKNOWN = "unknown"


class Effect(StrEnum):
    """What a write did at the target, where the target tells; `WRITTEN` where it does not."""

    WRITTEN = "written"
    CREATED = "created"
    UPDATED = "updated"
    DELETED = "deleted"


class Stage(StrEnum):
    """Where on its way a record failed."""

    READ = "read"
    MAP = "map"
    CHECK = "check"
    WRITE = "write"


class ErrorClass(StrEnum):
    """What kind of failure it was; error counts and Error Types go by it."""

    MAPPING = "mapping"  # a step or an expression could not take the value
    CONTRACT = "contract"  # the mapped record breaks `check:`
    NETWORK = "network"  # refused, reset, no route
    TIMEOUT = "timeout"  # no answer in time, and 408
    RATE_LIMIT = "rate_limit"  # 429
    SERVER = "server"  # 5xx
    UNAUTHORIZED = "unauthorized"  # 401, 403
    CONFLICT = "conflict"  # 409, 412
    REJECTED = "rejected"  # any other 4xx, or a row a database refuses
    BAD_ANSWER = "bad_answer"  # an answer that is not what the spec says


class FailureState(StrEnum):
    """Where a failure is on its way out of the run log."""

    WAITING = "waiting"  # in the retry queue
    DEAD = "dead"  # a dead letter
    UNKNOWN = "unknown"  # sent, no answer, no idempotency: a person must look
    RESOLVED = "resolved"  # a retry wrote it
    SUPERSEDED = "superseded"  # a newer write of the same key made it moot
    DISCARDED = "discarded"  # a person gave it up, with a reason

    @property
    def is_open(self) -> bool:
        """Whether the record has not arrived, and still should."""
        return self in (FailureState.WAITING, FailureState.DEAD, FailureState.UNKNOWN)


class AlertState(StrEnum):
    """How an alert of a spec stands."""

    OK = "ok"
    PENDING = "pending"  # true, but not for as long as it must be
    FIRING = "firing"


class Level(StrEnum):
    """How much an event or a problem matters."""

    ERROR = "error"
    WARNING = "warning"
    INFO = "info"
