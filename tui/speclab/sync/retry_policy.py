"""The retry policy: what happens to a record that was not written, and whether the outcome of its write is known."""

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
from speclab.runlog import NewFailure
from speclab.spec.integration import ErrorAction, ErrorRule
from speclab.spec.settings import RetrySettings
from speclab.sync.failures import FailureFactory


def _for_status(low: int, high: int, action: ErrorAction) -> ErrorRule:
    return ErrorRule(low=low, high=high, error_class=None, action=action, line=0)


def _for_class(error_class: ErrorClass, action: ErrorAction) -> ErrorRule:
    return ErrorRule(low=None, high=None, error_class=error_class, action=action, line=0)


DEFAULT_RULES: Final = (
    _for_status(401, 401, ErrorAction.REFRESH),
    _for_status(408, 408, ErrorAction.RETRY),
    _for_status(429, 429, ErrorAction.WAIT),
    _for_status(400, 499, ErrorAction.DEAD_LETTER),
    _for_status(500, 599, ErrorAction.RETRY),
    _for_class(ErrorClass.RATE_LIMIT, ErrorAction.WAIT),
    _for_class(ErrorClass.UNAUTHORIZED, ErrorAction.REFRESH),
    _for_class(ErrorClass.NETWORK, ErrorAction.RETRY),
    _for_class(ErrorClass.TIMEOUT, ErrorAction.RETRY),
    _for_class(ErrorClass.SERVER, ErrorAction.RETRY),
)
"""Apply after the rules of the spec. An error that matches none becomes a dead letter: a retry would not help."""

_NOT_APPLIED: Final = frozenset({501, 503, 505, 507, 511})
"""Server errors of a request that was not applied: not implemented, unavailable, HTTP version, storage, login."""


class ActionTable:
    """The rules under Error Types of a spec, followed by the defaults, for a target that is `idempotent` or not."""

    def __init__(self, rules: Sequence[ErrorRule], *, idempotent: bool) -> None:
        self._rules = (*rules, *DEFAULT_RULES)
        self._idempotent = idempotent

    def get_action(self, error: WriteError) -> ErrorAction:
        """Return the action of the first rule that matches `error`."""
        for rule in self._rules:
            if _matches(rule, error):
                return rule.action
        return ErrorAction.DEAD_LETTER

    def is_outcome_unknown(self, error: WriteError) -> bool:
        """Return whether the record may have been written and must not be sent again automatically."""
        return may_be_applied(error) and not self._idempotent


def may_be_applied(error: WriteError) -> bool:
    """Return whether the target may have applied the write although it did not confirm it.

    True if the request was sent and no response arrived, if the response cannot be understood, and for server errors
    (RFC 9110 section 15.6): a server can fail after it applied the write, and a gateway (502, 504) does not know.
    """
    if not error.sent:
        return False
    if error.error_class is ErrorClass.BAD_ANSWER:
        return True
    if error.status is not None:
        return 500 <= error.status < 600 and error.status not in _NOT_APPLIED
    return error.error_class in (ErrorClass.NETWORK, ErrorClass.TIMEOUT)


def is_not_applied(error: WriteError) -> bool:
    """Return whether the target certainly did not apply the write: it was not sent, or rejected before any effect.

    True for 4xx except 408, and for the server errors in `_NOT_APPLIED`. Stricter than `not may_be_applied`: an error
    without a status, or with another one, does not prove it.
    """
    if not error.sent or error.status is None:
        return not error.sent
    return (400 <= error.status < 500 and error.status != 408) or error.status in _NOT_APPLIED


def _matches(rule: ErrorRule, error: WriteError) -> bool:
    if rule.error_class is not None:
        return rule.error_class is error.error_class
    if error.status is None or rule.low is None or rule.high is None:
        return False
    return rule.low <= error.status <= rule.high


_RECENT: Final = 50
"""Most recent requests that show whether the target is healthy."""
_MIN_REQUESTS: Final = 10
"""Fewer requests than this do not show it."""


