"""Drafts: records keyed, filtered, mapped, checked and compared, before anything is sent. Pure computation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from itertools import compress, repeat

from speclab.connectors.base import Item
from speclab.jsonvalue import Json, Record
from speclab.mapping import Mapper, MappingFailure
from speclab.outcome import Outcome
from speclab.runlog.rows import NewFailure
from speclab.sync.failures import Failures
from speclab.sync.identity import Hasher, RecordKey, idempotency_key, stand_in


@dataclass(frozen=True, slots=True)
class Draft:
    """What is to become of some records, as far as that can be told without a look at the target.

    `keys`, `sources`, `payloads` and `hashes` have an entry for each record that is to be at the target, or, if its key
    is among `leaving`, is not to be there any more. The others have an outcome already. `read` is how many records
    there were, `seen` are the keys of all that have one.
    """

    read: int
    seen: Sequence[str]
    outcomes: Counter[Outcome]
    failures: Sequence[NewFailure]
    keys: Sequence[str]
    sources: Sequence[Record]
    payloads: Sequence[Record]
    hashes: Sequence[bytes]
    leaving: AbstractSet[str]

    def unlike(self, at_target: Mapping[str, bytes]) -> Draft:
        """The draft without the records that are `at_target` (key and hash) just so: those are unchanged."""
        if not at_target:
            return self
        news = [at_target.get(key) != hash_ for key, hash_ in zip(self.keys, self.hashes, strict=True)]
        return replace(
            self,
            outcomes=self.outcomes + Counter({Outcome.UNCHANGED: news.count(False)}),
            keys=list(compress(self.keys, news)),
            sources=list(compress(self.sources, news)),
            payloads=list(compress(self.payloads, news)),
            hashes=list(compress(self.hashes, news)),
        )


@dataclass(frozen=True, slots=True)
class Drafter:
    """All of a spec and its target that drafts depend on.

    `deleted` tells a deleted record, where the spec says how. `keyed` and `deletes` are what the writer can do.
    """

    spec_id: str
    target: str
    key: RecordKey
    mapper: Mapper
    deleted: Callable[[Record], bool] | None
    hasher: Hasher
    failures: Failures
    keyed: bool
    deletes: bool

    def minds(self, record: Record) -> bool:
        """Whether the mapping is about `record`, as far as can be told: it is neither deleted nor filtered."""
        try:
            return not (self.deleted is not None and self.deleted(record)) and self.mapper.accepts(record)
        except MappingFailure:
            return True

    def drafts(self, records: Sequence[Record]) -> list[Draft]:
        """Drafts of `records`, as few as have no key twice, to be delivered one after the other.

        Records of one key must reach the target in their order, however many requests a writer makes at once.
        """
        keys = self.key.of_all(records)
        names = keys
        if None in keys:
            names = [key or stand_in(record) for key, record in zip(keys, records, strict=True)]
        if len(set(names)) == len(names):
            return [self._draft(records, keys)]
        return [
            self._draft([records[index] for index in wave], [keys[index] for index in wave]) for wave in _waves(names)
        ]

    def items(self, draft: Draft) -> list[Item]:
        """What is to be sent of `draft`."""
        ids: Iterable[str] = repeat("")
        if self.keyed:
            pairs = zip(draft.keys, draft.hashes, strict=True)
            ids = [idempotency_key(self.spec_id, self.target, key, hash_) for key, hash_ in pairs]
        deletes = [key in draft.leaving for key in draft.keys] if draft.leaving else repeat(False)
        return list(map(Item, draft.keys, draft.payloads, draft.sources, ids, deletes))

    def departed(self, identities: Mapping[str, Record]) -> Draft:
        """The draft of records that the source has no more, by key, with what was kept of each (see `Names`)."""
        keys, kept = list(identities), list(identities.values())
        outcomes = Counter[Outcome]()
        if not self.deletes:
            outcomes[Outcome.FILTERED] = len(keys)
            kept = []
        sent = keys[: len(kept)]
        return Draft(
            read=len(keys),
            seen=keys,
            outcomes=outcomes,
            failures=[],
            keys=sent,
            sources=[_record(one["source"]) for one in kept],
            payloads=[_record(one["target"]) for one in kept],
            hashes=[self.hasher.deleted] * len(sent),
            leaving=set(sent),
        )

    def _draft(self, records: Sequence[Record], of: Sequence[str | None]) -> Draft:
        """The draft of `records`, whose keys are `of` and differ."""
        outcomes = Counter[Outcome]()
        failures: list[NewFailure] = []
        keys: list[str] = []
        sources: list[Record] = []
        payloads: list[Record] = []
        leaving: set[str] = set()
        deleted, accepts, map_, check = self.deleted, self.mapper.accepts, self.mapper.map, self.mapper.check
        # The engine's innermost loop: what not every record needs stands outside it.
        for key, record in zip(of, records, strict=True):
            if key is None:
                failures.append(self.failures.keyless(record))
                continue
            try:
                gone = deleted is not None and deleted(record)
                if not (self.deletes if gone else accepts(record)):
                    outcomes[Outcome.FILTERED] += 1
                    continue
                payload = map_(record)
            except MappingFailure as failure:
                failures.append(self.failures.unmapped(key, record, failure.failures))
                continue
            if gone:
                leaving.add(key)
            elif broken := check(payload):
                failures.append(self.failures.unmapped(key, record, broken, payload))
                continue
            keys.append(key)
            sources.append(record)
            payloads.append(payload)
        hashes = self.hasher.of_all(payloads)
        if leaving:
            hashes = [self.hasher.deleted if key in leaving else it for key, it in zip(keys, hashes, strict=True)]
        if failures:
            outcomes[Outcome.DEAD] = len(failures)
        return Draft(
            read=len(records),
            seen=[key for key in of if key is not None],
            outcomes=outcomes,
            failures=failures,
            keys=keys,
            sources=sources,
            payloads=payloads,
            hashes=hashes,
            leaving=leaving,
        )


def _record(value: Json) -> Record:
    return value if isinstance(value, dict) else {}


def _waves(names: Sequence[str | None]) -> list[list[int]]:
    """The indices of `names` in as few groups as hold no name twice, each name's in order."""
    groups: list[list[int]] = []
    seen = Counter[str | None]()
    for index, name in enumerate(names):
        if seen[name] == len(groups):
            groups.append([])
        groups[seen[name]].append(index)
        seen[name] += 1
    return groups
