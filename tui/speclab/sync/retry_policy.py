"""The retry policy: what happens to a record the target did not take, and the failure the run log keeps."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from speclab.connectors.api import MappedRecord, RuntimeContext, WriteError, WriteResult
from speclab.connectors.rate_limiter import compute_delay
from speclab.core.clock import format_timestamp
from speclab.core.outcome import Effect, ErrorClass, FailureState, Outcome
from speclab.runlog.rows import NewFailure
from speclab.spec.integration import ErrorAction, ErrorRule
from speclab.spec.settings import RetrySettings
from speclab.sync.transform import FailureFactory


def _status(low: int, high: int, action: ErrorAction) -> ErrorRule:
    return ErrorRule(low=low, high=high, error_class=None, action=action, line=0)


def _class(error_class: ErrorClass, action: ErrorAction) -> ErrorRule:
    return ErrorRule(low=None, high=None, error_class=error_class, action=action, line=0)


DEFAULTS: Final = (
    _status(401, 401, ErrorAction.REFRESH),
    _status(408, 408, ErrorAction.RETRY),
    _status(429, 429, ErrorAction.WAIT),
    _status(400, 499, ErrorAction.DEAD_LETTER),
    _status(500, 599, ErrorAction.RETRY),
    _class(ErrorClass.RATE_LIMIT, ErrorAction.WAIT),
    _class(ErrorClass.UNAUTHORIZED, ErrorAction.REFRESH),
    _class(ErrorClass.NETWORK, ErrorAction.RETRY),
    _class(ErrorClass.TIMEOUT, ErrorAction.RETRY),
    _class(ErrorClass.SERVER, ErrorAction.RETRY),
)
"""What holds where a spec says nothing; what matches none of these will not heal by waiting."""


_NOT_APPLIED: Final = frozenset({501, 503, 505, 507, 511})
"""Server errors of a request that was not applied: not implemented, unavailable, HTTP version, storage, login."""


class ActionTable:
    """A spec's Error Types over the defaults, for a target that is `idempotent` or is not."""

    def __init__(self, rules: Sequence[ErrorRule], *, idempotent: bool) -> None:
        self._rules = (*rules, *DEFAULTS)
        self._idempotent = idempotent

    def action(self, write_error: WriteError) -> ErrorAction:
        """What to do about `write_error`."""
        for rule in self._rules:
            if _matches(rule, write_error):
                return rule.action
        return ErrorAction.DEAD_LETTER

    def unknown(self, write_error: WriteError) -> bool:
        """Whether nobody can tell what became of the record, so that it must never be sent again by itself."""
        return in_doubt(write_error) and not self._idempotent


def in_doubt(write_error: WriteError) -> bool:
    """Whether the target may have applied the write although it did not confirm it.

    True if the request was sent and no response arrived, if the response cannot be understood, and for server errors
    (RFC 9110 section 15.6): a server can fail after it applied the write, and a gateway (502, 504) does not know.
    """
    if not write_error.sent:
        return False
    if write_error.error_class is ErrorClass.BAD_ANSWER or _is_server_error(write_error):
        return True
    return write_error.status is None and write_error.error_class in (ErrorClass.NETWORK, ErrorClass.TIMEOUT)


def untouched(write_error: WriteError) -> bool:
    """Whether the target certainly has what it had before: it was not asked, or refused before applying anything.

    True for 4xx except 408, and for the server errors in `_NOT_APPLIED`.
    """
    if not write_error.sent or write_error.status is None:
        return not write_error.sent
    return (400 <= write_error.status < 500 and write_error.status != 408) or write_error.status in _NOT_APPLIED


def _is_server_error(write_error: WriteError) -> bool:
    """Whether the status is a server error that may come after the write was applied."""
    return write_error.status is not None and 500 <= write_error.status < 600 and write_error.status not in _NOT_APPLIED


def _matches(rule: ErrorRule, write_error: WriteError) -> bool:
    if rule.error_class is not None:
        return rule.error_class is write_error.error_class
    if write_error.status is None or rule.low is None or rule.high is None:
        return False
    return rule.low <= write_error.status <= rule.high


_LATEST: Final = 50
"""Requests by which the target's health is judged, ..."""
_ENOUGH: Final = 10
"""... and fewer than these say nothing about it."""


