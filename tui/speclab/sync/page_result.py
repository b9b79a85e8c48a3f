"""The page result: what the run log commits for one delivered batch, from the results of its records."""

from __future__ import annotations

from collections.abc import Sequence

from speclab.connectors.api import MappedRecord, WriteResult
from speclab.core.outcome import Effect, Outcome
from speclab.runlog import PageResult
from speclab.sync.delivery import UNDECIDED
from speclab.sync.retry_policy import RetryPolicy
from speclab.sync.transform import MappedBatch


def build_page_result(
    batch: MappedBatch, records: Sequence[MappedRecord], results: Sequence[WriteResult], retry_policy: RetryPolicy
) -> PageResult:
    """Return the outcomes, failures and states of `batch`, whose `records` were sent with `results`.

    The caller adds the bytes read and the cursor. Undecided records are not counted, and keep the cursor where it is:
    the next run reads them again.
    """
    effects = [result.effect for result in results]
    outcomes = batch.outcomes.copy()
    outcomes[Outcome.WRITTEN] += len(effects) - effects.count(None)
    failures = list(batch.failures)
    undecided: set[str] = set()
    for record, result in zip(records, results, strict=True) if None in effects else ():
        if result is UNDECIDED:
            undecided.add(record.key)
        elif result.error is not None:
            decision = retry_policy.decide(record, result)
            outcomes[decision.outcome] += 1
            failures += [decision.failure] if decision.failure else []
    states = [(key, hash_) for key, hash_, effect in zip(batch.keys, batch.hashes, effects, strict=True) if effect]
    return PageResult(
        read=batch.read - len(undecided),
        outcomes=outcomes,
        effects={effect: effects.count(effect) for effect in Effect},
        bytes_in=0,
        bytes_out=sum([result.bytes_out for result in results]),
        cursor=None,
        failures=failures,
        keys=[key for key in batch.source_keys if key not in undecided],
        states=states,
        keep_cursor=bool(undecided),
    )
