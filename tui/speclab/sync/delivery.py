"""Delivery of a mapped batch: attempts, backoff, bisection, and the budgets that bound them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import ceil
from typing import Any, Final, Literal, TypeVar

from speclab.connectors.activity import Activity
from speclab.connectors.api import (
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
from speclab.runlog import PageResult
from speclab.spec.integration import ErrorAction
from speclab.spec.settings import RetrySettings
from speclab.spec.units import format_duration
from speclab.sync.retry_policy import ActionTable, RetryBudget, RetryPolicy
from speclab.sync.transform import MappedBatch

Send = Callable[[Sequence[MappedRecord]], Awaitable[Sequence[WriteResult]]]


def refused_whole(answers: Sequence[WriteResult]) -> WriteError | None:
    """The one refusal that answers a whole batch of several; None where each item has an answer of its own."""
    first = answers[0].error
    if first is None or len(answers) == 1 or any(answer.error is not first for answer in answers):
        return None
    return first


async def bisect(send: Send, items: Sequence[MappedRecord], splits: Callable[[WriteError], bool]) -> list[WriteResult]:
    """Answers for `items`, a batch that was refused whole, by sending halves of it until those refused stand alone.

    A part that is refused whole again is split again if `splits` says so of its refusal. One bad record among n costs
    at most 2 * ceil(log2 n) sends: when one half passes, the other is known to be bad and is not sent whole.
    """
    return await _halves(send, items, splits)


async def _halves(send: Send, items: Sequence[MappedRecord], splits: Callable[[WriteError], bool]) -> list[WriteResult]:
    middle = len(items) // 2
    left = await _part(send, items[:middle], splits)
    if len(items) - middle > 1 and all(answer.error is None for answer in left):
        return left + await _halves(send, items[middle:], splits)
    return left + await _part(send, items[middle:], splits)


async def _part(send: Send, items: Sequence[MappedRecord], splits: Callable[[WriteError], bool]) -> list[WriteResult]:
    answers = list(await send(items))
    write_error = refused_whole(answers)
    if write_error is None or not splits(write_error):
        return answers
    return await _halves(send, items, splits)


T = TypeVar("T")


class WaitBudget:
    """The seconds a run may spend doing nothing, and the one place where it does so."""

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
        """Wait `seconds` for `reason`, never less.

        False, at once, where that is more than is left or the run is asked to stop.
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
        """What `future` comes to; None as soon as the run is asked to stop."""
        stop = asyncio.ensure_future(self._cancelled.wait())
        either: set[asyncio.Future[Any]] = {future, stop}
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stop.cancel()
        return await future if future.done() else None


def wait_text(seconds: float) -> str:
    """How long a wait is, for people: `1.8 s`, `1m30s`."""
    return f"{seconds:.1f} s" if seconds < 10 else format_duration(ceil(seconds))


UNDECIDED: Final = WriteResult()
"""Stands for an item that was not sent, or is to be sent again by the next run: neither an effect nor a refusal."""


@dataclass(frozen=True, slots=True)
class Halt:
    """Why a run ends before it is done, and in which state: by an `error`, or by an answer of the class `told`.

    A run that is parked is gone on with no earlier than `until`, for that is what the system at that `end` asks for.
    """

    state: RunState
    reason: str
    error: SpeclabError | None = None
    told: ErrorClass | None = None
    until: datetime | None = None
    end: Literal["source", "target"] = "target"

    @property
    def error_class(self) -> ErrorClass | None:
        """The class of what ended the run, where it has one."""
        return self.error.error_class if isinstance(self.error, EndpointError) else self.told


CANCELLED: Final = Halt(RunState.CANCELLED, "cancelled; the next run continues from the checkpoint")


