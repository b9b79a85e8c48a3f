"""The page loop: read, draft, deliver, book, a page at a time; retries in between and at the end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from math import ceil
from typing import Final

from speclab.clock import Clock
from speclab.connectors.activity import Activity
from speclab.connectors.base import Answer, Item, Page, Reader, Report
from speclab.errors import IncompleteRead, SystemFailure
from speclab.outcome import ErrorClass, Level, Outcome, RunState
from speclab.runlog import RunLog
from speclab.spec.integration import Integration
from speclab.sync.ahead import DraftedPage, read_ahead
from speclab.sync.booking import book
from speclab.sync.delivery import CANCELLED, Delivery, Halt
from speclab.sync.doubt import Doubt
from speclab.sync.draft import Drafter
from speclab.sync.drift import Drift
from speclab.sync.failures import unanswered
from speclab.sync.guard import Alarm, Guard
from speclab.sync.missing import Missing
from speclab.sync.patience import Patience
from speclab.sync.retries import Retries
from speclab.sync.verdict import Judge
from speclab.sync.way import cursor_on

_RETRIES_AT_ONCE: Final = 500
_GATHER: Final = 0.25  # seconds in which retries that come due are gathered, rather than sent one by one


@dataclass(frozen=True, slots=True)
class PageLoop:
    """One run's way through its source. Why it ended early, if it did, is `delivery.halt`."""

    run: str
    spec: Integration
    file: str  # the spec's, as the run log names it
    way: str  # from which source to which target
    log: RunLog
    drafter: Drafter
    delivery: Delivery
    doubt: Doubt
    judge: Judge
    retries: Retries
    patience: Patience
    clock: Clock
    activity: Activity
    tell: Report  # to those who watch; what is booked tells the run log by itself
    missing: Missing | None  # None where the target keeps what the source has no more

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
            self.log.event(self.spec.spec_id, self.run, Level.WARNING, "log", elsewhere)
            self.tell(Level.WARNING, elsewhere)
        guard = Guard(self.spec.volume)
        drift = self._drift()
        number = 0
        complete = False
        try:
            self.activity.read_page(1)
            pages = reader.pages(cursor, full=full or self.delivery.anew)
            async with aclosing(read_ahead(pages, self.drafter, self.patience, limit)) as drafted:
                async for page in drafted:
                    number += 1
                    if self._stopped(guard.reads(page.read, page.page), *drift.look(page.page.records)):
                        break
                    if number == 1 and page.page.from_start:
                        await self.delivery.begin()
                    await self._page(number, page, guard)
                    self.activity.read_page(number + 1)
                    complete = page.page.complete and not page.cut
                    if self.delivery.halt or self.patience.cancelled or complete:
                        break
                    await self._retry_due()
        except SystemFailure as error:
            self.delivery.halt = _broken_off(error, f"{self.file}:{self.spec.source_line}", self.clock.now())
        if self.patience.cancelled and not complete:
            self.delivery.halt = CANCELLED
        if complete and not self._stopped(guard.ends()) and self.missing is not None and self.delivery.halt is None:
            await self.missing.delete(self._send, guard, self._stopped)
        if not drift.stopped:
            self.log.learn(self.spec.spec_id, drift.learned())
        return complete

    def _drift(self) -> Drift:
        """What watches the records, going by what is usual since the runs before."""
        usual, rows = self.log.usual(self.spec.spec_id), self.drafter.mapper.rows
        return Drift(usual, rows, self.file, self.drafter.minds, self.spec.volume.guard)

    def _stopped(self, *alarms: Alarm | None) -> bool:
        """Tell alarms; whether one of them ends the run."""
        stopping = False
        for alarm in filter(None, alarms):
            self.log.event(self.spec.spec_id, self.run, alarm.level, "guard", alarm.message)
            self.tell(alarm.level, alarm.message)
            if alarm.stops and not stopping:
                stopping = True
                self.delivery.halt = Halt(RunState.FAILED, f"stopped by the guard: {alarm.message}")
        return stopping

    async def _page(self, number: int, drafted: DraftedPage, guard: Guard) -> None:
        """Deliver and book a page. The cursor moves with its last draft, and only if all of the page is decided."""
        page, counts = drafted.page, Counter[Outcome]()
        self.activity.send_page(drafted.read)
        for at, draft in enumerate(drafted.drafts, 1):
            changed = draft if self.delivery.anew else draft.unlike(self.log.hashes(self.spec.spec_id, draft.keys))
            items = self.drafter.items(changed)
            if changed.leaving:
                self._stopped(guard.would_delete(sum(item.delete for item in items)))
            books = book(changed, items, await self._send(items), self.judge)
            counts.update(books.outcomes)
            last = at == len(drafted.drafts)
            ends = last or self.delivery.halt is not None
            text = _page_text(number, page, counts) if ends else ""
            self.log.commit_page(
                self.run,
                replace(
                    books,
                    bytes_in=page.bytes_in if at == 1 else 0,
                    cursor=page.cursor,
                    way=self.way,
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

    async def _send(self, items: Sequence[Item]) -> list[Answer]:
        """An answer for each item, in order.

        What was sent before just so and had no answer has the same none again, where sending it twice could do harm:
        a source that is read anew would otherwise double at the target whatever is in doubt.
        """
        if self.delivery.idempotent:
            return await self.doubt.send(self.delivery, items)
        rows = {row.key: row for row in self.log.doubtful(self.spec.spec_id, [item.key for item in items])}
        held = {item.key for item in items if item.key in rows and rows[item.key].payload == item.payload}
        sent = iter(await self.doubt.send(self.delivery, [item for item in items if item.key not in held]))
        return [unanswered(rows[item.key]) if item.key in held else next(sent) for item in items]

    async def _retry_due(self) -> None:
        """Try again what is due now."""
        while not self.delivery.halt and not self.patience.cancelled:
            rows = self.log.due(self.spec.spec_id, self.clock.now(), _RETRIES_AT_ONCE)
            if not rows:
                return
            await self.retries.again(rows)

    async def _wait_for_retries(self) -> None:
        """Try again what comes due while there is patience left; the rest stays waiting for the next run."""
        while True:
            await self._retry_due()
            now = self.clock.now()
            due = self.log.due(self.spec.spec_id, now + timedelta(seconds=self.patience.left), 1)
            if self.delivery.halt or not due:
                return
            pause = (datetime.fromisoformat(str(due[0].next_attempt_at)) - now).total_seconds()
            pause = max(pause, min(_GATHER, self.patience.left))
            if not await self.patience.wait(pause, "the next record of the retry queue is due"):
                break
        if self.patience.cancelled:
            self.delivery.halt = CANCELLED


def _broken_off(error: SystemFailure, source: str, now: datetime) -> Halt:
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
