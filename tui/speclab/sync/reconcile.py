"""Reconciliation: the mapped source compared with the target as it is."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from speclab.connectors.api import (
    MappedRecord,
    RecordLister,
    RecordLookup,
    RuntimeContext,
    WriteError,
)
from speclab.connectors.registry import open_lister, open_lookup, open_reader
from speclab.connectors.secrets.references import References
from speclab.core.clock import format_timestamp
from speclab.core.errors import SpecError
from speclab.core.json import Json, Record, encode_canonical, is_same_json
from speclab.core.masking import Masker
from speclab.core.outcome import Level, Outcome, RunState
from speclab.core.paths import FieldPath
from speclab.core.text import format_count
from speclab.runlog import ReconciliationRow, RunLog, RunLogReader
from speclab.sync.failures import FailureFactory, build_field_policy
from speclab.sync.plan import Difference, is_equal_in_form
from speclab.sync.prepare import PreparedSpec
from speclab.sync.reconcile_store import NO_RECORD, UNKNOWN, DifferenceKind, ReconcileStore, TargetKeys, decode_record
from speclab.sync.record_keys import Hasher, RecordKey
from speclab.sync.transform import MappedBatch, Transformer

_REPORT_SECONDS: Final = 5.0
_BATCH: Final = 500
"""Records that are mapped, and looked up, at once."""


@dataclass(frozen=True, slots=True)
class ReconcileOptions:
    """The options of a reconciliation.

    `sample` is the number of source records, chosen at random, that are compared; None for all. `shown` is the maximum
    number of differences of each kind that are listed.
    """

    sample: int | None = None
    shown: int = 20


@dataclass(frozen=True, slots=True)
class RecordDifference:
    """A record that differs, by its key at the target.

    `changes` are its fields with the values of the target (`was`) and of the mapped source (`becomes`).
    """

    kind: DifferenceKind
    key: str
    changes: Sequence[Difference] = ()
    detail: str = ""

    def to_json(self) -> dict[str, Json]:
        """Return the difference as a JSON object."""
        changes: list[Json] = [
            {"field": change.field, "target": change.was or None, "source": change.becomes} for change in self.changes
        ]
        return {"kind": self.kind.value, "key": self.key, "fields": changes, "detail": self.detail}


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """The result of a reconciliation.

    Of the records `read` from the source, `filtered` are not mapped, `failed` cannot be, and the rest are `source`
    records to compare. `target` is the number of records found there, `same` the number of keys without a difference.
    `unknown` records could not be looked up. `notes` say what the result does not cover.
    """

    spec_id: str
    at: str
    is_list: bool
    sample: int | None
    read: int
    filtered: int
    failed: int
    source: int
    target: int
    same: int
    unknown: int
    differences: Mapping[DifferenceKind, int]
    examples: Sequence[RecordDifference]
    notes: Sequence[str]

    @property
    def total(self) -> int:
        """The number of differences."""
        return sum(self.differences.values())

    @property
    def is_equal(self) -> bool:
        """Whether source and target are known to be equal: records that cannot be mapped or looked up are not."""
        return not (self.total or self.failed or self.unknown)

    def to_json(self) -> dict[str, Json]:
        """Return the result as a JSON object."""
        counts: dict[str, Json] = {kind.value: self.differences[kind] for kind in DifferenceKind}
        return {
            "spec_id": self.spec_id,
            "at": self.at,
            "method": "list" if self.is_list else "lookup",
            "sample": self.sample,
            "read": self.read,
            "filtered": self.filtered,
            "failed": self.failed,
            "source": self.source,
            "target": self.target,
            "same": self.same,
            "unknown": self.unknown,
            "differences": counts,
            "examples": [example.to_json() for example in self.examples],
            "notes": list(self.notes),
        }


@dataclass(frozen=True, slots=True)
class _Change:
    """A field of the target that differs from the mapped value, or does not exist there."""

    path: tuple[str, ...]
    is_stored: bool
    was: Json
    becomes: Json

    @property
    def is_same_in_form(self) -> bool:
        """Whether only the type differs, such as that of `"42"` and `42`."""
        is_equal = is_equal_in_form(self.was, self.becomes) or is_equal_in_form(self.becomes, self.was)
        return self.is_stored and is_equal


@dataclass(slots=True)
class _Reconciler:
    """Fills the store, and compares both sides."""

    prepared: PreparedSpec
    store: ReconcileStore
    transformer: Transformer
    keys: TargetKeys
    lister: RecordLister | None
    lookup: RecordLookup | None
    context: RuntimeContext
    redact: Callable[[str], str]
    masker: Masker
    options: ReconcileOptions
    read: int = 0
    filtered: int = 0
    failed: int = 0
    keyless: int = 0
    unknown: int = 0
    same: int = 0
    differences: Counter[DifferenceKind] = field(default_factory=Counter)
    examples: dict[DifferenceKind, list[RecordDifference]] = field(default_factory=dict)
    notes: dict[str, None] = field(default_factory=dict)
    sampled: list[MappedRecord] = field(default_factory=list)
    _fields: tuple[str, ...] = ()
    _reported: float = 0.0  # when the progress was reported last
    _mapped: int = 0

    def __post_init__(self) -> None:
        names = [row.target.parts[0] for row in self.prepared.mapper.rows]
        self._fields = tuple(dict.fromkeys(str(name) for name in names))
        self._reported = self.context.clock.monotonic()

    async def list_target(self, lister: RecordLister) -> None:
        """Add all records of the target; in a sample, only those with a key of the sample."""
        wanted = {self._key_of(record) for record in self.sampled} if self.options.sample is not None else None
        count = 0
        pages = lister.pages(self._fields)
        try:
            async for page in pages:
                count += len(page)
                rows = [(self.keys.extract(record), record) for record in page]
                self.keyless += sum(key is None for key, _ in rows)
                self.store.add(
                    "target",
                    [
                        (key, self._encode(record))
                        for key, record in rows
                        if key is not None and (wanted is None or key in wanted)
                    ],
                )
                self._report(f"{count:,} records of the target listed")
        finally:
            if isinstance(pages, AsyncGenerator):
                await pages.aclose()

    async def read_source(self, pages: AsyncIterator[Sequence[Record]]) -> None:
        """Add the mapped records of the source; in a sample, choose some of them."""
        async for records in pages:
            for start in range(0, len(records), _BATCH):
                for batch in self.transformer.map_records(records[start : start + _BATCH]):
                    await self._add_batch(batch)
            self._report(f"{self.read:,} records of the source read")
        for start in range(0, len(self.sampled), _BATCH):
            await self._add_source(self.sampled[start : start + _BATCH])

    async def _add_batch(self, batch: MappedBatch) -> None:
        self.read += batch.read
        self.filtered += batch.outcomes[Outcome.FILTERED]
        self.failed += len(batch.failures)
        mapped = self.transformer.build_records(batch)
        if self.options.sample is not None:
            self._choose(mapped, self.options.sample)
        else:
            await self._add_source(mapped)

    async def _add_source(self, records: Sequence[MappedRecord]) -> None:
        rows = [
            (self._key_of(record), NO_RECORD if record.delete else encode_canonical(record.payload))
            for record in records
        ]
        self.store.add("source", rows)
        if self.lookup is None:
            return
        found: list[tuple[bytes, bytes]] = []
        for record, stored in zip(records, await self.lookup.find(records), strict=True):
            if isinstance(stored, WriteError):
                self.notes[f"a record could not be looked up: {self.redact(stored.message)}"] = None
                found.append((self._key_of(record), UNKNOWN))
            elif stored is not None:
                found.append((self._key_of(record), self._encode(stored)))
        self.store.add("target", found)

    def compare(self) -> None:
        """Compare the records of both sides, key by key."""
        for key, source, target in self.store.merge():
            if target is not None and target.payload == UNKNOWN:
                self.unknown += 1
            elif source is None:
                assert target is not None  # noqa: S101 - one of both exists
                count = _format_count("target", target.size)
                self._add(key, DifferenceKind.EXTRA, detail=count, record=target.payload)
            elif target is None:
                self._add(
                    key, DifferenceKind.MISSING, detail=_format_count("source", source.size if source.differs else 1)
                )
            elif target.size > 1 and self.lookup is None:
                self._add(key, DifferenceKind.DUPLICATE, detail=f"{target.size} records of the target")
            elif source.differs:
                self._add(key, DifferenceKind.DUPLICATE, detail=f"{source.size} records of the source")
            elif source.payload == target.payload:
                self.same += 1
            else:
                self._compare(key, source.payload, target.payload)

    def _compare(self, key: bytes, source: bytes, target: bytes) -> None:
        changes = list(self._find_changes(decode_record(target), decode_record(source), ()))
        if not changes:
            self.same += 1
            return
        is_type_only = all(change.is_same_in_form for change in changes)
        self._add(key, DifferenceKind.TYPE if is_type_only else DifferenceKind.FIELD, changes)

    def _find_changes(self, stored: Record, mapped: Record, path: tuple[str, ...]) -> Iterator[_Change]:
        for name, value in mapped.items():
            here, was = (*path, name), stored.get(name)
            if isinstance(was, dict) and isinstance(value, dict):
                yield from self._find_changes(was, value, here)
            elif name not in stored and value is None:  # many systems leave out empty fields
                continue
            elif name not in stored:
                yield _Change(here, is_stored=False, was=None, becomes=value)
            elif not (self.lister.is_same(here[0], was, value) if self.lister else is_same_json(was, value)):
                yield _Change(here, is_stored=True, was=was, becomes=value)

    def _add(
        self,
        key: bytes,
        kind: DifferenceKind,
        changes: Sequence[_Change] = (),
        detail: str = "",
        record: bytes | None = None,
    ) -> None:
        self.differences[kind] += 1
        self.store.add_difference(key, kind, record)
        examples = self.examples.setdefault(kind, [])
        if len(examples) < self.options.shown:
            shown = [
                Difference(
                    str(FieldPath(one.path)),
                    self._show(one.path, one.was) if one.is_stored else "",
                    self._show(one.path, one.becomes),
                )
                for one in changes
            ]
            name = self.redact(key.decode("utf-8", "replace"))
            examples.append(RecordDifference(kind, name, shown, detail))

    def _show(self, path: Sequence[str], value: Json) -> str:
        """Return a value as JSON, without secrets, and masked as the Logging section says."""
        record: Json = value
        for name in reversed(path):
            record = {name: record}
        assert isinstance(record, dict)  # noqa: S101 - a path has at least one name
        shown: Json = self.masker.mask_record(record)
        for name in path:
            if isinstance(shown, dict):  # else an outer field is masked
                shown = shown[name]
        return self.redact(encode_canonical(shown).decode())

    def _choose(self, records: Iterable[MappedRecord], size: int) -> None:
        """Keep a random sample of all mapped records (Vitter's algorithm R)."""
        for record in records:
            self._mapped += 1
            if len(self.sampled) < size:
                self.sampled.append(record)
            elif (at := self.context.random.randrange(self._mapped)) < size:
                self.sampled[at] = record

    def _key_of(self, record: MappedRecord) -> bytes:
        key = self.keys.extract(record.payload)
        return record.key.encode("utf-8", "surrogatepass") if key is None else key

    def _encode(self, record: Record) -> bytes:
        """Encode the mapped fields of a stored record."""
        return encode_canonical({name: record[name] for name in self._fields if name in record})

    def _report(self, message: str) -> None:
        now = self.context.clock.monotonic()
        if now - self._reported >= _REPORT_SECONDS:
            self._reported = now
            self.context.report(Level.INFO, message)


def _format_count(side: str, count: int) -> str:
    return f"{count} records of the {side}" if count > 1 else ""


async def reconcile(
    prepared: PreparedSpec,
    runlog: Path,
    references: References,
    context: RuntimeContext,
    store: ReconcileStore,
    options: ReconcileOptions = ReconcileOptions(),
) -> Reconciliation:
    """Compare the mapped source with the target, and keep the result in the run log and the keys in `store`.

    Where the target can be listed, both sides are listed, ordered by key, and merged; otherwise, and for a sample where
    that is possible, each record is looked up. Nothing is written to either system.

    Raises `EndpointError` if a system cannot be read, and `SpecError` if the target allows no list and no lookup.
    """
    spec = prepared.integration
    await references.fetch(spec.source, spec.source_auth, spec.target, spec.target_auth)
    async with AsyncExitStack() as stack:
        log = stack.enter_context(RunLog.open(runlog, context.clock))
        schedule = spec.schedule.text
        log.register(spec.spec_id, title=spec.title, path=prepared.file, status=spec.status, schedule=schedule)
        reader = open_reader(spec.source, spec.source_auth, references, context, spec.retry)
        stack.push_async_callback(reader.close)
        lister = open_lister(spec.target, spec.target_auth, references, context, spec.retry)
        if lister is not None:
            stack.push_async_callback(lister.close)
        lookup = open_lookup(spec.target, spec.target_auth, references, context, spec.retry)
        if lookup is not None:
            stack.push_async_callback(lookup.close)
        paths = spec.target.get_key_paths()
        can_list = lister is not None and _maps_key(prepared, paths)
        if not can_list and lookup is None:
            raise SpecError(
                f"{spec.path}: the records of the target cannot be listed or looked up",
                hint="Add `read` to the Target System, or a `lookup` to its `write`; the mapping must fill its `key`.",
            )
        uses_lookup = lookup is not None and (options.sample is not None or not can_list)
        target = references.resolve_settings(spec.target)
        reconciler = _Reconciler(
            prepared=prepared,
            store=store,
            transformer=Transformer(
                spec_id=spec.spec_id,
                target=target.destination(),
                key=RecordKey(spec.source.key),
                mapper=prepared.mapper,
                is_deleted=prepared.is_deleted,
                hasher=Hasher(target.destination()),
                failures=FailureFactory(spec, prepared.file),
                keyed=False,
                deletes=True,
            ),
            keys=(keys := TargetKeys(paths, lister)),
            lister=lister,
            lookup=lookup if uses_lookup else None,
            context=context,
            redact=references.redactor.redact,
            masker=Masker(build_field_policy(spec), context.random.randbytes(16)),
            options=options,
        )
        store.keys = keys
        runs = stack.enter_context(RunLogReader.open(log.path))
        before = runs.runs(spec.spec_id, limit=1)
        lists = lister if can_list and not uses_lookup else None
        if lists is not None and options.sample is None:
            await reconciler.list_target(lists)  # first: the lister then knows how the target compares keys
        pages = reader.pages(None, full=True)
        if isinstance(pages, AsyncGenerator):
            stack.push_async_callback(pages.aclose)
        await reconciler.read_source(page.records async for page in pages)
        if lists is not None and options.sample is not None:
            await reconciler.list_target(lists)
        reconciler.compare()
        if (after := runs.runs(spec.spec_id, limit=1)) != before or any(row.state is RunState.RUNNING for row in after):
            reconciler.notes["the spec was run during the comparison; some differences may be gone by now"] = None
        result = _build(reconciler, is_list=lists is not None, at=format_timestamp(context.clock.now()))
        log.save_reconciliation(_build_row(result, spec.hash), format_result(result))
        return result


def _maps_key(prepared: PreparedSpec, paths: Sequence[FieldPath]) -> bool:
    """Return whether the mapping fills the key of the target."""
    names = {row.target.parts[0] for row in prepared.mapper.rows}
    return all(path.parts[0] in names for path in paths)


def _build(reconciler: _Reconciler, *, is_list: bool, at: str) -> Reconciliation:
    notes, store, sample = reconciler.notes, reconciler.store, reconciler.options.sample
    if sample is not None or not is_list:
        notes["records that only the target has are not found by looking up those of the source"] = None
    if reconciler.keyless:
        notes[f"{format_count(reconciler.keyless, 'record')} of the target have no key and were not compared"] = None
    if reconciler.failed:
        count = format_count(reconciler.failed, "record")
        notes[f"{count} of the source cannot be mapped; what the target has of them counts as extra"] = None
    return Reconciliation(
        spec_id=reconciler.prepared.integration.spec_id,
        at=at,
        is_list=is_list,
        sample=sample,
        read=reconciler.read,
        filtered=reconciler.filtered,
        failed=reconciler.failed,
        source=store.count("source"),
        target=store.count("target"),
        same=reconciler.same,
        unknown=reconciler.unknown,
        differences={kind: reconciler.differences[kind] for kind in DifferenceKind},
        examples=[one for kind in DifferenceKind for one in reconciler.examples.get(kind, ())],
        notes=list(notes),
    )


def _build_row(result: Reconciliation, spec_hash: str) -> ReconciliationRow:
    counts = {kind.value: count for kind, count in result.differences.items()}
    counts |= {"source": result.source, "target": result.target, "failed": result.failed, "unknown": result.unknown}
    differences = result.total + result.failed + result.unknown
    return ReconciliationRow(result.spec_id, result.at, spec_hash, result.sample, differences, counts)


def format_result(result: Reconciliation) -> str:
    """Return the result in one line, such as `50 differences: 10 missing, 40 field`."""
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in result.differences.items() if count)
    of = f"{result.source:,} records of the source, {result.target:,} of the target"
    found = f"{format_count(result.total, 'difference')}: {kinds}" if result.total else "no difference"
    return f"compared source and target: {found} ({of})"
