"""The page loop: read and map a page, deliver it, commit it; retries in between and at the end."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from math import ceil

from speclab.connectors.api import Activity, Page, Reader, Report
from speclab.core.clock import Clock
from speclab.core.errors import EndpointError, IncompleteRead
from speclab.core.json import Record
from speclab.core.outcome import ErrorClass, Level, Outcome, RunState
from speclab.runlog import PageResult, RunStore
from speclab.spec.integration import Integration
from speclab.sync.deletes import DerivedDeletes
from speclab.sync.delivery import CANCELLED, UNDECIDED, Delivery, DeliveryResult, Halt, WaitBudget, build_page_result
from speclab.sync.guards import GuardAlarm, SchemaDrift, VolumeGuard
from speclab.sync.prepare import load_cursor
from speclab.sync.retry_policy import RetryPolicy
from speclab.sync.retry_queue import RetryQueue, WriteIntents
from speclab.sync.transform import MappedBatch, Transformer


@dataclass(frozen=True, slots=True)
class MappedPage:
    """A page and its mapped batches, to be delivered one after the other; `cut` if a limit left out records."""

    page: Page
    batches: list[MappedBatch]
    cut: bool

    @property
    def read(self) -> int:
        """The number of records in the batches."""
        return sum(batch.read for batch in self.batches)


@dataclass(frozen=True, slots=True)
class LoopState:
    """Where the page loop of a run is, between two pages.

    `pages` counts the pages processed. `full_scan` is the number of the full scan that the read belongs to, once the
    first page is read (see `DerivedDeletes`). `complete` is True once the last page of the source was processed.
    `halt` is why the run must end early.
    """

    guard: VolumeGuard
    pages: int = 0
    full_scan: int | None = None
    complete: bool = False
    halt: Halt | None = None


@dataclass(frozen=True, slots=True)
class PageOutcome:
    """What a processed page came to.

    `decided` if each of its records has an outcome, `committed` if the checkpoint moved past it. `message` is the
    line for the event log.
    """

    decided: bool = False
    committed: bool = False
    message: str = ""


@dataclass(frozen=True, slots=True)
class PageLoop:
    """Syncs the source of one spec, a page at a time."""

    run: str
    spec: Integration
    route: str  # fingerprint of source and target
    log: RunStore
    transformer: Transformer
    delivery: Delivery
    write_intents: WriteIntents
    retry_policy: RetryPolicy
    retries: RetryQueue
    drift: SchemaDrift
    wait_budget: WaitBudget
    clock: Clock
    activity: Activity
    report: Report  # to whoever watches the run; the run log gets its events with each commit
    source_location: str  # the spec's line of the source, for messages
    missing: DerivedDeletes | None  # None if the target keeps what the source no longer has

    async def sync(self, reader: Reader, *, full: bool, limit: int | None) -> Halt | None:
        """Retry due failures, process the source, and wait for retries that are due soon.

        Return why the run ends early, if it does.
        """
        if (halt := await self.retries.retry_due()) is not None:
            return halt
        state = await self._process_source(reader, full=full, limit=limit)
        if not self.drift.stopped:
            self.log.save_field_profile(self.spec.spec_id, self.drift.build_profile())
        halt = state.halt or await self.retries.drain()
        if state.complete and halt is None:
            await self.delivery.finish_full_replace()
        return halt

    async def process_page(self, state: LoopState, mapped: MappedPage) -> tuple[LoopState, PageOutcome]:
        """Check, deliver and commit one page.

        The cursor moves with the last batch, and only if each record of the page has an outcome.
        """
        page = mapped.page
        guard, alarm = state.guard.count_read(mapped.read, page)
        halt = self._report_alarms(alarm, *self.drift.check(page.records))
        state = replace(state, guard=guard, pages=state.pages + 1, halt=halt)
        if halt is None and state.pages == 1 and page.from_start:
            state = replace(state, halt=await self.delivery.begin_full_replace())
        if state.halt is not None:
            return state, PageOutcome()
        if self.missing is not None and state.full_scan is None:
            state = replace(state, full_scan=self.missing.open_scan(page))
        self.activity.send_page(mapped.read)
        counts = Counter[Outcome]()
        outcome = PageOutcome()
        for number, batch in enumerate(mapped.batches, 1):
            last = number == len(mapped.batches)
            state, result = await self._deliver_batch(state, batch)
            counts.update(result.outcomes)
            decided = last and not result.keep_cursor
            outcome = PageOutcome(decided=decided, committed=decided and not mapped.cut)
            if last or state.halt is not None:
                outcome = replace(outcome, message=_format_page(state.pages, page, counts))
            seen = None
            if self.missing is not None:
                seen = self.missing.build_seen(state.full_scan or 0, page, batch, last=last and not mapped.cut)
            self.log.commit_page(
                self.run,
                replace(
                    result,
                    bytes_in=page.bytes_in if number == 1 else 0,
                    cursor=page.cursor,
                    route=self.route,
                    keep_cursor=not outcome.committed,
                    message=outcome.message,
                    total=page.total,
                    seen=seen,
                ),
            )
            if state.halt is not None:
                break
        return replace(state, complete=page.complete and not mapped.cut), outcome

    async def _deliver_batch(self, state: LoopState, batch: MappedBatch) -> tuple[LoopState, PageResult]:
        """Deliver the changed records of `batch`."""
        known = {} if self.delivery.full_replace else self.log.get_hashes(self.spec.spec_id, batch.keys)
        changed = batch.without_unchanged(known)
        records = self.transformer.build_records(changed)
        if changed.deleted_keys:
            guard, alarm = state.guard.count_deletes(sum(record.delete for record in records))
            state = replace(state, guard=guard, halt=self._report_alarms(alarm))
        if state.halt is not None:
            delivered = DeliveryResult([UNDECIDED] * len(records), state.halt)
        else:
            delivered = await self.write_intents.send(self.delivery, records, known)
        result = build_page_result(changed, records, delivered.results, self.retry_policy)
        return replace(state, halt=delivered.halt), result

    async def _process_source(self, reader: Reader, *, full: bool, limit: int | None) -> LoopState:
        """Process the source from the checkpoint (with `full`: from the start), at most `limit` records."""
        cursor, warning = (None, "") if full else load_cursor(self.log, self.spec.spec_id, self.route)
        if warning:
            self._log(Level.WARNING, "log", warning)
        state = LoopState(VolumeGuard(self.spec.volume))
        try:
            self.activity.read_page(1)
            pages = reader.pages(cursor, full=full or self.delivery.full_replace)
            async with aclosing(prefetch_pages(pages, self.transformer, self.wait_budget, limit)) as mapped_pages:
                async for mapped in mapped_pages:
                    with self.activity.telemetry.page(state.pages + 1) as measured:
                        measured.set("speclab.records.read", mapped.read)
                        state, outcome = await self.process_page(state, mapped)
                    await self._confirm_page(reader, mapped.page, outcome)
                    self.activity.read_page(state.pages + 1)
                    if state.halt is None and not state.complete:
                        state = replace(state, halt=await self.retries.retry_due())
                    if state.halt is not None or state.complete or self.wait_budget.cancelled:
                        break
        except EndpointError as error:
            state = replace(state, halt=build_source_halt(error, self.source_location, self.clock.now()))
        if self.wait_budget.cancelled and not state.complete:
            return replace(state, halt=CANCELLED)
        if state.complete and state.halt is None:
            state = replace(state, halt=await self._finish_source(state))
        return state

    async def _confirm_page(self, reader: Reader, page: Page, outcome: PageOutcome) -> None:
        """Tell both systems and whoever watches that a page is in the run log."""
        if outcome.decided:
            self.delivery.confirm_commit()
        if outcome.committed:
            await reader.acknowledge(page.cursor)
        if outcome.message:
            self.report(Level.INFO, outcome.message)

    async def _finish_source(self, state: LoopState) -> Halt | None:
        """Check the counts of a source that was read to its end, and delete what is missing from it."""
        halt = self._report_alarms(state.guard.check_end())
        if halt is not None or self.missing is None:
            return halt
        counts = self.missing.count_scan()
        if not counts.balanced:
            return None
        halt = self._report_alarms(state.guard.check_missing(counts.missing, counts.known))
        return halt or await self.missing.delete_missing()

    def _report_alarms(self, *alarms: GuardAlarm | None) -> Halt | None:
        """Log `alarms`; return a halt if one of them stops the run."""
        found = [alarm for alarm in alarms if alarm is not None]
        for alarm in found:
            self._log(alarm.level, "guard", alarm.message)
        stopping = next((alarm for alarm in found if alarm.stops), None)
        return Halt(RunState.FAILED, f"stopped by the guard: {stopping.message}") if stopping else None

    def _log(self, level: Level, kind: str, message: str) -> None:
        self.log.log_event(self.spec.spec_id, self.run, level, kind, message)
        self.report(level, message)


async def prefetch_pages(
    pages: AsyncIterator[Page], transformer: Transformer, wait_budget: WaitBudget, limit: int | None
) -> AsyncGenerator[MappedPage, None]:
    """Yield `pages`, mapped, with at most `limit` records in total; the next page is read while one is delivered.

    End early if the run is asked to stop while a page is being read.
    """
    following = asyncio.ensure_future(_read_and_map(pages, transformer, limit))
    try:
        while page := await wait_budget.unless_cancelled(following):
            limit = None if limit is None else limit - page.read
            following = asyncio.ensure_future(_read_and_map(pages, transformer, limit))
            yield page
    finally:
        following.cancel()
        with suppress(asyncio.CancelledError, EndpointError):
            await following
        if isinstance(pages, AsyncGenerator):
            await pages.aclose()


async def _read_and_map(pages: AsyncIterator[Page], transformer: Transformer, limit: int | None) -> MappedPage | None:
    """Return the next page, mapped; None after the last one, and if the limit is used up."""
    if limit == 0:
        return None
    page = await anext(pages, None)
    if page is None:
        return None
    records: Sequence[Record] = page.records if limit is None else page.records[:limit]
    return MappedPage(page, transformer.map_records(records), cut=len(records) < len(page.records))


def build_source_halt(error: EndpointError, source: str, now: datetime) -> Halt:
    """Return how a run ends if its source fails: parked if it asks for a wait, partial if records may be missing."""
    until = now + timedelta(seconds=error.retry_after) if error.retry_after is not None else None
    if error.error_class is ErrorClass.RATE_LIMIT:
        reason = f"{source}: parked: {error.message}"
        return Halt(RunState.PARTIAL, reason, error, until=until, endpoint="source")
    state = RunState.PARTIAL if isinstance(error, IncompleteRead) else RunState.FAILED
    return Halt(state, f"{source}: {error.message}", error, until=until, endpoint="source")


def _format_page(number: int, page: Page, counts: Counter[Outcome]) -> str:
    """Return, for example, `page 7 of ~10, 200 read, 198 written, 2 waiting`."""
    of = f" of ~{ceil(page.total / len(page.records))}" if page.total and page.records else ""
    rest = "".join(f", {n} {outcome}" for outcome, n in counts.items() if n and outcome is not Outcome.WRITTEN)
    return f"page {number}{of}, {counts.total()} read, {counts[Outcome.WRITTEN]} written{rest}"
