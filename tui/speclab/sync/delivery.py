"""Delivery of a batch: write, wait, bisect, and collect the outcome of each record."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import ceil
from typing import Any, Final, Literal, TypeVar

from speclab.connectors.api import (
    Activity,
    FullReplace,
    MappedRecord,
    RuntimeContext,
    TransactionalDedup,
    WriteError,
    Writer,
    WriteResult,
)
from speclab.connectors.rate_limiter import compute_delay
from speclab.core.clock import Clock
from speclab.core.errors import EndpointError, SpeclabError, Unauthorized
from speclab.core.outcome import Effect, ErrorClass, Level, Outcome, RunState
from speclab.runlog import PageResult, TargetState
from speclab.spec.integration import ErrorAction
from speclab.spec.settings import RetrySettings
from speclab.spec.settings_types import format_duration
from speclab.sync.retry_policy import ActionTable, RetryBudget, RetryPolicy
from speclab.sync.transform import MappedBatch

Write = Callable[[Sequence[MappedRecord]], Awaitable[Sequence[WriteResult]]]
"""Writes one batch and returns a result for each record, as `Writer.write` does."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Halt:
    """Why a run ends early, and in which state: because of an `error`, or of a result with the class `result_class`.

    A run that is parked continues not earlier than `until`, the time that the system at `endpoint` asked for.
    """

    state: RunState
    reason: str
    error: SpeclabError | None = None
    result_class: ErrorClass | None = None
    until: datetime | None = None
    endpoint: Literal["source", "target"] = "target"

    @property
    def error_class(self) -> ErrorClass | None:
        """The error class that ended the run, if there is one."""
        return self.error.error_class if isinstance(self.error, EndpointError) else self.result_class


CANCELLED: Final = Halt(RunState.CANCELLED, "cancelled; the next run continues from the checkpoint")

UNDECIDED: Final = WriteResult()
"""The result of a record that the next run must send: without an effect or an error."""


@dataclass(frozen=True, slots=True)
class DeliveryResult:
    """A result for each record, in order, and why the run must end, if it must.

    Records that a halt left for the next run have the result `UNDECIDED`.
    """

    results: Sequence[WriteResult]
    halt: Halt | None = None


class WaitBudget:
    """The total time, in seconds, that a run may spend waiting; every wait goes through it."""

    def __init__(
        self, clock: Clock, seconds: float, cancelled: asyncio.Event, activity: Activity | None = None
    ) -> None:
        self.left = seconds
        self._clock = clock
        self._cancelled = cancelled
        self._activity = activity or Activity()

    @property
    def cancelled(self) -> bool:
        """Whether the run was asked to stop."""
        return self._cancelled.is_set()

    async def wait(self, seconds: float, reason: str) -> bool:
        """Wait exactly `seconds` for `reason`.

        Return False at once if that is more than is left, and as soon as the run is asked to stop.
        """
        if seconds > self.left or self.cancelled:
            return False
        self.left -= seconds
        pause = asyncio.ensure_future(self._clock.sleep(seconds))
        try:
            with self._activity.waiting(reason, seconds, self._clock):
                await self.unless_cancelled(pause)
        finally:
            pause.cancel()
        return not self.cancelled

    async def unless_cancelled(self, future: asyncio.Future[T]) -> T | None:
        """Return the result of `future`, or None as soon as the run is asked to stop."""
        stop = asyncio.ensure_future(self._cancelled.wait())
        either: set[asyncio.Future[Any]] = {future, stop}
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stop.cancel()
        return await future if future.done() else None


