"""Differences between a record as a target has it and as the mapping makes it, field by field."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, field, replace
from decimal import Decimal, InvalidOperation
from enum import Enum, StrEnum
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, TypeAlias

import orjson

from speclab.connectors.api import MappedRecord, Page, RecordLookup, RuntimeContext, WriteError
from speclab.connectors.registry import open_lookup, open_reader, open_writer
from speclab.connectors.secrets.references import References
from speclab.core.errors import EndpointError, IncompleteRead
from speclab.core.json import Json, Record, encode_canonical
from speclab.core.outcome import FailureState, Level, Outcome
from speclab.core.paths import FieldPath
from speclab.runlog import NewFailure, RunLog
from speclab.runlog.source_keys import MissingPreview
from speclab.spec.settings import Limited, System
from speclab.sync.deletes import RecordIdentities
from speclab.sync.failures import FailureFactory
from speclab.sync.guards import GuardAlarm, SchemaDrift, VolumeGuard
from speclab.sync.prepare import PreparedSpec, build_route, load_cursor
from speclab.sync.record_keys import Hasher, RecordKey
from speclab.sync.transform import Transformer
from speclab.sync.write_intents import WriteIntents


@dataclass(frozen=True, slots=True)
class Difference:
    """One field that a write would change; both values are JSON, `was` is empty where there is no such field."""

    field: str
    was: str
    becomes: str


def differences(found: Record, mapped: Record) -> list[Difference]:
    """The fields of `mapped` that `found` has not, or has otherwise.

    What is the same in other clothes is the same: a number as text, a boolean as 0 or 1, an object as its JSON, as
    databases and tables of text keep them. What only the target has does not count.
    """
    return list(_differences(found, mapped, ()))


def _differences(found: Record, mapped: Record, path: tuple[str, ...]) -> Iterator[Difference]:
    for name, value in mapped.items():
        here = (*path, name)
        was = found.get(name)
        if isinstance(was, dict) and isinstance(value, dict):
            yield from _differences(was, value, here)
        elif name not in found:
            yield Difference(str(FieldPath(here)), "", _text(value))
        elif not _same(was, value):
            yield Difference(str(FieldPath(here)), _text(was), _text(value))


def _same(was: Json, value: Json) -> bool:
    if was == value:
        return True
    if isinstance(was, str):
        if isinstance(value, dict | list):
            return _parsed(was) == value
        if isinstance(value, bool):
            return was.lower() in (("true", "1") if value else ("false", "0"))
        if isinstance(value, int | float):
            return _number(was, type(value)) == value
        return value is None and not was
    return False


def _number(text: str, kind: type[float]) -> float | Decimal | None:
    try:  # a float has not all digits of a whole number, and a decimal has none of what a float rounds
        return float(text) if kind is float else Decimal(text)
    except (ValueError, InvalidOperation):
        return None


def _parsed(text: str) -> Json:
    try:
        value: Json = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    return value


def _text(value: Json) -> str:
    return encode_canonical(value).decode()


_EXAMPLES: Final = 3


class PlannedEffect(StrEnum):
    """What a run would do with a record it sends."""

    CREATE = "create"
    UPDATE = "update"
    SAME = "same"  # sent, though the target has it just so
    DELETE = "delete"
    UNKNOWN = "unknown"  # create or update: nothing tells which


@dataclass(frozen=True, slots=True)
class PlanOptions:
    """How a plan is made: `full` and `limit` as of a run; at most `lookups` records are asked for one by one."""

    full: bool = False
    limit: int | None = None
    lookups: int = 500


@dataclass(frozen=True, slots=True)
class PlanExample:
    """One record that would be sent, and what that would change, where it can be told."""

    would: PlannedEffect
    key: str
    changes: Sequence[Difference]


@dataclass(frozen=True, slots=True)
class PlanFault:
    """Records that would fail alike, by the place to blame."""

    count: int
    place: str
    message: str


@dataclass(frozen=True, slots=True)
class PlannedPace:
    """Calls to one system, and the seconds they take at least under its rate limit; None where it has none."""

    calls: int
    at_least: float | None


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run would do.

    `resumed` if it would go on from a checkpoint; `cut` if a limit left records out. `waiting` are the records of the
    retry queue that would be sent first. `alarms` are what the guard would say, though the plan went on where one
    stops. `notes` say what could not be known, and why.
    """

    spec_id: str
    resumed: bool
    cut: bool
    read: int
    filtered: int
    unchanged: int
    would: Mapping[PlannedEffect, int]
    faults: Sequence[PlanFault]
    waiting: int
    examples: Sequence[PlanExample]
    source: PlannedPace
    target: PlannedPace
    alarms: Sequence[GuardAlarm]
    notes: Sequence[str]

    @property
    def stops(self) -> bool:
        """Whether the guard would end the run, and fail it."""
        return any(alarm.stops for alarm in self.alarms)


