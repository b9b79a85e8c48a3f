"""Derived deletes: what a read of the whole source did not give is deleted at the target, for specs that want it.

A record that is missing is taken in hand like one that was read: it counts as read, and has one outcome. Only its key
is there to go by; so what the target knows a record by is kept from when it was last read.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import Final, TypeAlias

from speclab.connectors.api import MappedRecord, Page, Report, WriteResult
from speclab.core.json import Json, Record
from speclab.core.outcome import Level, Outcome
from speclab.core.paths import FieldPath
from speclab.runlog import PageResult, RunStore, SeenRecords
from speclab.spec.settings import System
from speclab.sync.delivery import CANCELLED, Delivery, WaitBudget, book
from speclab.sync.guards import GuardAlarm, VolumeGuard
from speclab.sync.retry_policy import RetryPolicy
from speclab.sync.transform import MappedBatch, Transformer

_AT_ONCE: Final = 500

Send: TypeAlias = "Callable[[Sequence[MappedRecord]], Awaitable[list[WriteResult]]]"


class RecordIdentities:
    """What is kept of a record to delete it by later: its key at the source, and what the target's delete takes."""

    def __init__(self, source: System, target: System) -> None:
        """Of records of `source` at `target`, whose references are resolved."""
        paths = target.get_delete_paths()
        keys = [source.key] if isinstance(source.key, str) else source.key
        before = [FieldPath(path.parts[1:]) for path in paths if path.parts[0] == "source" and path.parts[1:]]
        self._source = _steps([*map(FieldPath.parse, keys), *before])
        self._before = _steps(before)
        self._target = _steps([path for path in paths if path.parts[0] != "source"])

    def of(self, source: Record, payload: Record) -> Record:
        """What is kept of the record `source` that was mapped to `payload`.

        A `place` is what it is known by at the target, where that is more than is in its `target` part.
        """
        target = _part(payload, self._target)
        kept: Record = {"source": _part(source, self._source), "target": target}
        return kept | {"place": [target, _part(source, self._before)]} if self._before else kept

    def identities(self, draft: MappedBatch) -> dict[str, Record | None]:
        """What is kept of each record of `draft`, of which nothing was taken out; None of one that was not mapped."""
        identities: dict[str, Record | None] = dict.fromkeys(draft.seen)
        identities.update(zip(draft.keys, map(self.of, draft.sources, draft.payloads), strict=True))
        return identities


@dataclass(slots=True)
class DerivedDeletes:
    """Follows one run's read, and deletes what is missing once it came to its end."""

    run: str
    spec_id: str
    log: RunStore
    names: RecordIdentities
    transformer: Transformer
    delivery: Delivery
    retry_policy: RetryPolicy
    wait_budget: WaitBudget
    tell: Report
    _sweep: int | None = None

    def saw(self, page: Page, draft: MappedBatch, *, last: bool) -> SeenRecords:
        """What `draft`, all that was read and nothing taken out, tells of the source; `last` of all that is of `page`.

        A read of the whole source begins a sweep, or goes on with the one that its cursor is in the middle of.
        """
        if self._sweep is None:
            known = self.log.open_full_scan(self.spec_id, self.transformer.target)
            goes_on = known.held if known.held == known.latest else 0
            self._sweep = known.latest + 1 if page.from_start else goes_on
        return SeenRecords(
            full_scan=self._sweep if page.whole else 0,
            identities=self.names.identities(draft),
            keyless=len(draft.seen) < draft.read,
            ends=last and page.complete,
        )

    async def delete(self, send: Send, guard: VolumeGuard, stopped: Callable[[GuardAlarm | None], bool]) -> None:
        """Delete at the target what the source has no more, unless the guard finds that to be too much.

        What a run did not come to is left to the next one that reads to the end, if that does not find it again.
        """
        count_scan = self.log.count_scan(self.run, self.transformer.hasher.deleted)
        if count_scan.nameless:
            self._warn(
                f"{count_scan.nameless:,} records that were written before `missing: delete` was set were not "
                f"read since, "
                "so it is not known what the target knows them by: if they are gone at the source, they stay there"
            )
        if not count_scan.balanced:
            return
        if count_scan.replaced:
            self._forget(count_scan.replaced)
        if stopped(guard.would_lose(count_scan.missing, count_scan.known)):
            return
        after = ""
        while self.delivery.halt is None and (rows := self.log.get_missing(self.spec_id, _AT_ONCE, after)):
            if self.wait_budget.cancelled:
                self.delivery.halt = CANCELLED
                return
            after = rows[-1].key
            named = {row.key: row.identity for row in rows if row.identity is not None}
            draft = self.transformer.departed(named)
            items = self.transformer.items(draft)
            books = book(draft, items, await send(items), self.retry_policy)
            keys = [*books.keys, *(row.key for row in rows if row.identity is None)]
            text = _text(books.outcomes)
            self.log.commit_page(self.run, replace(books, keys=keys, tombstones=keys, keep_cursor=True, message=text))
            if not books.keep_cursor:
                self.delivery.booked()
            if text:
                self.tell(Level.INFO, text)

    def _forget(self, replaced: Sequence[str]) -> None:
        """Leave alone at the target what another record has become there, as where one came again under a new key."""
        text = f"{len(replaced):,} not in the source any more, whose place at the target another record has: left alone"
        hash_ = self.transformer.hasher.deleted
        books = PageResult(
            read=0,
            outcomes={},
            effects={},
            bytes_in=0,
            bytes_out=0,
            cursor=None,
            keys=replaced,
            states=[(key, hash_) for key in replaced],
            tombstones=replaced,
            keep_cursor=True,
            message=text,
        )
        self.log.commit_page(self.run, books)
        self.tell(Level.INFO, text)

    def _warn(self, message: str) -> None:
        self.log.log_event(self.spec_id, self.run, Level.WARNING, "missing", message)
        self.tell(Level.WARNING, message)


def _text(outcomes: Mapping[Outcome, int]) -> str:
    """Such as `500 not in the source any more: 498 written, 2 waiting`; nothing where none was in hand."""
    counted = ", ".join(f"{n} {outcome}" for outcome, n in outcomes.items() if n)
    return f"{sum(outcomes.values())} not in the source any more: {counted}" if counted else ""


def _steps(paths: Sequence[FieldPath]) -> list[list[str]]:
    """The names that lead to what is kept of a record; lists on the way are kept whole."""
    return [list(map(str, takewhile(lambda step: isinstance(step, str), path.parts))) for path in paths]


def _part(record: Record, steps: Sequence[Sequence[str]]) -> Record:
    """What `record` has at `steps`, in a record of its own."""
    part: dict[str, Json] = {}
    for names in steps:
        value: Json = record
        for name in names:
            if not isinstance(value, dict) or name not in value:
                break
            value = value[name]
        else:
            level = part
            for name in names[:-1]:
                inner = level.setdefault(name, {})
                assert isinstance(inner, dict)  # noqa: S101 - there is something in it in `record`
                level = inner
            level[names[-1]] = value
    return part
