"""Retries: records of the retry queue mapped anew, as the spec is now, and sent again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import groupby
from typing import Final

from speclab.clock import Clock
from speclab.connectors.base import Item
from speclab.jsonvalue import Record
from speclab.outcome import Outcome
from speclab.runlog import FailureRow, RunLog, Settled
from speclab.sync.delivery import UNDECIDED, Delivery
from speclab.sync.doubt import Doubt
from speclab.sync.draft import Drafter
from speclab.sync.failures import unreadable
from speclab.sync.verdict import Judge

QUIET: Final = 10.0
"""Seconds after a retry event in which retries that all end as waiting have no event of their own."""


@dataclass(frozen=True, slots=True)
class _Try:
    """A failure that is to be sent again."""

    row: FailureRow
    item: Item
    hash: bytes

    @property
    def number(self) -> int:
        return self.row.attempts + 1


@dataclass(slots=True)
class RetryMessages:
    """The messages of retry events, such as `retried 12: 10 written, 2 waiting`.

    While every retry ends as waiting, one event in `QUIET` seconds is enough: it counts those since the last one. A
    short backoff would otherwise fill the event log with lines that all say the same.
    """

    _counts: Counter[Outcome] = field(default_factory=Counter)
    _last: datetime | None = None

    def message(self, settled: Sequence[Settled], now: datetime) -> str:
        """Count `settled`, and return the message of the event; empty if none is due."""
        self._counts.update(one.outcome for one in settled)
        quiet = self._last is not None and (now - self._last).total_seconds() < QUIET
        if quiet and all(one.outcome is Outcome.WAITING for one in settled):
            return ""
        outcomes = ", ".join(f"{number:,} {outcome}" for outcome, number in self._counts.most_common())
        text = f"retried {self._counts.total():,}: {outcomes}"
        self._counts.clear()
        self._last = now
        return text


@dataclass(frozen=True, slots=True)
class Retries:
    """Tries again what is due, for one run.

    A newer record of the same key closes older failures when its page is booked, so what is due is always the newest
    there is, and a retry never overwrites newer data.
    """

    run: str
    spec_id: str
    log: RunLog
    drafter: Drafter
    delivery: Delivery
    doubt: Doubt
    judge: Judge
    clock: Clock
    messages: RetryMessages = field(default_factory=RetryMessages)

    async def again(self, rows: Sequence[FailureRow]) -> None:
        """Try each of `rows` once more and settle what it came to; those a halt came before stay as they are."""
        settled: list[Settled] = []
        tries: list[_Try] = []
        gone = self.log.gone(self.spec_id, [row.key for row in rows])
        for row in rows:
            self._draft(row, gone.get(row.key), settled, tries)
        tries.sort(key=lambda one: one.number)
        for number, group in groupby(tries, key=lambda one: one.number):
            settled += await self._send(list(group), number)
        if settled:
            self.log.settle(self.run, settled, self.messages.message(settled, self.clock.now()))

    def _draft(self, row: FailureRow, gone: Record | None, settled: list[Settled], tries: list[_Try]) -> None:
        """Put `row` to `tries` if it is to be sent, otherwise what became of it to `settled`.

        What the source has no more is `gone`, and is not mapped but deleted by what was kept of it.
        """
        source = row.source or {}
        if gone is None and not source:  # it could not be read, and no retry changes that
            settled.append(Settled(row.id, Outcome.DEAD, again=unreadable(row)))
            return
        (mapped,) = self.drafter.drafts([source]) if gone is None else [self.drafter.departed({row.key: gone})]
        draft = mapped if self.delivery.anew else mapped.unlike(self.log.hashes(self.spec_id, mapped.keys))
        if items := self.drafter.items(draft):
            tries.append(_Try(row, items[0], draft.hashes[0]))
            return
        (outcome,) = draft.outcomes
        settled.append(Settled(row.id, outcome, again=draft.failures[0] if draft.failures else None))

    async def _send(self, tries: Sequence[_Try], number: int) -> list[Settled]:
        answers = await self.doubt.send(self.delivery, [one.item for one in tries], number)
        settled = []
        for one, answer in zip(tries, answers, strict=True):
            if answer is UNDECIDED:
                continue
            verdict = self.judge.verdict(one.item, answer, number, datetime.fromisoformat(one.row.first_at))
            settled.append(
                Settled(
                    one.row.id,
                    verdict.outcome,
                    effect=verdict.effect,
                    again=verdict.failure,
                    state=(one.item.key, one.hash) if verdict.outcome is Outcome.WRITTEN else None,
                    bytes_out=answer.bytes_out,
                )
            )
        return settled