async def plan(
    prepared: PreparedSpec, runlog: Path, references: References, context: RuntimeContext, options: PlanOptions
) -> Plan:
    """What a run of the spec would do now.

    Raises `EndpointError` where the source cannot be read, and `SpecError` for settings that cannot work.
    """
    spec = prepared.integration
    await references.fetch(spec.source, spec.source_auth, spec.target, spec.target_auth)
    async with AsyncExitStack() as stack:
        log = stack.enter_context(_books(runlog))
        reader = open_reader(spec.source, spec.source_auth, references, context, spec.retry)
        stack.push_async_callback(reader.close)
        finder = open_lookup(spec.target, spec.target_auth, references, context, spec.retry)
        if finder is not None:
            stack.push_async_callback(finder.close)
        # nothing is written, and what is not connected needs no closing: it is asked what it is like, and no more
        writer = open_writer(spec.target, spec.target_auth, references, context, spec.retry)
        transformer = _transformer(prepared, references, deletes=writer.deletes)
        names = RecordIdentities(spec.source, references.resolve_settings(spec.target))
        guard = VolumeGuard(spec.volume)
        drift = SchemaDrift(
            log.get_field_profile(spec.spec_id),
            transformer.mapper.rows,
            prepared.file,
            transformer.is_mapped,
            spec.volume.guard,
        )
        planner = _Planner(
            prepared, log, finder, transformer, names, guard, drift, options.lookups, writer.batch, writer.idempotent
        )
        if spec.source.deletes_missing():
            planner.foresight = stack.enter_context(MissingPreview(log.path, spec.spec_id, transformer.target))
        source, target = map(references.resolve_settings, (spec.source, spec.target))
        cursor, elsewhere = (None, "") if options.full else load_cursor(log, spec.spec_id, build_route(source, target))
        if elsewhere:
            context.report(Level.WARNING, elsewhere)
        pages = reader.pages(cursor, full=options.full)
        if isinstance(pages, AsyncGenerator):
            stack.push_async_callback(pages.aclose)
        try:
            async for page in pages:
                left = None if options.limit is None else options.limit - planner.read
                await planner.take(page, page.records[:left])
                planner.turn(page)
                context.report(Level.INFO, f"page {planner.pages}, {planner.read:,} read")
                if planner.read == options.limit:
                    planner.cut = not page.complete or len(page.records) > (left or 0)
                    break
        except IncompleteRead as error:  # the plan is of what was read; a run would do the same, and end partial
            planner.cut = True
            context.report(Level.WARNING, error.message)
        planner.end()
        waiting = log.count_due_failures(spec.spec_id, context.clock.now())
        return planner.plan(resumed=cursor is not None, waiting=waiting)


@contextmanager
def _books(path: Path) -> Iterator[RunLog]:
    """The run log at `path`; an empty one where there is none, which is not made."""
    if path.exists():
        with RunLog.open(path) as log:
            yield log
        return
    with TemporaryDirectory(prefix="speclab-plan-") as directory, RunLog.open(Path(directory) / "runlog.db") as log:
        yield log


def _transformer(prepared: PreparedSpec, references: References, *, deletes: bool) -> Transformer:
    spec = prepared.integration
    target = references.resolve_settings(spec.target).destination()
    return Transformer(
        spec_id=spec.spec_id,
        target=target,
        key=RecordKey(spec.source.key),
        mapper=prepared.mapper,
        is_deleted=prepared.is_deleted,
        hasher=Hasher(target),
        failures=FailureFactory(spec, prepared.file),
        keyed=False,
        deletes=deletes,
    )


class _Untold(Enum):
    """Stands for what the target has of a record where nothing tells."""

    UNTOLD = "untold"


