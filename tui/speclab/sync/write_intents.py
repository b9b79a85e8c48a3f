"""Writes without a sure end: while one is on its way, and if nobody hears what became of it, the target is unknown.

What is known of the target is forgotten before anything is sent. Otherwise a record that comes back to what it was,
after a change that had no answer or a run that was killed, would be taken to be unchanged, and the target would keep
what nobody wants any more.

Where sending a record twice does harm, each request is noted before it goes, and what it came to as soon as that is
known: of a run that was killed, the next one sends again only what surely did not arrive.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from speclab.connectors.api import FullReplace, MappedRecord, TransactionalDedup, WriteError, Writer, WriteResult
from speclab.core.errors import EndpointError
from speclab.core.outcome import ErrorClass
from speclab.runlog import UNKNOWN_HASH, RunStore, mark_in_flight
from speclab.sync.delivery import Delivery
from speclab.sync.retry_policy import in_doubt, untouched
from speclab.sync.transform import Hasher


@dataclass(frozen=True, slots=True)
class WriteIntents:
    """Keeps what is known of one target true while items are on their way there."""

    log: RunStore
    spec_id: str
    hasher: Hasher

    async def send(self, delivery: Delivery, items: Sequence[MappedRecord], attempt: int = 1) -> list[WriteResult]:
        """What `delivery` answers to `items`; each is in doubt until its state is booked, or surely the old one.

        What a run that was killed had on its way has no answer, and is not sent again where that could do harm.
        """
        if delivery.anew:
            return await delivery.send(items, attempt)
        known = self.log.get_hashes(self.spec_id, [item.key for item in items])
        if not delivery.idempotent:
            noted = [item for item in items if item.key in known]
            lost = {item.key for item in noted if known[item.key] == mark_in_flight(self.hash_of(item))}
            sent = iter(await delivery.send([item for item in items if item.key not in lost], attempt))
            return [LOST if item.key in lost else next(sent) for item in items]
        self.log.set_hashes(self.spec_id, dict.fromkeys(known, UNKNOWN_HASH))
        answers = await delivery.send(items, attempt)
        if known:
            answered = zip(items, answers, strict=True)
            kept = {item.key for item, answer in answered if answer.error is not None and untouched(answer.error)}
            self.log.set_hashes(self.spec_id, {key: hash_ for key, hash_ in known.items() if key in kept})
        return answers

    def noting(self, writer: Writer) -> Writer:
        """`writer`, or where sending twice does harm and the target remembers nothing, one that notes what it sends."""
        if writer.idempotent or isinstance(writer, TransactionalDedup | FullReplace):
            return writer
        return _IntentWriter(self, writer)

    def hash_of(self, item: MappedRecord) -> bytes:
        """What the state of `item` is remembered by once it has arrived."""
        return self.hasher.deleted if item.delete else self.hasher.of(item.payload)


class _IntentWriter:
    """A writer that notes in the run log what is on its way, and what came of it."""

    def __init__(self, write_intents: WriteIntents, writer: Writer) -> None:
        self.batch = writer.batch
        self.idempotent = writer.idempotent
        self.keyed = writer.keyed
        self.deletes = writer.deletes
        self._doubt = write_intents
        self._writer = writer

    async def write(self, items: Sequence[MappedRecord]) -> Sequence[WriteResult]:
        """One answer an item, in order; see `Writer`."""
        log, spec_id = self._doubt.log, self._doubt.spec_id
        hashes = {item.key: self._doubt.hash_of(item) for item in items}
        before: dict[str, bytes | None] = {**dict.fromkeys(hashes), **log.get_hashes(spec_id, list(hashes))}
        log.set_hashes(spec_id, {key: mark_in_flight(hash_) for key, hash_ in hashes.items()})
        try:
            answers = await self._writer.write(items)
        except EndpointError:
            log.set_hashes(spec_id, before)
            raise
        came: dict[str, bytes | None] = {}
        for item, answer in zip(items, answers, strict=True):
            if answer.error is None:
                came[item.key] = hashes[item.key]
            elif not in_doubt(answer.error):
                came[item.key] = before[item.key]
        log.set_hashes(spec_id, came)
        return answers

    async def close(self) -> None:
        """Close the writer."""
        await self._writer.close()


LOST: Final = WriteResult(
    error=WriteError(
        ErrorClass.NETWORK,
        "a run that was killed had sent it, and nobody knows what became of it: look at the target",
        request="",
    )
)
"""The answer of an item that a run had on its way when it was killed."""
