"""Map source records into batches: keys, filter, mapping, contract and hashes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from itertools import compress, repeat

from speclab.connectors.api import MappedRecord
from speclab.core.json import Json, Record
from speclab.core.outcome import Outcome
from speclab.mapping import Mapper, MappingFailure
from speclab.runlog import NewFailure
from speclab.sync.failures import FailureFactory
from speclab.sync.record_keys import Hasher, RecordKey, build_idempotency_key, build_stand_in_key


@dataclass(frozen=True, slots=True)
class MappedBatch:
    """Mapped records in which no key occurs twice, ready for delivery.

    `keys`, `sources`, `payloads` and `hashes` have one entry for each record to write or, if its key is in
    `deleted_keys`, to delete. The other records have an outcome already. `read` counts all records; `source_keys` are
    the keys of all that have one.
    """

    read: int
    source_keys: Sequence[str]
    outcomes: Counter[Outcome]
    failures: Sequence[NewFailure]
    keys: Sequence[str]
    sources: Sequence[Record]
    payloads: Sequence[Record]
    hashes: Sequence[bytes]
    deleted_keys: AbstractSet[str]

    def without_unchanged(self, known: Mapping[str, bytes]) -> MappedBatch:
        """Return the batch without the records whose hash is the `known` one of their key."""
        if not known:
            return self
        changed = [known.get(key) != hash_ for key, hash_ in zip(self.keys, self.hashes, strict=True)]
        return replace(
            self,
            outcomes=self.outcomes + Counter({Outcome.UNCHANGED: changed.count(False)}),
            keys=list(compress(self.keys, changed)),
            sources=list(compress(self.sources, changed)),
            payloads=list(compress(self.payloads, changed)),
            hashes=list(compress(self.hashes, changed)),
        )


@dataclass(frozen=True, slots=True)
class Transformer:
    """Maps the records of one spec for one target.

    `is_deleted` returns whether a source record is marked as deleted; None if the spec has no such rule. `keyed` and
    `deletes` are the abilities of the writer.
    """

    spec_id: str
    target: str
    key: RecordKey
    mapper: Mapper
    is_deleted: Callable[[Record], bool] | None
    hasher: Hasher
    failures: FailureFactory
    keyed: bool
    deletes: bool

    def is_mapped(self, record: Record) -> bool:
        """Return whether `record` is not deleted and not filtered; True if that cannot be evaluated."""
        try:
            return not (self.is_deleted is not None and self.is_deleted(record)) and self.mapper.accepts(record)
        except MappingFailure:
            return True

    def map_records(self, records: Sequence[Record]) -> list[MappedBatch]:
        """Map `records` into as few batches as possible in which no key occurs twice.

        The batches are delivered one after the other: records of one key must reach the target in their order, however
        many requests a writer makes at once.
        """
        keys = self.key.extract_all(records)
        names = keys
        if None in keys:
            names = [key or build_stand_in_key(record) for key, record in zip(keys, records, strict=True)]
        if len(set(names)) == len(names):
            return [self._map_batch(records, keys)]
        return [
            self._map_batch([records[index] for index in indexes], [keys[index] for index in indexes])
            for indexes in _split_repeated(names)
        ]

    def build_records(self, batch: MappedBatch) -> list[MappedRecord]:
        """Return the records of `batch` as a writer takes them."""
        idempotency_keys: Iterable[str] = repeat("")
        if self.keyed:
            pairs = zip(batch.keys, batch.hashes, strict=True)
            idempotency_keys = [build_idempotency_key(self.spec_id, self.target, key, hash_) for key, hash_ in pairs]
        deletes = [key in batch.deleted_keys for key in batch.keys] if batch.deleted_keys else repeat(False)
        return list(map(MappedRecord, batch.keys, batch.payloads, batch.sources, idempotency_keys, deletes))

    def build_deletes(self, identities: Mapping[str, Record]) -> MappedBatch:
        """Return a batch that deletes records, by key, with the stored identity of each (see `RecordIdentities`)."""
        keys, stored = list(identities), list(identities.values())
        outcomes = Counter[Outcome]()
        if not self.deletes:
            outcomes[Outcome.FILTERED] = len(keys)
            stored = []
        sent = keys[: len(stored)]
        return MappedBatch(
            read=len(keys),
            source_keys=keys,
            outcomes=outcomes,
            failures=[],
            keys=sent,
            sources=[_as_record(identity["source"]) for identity in stored],
            payloads=[_as_record(identity["target"]) for identity in stored],
            hashes=[self.hasher.deleted] * len(sent),
            deleted_keys=set(sent),
        )

    def _map_batch(self, records: Sequence[Record], source_keys: Sequence[str | None]) -> MappedBatch:
        """Map `records`, whose `source_keys` differ."""
        outcomes = Counter[Outcome]()
        failures: list[NewFailure] = []
        keys: list[str] = []
        sources: list[Record] = []
        payloads: list[Record] = []
        deleted_keys: set[str] = set()
        is_deleted, accepts, map_, check = self.is_deleted, self.mapper.accepts, self.mapper.map, self.mapper.check
        # The engine's innermost loop: what not every record needs stays outside it.
        for key, record in zip(source_keys, records, strict=True):
            if key is None:
                failures.append(self.failures.build_read_failure(record))
                continue
            try:
                deleted = is_deleted is not None and is_deleted(record)
                if not (self.deletes if deleted else accepts(record)):
                    outcomes[Outcome.FILTERED] += 1
                    continue
                payload = map_(record)
            except MappingFailure as failure:
                failures.append(self.failures.build_mapping_failure(key, record, failure.failures))
                continue
            if deleted:
                deleted_keys.add(key)
            elif violations := check(payload):
                failures.append(self.failures.build_mapping_failure(key, record, violations, payload))
                continue
            keys.append(key)
            sources.append(record)
            payloads.append(payload)
        hashes = self.hasher.hash_all(payloads)
        if deleted_keys:
            tombstone = self.hasher.deleted
            hashes = [tombstone if key in deleted_keys else hash_ for key, hash_ in zip(keys, hashes, strict=True)]
        if failures:
            outcomes[Outcome.DEAD] = len(failures)
        return MappedBatch(
            read=len(records),
            source_keys=[key for key in source_keys if key is not None],
            outcomes=outcomes,
            failures=failures,
            keys=keys,
            sources=sources,
            payloads=payloads,
            hashes=hashes,
            deleted_keys=deleted_keys,
        )


def _as_record(value: Json) -> Record:
    return value if isinstance(value, dict) else {}


def _split_repeated(names: Sequence[str | None]) -> list[list[int]]:
    """Return the indexes of `names` in as few groups as possible that contain no name twice, in order."""
    groups: list[list[int]] = []
    seen = Counter[str | None]()
    for index, name in enumerate(names):
        if seen[name] == len(groups):
            groups.append([])
        groups[seen[name]].append(index)
        seen[name] += 1
    return groups
