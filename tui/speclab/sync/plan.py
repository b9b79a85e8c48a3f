"""The plan of a run: what it would write, with the differences to what is stored."""

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
from speclab.runlog.record_state import MissingPreview
from speclab.spec.settings import Limited, System
from speclab.sync.deletes import RecordIdentities
from speclab.sync.failures import FailureFactory
from speclab.sync.guards import GuardAlarm, SchemaDrift, VolumeGuard
from speclab.sync.prepare import PreparedSpec, build_route, load_cursor
from speclab.sync.record_keys import Hasher, RecordKey
from speclab.sync.retry_queue import WriteIntents
from speclab.sync.transform import Transformer


@dataclass(frozen=True, slots=True)
class Difference:
    """A field that a write would change. Both values are JSON; `was` is empty if the target has no such field."""

    field: str
    was: str
    becomes: str


def find_differences(found: Record, mapped: Record) -> list[Difference]:
    """Return the fields of `mapped` that are missing or different in the `found` record of the target.

    Values that only differ in their form are equal: a number as text, a boolean as 0 or 1, an object as its JSON, as
    databases and text files store them. Fields that only the target has are ignored.
    """
    return list(_compare(found, mapped, ()))


def _compare(found: Record, mapped: Record, path: tuple[str, ...]) -> Iterator[Difference]:
    for name, value in mapped.items():
        field = (*path, name)
        was = found.get(name)
        if isinstance(was, dict) and isinstance(value, dict):
            yield from _compare(was, value, field)
        elif name not in found:
            yield Difference(str(FieldPath(field)), "", _to_text(value))
        elif not is_equal_in_form(was, value):
            yield Difference(str(FieldPath(field)), _to_text(was), _to_text(value))


def is_equal_in_form(was: Json, value: Json) -> bool:
    """Whether `value` is equal to `was`, or `was` is its form as text: a number, a boolean, or an object as JSON."""
    if was == value:
        return True
    if isinstance(was, str):
        if isinstance(value, dict | list):
            return _parse_json(was) == value
        if isinstance(value, bool):
            return was.lower() in (("true", "1") if value else ("false", "0"))
        if isinstance(value, int | float):
            return _parse_number(was, type(value)) == value
        return value is None and not was
    return False


def _parse_number(text: str, type_: type[float]) -> float | Decimal | None:
    try:  # a float does not have all digits of a large integer, and a decimal is not rounded like a float
        return float(text) if type_ is float else Decimal(text)
    except (ValueError, InvalidOperation):
        return None


def _parse_json(text: str) -> Json:
    try:
        value: Json = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    return value


def _to_text(value: Json) -> str:
    return encode_canonical(value).decode()


_EXAMPLES: Final = 3
"""Records of each effect that are shown."""


class PlannedEffect(StrEnum):
    """What a run would do with a record that it sends."""

    CREATE = "create"
    UPDATE = "update"
    SAME = "same"  # sent, although the target has the same record
    DELETE = "delete"
    UNKNOWN = "unknown"  # create or update: the record cannot be looked up


@dataclass(frozen=True, slots=True)
class PlanOptions:
    """The options of a plan: `full` and `limit` as for a run; `lookups` limits requests that look up one record."""

    full: bool = False
    limit: int | None = None
    lookups: int = 500


@dataclass(frozen=True, slots=True)
class PlanExample:
    """A record that would be sent, and the fields that would change, if they are known."""

    effect: PlannedEffect
    key: str
    changes: Sequence[Difference]


@dataclass(frozen=True, slots=True)
class PlanFault:
    """The number of records that would fail for the same mapping row or spec line, with one message."""

    count: int
    place: str
    message: str