@dataclass(frozen=True, slots=True)
class Delivery:
    """Sends records to one target. It keeps no state: a halt is returned to the caller, which must stop."""

    writer: Writer
    actions: ActionTable
    retry: RetrySettings
    context: RuntimeContext
    wait_budget: WaitBudget
    budget: RetryBudget

    @property
    def full_replace(self) -> bool:
        """Whether each run starts with an empty target, so that no record can be skipped as unchanged."""
        return isinstance(self.writer, FullReplace)

    @property
    def transactional(self) -> bool:
        """Whether the target itself recognizes records that a killed run has written."""
        return isinstance(self.writer, TransactionalDedup)

    async def send(
        self, records: Sequence[MappedRecord], attempt: int = 1, write: Write | None = None
    ) -> DeliveryResult:
        """Send `records`; this is attempt number `attempt`. Each batch is written with `write`, by default the writer.

        If the target asks to wait, wait and send again. A batch that is rejected as a whole is bisected, and so is one
        that fails as a whole in the last attempt.
        """
        call = _SendCall(self, attempt, write or self.writer.write)
        results = await call.send(records)
        return DeliveryResult(results, call.halt)

    async def begin_full_replace(self) -> Halt | None:
        """Tell a writer that replaces the target that a full read starts."""
        if isinstance(self.writer, FullReplace):
            try:
                await self.writer.begin()
            except EndpointError as error:
                return Halt(RunState.FAILED, error.message, error)
        return None

    async def finish_full_replace(self) -> None:
        """Tell a writer that replaces the target that it received the whole source."""
        if isinstance(self.writer, FullReplace):
            await self.writer.finish()

    def confirm_commit(self) -> None:
        """Tell a writer with transactional deduplication that all that was written is in the run log."""
        if isinstance(self.writer, TransactionalDedup):
            self.writer.acknowledge()


@dataclass(slots=True)
class _SendCall:
    """One call of `Delivery.send`. Once it has a `halt`, it sends nothing more."""

    delivery: Delivery
    attempt: int
    write: Write
    halt: Halt | None = None

    async def send(self, records: Sequence[MappedRecord]) -> list[WriteResult]:
        budget, writer, activity = self.delivery.budget, self.delivery.writer, self.delivery.context.activity
        results: list[WriteResult] = []
        while len(results) < len(records):
            size = 1 if budget.probing else writer.batch
            batch = records[len(results) : len(results) + size]
            batch_results = await self._write_and_wait(batch)
            error = find_shared_error(batch_results)
            if error is not None and self._should_split(error):
                batch_results = await bisect(self._write_and_wait, batch, self._should_split)
            results += batch_results
            activity.sent += len(batch_results)
        return results

    def _should_split(self, error: WriteError) -> bool:
        """Return whether a batch that failed as a whole with `error` is sent in halves."""
        if self.delivery.actions.is_outcome_unknown(error):
            return False
        action = self.delivery.actions.get_action(error)
        if action is ErrorAction.RETRY:
            return self.attempt >= self.delivery.retry.attempts
        return action in (ErrorAction.DEAD_LETTER, ErrorAction.SKIP)

    async def _write_and_wait(self, records: Sequence[MappedRecord]) -> list[WriteResult]:
        """Write a batch, and write those records again that the target asked to wait with."""
        results = await self._write_once(records)
        throttled = self._find_throttled(results)
        waits = 0
        while throttled and await self._wait([error for _, error in throttled], waits):
            retried = await self._write_once([records[index] for index, _ in throttled])
            for (index, _), result in zip(throttled, retried, strict=True):
                results[index] = result
            throttled = self._find_throttled(results)
            waits += 1
        for index, _ in throttled:
            results[index] = UNDECIDED
        return results

    async def _write_once(self, records: Sequence[MappedRecord]) -> list[WriteResult]:
        if self.halt:
            return [UNDECIDED] * len(records)
        try:
            results = list(await self.write(records))
        except EndpointError as error:
            self.halt = Halt(RunState.FAILED, error.message, error)
            return [UNDECIDED] * len(records)
        errors = {id(result.error): result.error for result in results if result.error is not None}
        if not errors:
            self.delivery.budget.earn(len(results))
            return results
        self.delivery.budget.earn(sum(result.error is None for result in results))
        return self._apply_actions(results, list(errors.values()))

    def _apply_actions(self, results: list[WriteResult], errors: Sequence[WriteError]) -> list[WriteResult]:
        """Charge the retry budget for `errors`, and halt if one of them, or the budget, ends the run."""
        table, budget = self.delivery.actions, self.delivery.budget
        actions = [(table.get_action(error), error) for error in errors]
        retryable = [error for action, error in actions if action is ErrorAction.RETRY]
        budget.spend(len(retryable))
        if retryable and budget.exhausted:
            self.halt = Halt(
                RunState.FAILED,
                f"stopped: too many requests to the target fail; last error: {retryable[-1].message}",
                result_class=retryable[-1].error_class,
            )
        for action, error in actions:
            if action is ErrorAction.STOP:
                reason = f"stopped, as Error Types of the spec says for: {error.message}"
                self.halt = Halt(RunState.FAILED, reason, result_class=error.error_class)
            elif action is ErrorAction.REFRESH:
                rejected = Unauthorized(
                    f"the target rejects the credentials: {error.message}",
                    request=error.request,
                    response=error.response,
                    hint="check the Target System Auth section and the secrets it references",
                )
                self.halt = Halt(RunState.FAILED, rejected.message, rejected)
        if self.halt is None:
            return results
        final = (ErrorAction.STOP, ErrorAction.REFRESH)
        stopping = {id(error) for action, error in actions if action in final and not table.is_outcome_unknown(error)}
        return [UNDECIDED if id(result.error) in stopping else result for result in results]

    def _find_throttled(self, results: Sequence[WriteResult]) -> list[tuple[int, WriteError]]:
        """Return the records, by index, that the target asks to send again later."""
        return [
            (index, result.error)
            for index, result in enumerate(results)
            if result.error is not None
            and self.delivery.actions.get_action(result.error) is ErrorAction.WAIT
            and not self.delivery.actions.is_outcome_unknown(result.error)
        ]

    async def _wait(self, errors: Sequence[WriteError], waits: int) -> bool:
        """Wait as long as the target asks; return False, with a halt, if that is longer than the run may wait."""
        if self.halt:
            return False
        retry, context, budget = self.delivery.retry, self.delivery.context, self.delivery.wait_budget
        requested = [error.retry_after for error in errors if error.retry_after is not None]
        seconds = max(requested) if requested else compute_delay(waits, retry.base, retry.cap, context.random)
        text, message = wait_text(seconds), errors[0].message
        context.report(Level.WARNING, f"the target is rate-limiting ({message}); retrying in {text}")
        if await budget.wait(seconds, f"the target asks to wait: {message}"):
            return True
        if budget.cancelled:
            self.halt = CANCELLED
        else:
            until = context.clock.now() + timedelta(seconds=seconds) if requested else None
            reason = f"parked: the target asks to wait {text}: {message}; the next run continues"
            self.halt = Halt(RunState.PARTIAL, reason, until=until)
        return False


