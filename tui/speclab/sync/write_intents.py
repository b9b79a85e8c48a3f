"""Write intents: what the run log says about a record while its write is in flight, and if its outcome is unknown.

The stored hash of a record is invalidated before the record is sent. Otherwise a record that returns to an earlier
value, after a change without a response or in a run that was killed, would count as unchanged, and the target would
keep the change.

If sending a record twice does harm, each request is stored as an intent before it is sent, and its result as soon as
it is known: after a run that was killed, the next one sends again only what certainly did not arrive.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from speclab.connectors.api import MappedRecord, WriteError, Writer, WriteResult
from speclab.core.errors import EndpointError
from speclab.core.outcome import ErrorClass
from speclab.runlog import UNKNOWN_HASH, RunStore, mark_in_flight
from speclab.sync.delivery import Delivery, DeliveryResult
from speclab.sync.failures import restore_write_result
from speclab.sync.record_keys import Hasher
from speclab.sync.retry_policy import is_not_applied, may_be_applied

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
            if row is not None and row.payload == record.payload:
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
