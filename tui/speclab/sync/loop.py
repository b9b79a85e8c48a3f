"""The page loop: read, draft, deliver, book, a page at a time; retries in between and at the end."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from math import ceil
from typing import Final

from speclab.clock import Clock
from speclab.connectors.base import Page, Reader, Report
from speclab.errors import SystemFailure
from speclab.jsonvalue import Record
from speclab.outcome import Level, Outcome, RunState
from speclab.runlog import RunLog
from speclab.spec.integration import Integration
from speclab.sync.booking import book
from speclab.sync.delivery import CANCELLED, Delivery, Halt
from speclab.sync.draft import Drafter, waves
from speclab.sync.patience import Patience
from speclab.sync.retries import Retries
from speclab.sync.verdict import Judge

_RETRIES_AT_ONCE: Final = 500
_GATHER: Final = 0.25  # seconds in which retries that come due are gathered, rather than sent one by one


@dataclass(frozen=True, slots=True)
class PageLoop:
    """One run's way through its source. Why it ended early, if it did, is `delivery.halt`."""

    run: str
    spec: Integration
    source: str  # where failures of reading point: the spec's file and line
    log: RunLog
    drafter: Drafter
    delivery: Delivery
    judge: Judge
    retries: Retries
    patience: Patience
    clock: Clock
    tell: Report  # to those who watch; what is booked tells the run log by itself

    async def go(self, reader: Reader, *, full: bool, limit: int | None) -> None:
        """Drain what is due, take in the source, and wait for the retries that come due soon."""
        await self._retry_due()
        if not self.delivery.halt:
            await self._read(reader, full=full, limit=limit)
        if not self.delivery.halt:
            await self._wait_for_retries()

    async def _read(self, reader: Reader, *, full: bool, limit: int | None) -> None:
        """Take in the source from the checkpoint (with `full`: from the start), at most `limit` records of it."""
        cursor = None if full else self.log.checkpoint(self.spec.spec_id)
        taken = number = 0
        complete = False
        try:
            async with aclosing(_ahead(reader.pages(cursor, full=full), self.patience)) as pages:
                async for page in pages:
                    number += 1
                    records = page.records if limit is None else page.records[: limit - taken]
                    taken += len(records)
                    await self._page(number, page, records)
                    complete = page.complete
                    if self.delivery.halt or self.patience.cancelled or complete or taken == limit:
                        break
                    await self._retry_due()
        except SystemFailure as error:
            self.delivery.halt = Halt(RunState.FAILED, f"{self.source}: {error.message}", error)
        if self.patience.cancelled and not complete:
            self.delivery.halt = CANCELLED
        if complete and taken == 0 and cursor is None:
            text = "the source gave no records"
            self.log.event(self.spec.spec_id, self.run, Level.WARNING, "guard", text)
            self.tell(Level.WARNING, text)

    async def _page(self, number: int, page: Page, records: Sequence[Record]) -> None:
        """Draft, deliver and book `records` of `page`, in one piece unless a key is in it twice.

        The cursor moves with the last piece, and only if all of the page is decided.
        """
        keys = self.drafter.key.of_all(records)
        known = partial(self.log.hashes, self.spec.spec_id)
        whole = len(records) == len(page.records)
        counts = Counter[Outcome]()
        pieces = _pieces(records, keys)
        for index, (piece, piece_keys) in enumerate(pieces):
            draft = self.drafter.draft(piece, piece_keys, known)
            books = book(draft, await self.delivery.send(draft.items), self.judge)
            counts.update(books.outcomes)
            last = index == len(pieces) - 1 or self.delivery.halt is not None
            text = _page_text(number, page, counts) if last else ""
            self.log.commit_page(
                self.run,
                replace(
                    books,
                    bytes_in=page.bytes_in if index == 0 else 0,
                    cursor=page.cursor,
                    keep_cursor=books.keep_cursor or not (whole and index == len(pieces) - 1),
                    message=text,
                    total=page.total,
                ),
            )
            if last:
                self.tell(Level.INFO, text)
                return

    async def _retry_due(self) -> None:
        """Try again what is due now."""
        while not self.delivery.halt:
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
            if not await self.patience.wait(max(pause, min(_GATHER, self.patience.left))):
                break
        if self.patience.cancelled:
            self.delivery.halt = CANCELLED


async def _ahead(pages: AsyncIterator[Page], patience: Patience) -> AsyncGenerator[Page, None]:
    """`pages`, each next one being read while the one before is worked on: one ahead, never more.

    Ends early when the run is asked to stop while a page is being read.
    """
    following = asyncio.ensure_future(_next(pages))
    try:
        while True:
            page = await patience.unless_cancelled(following)
            if page is None:
                return
            following = asyncio.ensure_future(_next(pages))
            await asyncio.sleep(0)  # the request leaves before the page in hand takes the processor
            yield page
    finally:
        following.cancel()
        with suppress(asyncio.CancelledError, SystemFailure):
            await following
        if isinstance(pages, AsyncGenerator):
            await pages.aclose()


async def _next(pages: AsyncIterator[Page]) -> Page | None:
    return await anext(pages, None)


def _pieces(
    records: Sequence[Record], keys: Sequence[str | None]
) -> list[tuple[Sequence[Record], Sequence[str | None]]]:
    """The page in as few pieces as hold no key twice."""
    groups = waves(keys)
    if len(groups) == 1:
        return [(records, keys)]
    return [([records[index] for index in group], [keys[index] for index in group]) for group in groups]


def _page_text(number: int, page: Page, counts: Counter[Outcome]) -> str:
    """Such as `page 7 of ~10, 200 read, 198 written, 2 waiting`."""
    of = f" of ~{ceil(page.total / len(page.records))}" if page.total and page.records else ""
    rest = "".join(f", {n} {outcome}" for outcome, n in counts.items() if n and outcome is not Outcome.WRITTEN)
    return f"page {number}{of}, {counts.total()} read, {counts[Outcome.WRITTEN]} written{rest}"
