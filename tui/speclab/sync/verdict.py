"""Verdicts: what an answer of the target makes of a record, by the action table and the retry settings."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from speclab.clock import timestamp
from speclab.connectors.backoff import delay
from speclab.connectors.base import Answer, Item, Refusal, Seams
from speclab.outcome import Effect, FailureState, Outcome
from speclab.runlog.rows import NewFailure
from speclab.spec.integration import Action
from speclab.spec.settings import RetrySettings
from speclab.sync.actions import ActionTable
from speclab.sync.budget import RetryBudget
from speclab.sync.failures import Failures


@dataclass(frozen=True, slots=True)
class Verdict:
    """One record's outcome, with the effect or the failure that goes with it."""

    outcome: Outcome
    effect: Effect | None = None
    failure: NewFailure | None = None


@dataclass(frozen=True, slots=True)
class Judge:
    """Makes the verdicts of one run."""

    table: ActionTable
    retry: RetrySettings
    failures: Failures
    seams: Seams
    budget: RetryBudget

    def verdict(self, item: Item, answer: Answer, attempts: int = 1, first_at: datetime | None = None) -> Verdict:
        """What `answer` makes of `item`, tried `attempts` times since `first_at` (None: only now).

        A record is given up for its own failures. While the target fails whatever it is sent, the number of tries
        says nothing about the record, and only its age counts: no storm turns a queue into dead letters.
        """
        refusal = answer.refusal
        if refusal is None:
            return Verdict(Outcome.WRITTEN, effect=answer.effect)
        if self.table.unknown(refusal):
            failure = self.failures.refused(item, refusal, FailureState.UNKNOWN)
            return Verdict(Outcome.UNKNOWN, failure=failure)
        action = self.table.action(refusal)
        if action is Action.SKIP:
            return Verdict(Outcome.FILTERED)
        now = self.seams.clock.now()
        age = (now - (first_at or now)).total_seconds()
        hope = attempts < self.retry.attempts or self.budget.strained
        if action is Action.RETRY and hope and age < self.retry.give_up_after:
            failure = self.failures.refused(item, refusal, FailureState.WAITING, self._next(now, refusal, attempts))
            return Verdict(Outcome.WAITING, failure=failure)
        return Verdict(Outcome.DEAD, failure=self.failures.refused(item, refusal, FailureState.DEAD))

    def _next(self, now: datetime, refusal: Refusal, attempts: int) -> str:
        """When to try again: with full jitter, and not before the target said."""
        seconds = delay(attempts - 1, self.retry.base, self.retry.cap, self.seams.random)
        seconds = max(seconds, refusal.retry_after or 0.0)
        # A timestamp has whole milliseconds, cut off; one more, so that the wait is never shorter than asked.
        return timestamp(now + timedelta(seconds=seconds, milliseconds=1))
