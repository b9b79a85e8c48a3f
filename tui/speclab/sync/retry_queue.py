"""The retry queue: send failed records again once they are due."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import groupby
from typing import Final

from speclab.connectors.api import MappedRecord
from speclab.core.clock import Clock
from speclab.core.outcome import Outcome
from speclab.runlog import FailureRow, RetryResult, RunStore
from speclab.sync.delivery import CANCELLED, UNDECIDED, Delivery, Halt, WaitBudget
from speclab.sync.failures import restore_read_failure
from speclab.sync.retry_policy import RetryPolicy
from speclab.sync.transform import MappedBatch, Transformer
from speclab.sync.write_intents import WriteIntents

QUIET: Final = 10.0
"""Seconds after a retry event in which retries that all end as waiting get no event of their own."""
_BATCH: Final = 500
_GATHER: Final = 0.25
"""Seconds for which retries that become due are collected, instead of being sent one by one."""


@dataclass(slots=True)
class RetryMessages:
    """The messages of retry events, such as `retried 12: 10 written, 2 waiting`.

    While every retry ends as waiting, one event in `QUIET` seconds is enough: it counts those since the last one. A
    short backoff would otherwise fill the event log with repeated lines.
    """

    _counts: Counter[Outcome] = field(default_factory=Counter)
    _last: datetime | None = None

    def build(self, results: Sequence[RetryResult], now: datetime) -> str:
        """Count `results`, and return the message of the event; empty if none is due."""
        self._counts.update(result.outcome for result in results)
        quiet = self._last is not None and (now - self._last).total_seconds() < QUIET
        if quiet and all(result.outcome is Outcome.WAITING for result in results):
            return ""
        outcomes = ", ".join(f"{number:,} {outcome}" for outcome, number in self._counts.most_common())
        text = f"retried {self._counts.total():,}: {outcomes}"
        self._counts.clear()
        self._last = now
        return text


@dataclass(frozen=True, slots=True)
class _Retry:
    """A failure that is sent again, as its record is mapped now."""

    row: FailureRow
    record: MappedRecord
    hash: bytes

    @property
    def attempt(self) -> int:
        return self.row.attempts + 1


@dataclass(frozen=True, slots=True)
class RetryQueue:
    """Retries the due failures of one spec, for one run.

    A newer record of the same key closes older failures when its page is committed, so a due failure is always the
    newest of its key, and a retry never overwrites newer data.
    """

    run: str
    spec_id: str
    log: RunStore
    transformer: Transformer
    delivery: Delivery
    write_intents: WriteIntents
    retry_policy: RetryPolicy
    wait_budget: WaitBudget
    clock: Clock
    messages: RetryMessages = field(default_factory=RetryMessages)

    async def retry_due(self) -> Halt | None:
        """Retry due failures; return why the run must end, if it must."""
        while not self.wait_budget.cancelled:
            rows = self.log.get_due_failures(self.spec_id, self.clock.now(), _BATCH)
            if not rows:
                return None
            if (halt := await self._retry(rows)) is not None:
                return halt
        return None

    async def drain(self) -> Halt | None:
        """Retry due failures, and those that become due within the wait budget; the next run gets the rest."""
        while True:
            if (halt := await self.retry_due()) is not None:
                return halt
            now = self.clock.now()
            due = self.log.get_due_failures(self.spec_id, now + timedelta(seconds=self.wait_budget.left), 1)
            if not due:
                return None
            pause = (datetime.fromisoformat(str(due[0].next_attempt_at)) - now).total_seconds()
            pause = max(pause, min(_GATHER, self.wait_budget.left))
            if not await self.wait_budget.wait(pause, "the next record of the retry queue is due"):
                return CANCELLED if self.wait_budget.cancelled else None

    async def _retry(self, rows: Sequence[FailureRow]) -> Halt | None:
        """Retry each of `rows` once and commit the results; after a halt, the remaining ones stay as they are."""
        results: list[RetryResult] = []
        retries: list[_Retry] = []
        mapped: list[tuple[FailureRow, MappedBatch]] = []
        missing = self.log.get_tombstones(self.spec_id, [row.key for row in rows])
        for row in rows:
            if row.key in missing:  # the source no longer has it: it is deleted, not mapped
                mapped.append((row, self.transformer.build_deletes({row.key: missing[row.key]})))
            elif row.source:
                (batch,) = self.transformer.map_records([row.source])
                mapped.append((row, batch))
            else:  # it could not be read, which a retry cannot change
                results.append(RetryResult(row.id, Outcome.DEAD, new_failure=restore_read_failure(row)))
        keys = [key for _, batch in mapped for key in batch.keys]
        known = {} if self.delivery.full_replace else self.log.get_hashes(self.spec_id, keys)
        for row, batch in mapped:
            changed = batch.without_unchanged(known)
            if records := self.transformer.build_records(changed):
                retries.append(_Retry(row, records[0], changed.hashes[0]))
            else:
                (outcome,) = changed.outcomes
                failure = changed.failures[0] if changed.failures else None
                results.append(RetryResult(row.id, outcome, new_failure=failure))
        retries.sort(key=lambda retry: retry.attempt)
        halt = None
        for attempt, group in groupby(retries, key=lambda retry: retry.attempt):
            if halt is None:
                sent, halt = await self._send(list(group), known, attempt)
                results += sent
        if results:
            self.log.commit_retries(self.run, results, self.messages.build(results, self.clock.now()))
        return halt

    async def _send(
        self, retries: Sequence[_Retry], known: Mapping[str, bytes], attempt: int
    ) -> tuple[list[RetryResult], Halt | None]:
        delivered = await self.write_intents.send(self.delivery, [retry.record for retry in retries], known, attempt)
        results = []
        for retry, result in zip(retries, delivered.results, strict=True):
            if result is UNDECIDED:
                continue
            first_at = datetime.fromisoformat(retry.row.first_at)
            decision = self.retry_policy.decide(retry.record, result, attempt, first_at)
            results.append(
                RetryResult(
                    retry.row.id,
                    decision.outcome,
                    effect=decision.effect,
                    new_failure=decision.failure,
                    state=(retry.record.key, retry.hash) if decision.outcome is Outcome.WRITTEN else None,
                    bytes_out=result.bytes_out,
                )
            )
        return results, delivered.halt