class RetryBudget:
    """How many requests may fail for reasons that heal, by how many succeed.

    A failure takes a token; a success gives `ratio` of one back, up to `capacity`. So short trouble passes, and a
    target that fails more than `ratio / (1 + ratio)` of what it is asked, a third by default, ends the run. (Finagle's
    RetryBudget and gRPC's retry throttling, proposal A6, work alike.)

    `half_open` is for a target that ended the run before: a few failures are enough, and until something is taken it is
    only probed. (The half-open state of a circuit breaker: Nygard, "Release It!", 2007.)
    """

    def __init__(self, capacity: int = 100, ratio: float = 0.5, *, half_open: bool = False) -> None:
        self._capacity = capacity
        self._ratio = ratio
        self._tokens = float(min(capacity, _ENOUGH) if half_open else capacity)
        self._latest = deque[bool](maxlen=_LATEST)
        self.probing = half_open
        """Whether one record at a time is to be sent: it is not known yet that the target takes any."""

    @property
    def exhausted(self) -> bool:
        """Whether there is nothing left for another failure."""
        return self._tokens < 1

    @property
    def strained(self) -> bool:
        """Whether the target has lately failed so often that a failure says nothing about the record it hit."""
        failed = self._latest.count(False)
        return len(self._latest) >= _ENOUGH and failed > self._latest.count(True) * self._ratio

    def spend(self, failures: int) -> None:
        """Take a token for each of `failures` requests that failed."""
        self._tokens = max(0.0, self._tokens - failures)
        self._latest.extend([False] * min(failures, _LATEST))

    def earn(self, successes: int) -> None:
        """Give back the share of `successes` requests that were answered well."""
        self._tokens = min(float(self._capacity), self._tokens + successes * self._ratio)
        self._latest.extend([True] * min(successes, _LATEST))
        if successes:
            self.probing = False


@dataclass(frozen=True, slots=True)
class RetryDecision:
    """One record's outcome, with the effect or the failure that goes with it."""

    outcome: Outcome
    effect: Effect | None = None
    failure: NewFailure | None = None


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Makes the verdicts of one run."""

    table: ActionTable
    retry: RetrySettings
    failures: FailureFactory
    context: RuntimeContext
    budget: RetryBudget

    def verdict(
        self, item: MappedRecord, answer: WriteResult, attempts: int = 1, first_at: datetime | None = None
    ) -> RetryDecision:
        """What `answer` makes of `item`, tried `attempts` times since `first_at` (None: only now).

        A record is given up for its own failures. While the target fails whatever it is sent, the number of tries
        says nothing about the record, and only its age counts: no storm turns a queue into dead letters.
        """
        write_error = answer.error
        if write_error is None:
            return RetryDecision(Outcome.WRITTEN, effect=answer.effect)
        if self.table.unknown(write_error):
            failure = self.failures.refused(item, write_error, FailureState.UNKNOWN)
            return RetryDecision(Outcome.UNKNOWN, failure=failure)
        action = self.table.action(write_error)
        if action is ErrorAction.SKIP:
            return RetryDecision(Outcome.FILTERED)
        now = self.context.clock.now()
        age = (now - (first_at or now)).total_seconds()
        hope = attempts < self.retry.attempts or self.budget.strained
        if action is ErrorAction.RETRY and hope and age < self.retry.give_up_after:
            failure = self.failures.refused(
                item, write_error, FailureState.WAITING, self._next(now, write_error, attempts)
            )
            return RetryDecision(Outcome.WAITING, failure=failure)
        return RetryDecision(Outcome.DEAD, failure=self.failures.refused(item, write_error, FailureState.DEAD))

    def _next(self, now: datetime, write_error: WriteError, attempts: int) -> str:
        """When to try again: with full jitter, and not before the target said."""
        seconds = compute_delay(attempts - 1, self.retry.base, self.retry.cap, self.context.random)
        seconds = max(seconds, write_error.retry_after or 0.0)
        # A timestamp has whole milliseconds, cut off; one more, so that the wait is never shorter than asked.
        return format_timestamp(now + timedelta(seconds=seconds, milliseconds=1))
