"""Derived deletes: delete at the target what a read of the whole source did not return, for specs that ask for it.

A missing record counts as read and has one outcome, like any other. The source no longer returns it, so its identity at
the target is stored each time it is read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import Final

from speclab.connectors.api import Page, Report
from speclab.core.json import Json, Record
from speclab.core.outcome import Level, Outcome
from speclab.core.paths import FieldPath
from speclab.runlog import PageResult, RunStore, ScanCounts, SeenRecords
from speclab.spec.settings import System
from speclab.sync.delivery import CANCELLED, Delivery, Halt, WaitBudget, build_page_result
from speclab.sync.retry_policy import RetryPolicy
from speclab.sync.retry_queue import WriteIntents
from speclab.sync.transform import MappedBatch, Transformer

_BATCH: Final = 500


class RecordIdentities:
    """Selects the fields that are stored of a record so that it can be deleted later."""

    def __init__(self, source: System, target: System) -> None:
        """Select the fields for records of `source` at `target`; the references in both are resolved."""
        paths = target.get_delete_paths()
        keys = [source.key] if isinstance(source.key, str) else source.key
        before = [FieldPath(path.parts[1:]) for path in paths if path.parts[0] == "source" and path.parts[1:]]
        self._source = _field_names([*map(FieldPath.parse, keys), *before])
        self._before = _field_names(before)
        self._target = _field_names([path for path in paths if path.parts[0] != "source"])

    def build(self, source: Record, payload: Record) -> Record:
        """Return the identity of the record `source`, which was mapped to `payload`.

        It has a `place` if the target identifies the record by fields of the source, too.
        """
        target = _select(payload, self._target)
        identity: Record = {"source": _select(source, self._source), "target": target}
        return identity | {"place": [target, _select(source, self._before)]} if self._before else identity

    def build_all(self, batch: MappedBatch) -> dict[str, Record | None]:
        """Return the identity of each record of a complete `batch`, by key; None if it was not mapped."""
        identities: dict[str, Record | None] = dict.fromkeys(batch.source_keys)
        identities.update(zip(batch.keys, map(self.build, batch.sources, batch.payloads), strict=True))
        return identities


@dataclass(frozen=True, slots=True)
class DerivedDeletes:
    """Stores what one run sees of the source, and deletes what is missing once a full scan is complete."""

    run: str
    spec_id: str
    log: RunStore
    identities: RecordIdentities
    transformer: Transformer
    delivery: Delivery
    write_intents: WriteIntents
    retry_policy: RetryPolicy
    wait_budget: WaitBudget
    report: Report

    def open_scan(self, page: Page) -> int:
        """Return the number of the full scan that a read belongs to, given its first page; 0 if it continues none.

        A read from the start begins a new scan; another one continues the scan that its cursor interrupted.
        """
        known = self.log.open_full_scan(self.spec_id, self.transformer.target)
        if page.from_start:
            return known.latest + 1
        return known.held if known.held == known.latest else 0

    def build_seen(self, scan: int, page: Page, batch: MappedBatch, *, last: bool) -> SeenRecords:
        """Return what a complete `batch` says about the records of the source; `last` if it ends the page."""
        return SeenRecords(
            full_scan=scan if page.whole else 0,
            identities=self.identities.build_all(batch),
            keyless=len(batch.source_keys) < batch.read,
            ends=last and page.complete,
        )

    def count_scan(self) -> ScanCounts:
        """Return the counts of the completed scan; settle replaced records, and warn of undeletable ones."""
        counts = self.log.count_scan(self.run, self.transformer.hasher.deleted)
        if counts.nameless:
            message = (
                f"{counts.nameless:,} records were written before `missing: delete` was set and have not been read "
                "since; their identity at the target is not known, so they stay there if the source no longer has them"
            )
            self.log.log_event(self.spec_id, self.run, Level.WARNING, "missing", message)
            self.report(Level.WARNING, message)
        if counts.balanced and counts.replaced:
            self._skip_replaced(counts.replaced)
        return counts

    async def delete_missing(self) -> Halt | None:
        """Delete the records that the completed scan did not find, a batch at a time.

        The next run that reads to the end deletes the rest, if they are still missing.
        """
        after = ""
        while rows := self.log.get_missing(self.spec_id, _BATCH, after):
            if self.wait_budget.cancelled:
                return CANCELLED
            after = rows[-1].key
            batch = self.transformer.build_deletes({r.key: r.identity for r in rows if r.identity is not None})
            records = self.transformer.build_records(batch)
            known = self.log.get_hashes(self.spec_id, batch.keys)
            delivered = await self.write_intents.send(self.delivery, records, known)
            result = build_page_result(batch, records, delivered.results, self.retry_policy)
            keys = [*result.keys, *(row.key for row in rows if row.identity is None)]
            message = _format_outcomes(result.outcomes)
            self.log.commit_page(
                self.run, replace(result, keys=keys, tombstones=keys, message=message, keep_cursor=True)
            )
            if not result.keep_cursor:
                self.delivery.confirm_commit()
            if message:
                self.report(Level.INFO, message)
            if delivered.halt is not None:
                return delivered.halt
        return None

    def _skip_replaced(self, replaced: Sequence[str]) -> None:
        """Settle missing records that another record has replaced at the target, such as one with a new source key."""
        message = f"{len(replaced):,} missing from the source, but another record has their place at the target: kept"
        tombstone = self.transformer.hasher.deleted
        result = PageResult(
            read=0,
            outcomes={},
            effects={},
            bytes_in=0,
            bytes_out=0,
            cursor=None,
            keys=replaced,
            states=[(key, tombstone) for key in replaced],
            tombstones=replaced,
            keep_cursor=True,
            message=message,
        )
        self.log.commit_page(self.run, result)
        self.report(Level.INFO, message)


def _format_outcomes(outcomes: Mapping[Outcome, int]) -> str:
    """Return, for example, `500 missing from the source: 498 written, 2 waiting`; empty without outcomes."""
    counts = ", ".join(f"{n} {outcome}" for outcome, n in outcomes.items() if n)
    return f"{sum(outcomes.values())} missing from the source: {counts}" if counts else ""


def _field_names(paths: Sequence[FieldPath]) -> list[list[str]]:
    """Return the names that lead to each of `paths`, up to the first list, which is stored whole."""
    return [list(map(str, takewhile(lambda step: isinstance(step, str), path.parts))) for path in paths]


def _select(record: Record, paths: Sequence[Sequence[str]]) -> Record:
    """Return a record with only those fields of `record` that are at `paths`."""
    selected: dict[str, Json] = {}
    for names in paths:
        value: Json = record
        for name in names:
            if not isinstance(value, dict) or name not in value:
                break
            value = value[name]
        else:
            level = selected
            for name in names[:-1]:
                inner = level.setdefault(name, {})
                assert isinstance(inner, dict)  # noqa: S101 - it is an object in `record`
                level = inner
            level[names[-1]] = value
    return selected