@dataclass(frozen=True, slots=True)
class PlannedPace:
    """Calls to one system, and the minimum seconds they take under its rate limit; None without a limit."""

    calls: int
    at_least: float | None


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run would do.

    `resumed` if it would continue from a checkpoint; `cut` if a limit left out records. `waiting` counts the records of
    the retry queue that would be sent first. `alarms` are those of the guards, although the plan continues after one
    that would stop the run. `notes` say what is not known, and why.
    """

    spec_id: str
    resumed: bool
    cut: bool
    read: int
    filtered: int
    unchanged: int
    effects: Mapping[PlannedEffect, int]
    faults: Sequence[PlanFault]
    waiting: int
    examples: Sequence[PlanExample]
    source: PlannedPace
    target: PlannedPace
    alarms: Sequence[GuardAlarm]
    notes: Sequence[str]

    @property
    def stops(self) -> bool:
        """Whether a guard would stop the run."""
        return any(alarm.stops for alarm in self.alarms)


async def build_plan(
    prepared: PreparedSpec, runlog: Path, references: References, context: RuntimeContext, options: PlanOptions
) -> Plan:
    """Return what a run of the spec would do now.

    Raises `EndpointError` if the source cannot be read, and `SpecError` for settings that cannot work.
    """
    spec = prepared.integration
    await references.fetch(spec.source, spec.source_auth, spec.target, spec.target_auth)
    source, target = map(references.resolve_settings, (spec.source, spec.target))
    async with AsyncExitStack() as stack:
        log = stack.enter_context(_open_run_log(runlog))
        reader = open_reader(spec.source, spec.source_auth, references, context, spec.retry)
        stack.push_async_callback(reader.close)
        lookup = open_lookup(spec.target, spec.target_auth, references, context, spec.retry)
        if lookup is not None:
            stack.push_async_callback(lookup.close)
        # Only the attributes of the writer are used: it is not connected and needs no closing.
        writer = open_writer(spec.target, spec.target_auth, references, context, spec.retry)
        transformer = Transformer(
            spec_id=spec.spec_id,
            target=target.destination(),
            key=RecordKey(spec.source.key),
            mapper=prepared.mapper,
            is_deleted=prepared.is_deleted,
            hasher=Hasher(target.destination()),
            failures=FailureFactory(spec, prepared.file),
            keyed=False,
            deletes=writer.deletes,
        )
        profile, rows = log.get_field_profile(spec.spec_id), prepared.mapper.rows
        planner = _Planner(
            prepared=prepared,
            log=log,
            lookup=lookup,
            transformer=transformer,
            identities=RecordIdentities(spec.source, target),
            guard=VolumeGuard(spec.volume),
            drift=SchemaDrift(profile, rows, prepared.file, transformer.is_mapped, spec.volume.guard),
            lookups_left=options.lookups,
            batch=writer.batch,
            idempotent=writer.idempotent,
        )
        if spec.source.deletes_missing():
            planner.missing = stack.enter_context(MissingPreview(log.path, spec.spec_id, transformer.target))
        cursor, warning = (None, "") if options.full else load_cursor(log, spec.spec_id, build_route(source, target))
        if warning:
            context.report(Level.WARNING, warning)
        pages = reader.pages(cursor, full=options.full)
        if isinstance(pages, AsyncGenerator):
            stack.push_async_callback(pages.aclose)
        try:
            async for page in pages:
                left = None if options.limit is None else options.limit - planner.read
                await planner.add_page(page, page.records[:left])
                context.report(Level.INFO, f"page {planner.pages}, {planner.read:,} read")
                if planner.read == options.limit:
                    planner.cut = not page.complete or len(page.records) > (left or 0)
                    break
        except IncompleteRead as error:  # the plan covers what was read; a run would do the same, and end as partial
            planner.cut = True
            context.report(Level.WARNING, error.message)
        planner.finish()
        waiting = log.count_due_failures(spec.spec_id, context.clock.now())
        return planner.build(resumed=cursor is not None, waiting=waiting)


@contextmanager
def _open_run_log(path: Path) -> Iterator[RunLog]:
    """Open the run log at `path`; if the file does not exist, an empty one elsewhere."""
    if path.exists():
        with RunLog.open(path) as log:
            yield log
        return
    with TemporaryDirectory(prefix="speclab-plan-") as directory, RunLog.open(Path(directory) / "runlog.db") as log:
        yield log


class _NotLookedUp(Enum):
    NOT_LOOKED_UP = "not looked up"


_NOT_LOOKED_UP: Final = _NotLookedUp.NOT_LOOKED_UP
"""Stands for a target record about which nothing is known."""
_TargetRecord: TypeAlias = Record | _NotLookedUp | None


@dataclass(slots=True)
class _Planner:
    """Builds a plan, page by page."""

    prepared: PreparedSpec
    log: RunLog
    lookup: RecordLookup | None
    transformer: Transformer
    identities: RecordIdentities
    guard: VolumeGuard
    drift: SchemaDrift
    lookups_left: int
    batch: int
    idempotent: bool
    read: int = 0
    pages: int = 0
    cut: bool = False
    filtered: int = 0
    unchanged: int = 0
    effects: Counter[PlannedEffect] = field(default_factory=Counter)
    faults: dict[str, PlanFault] = field(default_factory=dict)
    examples: list[PlanExample] = field(default_factory=list)
    sent: dict[str, bytes] = field(default_factory=dict)  # key and hash of what this plan would have sent so far
    alarms: list[GuardAlarm] = field(default_factory=list)
    notes: dict[str, None] = field(default_factory=dict)
    missing: MissingPreview | None = None  # if records that the source no longer has are deleted
    before: int | None = None  # records that no full scan with this number or a later one has seen are missing
    has_keyless: bool = False

    async def add_page(self, page: Page, records: Sequence[Record]) -> None:
        """Add `records`, those of the page that are within the limit."""
        self.guard, alarm = self.guard.count_read(len(records), page)
        self._add_alarms(alarm, *self.drift.check(page.records))
        for batch in self.transformer.map_records(records):
            known = self.log.get_hashes(self.prepared.integration.spec_id, batch.keys)
            known |= {key: self.sent[key] for key in batch.keys if key in self.sent}
            changed = batch.without_unchanged(known)
            if self.missing is not None:
                self.missing.add_seen(self.identities.build_all(batch))
                self.has_keyless = self.has_keyless or len(batch.source_keys) < batch.read
            self.read += batch.read
            self.filtered += batch.outcomes[Outcome.FILTERED]
            self.unchanged += len(batch.keys) - len(changed.keys)
            for failure in batch.failures:
                self._add_fault(failure)
            to_send = self._select_sendable(self.transformer.build_records(changed), known)
            self.guard, alarm = self.guard.count_deletes(sum(record.delete for record in to_send))
            self._add_alarms(alarm)
            for record, found in zip(to_send, await self._look_up(to_send), strict=True):
                self._add_record(record, found, known.get(record.key))
            self.sent.update(zip(changed.keys, changed.hashes, strict=True))
        self.pages += 1
        if self.missing is not None and self.before is None:
            self._set_before(page, self.missing)

    def finish(self) -> None:
        """Add the records that would be deleted because the source, read to its end, no longer has them."""
        if not self.cut:
            self._add_alarms(self.guard.check_end())
        if self.missing is None:
            return
        if self.cut or self.has_keyless:
            reason = "an incomplete read" if self.cut else "a read with records that have no key"
            self.notes[f"{reason} does not show which records are missing from the source"] = None
            return
        if not self.missing.full_scan.latest:
            self.notes["missing records are known after the first full read with `missing: delete` set"] = None
        spec, tombstone, count = self.prepared.integration, self.transformer.hasher.deleted, 0
        for rows in self.missing.get_missing(self.before or 0):
            states = self.log.get_hashes(spec.spec_id, [row.key for row in rows])
            for row in rows:
                if states.get(row.key, tombstone) != tombstone:
                    count += 1
                    self._add_effect(PlannedEffect.DELETE, row.key)
        self._add_alarms(self.guard.check_missing(count, max(count, self.missing.count_known(tombstone))))

    def build(self, *, resumed: bool, waiting: int) -> Plan:
        """Return the plan, once everything was added."""
        spec = self.prepared.integration
        deletes = self.effects[PlannedEffect.DELETE]
        target_calls = spec.target.count_calls(self.effects.total() - deletes, deletes, self.batch)
        return Plan(
            spec_id=spec.spec_id,
            resumed=resumed,
            cut=self.cut,
            read=self.read,
            filtered=self.filtered,
            unchanged=self.unchanged,
            effects={effect: self.effects[effect] for effect in PlannedEffect},
            faults=sorted(self.faults.values(), key=lambda fault: -fault.count),
            waiting=waiting,
            examples=self.examples,
            source=_compute_pace(spec.source, self.pages),
            target=_compute_pace(spec.target, target_calls),
            alarms=self.alarms,
            notes=list(self.notes),
        )

    def _set_before(self, page: Page, missing: MissingPreview) -> None:
        """Decide from the first page whether the read is a full scan, and which earlier scans it supersedes."""
        full_scan, self.before = missing.full_scan, missing.undecided
        if page.whole and page.from_start:
            self.before = full_scan.latest + 1
        elif page.whole and full_scan.held == full_scan.latest:
            self.before = full_scan.held
        else:
            self.notes["an incremental read does not show which records are missing; --full does"] = None

    def _select_sendable(self, records: Sequence[MappedRecord], known: Mapping[str, bytes]) -> Sequence[MappedRecord]:
        """Return the records that would be sent; one whose outcome is unknown is not, if that could do harm."""
        if self.idempotent:
            return records
        unknown = WriteIntents(self.log, self.transformer.spec_id, self.transformer.hasher).find_unknown(records, known)
        for record in records:
            if record.key in unknown and (error := unknown[record.key].error) is not None:
                self._add_fault(self.transformer.failures.build_write_failure(record, error, FailureState.UNKNOWN))
        return [record for record in records if record.key not in unknown]

    def _add_alarms(self, *alarms: GuardAlarm | None) -> None:
        self.alarms += filter(None, alarms)

    def _add_fault(self, failure: NewFailure) -> None:
        """Count a record that would fail, together with others that fail at the same place."""
        place = f"{failure.file}:{failure.line}" + (f":{failure.column}" if failure.column else "")
        message = f"{failure.row}: {failure.message}" if failure.row else failure.message
        known = self.faults.get(place, PlanFault(0, place, message))
        self.faults[place] = replace(known, count=known.count + 1)

    async def _look_up(self, records: Sequence[MappedRecord]) -> list[_TargetRecord]:
        """Return what the target has of each of `records`."""
        if not records:
            return []
        if self.prepared.integration.target.always_creates():
            return [None] * len(records)
        if self.lookup is None:
            self.notes["the target cannot look up records, so only the run log shows which ones it has"] = None
            return [_NOT_LOOKED_UP] * len(records)
        requested = records
        if self.lookup.per_record:
            requested = records[: self.lookups_left]
            self.lookups_left -= len(requested)
            if len(requested) < len(records):
                self.notes["some records were not looked up, because each takes a request; see --lookups"] = None
        try:
            results = await self.lookup.find(requested) if requested else []
        except EndpointError as error:
            self.lookup = None
            self.notes[f"the target could not be asked: {error.message}"] = None
            results = []
        found: list[_TargetRecord] = []
        for result in results:
            if isinstance(result, WriteError):
                self.notes[f"a record could not be looked up: {result.message}"] = None
            found.append(_NOT_LOOKED_UP if isinstance(result, WriteError) else result)
        return found + [_NOT_LOOKED_UP] * (len(records) - len(found))

    def _add_record(self, record: MappedRecord, found: _TargetRecord, known: bytes | None) -> None:
        """Add the effect of sending `record`, given what was `found` at the target and the hash last written."""
        changes: Sequence[Difference] = ()
        if record.delete:
            effect = PlannedEffect.DELETE
        elif found is _NOT_LOOKED_UP:
            written = known is not None and known != self.transformer.hasher.deleted
            effect = PlannedEffect.UPDATE if written else PlannedEffect.UNKNOWN
        else:
            changes = find_differences(found or {}, record.payload)
            effect = PlannedEffect.CREATE if found is None else PlannedEffect.UPDATE if changes else PlannedEffect.SAME
        self._add_effect(effect, record.key, changes)

    def _add_effect(self, effect: PlannedEffect, key: str, changes: Sequence[Difference] = ()) -> None:
        """Count one record, and keep the first few of each effect as examples."""
        self.effects[effect] += 1
        if self.effects[effect] <= _EXAMPLES and effect is not PlannedEffect.SAME:
            self.examples.append(PlanExample(effect, key, changes))


def _compute_pace(system: System, calls: int) -> PlannedPace:
    """Return the minimum time of `calls` with a weight of 1, by the slowest of the rates."""
    rates = system.limits.rate if isinstance(system, Limited) else ()
    if not rates:
        return PlannedPace(calls, None)
    return PlannedPace(calls, float(max(max(calls - 1, 0) // rate.count * rate.seconds for rate in rates)))