_UNTOLD: Final = _Untold.UNTOLD
_Has: TypeAlias = Record | _Untold | None


@dataclass(slots=True)
class _Planner:
    """A plan in the making."""

    prepared: PreparedSpec
    log: RunLog
    finder: RecordLookup | None
    transformer: Transformer
    names: RecordIdentities
    guard: VolumeGuard
    drift: SchemaDrift
    lookups: int
    batch: int
    idempotent: bool
    read: int = 0
    pages: int = 0
    cut: bool = False
    filtered: int = 0
    unchanged: int = 0
    would: Counter[PlannedEffect] = field(default_factory=Counter)
    faults: dict[str, PlanFault] = field(default_factory=dict)
    examples: list[PlanExample] = field(default_factory=list)
    sent: dict[str, bytes] = field(default_factory=dict)  # key and hash of what this plan would have sent so far
    alarms: list[GuardAlarm] = field(default_factory=list)
    notes: dict[str, None] = field(default_factory=dict)
    foresight: MissingPreview | None = None  # where what the source has no more is to be deleted
    before: int | None = None  # what the reads from that number on did not see, either, is missing
    keyless: bool = False

    async def take(self, page: Page, records: Sequence[Record]) -> None:
        """Take in `records`, what a limit leaves of a page's."""
        self.guard, alarm = self.guard.count_read(len(records), page)
        self._hear(alarm, *self.drift.check(page.records))
        for draft in self.transformer.map_records(records):
            known = self.log.get_hashes(self.prepared.integration.spec_id, draft.keys)
            known |= {key: self.sent[key] for key in draft.keys if key in self.sent}
            changed = draft.without_unchanged(known)
            if self.foresight is not None:
                self.foresight.saw(self.names.build_all(draft))
                self.keyless = self.keyless or len(draft.source_keys) < draft.read
            self.read += draft.read
            self.filtered += draft.outcomes[Outcome.FILTERED]
            self.unchanged += len(draft.keys) - len(changed.keys)
            for failure in draft.failures:
                self._fails(failure)
            items = self._sure(self.transformer.build_records(changed), known)
            self.guard, alarm = self.guard.count_deletes(sum(item.delete for item in items))
            self._hear(alarm)
            for item, has in zip(items, await self._look(items), strict=True):
                self._sort(item, has, known.get(item.key))
            self.sent.update(zip(changed.keys, changed.hashes, strict=True))

    def _sure(self, records: Sequence[MappedRecord], known: Mapping[str, bytes]) -> Sequence[MappedRecord]:
        """Return the records that would be sent; one whose outcome is unknown is not, if that could do harm."""
        if self.idempotent:
            return records
        unknown = WriteIntents(self.log, self.transformer.spec_id, self.transformer.hasher).find_unknown(records, known)
        for record in records:
            if record.key in unknown and (error := unknown[record.key].error) is not None:
                self._fails(self.transformer.failures.build_write_failure(record, error, FailureState.UNKNOWN))
        return [record for record in records if record.key not in unknown]

    def turn(self, page: Page) -> None:
        """Note that all of `page` was taken in: by the first it is told whether the whole source is read."""
        self.pages += 1
        if self.foresight is None or self.before is not None:
            return
        full_scan, self.before = self.foresight.full_scan, self.foresight.undecided
        if page.whole and page.from_start:
            self.before = full_scan.latest + 1
        elif page.whole and full_scan.held == full_scan.latest:
            self.before = full_scan.held
        else:
            self.notes["a read of what changed does not tell what the source has no more; --full does"] = None

    def end(self) -> None:
        """Take in that the source came to its end, or was cut short: what it has no more would be deleted."""
        if not self.cut:
            self._hear(self.guard.check_end())
        if self.foresight is None:
            return
        if self.cut or self.keyless:
            why = "a read that is cut short" if self.cut else "a read with records that have no key"
            self.notes[f"{why} does not tell what the source has no more"] = None
            return
        if not self.foresight.full_scan.latest:
            self.notes[
                "what the source has no more is known from the first whole read on, with `missing: delete` set"
            ] = None
        spec, deleted, count = self.prepared.integration, self.transformer.hasher.deleted, 0
        for rows in self.foresight.missing(self.before or 0):
            states = self.log.get_hashes(spec.spec_id, [row.key for row in rows])
            for row in rows:
                if states.get(row.key, deleted) != deleted:
                    count += 1
                    self._count(PlannedEffect.DELETE, row.key)
        self._hear(self.guard.check_missing(count, max(count, self.foresight.known(deleted))))

    def plan(self, *, resumed: bool, waiting: int) -> Plan:
        """The plan, once all was taken in."""
        spec = self.prepared.integration
        return Plan(
            spec_id=spec.spec_id,
            resumed=resumed,
            cut=self.cut,
            read=self.read,
            filtered=self.filtered,
            unchanged=self.unchanged,
            would={would: self.would[would] for would in PlannedEffect},
            faults=sorted(self.faults.values(), key=lambda fault: -fault.count),
            waiting=waiting,
            examples=self.examples,
            source=_pace(spec.source, self.pages),
            target=_pace(spec.target, _count_calls(spec.target, self.batch, self.would)),
            alarms=self.alarms,
            notes=list(self.notes),
        )

    def _hear(self, *alarms: GuardAlarm | None) -> None:
        self.alarms += filter(None, alarms)

    def _fails(self, failure: NewFailure) -> None:
        """Count a record that would not get through; alike are those with the same place to blame."""
        place = f"{failure.file}:{failure.line}" + (f":{failure.column}" if failure.column else "")
        message = f"{failure.row}: {failure.message}" if failure.row else failure.message
        known = self.faults.get(place, PlanFault(0, place, message))
        self.faults[place] = replace(known, count=known.count + 1)

    async def _look(self, items: Sequence[MappedRecord]) -> list[_Has]:
        """What the target has of each of `items`."""
        if not items:
            return []
        if self.prepared.integration.target.always_creates():
            return [None] * len(items)
        if self.finder is None:
            self.notes["the target has nothing to look records up with, so only the run log tells what is there"] = None
            return [_UNTOLD] * len(items)
        asked = items
        if self.finder.per_record:
            asked = items[: self.lookups]
            self.lookups -= len(asked)
            if len(asked) < len(items):
                self.notes["not all were looked up, for each takes a request; --lookups says how many are"] = None
        try:
            found = await self.finder.find(asked) if asked else []
        except EndpointError as error:
            self.finder = None
            self.notes[f"the target cannot be asked: {error.message}"] = None
            found = []
        told: list[_Has] = []
        for one in found:
            if isinstance(one, WriteError):
                self.notes[f"a record could not be looked up: {one.message}"] = None
            told.append(_UNTOLD if isinstance(one, WriteError) else one)
        return told + [_UNTOLD] * (len(items) - len(told))

    def _sort(self, item: MappedRecord, has: _Has, known: bytes | None) -> None:
        """Say what would be done with `item`: what the target `has` of it, and the hash it was last written with."""
        changes: Sequence[Difference] = ()
        if item.delete:
            would = PlannedEffect.DELETE
        elif has is _UNTOLD:
            written = known is not None and known != self.transformer.hasher.deleted
            would = PlannedEffect.UPDATE if written else PlannedEffect.UNKNOWN
        else:
            changes = differences(has or {}, item.payload)
            would = PlannedEffect.CREATE if has is None else PlannedEffect.UPDATE if changes else PlannedEffect.SAME
        self._count(would, item.key, changes)

    def _count(self, would: PlannedEffect, key: str, changes: Sequence[Difference] = ()) -> None:
        """Count what would be done with a record, and remember the first few as examples."""
        self.would[would] += 1
        if self.would[would] <= _EXAMPLES and would is not PlannedEffect.SAME:
            self.examples.append(PlanExample(would, key, changes))


def _count_calls(target: System, batch: int, would: Mapping[PlannedEffect, int]) -> int:
    """Return how many calls to the target a run would make."""
    deletes = would[PlannedEffect.DELETE]
    return target.count_calls(sum(would.values()) - deletes, deletes, batch)


def _pace(system: System, calls: int) -> PlannedPace:
    """By the slowest of the rates, for calls that weigh 1: at least."""
    rates = system.limits.rate if isinstance(system, Limited) else ()
    if not rates:
        return PlannedPace(calls, None)
    return PlannedPace(calls, float(max(max(calls - 1, 0) // rate.count * rate.seconds for rate in rates)))
