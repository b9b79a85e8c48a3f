"""Trying failures again now, because a person says so: mapped anew, as the spec is now, and sent."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from speclab.connectors.api import RuntimeContext
from speclab.connectors.secrets.references import References
from speclab.core.errors import SpecLocked
from speclab.core.outcome import Outcome
from speclab.runlog import RetryResult, RunLog
from speclab.service.run_queue import Trigger
from speclab.sync.prepare import Prepared
from speclab.sync.run import RunOptions, RunResult, run


@dataclass(frozen=True, slots=True)
class ManualRetry:
    """What came of trying failures again.

    `became` is what each of those came to that were tried. `result` is the run's; None, with `held` saying why, where
    the spec is being run by another process: that one finds them first in the retry queue.
    """

    result: RunResult | None
    became: Mapping[str, Outcome]
    held: SpecLocked | None = None


async def try_again(
    prepared: Prepared,
    runlog: Path,
    failures: Sequence[str],
    references: References,
    context: RuntimeContext,
    options: RunOptions,
    cancelled: asyncio.Event | None = None,
) -> ManualRetry:
    """Try open failures of a spec again, by id, dead letters and those in doubt too; what else is due goes along.

    Of `options` only the patience counts. Where a newer record of the same key was read meanwhile, its failure is
    closed and nothing is sent. Raises `RunLogError` if the books cannot be kept.
    """
    options = replace(options, retries=True, trigger=Trigger.RETRY.value)
    outcomes: dict[str, Outcome] = {}

    def save_outcomes(results: Sequence[RetryResult]) -> None:
        outcomes.update((result.failure, result.outcome) for result in results)

    with RunLog.open(runlog, context.clock, on_retries=save_outcomes) as log:
        log.requeue(failures)
        try:
            result = await run(prepared, log, references, context, options, cancelled)
        except SpecLocked as held:
            return ManualRetry(None, {}, held)
        return ManualRetry(result, outcomes)
