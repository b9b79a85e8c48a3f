"""The page loop: read, map, deliver and commit a page at a time; retries in between and at the end."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import groupby
from math import ceil
from typing import Final

from speclab.connectors.activity import Activity
from speclab.connectors.api import MappedRecord, Page, Reader, Report, WriteResult
from speclab.core.clock import Clock
from speclab.core.errors import EndpointError, IncompleteRead
from speclab.core.json import Record
from speclab.core.outcome import ErrorClass, Level, Outcome, RunState
from speclab.runlog import FailureRow, RetryResult, RunStore
from speclab.spec.integration import Integration
from speclab.sync.deletes import DerivedDeletes
from speclab.sync.delivery import CANCELLED, UNDECIDED, Delivery, Halt, WaitBudget, book
from speclab.sync.guards import GuardAlarm, SchemaDrift, VolumeGuard
from speclab.sync.prepare import cursor_on
from speclab.sync.retry_policy import RetryPolicy
from speclab.sync.transform import MappedBatch, Transformer, unanswered, unreadable
from speclab.sync.write_intents import WriteIntents

QUIET: Final = 10.0
"""Seconds after a retry event in which retries that all end as waiting have no event of their own."""


@dataclass(frozen=True, slots=True)
class _Try:
    """A failure that is to be sent again."""

    row: FailureRow
    item: MappedRecord
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

    def message(self, settled: Sequence[RetryResult], now: datetime) -> str:
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
class RetryQueue:
    """Tries again what is due, for one run.

    A newer record of the same key closes older failures when its page is booked, so what is due is always the newest
    there is, and a retry never overwrites newer data.
    """

    run: str
    spec_id: str
    log: RunStore
    transformer: Transformer
    delivery: Delivery
    write_intents: WriteIntents
    retry_policy: RetryPolicy
    clock: Clock
    messages: RetryMessages = field(default_factory=RetryMessages)

    async def again(self, rows: Sequence[FailureRow]) -> None:
        """Try each of `rows` once more and settle what it came to; those a halt came before stay as they are."""
        settled: list[RetryResult] = []
        tries: list[_Try] = []
        gone = self.log.get_tombstones(self.spec_id, [row.key for row in rows])
        for row in rows:
            self._draft(row, gone.get(row.key), settled, tries)
        tries.sort(key=lambda one: one.number)
        for number, group in groupby(tries, key=lambda one: one.number):
            settled += await self._send(list(group), number)
        if settled:
            self.log.commit_retries(self.run, settled, self.messages.message(settled, self.clock.now()))

    def _draft(self, row: FailureRow, gone: Record | None, settled: list[RetryResult], tries: list[_Try]) -> None:
        """Put `row` to `tries` if it is to be sent, otherwise what became of it to `settled`.

        What the source has no more is `gone`, and is not mapped but deleted by what was kept of it.
        """
        source = row.source or {}
        if gone is None and not source:  # it could not be read, and no retry changes that
            settled.append(RetryResult(row.id, Outcome.DEAD, new_failure=unreadable(row)))
            return
        (mapped,) = (
            self.transformer.map_batches([source]) if gone is None else [self.transformer.departed({row.key: gone})]
        )
        draft = mapped if self.delivery.anew else mapped.unlike(self.log.get_hashes(self.spec_id, mapped.keys))
        if items := self.transformer.items(draft):
            tries.append(_Try(row, items[0], draft.hashes[0]))
            return
        (outcome,) = draft.outcomes
        settled.append(RetryResult(row.id, outcome, new_failure=draft.failures[0] if draft.failures else None))

    async def _send(self, tries: Sequence[_Try], number: int) -> list[RetryResult]:
        answers = await self.write_intents.send(self.delivery, [one.item for one in tries], number)
        settled = []
        for one, answer in zip(tries, answers, strict=True):
            if answer is UNDECIDED:
                continue
            verdict = self.retry_policy.verdict(one.item, answer, number, datetime.fromisoformat(one.row.first_at))
            settled.append(
                RetryResult(
                    one.row.id,
                    verdict.outcome,
                    effect=verdict.effect,
                    new_failure=verdict.failure,
                    state=(one.item.key, one.hash) if verdict.outcome is Outcome.WRITTEN else None,
                    bytes_out=answer.bytes_out,
                )
            )
        return settled


@dataclass(frozen=True, slots=True)
class MappedPage:
    """A page and the drafts of its records, to be delivered one after the other; `cut` if a limit left some out."""

    page: Page
    map_batches: list[MappedBatch]
    cut: bool

    @property
    def read(self) -> int:
        """How many records the drafts are of."""
        return sum(draft.read for draft in self.map_batches)


async def prefetch_pages(
    pages: AsyncIterator[Page], transformer: Transformer, wait_budget: WaitBudget, limit: int | None
) -> AsyncGenerator[MappedPage, None]:
    """`pages` with their drafts, at most `limit` records in all.

    Ends early when the run is asked to stop while a page is being read.
    """
    following = asyncio.ensure_future(_next(pages, transformer, limit))
    try:
        while page := await wait_budget.unless_cancelled(following):
            limit = None if limit is None else limit - page.read
            following = asyncio.ensure_future(_next(pages, transformer, limit))
            yield page
    finally:
        following.cancel()
        with suppress(asyncio.CancelledError, EndpointError):
            await following
        if isinstance(pages, AsyncGenerator):
            await pages.aclose()


async def _next(pages: AsyncIterator[Page], transformer: Transformer, limit: int | None) -> MappedPage | None:
    """The next page, drafted; None after the last, and where the limit leaves nothing of it."""
    if limit == 0:
        return None
    page = await anext(pages, None)
    if page is None:
        return None
    records = page.records if limit is None else page.records[:limit]
    return MappedPage(page, transformer.map_batches(records), cut=len(records) < len(page.records))


_RETRIES_AT_ONCE: Final = 500
_GATHER: Final = 0.25  # seconds in which retries that come due are gathered, rather than sent one by one


@dataclass(frozen=True, slots=True)
class PageLoop:
    """One run's way through its source. Why it ended early, if it did, is `delivery.halt`."""

    run: str
    spec: Integration
    file: str  # the spec's, as the run log names it
    way: str  # from which source to which target
    log: RunStore
    transformer: Transformer
    delivery: Delivery
    write_intents: WriteIntents
    retry_policy: RetryPolicy
    retries: RetryQueue
    wait_budget: WaitBudget
    clock: Clock
    activity: Activity
    tell: Report  # to those who watch; what is booked tells the run log by itself
    missing: DerivedDeletes | None  # None where the target keeps what the source has no more

    async def go(self, reader: Reader, *, full: bool, limit: int | None) -> None:
        """Drain what is due, take in the source, and wait for the retries that come due soon."""
        await self._retry_due()
        complete = not self.delivery.halt and await self._read(reader, full=full, limit=limit)
        if not self.delivery.halt:
            await self._wait_for_retries()
        if complete and not self.delivery.halt:
            await self.delivery.finish()

    async def drain(self) -> None:
        """Drain what is due and what comes due soon; nothing is read."""
        await self._wait_for_retries()

    async def _read(self, reader: Reader, *, full: bool, limit: int | None) -> bool:
        """Take in the source from the checkpoint (with `full`: from the start), at most `limit` records of it.

        Gives whether it came to the source's end.
        """
        cursor, elsewhere = (None, "") if full else cursor_on(self.log, self.spec.spec_id, self.way)
        if elsewhere:
            self.log.log_event(self.spec.spec_id, self.run, Level.WARNING, "log", elsewhere)
            self.tell(Level.WARNING, elsewhere)
        guard = VolumeGuard(self.spec.volume)
        drift = self._drift()
        number = 0
        complete = False
        try:
            self.activity.read_page(1)
            pages = reader.pages(cursor, full=full or self.delivery.anew)
            async with aclosing(prefetch_pages(pages, self.transformer, self.wait_budget, limit)) as drafted:
                async for page in drafted:
                    number += 1
                    if self._stopped(guard.reads(page.read, page.page), *drift.look(page.page.records)):
                        break
                    if number == 1 and page.page.from_start:
                        await self.delivery.begin()
                    await self._page(number, page, guard)
                    self.activity.read_page(number + 1)
                    complete = page.page.complete and not page.cut
                    if self.delivery.halt or self.wait_budget.cancelled or complete:
                        break
                    await self._retry_due()
        except EndpointError as error:
            self.delivery.halt = _broken_off(error, f"{self.file}:{self.spec.source_line}", self.clock.now())
        if self.wait_budget.cancelled and not complete:
            self.delivery.halt = CANCELLED
        if complete and not self._stopped(guard.ends()) and self.missing is not None and self.delivery.halt is None:
            await self.missing.delete(self._send, guard, self._stopped)
        if not drift.stopped:
            self.log.save_field_profile(self.spec.spec_id, drift.learned())
        return complete

    def _drift(self) -> SchemaDrift:
        """What watches the records, going by what is usual since the runs before."""
        usual, rows = self.log.get_field_profile(self.spec.spec_id), self.transformer.mapper.rows
        return SchemaDrift(usual, rows, self.file, self.transformer.minds, self.spec.volume.guard)

    def _stopped(self, *alarms: GuardAlarm | None) -> bool:
        """Tell alarms; whether one of them ends the run."""
        stopping = False
        for alarm in filter(None, alarms):
            self.log.log_event(self.spec.spec_id, self.run, alarm.level, "guard", alarm.message)
            self.tell(alarm.level, alarm.message)
            if alarm.stops and not stopping:
                stopping = True
                self.delivery.halt = Halt(RunState.FAILED, f"stopped by the guard: {alarm.message}")
        return stopping

    async def _page(self, number: int, drafted: MappedPage, guard: VolumeGuard) -> None:
        """Deliver and book a page. The cursor moves with its last draft, and only if all of the page is decided."""
        page, counts = drafted.page, Counter[Outcome]()
        self.activity.send_page(drafted.read)
        for at, draft in enumerate(drafted.map_batches, 1):
            changed = draft if self.delivery.anew else draft.unlike(self.log.get_hashes(self.spec.spec_id, draft.keys))
            items = self.transformer.items(changed)
            if changed.leaving:
                self._stopped(guard.would_delete(sum(item.delete for item in items)))
            books = book(changed, items, await self._send(items), self.retry_policy)
            counts.update(books.outcomes)
            last = at == len(drafted.map_batches)
            ends = last or self.delivery.halt is not None
            text = _page_text(number, page, counts) if ends else ""
            self.log.commit_page(
                self.run,
                replace(
                    books,
                    bytes_in=page.bytes_in if at == 1 else 0,
                    cursor=page.cursor,
                    route=self.way,
                    keep_cursor=books.keep_cursor or drafted.cut or not last,
                    message=text,
                    total=page.total,
                    seen=self.missing.saw(page, draft, last=last and not drafted.cut) if self.missing else None,
                ),
            )
            if last and not books.keep_cursor:
                self.delivery.booked()
            if ends:
                self.tell(Level.INFO, text)
                return

    async def _send(self, items: Sequence[MappedRecord]) -> list[WriteResult]:
        """An answer for each item, in order.

        What was sent before just so and had no answer has the same none again, where sending it twice could do harm:
        a source that is read anew would otherwise double at the target whatever is in doubt.
        """
        if self.delivery.idempotent:
            return await self.write_intents.send(self.delivery, items)
        rows = {row.key: row for row in self.log.get_unknown_failures(self.spec.spec_id, [item.key for item in items])}
        held = {item.key for item in items if item.key in rows and rows[item.key].payload == item.payload}
        sent = iter(await self.write_intents.send(self.delivery, [item for item in items if item.key not in held]))
        return [unanswered(rows[item.key]) if item.key in held else next(sent) for item in items]

    async def _retry_due(self) -> None:
        """Try again what is due now."""
        while not self.delivery.halt and not self.wait_budget.cancelled:
            rows = self.log.get_due_failures(self.spec.spec_id, self.clock.now(), _RETRIES_AT_ONCE)
            if not rows:
                return
            await self.retries.again(rows)

    async def _wait_for_retries(self) -> None:
        """Try again what comes due while there is patience left; the rest stays waiting for the next run."""
        while True:
            await self._retry_due()
            now = self.clock.now()
            due = self.log.get_due_failures(self.spec.spec_id, now + timedelta(seconds=self.wait_budget.left), 1)
            if self.delivery.halt or not due:
                return
            pause = (datetime.fromisoformat(str(due[0].next_attempt_at)) - now).total_seconds()
            pause = max(pause, min(_GATHER, self.wait_budget.left))
            if not await self.wait_budget.wait(pause, "the next record of the retry queue is due"):
                break
        if self.wait_budget.cancelled:
            self.delivery.halt = CANCELLED


def _broken_off(error: EndpointError, source: str, now: datetime) -> Halt:
    """The end of a run whose source failed: parked if it asks to wait too long, partial if records may be missing."""
    until = now + timedelta(seconds=error.retry_after) if error.retry_after is not None else None
    if error.error_class is ErrorClass.RATE_LIMIT:
        return Halt(RunState.PARTIAL, f"{source}: parked: {error.message}", error, until=until, end="source")
    state = RunState.PARTIAL if isinstance(error, IncompleteRead) else RunState.FAILED
    return Halt(state, f"{source}: {error.message}", error, until=until, end="source")


def _page_text(number: int, page: Page, counts: Counter[Outcome]) -> str:
    """Such as `page 7 of ~10, 200 read, 198 written, 2 waiting`."""
    of = f" of ~{ceil(page.total / len(page.records))}" if page.total and page.records else ""
    rest = "".join(f", {n} {outcome}" for outcome, n in counts.items() if n and outcome is not Outcome.WRITTEN)
    return f"page {number}{of}, {counts.total()} read, {counts[Outcome.WRITTEN]} written{rest}"