class RetryBudget:
    """Limits how many requests may fail with errors that can be retried, in proportion to those that succeed.

    A failure takes a token; a success returns `ratio` of one, up to `capacity`. So short outages pass, and a target
    that fails more than `ratio / (1 + ratio)` of all requests, a third by default, ends the run. (Finagle's
    RetryBudget and gRPC's retry throttling, proposal A6, work alike.)

    `half_open` is for a target that ended the previous run: a few failures are enough, and until a write succeeds
    only single records are sent. (The half-open state of a circuit breaker: Nygard, "Release It!", 2007.)
    """

    def __init__(self, capacity: int = 100, ratio: float = 0.5, *, half_open: bool = False) -> None:
        self._capacity = capacity
        self._ratio = ratio
        self._tokens = float(min(capacity, _MIN_REQUESTS) if half_open else capacity)
        self._recent = deque[bool](maxlen=_RECENT)
        self.probing = half_open
        """Whether to send one record at a time, because no write has succeeded yet."""

    @property
    def exhausted(self) -> bool:
        """Whether no token is left."""
        return self._tokens < 1

    @property
    def strained(self) -> bool:
        """Whether the target has recently failed so often that a failure says nothing about the record it hit."""
        failed = self._recent.count(False)
        return len(self._recent) >= _MIN_REQUESTS and failed > self._recent.count(True) * self._ratio

    def spend(self, failures: int) -> None:
        """Take a token for each of `failures` requests that failed."""
        self._tokens = max(0.0, self._tokens - failures)
        self._recent.extend([False] * min(failures, _RECENT))

    def earn(self, successes: int) -> None:
        """Return a share of a token for each of `successes` requests that succeeded."""
        self._tokens = min(float(self._capacity), self._tokens + successes * self._ratio)
        self._recent.extend([True] * min(successes, _RECENT))
        if successes:
            self.probing = False


@dataclass(frozen=True, slots=True)
class RetryDecision:
    """The outcome of one record, with its effect or its failure."""

    outcome: Outcome
    effect: Effect | None = None
    failure: NewFailure | None = None


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Decides the outcome of each write result of one run."""

    actions: ActionTable
    retry: RetrySettings
    failures: FailureFactory
    context: RuntimeContext
    budget: RetryBudget

    def decide(
        self, record: MappedRecord, result: WriteResult, attempts: int = 1, first_at: datetime | None = None
    ) -> RetryDecision:
        """Return the outcome of `record`, tried `attempts` times since `first_at` (None: this is the first attempt).

        A record becomes a dead letter only for its own errors. While the target fails for everything, the number of
        attempts says nothing about the record, and only its age counts: an outage does not turn the retry queue into
        dead letters.
        """
        error = result.error
        if error is None:
            return RetryDecision(Outcome.WRITTEN, effect=result.effect)
        if self.actions.is_outcome_unknown(error):
            failure = self.failures.build_write_failure(record, error, FailureState.UNKNOWN)
            return RetryDecision(Outcome.UNKNOWN, failure=failure)
        action = self.actions.get_action(error)
        if action is ErrorAction.SKIP:
            return RetryDecision(Outcome.FILTERED)
        now = self.context.clock.now()
        age = (now - (first_at or now)).total_seconds()
        retryable = attempts < self.retry.attempts or self.budget.strained
        if action is ErrorAction.RETRY and retryable and age < self.retry.give_up_after:
            next_attempt_at = self._schedule_retry(now, error, attempts)
            failure = self.failures.build_write_failure(record, error, FailureState.WAITING, next_attempt_at)
            return RetryDecision(Outcome.WAITING, failure=failure)
        return RetryDecision(Outcome.DEAD, failure=self.failures.build_write_failure(record, error, FailureState.DEAD))

    def _schedule_retry(self, now: datetime, error: WriteError, attempts: int) -> str:
        """Return when to try again: after a backoff with full jitter, and not before the time the target asked for."""
        seconds = compute_delay(attempts - 1, self.retry.base, self.retry.cap, self.context.random)
        seconds = max(seconds, error.retry_after or 0.0)
        # A timestamp is truncated to milliseconds; one more, so that the wait is never shorter than asked.
        return format_timestamp(now + timedelta(seconds=seconds, milliseconds=1))