def find_shared_error(results: Sequence[WriteResult]) -> WriteError | None:
    """Return the error with which a batch of several records failed as a whole; None if each has its own result."""
    first = results[0].error
    if first is None or len(results) == 1 or any(result.error is not first for result in results):
        return None
    return first


async def bisect(
    write: Write, records: Sequence[MappedRecord], should_split: Callable[[WriteError], bool]
) -> list[WriteResult]:
    """Write a batch that failed as a whole in halves, until each bad record stands alone.

    A part that fails as a whole is split again if `should_split` returns True for its error. One bad record among n
    costs at most 2 * ceil(log2 n) requests: if one half succeeds, the other one is known to be bad and is not sent
    whole.
    """
    middle = len(records) // 2
    left = await _write_part(write, records[:middle], should_split)
    if len(records) - middle > 1 and all(result.error is None for result in left):
        return left + await bisect(write, records[middle:], should_split)
    return left + await _write_part(write, records[middle:], should_split)


async def _write_part(
    write: Write, records: Sequence[MappedRecord], should_split: Callable[[WriteError], bool]
) -> list[WriteResult]:
    results = list(await write(records))
    error = find_shared_error(results)
    if error is None or not should_split(error):
        return results
    return await bisect(write, records, should_split)


def wait_text(seconds: float) -> str:
    """Return a duration as text, such as `1.8 s` or `1m30s`."""
    return f"{seconds:.1f} s" if seconds < 10 else format_duration(ceil(seconds))


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
        targets=collect_targets(batch.keys, results),
        keep_cursor=bool(undecided),
    )


def collect_targets(keys: Sequence[str], results: Sequence[WriteResult]) -> dict[str, TargetState]:
    """Return the id and version at the target, by key, of the written records whose results have one."""
    return {
        key: TargetState(result.target_id, result.version)
        for key, result in zip(keys, results, strict=True)
        if (result.target_id is not None or result.version is not None) and result.effect
    }
