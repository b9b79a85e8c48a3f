"""Delivery: items to the target, a batch at a time, through rate limits, rejected batches and the retry budget."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Literal

from speclab.connectors.backoff import delay
from speclab.connectors.base import Answer, Item, Refusal, Remembering, Seams, Snapshot, Writer
from speclab.errors import SpeclabError, SystemFailure, Unauthorized
from speclab.outcome import ErrorClass, Level, RunState
from speclab.spec.integration import Action
from speclab.spec.settings import RetrySettings
from speclab.sync.actions import ActionTable
from speclab.sync.bisection import bisect, refused_whole
from speclab.sync.budget import RetryBudget
from speclab.sync.patience import Patience, wait_text

UNDECIDED: Final = Answer()
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
        return self.error.error_class if isinstance(self.error, SystemFailure) else self.told


CANCELLED: Final = Halt(RunState.CANCELLED, "cancelled; the next run goes on from the checkpoint")


class Delivery:
    """The way to one target for the length of a run. Once `halt` is set, nothing more is sent."""

    def __init__(
        self,
        *,
        writer: Writer,
        table: ActionTable,
        retry: RetrySettings,
        seams: Seams,
        patience: Patience,
        budget: RetryBudget,
    ) -> None:
        self.halt: Halt | None = None
        self._writer = writer
        self._table = table
        self._retry = retry
        self._seams = seams
        self._patience = patience
        self._budget = budget

    @property
    def idempotent(self) -> bool:
        """Whether writing an item again does no harm."""
        return self._writer.idempotent

    async def send(self, items: Sequence[Item], attempt: int = 1) -> list[Answer]:
        """An answer for each item, in order; `UNDECIDED` for those a halt came before.

        `attempt` is the number of this try. What the target asks to wait for is waited for here and sent again; a
        batch that is rejected whole is bisected, and so is one that fails whole for the last time.
        """

        def splits(refusal: Refusal) -> bool:
            if self._table.unknown(refusal):
                return False
            action = self._table.action(refusal)
            if action is Action.RETRY:
                return attempt >= self._retry.attempts
            return action in (Action.DEAD_LETTER, Action.SKIP)

        answers: list[Answer] = []
        while len(answers) < len(items):
            size = 1 if self._budget.probing else self._writer.batch
            batch = items[len(answers) : len(answers) + size]
            answered = await self._write(batch)
            refusal = refused_whole(answered)
            if refusal is not None and splits(refusal):
                answered = await bisect(self._write, batch, splits)
            answers += answered
            self._seams.activity.sent += len(answered)
        return answers

    @property
    def anew(self) -> bool:
        """Whether the target begins each run with nothing, so that a record there cannot be known to be unchanged."""
        return isinstance(self._writer, Snapshot)

    def booked(self) -> None:
        """Let the target know, if it remembers what is in doubt, that nothing is any more."""
        if isinstance(self._writer, Remembering):
            self._writer.booked()

    async def begin(self) -> None:
        """Let the target know, if that matters to it, that a read of the whole source begins at its start."""
        if isinstance(self._writer, Snapshot):
            try:
                await self._writer.begin()
            except SystemFailure as error:
                self.halt = Halt(RunState.FAILED, error.message, error)

    async def finish(self) -> None:
        """Let the target know, if it waits for that, that it was given all the source holds."""
        if isinstance(self._writer, Snapshot):
            await self._writer.finish()

    async def _write(self, items: Sequence[Item]) -> list[Answer]:
        """One answer each, none of which asks to wait."""
        answers = await self._once(items)
        held = self._held(answers)
        holds = 0
        while held and await self._hold([refusal for _, refusal in held], holds):
            again = await self._once([items[index] for index, _ in held])
            for (index, _), answer in zip(held, again, strict=True):
                answers[index] = answer
            held = self._held(answers)
            holds += 1
        for index, _ in held:
            answers[index] = UNDECIDED
        return answers

    async def _once(self, items: Sequence[Item]) -> list[Answer]:
        if self.halt:
            return [UNDECIDED] * len(items)
        try:
            answers = list(await self._writer.write(items))
        except SystemFailure as error:
            self.halt = Halt(RunState.FAILED, error.message, error)
            return [UNDECIDED] * len(items)
        if any(answer.refusal is not None for answer in answers):
            self._look_at(answers)
        else:
            self._budget.earn(len(answers))
        return answers

    def _look_at(self, answers: list[Answer]) -> None:
        """Charge the budget for what failed, and halt where the action table says so."""
        refusals = {id(answer.refusal): answer.refusal for answer in answers if answer.refusal is not None}
        actions = [(self._table.action(refusal), refusal) for refusal in refusals.values()]
        failed = [refusal for action, refusal in actions if action is Action.RETRY]
        self._budget.earn(sum(answer.refusal is None for answer in answers))
        self._budget.spend(len(failed))
        if failed and self._budget.exhausted:
            self.halt = Halt(
                RunState.FAILED,
                f"stopped: the target fails too often to go on, last with: {failed[-1].message}",
                told=failed[-1].error_class,
            )
        for action, refusal in actions:
            if action is Action.STOP:
                reason = f"stopped, as the spec says for: {refusal.message}"
                self.halt = Halt(RunState.FAILED, reason, told=refusal.error_class)
            elif action is Action.REFRESH:
                error = Unauthorized(
                    f"the target refuses the credentials: {refusal.message}",
                    request=refusal.request,
                    response=refusal.response,
                    hint="check the Target System Auth section and the secrets it names",
                )
                self.halt = Halt(RunState.FAILED, error.message, error)
        if self.halt:
            stopping = {
                id(refusal)
                for action, refusal in actions
                if action in (Action.STOP, Action.REFRESH) and not self._table.unknown(refusal)
            }
            answers[:] = [UNDECIDED if id(answer.refusal) in stopping else answer for answer in answers]

    def _held(self, answers: Sequence[Answer]) -> list[tuple[int, Refusal]]:
        return [
            (index, answer.refusal)
            for index, answer in enumerate(answers)
            if answer.refusal is not None
            and self._table.action(answer.refusal) is Action.WAIT
            and not self._table.unknown(answer.refusal)
        ]

    async def _hold(self, refusals: Sequence[Refusal], holds: int) -> bool:
        """Keep still for as long as the target asks; False, with a halt, where that is more than the run may wait."""
        if self.halt:
            return False
        asked = [refusal.retry_after for refusal in refusals if refusal.retry_after is not None]
        seconds = max(asked) if asked else delay(holds, self._retry.base, self._retry.cap, self._seams.random)
        text = wait_text(seconds)
        self._seams.report(Level.WARNING, f"the target is to be left alone: {refusals[0].message}, next in {text}")
        if await self._patience.wait(seconds, f"the target asks to wait: {refusals[0].message}"):
            return True
        if self._patience.cancelled:
            self.halt = CANCELLED
            return False
        self.halt = Halt(
            RunState.PARTIAL,
            f"parked: the target is to be left alone for {text}: {refusals[0].message}; the next run goes on",
            until=self._seams.clock.now() + timedelta(seconds=seconds) if asked else None,
        )
        return False
