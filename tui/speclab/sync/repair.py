"""Repair: the writes that fix the differences that a reconciliation found, as a run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from itertools import compress
from typing import Final

from speclab.connectors.api import Reader
from speclab.core.errors import EndpointError
from speclab.core.json import Record
from speclab.core.outcome import Level, RunState
from speclab.core.text import format_count
from speclab.sync.delivery import CANCELLED, Halt, build_page_result
from speclab.sync.pipeline import PageLoop, build_source_halt, prefetch_pages
from speclab.sync.prepare import PreparedSpec
from speclab.sync.reconcile import Reconciliation
from speclab.sync.reconcile_store import DifferenceKind, ReconcileStore
from speclab.sync.transform import MappedBatch

_DELETES: Final = 500
"""Records that are deleted in one batch."""
_WRITABLE: Final = (DifferenceKind.MISSING, DifferenceKind.FIELD, DifferenceKind.TYPE)


@dataclass(frozen=True, slots=True)
class Repair:
    """The writes that fix the differences in `store`: `kinds` of records to write or delete, and how many.

    `notes` say which differences stay, and why.
    """

    store: ReconcileStore
    kinds: frozenset[DifferenceKind]
    writes: int
    deletes: int
    notes: Sequence[str] = ()

    @classmethod
    def plan(cls, prepared: PreparedSpec, result: Reconciliation, store: ReconcileStore, *, delete: bool) -> Repair:
        """Plan to write what is missing or different, and, with `delete`, to delete what only the target has."""
        target, found, notes = prepared.integration.target, result.differences, []
        kinds = {kind for kind in _WRITABLE if found[kind]}
        if target.always_creates() and (others := kinds - {DifferenceKind.MISSING}):
            count = format_count(sum(found[kind] for kind in others), "record")
            notes.append(f"not repaired: {count} with other values, as the target only takes new records")
            kinds -= others
        if extra := found[DifferenceKind.EXTRA]:
            count = f"{format_count(extra, 'record')} that only the target has"
            if not delete:
                notes.append(f"not repaired: {count}; --delete deletes them")
            elif reason := target.explain_no_delete():
                notes.append(f"not repaired: {count}: {reason}")
            elif result.failed:
                notes.append(f"not repaired: {count}: source records that cannot be mapped may be among them")
            else:
                kinds.add(DifferenceKind.EXTRA)
        if duplicates := found[DifferenceKind.DUPLICATE]:
            notes.append(
                f"not repaired: {format_count(duplicates, 'duplicate key')}, as it is not known which record is right"
            )
        deletes = found[DifferenceKind.EXTRA] if DifferenceKind.EXTRA in kinds else 0
        writes = sum(found[kind] for kind in kinds if kind is not DifferenceKind.EXTRA)
        return cls(store, frozenset(kinds), writes, deletes, notes)

    def select(self, batch: MappedBatch) -> MappedBatch:
        """Return `batch` with only the records to write or, if the source marks them as deleted, to delete."""
        names = [
            key.encode("utf-8", "surrogatepass") if (own := self.store.keys.extract(payload)) is None else own
            for key, payload in zip(batch.keys, batch.payloads, strict=True)
        ]
        found = self.store.find_differences(names)
        chosen = [
            (kind := found.get(name)) in self.kinds and (kind is DifferenceKind.EXTRA) == (key in batch.deleted_keys)
            for key, name in zip(batch.keys, names, strict=True)
        ]
        keys = list(compress(batch.keys, chosen))
        deleted = [name for name in compress(names, chosen) if found[name] is DifferenceKind.EXTRA]
        self.store.forget(deleted)  # the rest of the extra records is deleted by the key of the target
        return replace(
            batch,
            read=len(keys),
            source_keys=keys,
            outcomes=Counter(),
            failures=[],
            keys=keys,
            sources=list(compress(batch.sources, chosen)),
            payloads=list(compress(batch.payloads, chosen)),
            hashes=list(compress(batch.hashes, chosen)),
        )

    def iterate_extra(self, size: int) -> Iterator[dict[str, Record]]:
        """Yield the records to delete that the source does not have, as `Transformer.build_deletes` takes them.

        The source has no key for them: theirs at the target is marked with `target:`.
        """
        after = b""
        while DifferenceKind.EXTRA in self.kinds and (rows := self.store.get_extra(size, after)):
            after = rows[-1][0]
            yield {f"target:{key.decode('utf-8', 'replace')}": {"source": {}, "target": record} for key, record in rows}


async def repair_target(loop: PageLoop, reader: Reader, repair: Repair) -> Halt | None:
    """Read the whole source, write the records that `repair` selects, and delete what only the target has.

    The checkpoint stays where it is. Return why the run ends early, if it does.
    """
    if loop.delivery.full_replace:
        reason = "the target is replaced as a whole: a full run repairs it (speclab run --full)"
        return Halt(RunState.FAILED, reason)
    halt: Halt | None = None
    try:
        pages = reader.pages(None, full=True)
        async with aclosing(prefetch_pages(pages, loop.transformer, loop.wait_budget, None)) as mapped_pages:
            async for mapped in mapped_pages:
                for batch in mapped.batches:
                    halt = halt or await _deliver(loop, repair.select(batch))
                if halt is not None:
                    return halt
    except EndpointError as error:
        return build_source_halt(error, loop.source_location, loop.clock.now())
    for identities in repair.iterate_extra(_DELETES):
        if loop.wait_budget.cancelled:
            break
        if (halt := await _deliver(loop, loop.transformer.build_deletes(identities))) is not None:
            return halt
    return CANCELLED if loop.wait_budget.cancelled else await loop.retries.drain()


async def _deliver(loop: PageLoop, batch: MappedBatch) -> Halt | None:
    """Deliver and commit the records of `batch`, regardless of their state in the run log."""
    if not batch.read:
        return None
    records = loop.transformer.build_records(batch)
    loop.activity.send_page(len(records))
    known = loop.log.get_hashes(loop.spec.spec_id, batch.keys)
    delivered = await loop.write_intents.send(loop.delivery, records, known)
    result = build_page_result(batch, records, delivered.results, loop.retry_policy)
    counts = ", ".join(f"{count:,} {outcome}" for outcome, count in result.outcomes.items() if count)
    message = f"repaired {result.read:,}: {counts}"
    loop.log.commit_page(loop.run, replace(result, keep_cursor=True, message=message))
    if not result.keep_cursor:
        loop.delivery.confirm_commit()
    loop.report(Level.INFO, message)
    return delivered.halt
