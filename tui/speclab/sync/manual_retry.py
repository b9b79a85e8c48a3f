"""Manual retry: send failures again now, because a person asks for it, mapped as the spec is now."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from speclab.connectors.api import RuntimeContext
from speclab.connectors.secrets.references import References
from speclab.core.errors import SpecLocked
from speclab.core.outcome import Outcome, Trigger
from speclab.runlog import RetryResult, RunLog
from speclab.sync.prepare import PreparedSpec
from speclab.sync.run import RunOptions, RunResult, run


@dataclass(frozen=True, slots=True)
class ManualRetry:
    """The result of a manual retry.

    `outcomes` has the outcome of each failure that was tried, by its id. `result` is that of the run; None if another
    process is running the spec (`locked`): that process finds the failures first in its retry queue.
    """

    result: RunResult | None
    outcomes: Mapping[str, Outcome]
    locked: SpecLocked | None = None


async def retry_failures(
    prepared: PreparedSpec,
    runlog: Path,
    failures: Sequence[str],
    references: References,
    context: RuntimeContext,
    options: RunOptions,
    cancelled: asyncio.Event | None = None,
) -> ManualRetry:
    """Retry open failures of a spec by id, also dead letters and unknown ones, and all others that are due.

    Of `options`, only `wait_budget` is used. If a newer record of the same key was read in the meantime, the failure is
    closed and nothing is sent. Raises `RunLogError` if the run log cannot be written.
    """
    options = replace(options, retries=True, trigger=Trigger.RETRY.value)
    outcomes: dict[str, Outcome] = {}

    def save_outcomes(results: Sequence[RetryResult]) -> None:
        outcomes.update((result.failure, result.outcome) for result in results)

    with RunLog.open(runlog, context.clock, on_retries=save_outcomes) as log:
        log.requeue(failures)
        try:
            result = await run(prepared, log, references, context, options, cancelled)
        except SpecLocked as locked:
            return ManualRetry(None, {}, locked)
        return ManualRetry(result, outcomes)
