"""Records between attempts: the retry queue, and intents of writes whose result is not known yet."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import groupby
from typing import Final

from speclab.connectors.api import MappedRecord, WriteError, Writer, WriteResult
from speclab.core.clock import Clock
from speclab.core.errors import EndpointError
from speclab.core.outcome import ErrorClass, Outcome
from speclab.runlog import UNKNOWN_HASH, FailureRow, RetryResult, RunStore, mark_in_flight
from speclab.sync.delivery import (
    CANCELLED,
    UNDECIDED,
    Delivery,
    DeliveryResult,
    Halt,
    WaitBudget,
    collect_targets,
)
from speclab.sync.failures import restore_masked_failure, restore_read_failure, restore_write_result
from speclab.sync.record_keys import Hasher
from speclab.sync.retry_policy import RetryPolicy, is_not_applied, may_be_applied
from speclab.sync.transform import MappedBatch, Transformer

IN_FLIGHT_WHEN_KILLED: Final = WriteResult(
    error=WriteError(
        ErrorClass.NETWORK,
        "sent by a run that was killed; outcome unknown; check the target",
        request="",
    )
)
"""The result of a record whose write was in flight when its run was killed."""


@dataclass(frozen=True, slots=True)
class WriteIntents:
    """Stores the state of records in the run log before and after they are sent to one target."""

    log: RunStore
    spec_id: str
    hasher: Hasher

    async def send(
        self, delivery: Delivery, records: Sequence[MappedRecord], known: Mapping[str, bytes], attempt: int = 1
    ) -> DeliveryResult:
        """Send `records`, whose `known` hashes were read from the run log.

        A record whose outcome is unknown is not sent again if that could do harm.
        """
        if delivery.full_replace:
            return await delivery.send(records, attempt)
        known = {record.key: known[record.key] for record in records if record.key in known} if known else {}
        if delivery.writer.idempotent:
            return await self._send_idempotent(delivery, records, known, attempt)
        unknown = self.find_unknown(records, known)
        sent = [record for record in records if record.key not in unknown]
        write = None if delivery.transactional else _IntentWriter(self, delivery.writer, dict(known)).write
        delivered = await delivery.send(sent, attempt, write)
        if not unknown:
            return delivered
        results = iter(delivered.results)
        return replace(
            delivered,
            results=[unknown[record.key] if record.key in unknown else next(results) for record in records],
        )

    def find_unknown(self, records: Sequence[MappedRecord], known: Mapping[str, bytes]) -> dict[str, WriteResult]:
        """Return the earlier results, by key, of those `records` of which it is not known whether they were written.

        That is so if the very same payload was sent before, and an open failure says that its outcome is unknown, or
        it was in flight when a run was killed. A source that is read from the start would otherwise create those
        records a second time.
        """
        rows = {row.key: row for row in self.log.get_unknown_failures(self.spec_id, [record.key for record in records])}
        unknown = {}
        for record in records:
            row = rows.get(record.key)
            if row is not None and (row.masked or row.payload == record.payload):
                unknown[record.key] = restore_write_result(row)
            elif record.key in known and known[record.key] == mark_in_flight(self.hash_record(record)):
                unknown[record.key] = IN_FLIGHT_WHEN_KILLED
        return unknown

    def hash_record(self, record: MappedRecord) -> bytes:
        """Return the hash that is stored for `record` once it is written."""
        return self.hasher.deleted if record.delete else self.hasher.hash(record.payload)

    async def _send_idempotent(
        self, delivery: Delivery, records: Sequence[MappedRecord], known: Mapping[str, bytes], attempt: int
    ) -> DeliveryResult:
        """Send `records`; the `known` ones stay invalid until a new state is committed, or the old one is certain."""
        self.log.set_hashes(self.spec_id, dict.fromkeys(known, UNKNOWN_HASH))
        delivered = await delivery.send(records, attempt)
        if known:
            old = {
                record.key: known[record.key]
                for record, result in zip(records, delivered.results, strict=True)
                if record.key in known and result.error is not None and is_not_applied(result.error)
            }
            self.log.set_hashes(self.spec_id, dict(old))
        return delivered


@dataclass(frozen=True, slots=True)
class _IntentWriter:
    """Writes batches, and stores in the run log which records are in flight, and their results.

    `states` are the hashes of the records as they are known now.
    """

    write_intents: WriteIntents
    writer: Writer
    states: dict[str, bytes]

    async def write(self, records: Sequence[MappedRecord]) -> Sequence[WriteResult]:
        """Return one result for each record, in order; see `Writer.write`."""
        log, spec_id = self.write_intents.log, self.write_intents.spec_id
        hashes = {record.key: self.write_intents.hash_record(record) for record in records}
        before: dict[str, bytes | None] = {key: self.states.get(key) for key in hashes}
        log.set_hashes(spec_id, {key: mark_in_flight(hash_) for key, hash_ in hashes.items()})
        try:
            results = await self.writer.write(records)
        except EndpointError:
            log.set_hashes(spec_id, before)
            raise
        decided: dict[str, bytes | None] = {}
        for record, result in zip(records, results, strict=True):
            if result.error is None:
                decided[record.key] = self.states[record.key] = hashes[record.key]
            elif not may_be_applied(result.error):
                decided[record.key] = before[record.key]
        log.set_hashes(spec_id, decided)
        return results


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
            elif row.masked:
                results.append(RetryResult(row.id, Outcome.DEAD, new_failure=restore_masked_failure(row)))
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
        targets = collect_targets([retry.record.key for retry in retries], delivered.results)
        results = []
        for retry, result in zip(retries, delivered.results, strict=True):
            if result is UNDECIDED:
                continue
            first_at = datetime.fromisoformat(retry.row.first_at)
            decision = self.retry_policy.decide(retry.record, result, attempt, first_at)
            written = decision.outcome is Outcome.WRITTEN
            results.append(
                RetryResult(
                    retry.row.id,
                    decision.outcome,
                    effect=decision.effect,
                    new_failure=decision.failure,
                    state=(retry.record.key, retry.hash) if written else None,
                    target=targets.get(retry.record.key) if written else None,
                    bytes_out=result.bytes_out,
                )
            )
        return results, delivered.halt