class Delivery:
    """The way to one target for the length of a run. Once `halt` is set, nothing more is sent."""

    def __init__(
        self,
        *,
        writer: Writer,
        table: ActionTable,
        retry: RetrySettings,
        context: RuntimeContext,
        wait_budget: WaitBudget,
        budget: RetryBudget,
    ) -> None:
        self.halt: Halt | None = None
        self._writer = writer
        self._table = table
        self._retry = retry
        self._context = context
        self._wait_budget = wait_budget
        self._budget = budget

    @property
    def idempotent(self) -> bool:
        """Whether writing an item again does no harm."""
        return self._writer.idempotent

    async def send(self, items: Sequence[MappedRecord], attempt: int = 1) -> list[WriteResult]:
        """An answer for each item, in order; `UNDECIDED` for those a halt came before.

        `attempt` is the number of this try. What the target asks to wait for is waited for here and sent again; a
        batch that is rejected whole is bisected, and so is one that fails whole for the last time.
        """

        def splits(write_error: WriteError) -> bool:
            if self._table.unknown(write_error):
                return False
            action = self._table.action(write_error)
            if action is ErrorAction.RETRY:
                return attempt >= self._retry.attempts
            return action in (ErrorAction.DEAD_LETTER, ErrorAction.SKIP)

        answers: list[WriteResult] = []
        while len(answers) < len(items):
            size = 1 if self._budget.probing else self._writer.batch
            batch = items[len(answers) : len(answers) + size]
            answered = await self._write(batch)
            write_error = refused_whole(answered)
            if write_error is not None and splits(write_error):
                answered = await bisect(self._write, batch, splits)
            answers += answered
            self._context.activity.sent += len(answered)
        return answers

    @property
    def anew(self) -> bool:
        """Whether the target begins each run with nothing, so that a record there cannot be known to be unchanged."""
        return isinstance(self._writer, FullReplace)

    def booked(self) -> None:
        """Let the target know, if it remembers what is in doubt, that nothing is any more."""
        if isinstance(self._writer, TransactionalDedup):
            self._writer.acknowledge()

    async def begin(self) -> None:
        """Let the target know, if that matters to it, that a read of the whole source begins at its start."""
        if isinstance(self._writer, FullReplace):
            try:
                await self._writer.begin()
            except EndpointError as error:
                self.halt = Halt(RunState.FAILED, error.message, error)

    async def finish(self) -> None:
        """Let the target know, if it waits for that, that it was given all the source holds."""
        if isinstance(self._writer, FullReplace):
            await self._writer.finish()

    async def _write(self, items: Sequence[MappedRecord]) -> list[WriteResult]:
        """One answer each, none of which asks to wait."""
        answers = await self._once(items)
        held = self._held(answers)
        holds = 0
        while held and await self._hold([write_error for _, write_error in held], holds):
            again = await self._once([items[index] for index, _ in held])
            for (index, _), answer in zip(held, again, strict=True):
                answers[index] = answer
            held = self._held(answers)
            holds += 1
        for index, _ in held:
            answers[index] = UNDECIDED
        return answers

    async def _once(self, items: Sequence[MappedRecord]) -> list[WriteResult]:
        if self.halt:
            return [UNDECIDED] * len(items)
        try:
            answers = list(await self._writer.write(items))
        except EndpointError as error:
            self.halt = Halt(RunState.FAILED, error.message, error)
            return [UNDECIDED] * len(items)
        if any(answer.error is not None for answer in answers):
            self._look_at(answers)
        else:
            self._budget.earn(len(answers))
        return answers

    def _look_at(self, answers: list[WriteResult]) -> None:
        """Charge the budget for what failed, and halt where the action table says so."""
        refusals = {id(answer.error): answer.error for answer in answers if answer.error is not None}
        actions = [(self._table.action(write_error), write_error) for write_error in refusals.values()]
        failed = [write_error for action, write_error in actions if action is ErrorAction.RETRY]
        self._budget.earn(sum(answer.error is None for answer in answers))
        self._budget.spend(len(failed))
        if failed and self._budget.exhausted:
            self.halt = Halt(
                RunState.FAILED,
                f"stopped: the target fails too often to go on, last with: {failed[-1].message}",
                told=failed[-1].error_class,
            )
        for action, write_error in actions:
            if action is ErrorAction.STOP:
                reason = f"stopped, as the spec says for: {write_error.message}"
                self.halt = Halt(RunState.FAILED, reason, told=write_error.error_class)
            elif action is ErrorAction.REFRESH:
                error = Unauthorized(
                    f"the target refuses the credentials: {write_error.message}",
                    request=write_error.request,
                    response=write_error.response,
                    hint="check the Target System Auth section and the secrets it references",
                )
                self.halt = Halt(RunState.FAILED, error.message, error)
        if self.halt:
            stopping = {
                id(write_error)
                for action, write_error in actions
                if action in (ErrorAction.STOP, ErrorAction.REFRESH) and not self._table.unknown(write_error)
            }
            answers[:] = [UNDECIDED if id(answer.error) in stopping else answer for answer in answers]

    def _held(self, answers: Sequence[WriteResult]) -> list[tuple[int, WriteError]]:
        return [
            (index, answer.error)
            for index, answer in enumerate(answers)
            if answer.error is not None
            and self._table.action(answer.error) is ErrorAction.WAIT
            and not self._table.unknown(answer.error)
        ]

    async def _hold(self, refusals: Sequence[WriteError], holds: int) -> bool:
        """Keep still for as long as the target asks; False, with a halt, where that is more than the run may wait."""
        if self.halt:
            return False
        asked = [write_error.retry_after for write_error in refusals if write_error.retry_after is not None]
        seconds = max(asked) if asked else compute_delay(holds, self._retry.base, self._retry.cap, self._context.random)
        text = wait_text(seconds)
        self._context.report(Level.WARNING, f"the target is to be left alone: {refusals[0].message}, next in {text}")
        if await self._wait_budget.wait(seconds, f"the target asks to wait: {refusals[0].message}"):
            return True
        if self._wait_budget.cancelled:
            self.halt = CANCELLED
            return False
        self.halt = Halt(
            RunState.PARTIAL,
            f"parked: the target is to be left alone for {text}: {refusals[0].message}; the next run goes on",
            until=self._context.clock.now() + timedelta(seconds=seconds) if asked else None,
        )
        return False


def book(
    draft: MappedBatch, items: Sequence[MappedRecord], answers: Sequence[WriteResult], retry_policy: RetryPolicy
) -> PageResult:
    """The books of `draft`, whose `items` were answered with `answers`; bytes read and cursor are the page's to add.

    Records left undecided are not in them, and keep the cursor where it is: the next run reads them again.
    """
    effects = [answer.effect for answer in answers]
    outcomes = draft.outcomes.copy()
    outcomes[Outcome.WRITTEN] += len(effects) - effects.count(None)
    failures = list(draft.failures)
    undecided: set[str] = set()
    for item, answer in zip(items, answers, strict=True) if None in effects else ():
        if answer is UNDECIDED:
            undecided.add(item.key)
        elif answer.error is not None:
            verdict = retry_policy.verdict(item, answer)
            outcomes[verdict.outcome] += 1
            failures += [verdict.failure] if verdict.failure else []
    states = [(key, hash_) for key, hash_, effect in zip(draft.keys, draft.hashes, effects, strict=True) if effect]
    return PageResult(
        read=draft.read - len(undecided),
        outcomes=outcomes,
        effects={effect: effects.count(effect) for effect in Effect},
        bytes_in=0,
        bytes_out=sum([answer.bytes_out for answer in answers]),
        cursor=None,
        failures=failures,
        keys=[key for key in draft.seen if key not in undecided],
        states=states,
        keep_cursor=bool(undecided),
    )
