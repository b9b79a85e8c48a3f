"""What tests of the engine stand on: a clock that jumps, sources and targets in memory that do as they are told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from speclab.connectors.base import Answer, Item, Page, Refusal
from speclab.errors import SystemFailure
from speclab.jsonvalue import Json, Record
from speclab.outcome import Effect, ErrorClass


class JumpingClock:
    """Time that passes only while something waits for it, and then at once."""

    def __init__(self) -> None:
        self.start = datetime(2026, 11, 24, 10, tzinfo=UTC)
        self.passed = 0.0
        self.naps: list[float] = []

    def now(self) -> datetime:
        return self.start + timedelta(seconds=self.passed)

    def monotonic(self) -> float:
        return self.passed

    async def sleep(self, seconds: float) -> None:
        self.naps.append(seconds)
        self.passed += seconds
        await asyncio.sleep(0)


def no(
    error_class: ErrorClass = ErrorClass.REJECTED,
    status: int | None = None,
    *,
    message: str = "",
    retry_after: float | None = None,
    field: str | None = None,
    sent: bool = True,
) -> Answer:
    """A refusal."""
    text = message or f"{status or ''} {error_class}".strip()
    return Answer(
        refusal=Refusal(error_class, text, "PUT /x", "so", status, retry_after, field, sent),
    )


Behaviour = Callable[[Item, int], Answer | None]
"""What a target answers to an item, tried for the nth time (from 1); None: it takes it."""


@dataclass
class MemoryTarget:
    """A writer into a dictionary, by the payload's id; `behaviour` says what it refuses.

    With `whole`, a batch in which anything is refused is refused as a whole, by the first refusal.
    """

    behaviour: Behaviour = lambda _item, _try: None
    batch: int = 10
    idempotent: bool = True
    keyed: bool = True
    deletes: bool = True
    whole: bool = False
    content: dict[str, Record] = field(default_factory=dict)
    calls: list[list[str]] = field(default_factory=list)
    tries: dict[str, int] = field(default_factory=dict)
    keys: dict[str, list[str]] = field(default_factory=dict)
    closed: bool = False

    async def write(self, items: Sequence[Item]) -> Sequence[Answer]:
        await asyncio.sleep(0)
        self.calls.append([item.key for item in items])
        answers = [self._answer(item) for item in items]
        refused = next((answer for answer in answers if answer.refusal), None)
        if self.whole and refused is not None:
            return [refused] * len(items)
        for item, answer in zip(items, answers, strict=True):
            if answer.refusal is None and item.delete:
                self.content.pop(item.key, None)
            elif answer.refusal is None:
                self.content[item.key] = item.payload
        return answers

    def _answer(self, item: Item) -> Answer:
        self.tries[item.key] = self.tries.get(item.key, 0) + 1
        self.keys.setdefault(item.key, []).append(item.idempotency_key)
        refused = self.behaviour(item, self.tries[item.key])
        if refused is not None:
            return refused
        if item.delete:
            return Answer(effect=Effect.DELETED, bytes_out=1)
        return Answer(effect=Effect.UPDATED if item.key in self.content else Effect.CREATED, bytes_out=10)

    async def close(self) -> None:
        self.closed = True


@dataclass
class MemorySource:
    """A reader of pages from a list of them; its cursor is how many were read. `fails_at` breaks before that page."""

    content: list[list[Record]]
    fails_at: int | None = None
    error: SystemFailure | None = None
    asked: list[int] = field(default_factory=list)
    closed: bool = False

    async def pages(self, cursor: Json, *, full: bool) -> AsyncIterator[Page]:
        start = 0 if full or not isinstance(cursor, int) else cursor
        if start >= len(self.content):
            yield Page([], start, 0, "GET /x", complete=True)
        for number in range(start, len(self.content)):
            self.asked.append(number)
            await asyncio.sleep(0)
            if self.fails_at == number and self.error is not None:
                raise self.error
            records = self.content[number]
            total = sum(map(len, self.content))
            last = number == len(self.content) - 1
            yield Page(records, number + 1, 100 * len(records), "GET /x", total=total, complete=last)

    async def close(self) -> None:
        self.closed = True
