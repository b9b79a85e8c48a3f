"""Drafts: records keyed, filtered, mapped, checked and compared, before anything is sent. Pure computation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from itertools import compress, repeat

from speclab.connectors.base import Item
from speclab.jsonvalue import Record
from speclab.mapping import Mapper, MappingFailure
from speclab.outcome import Outcome
from speclab.runlog.rows import NewFailure
from speclab.sync.failures import Failures
from speclab.sync.identity import Hasher, RecordKey, idempotency_key

Known = Callable[[Sequence[str]], dict[str, bytes]]
"""The hashes last known to be at the target, of those keys that have one."""


@dataclass(frozen=True, slots=True)
class Draft:
    """What is to become of some records: `items` are to be sent, the others have their outcome already.

    `hashes` are those of the items' payloads, in the same order. `read` is how many records there were, and `keys`
    are those of all that have one.
    """

    read: int
    keys: Sequence[str]
    items: Sequence[Item]
    hashes: Sequence[bytes]
    outcomes: Counter[Outcome]
    failures: Sequence[NewFailure]


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

    def draft(self, records: Sequence[Record], keys: Sequence[str | None], known: Known) -> Draft:
        """The draft of `records`, no two of which have the same key (None: it has none)."""
        outcomes = Counter[Outcome]()
        failures: list[NewFailure] = []
        kept: list[str] = []
        sources: list[Record] = []
        payloads: list[Record] = []
        leaving: set[str] = set()  # keys of records that are deletes
        deleted, accepts, map_, check = self.deleted, self.mapper.accepts, self.mapper.map, self.mapper.check
        # The engine's innermost loop: what not every record needs stands outside it.
        for key, record in zip(keys, records, strict=True):
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
            kept.append(key)
            sources.append(record)
            payloads.append(payload)
        hashes = self.hasher.of_all(payloads)
        if leaving:
            hashes = [self.hasher.deleted if key in leaving else it for key, it in zip(kept, hashes, strict=True)]
        if at_target := known(kept):
            news = [at_target.get(key) != it for key, it in zip(kept, hashes, strict=True)]
            outcomes[Outcome.UNCHANGED] += news.count(False)
            kept, sources, payloads = (
                list(compress(kept, news)),
                list(compress(sources, news)),
                list(compress(payloads, news)),
            )
            hashes = list(compress(hashes, news))
        outcomes[Outcome.DEAD] += len(failures)
        return Draft(
            read=len(records),
            keys=[key for key in keys if key is not None],
            items=self._items(kept, sources, payloads, hashes, leaving),
            hashes=hashes,
            outcomes=+outcomes,
            failures=failures,
        )

    def _items(
        self,
        keys: Sequence[str],
        sources: Sequence[Record],
        payloads: Sequence[Record],
        hashes: Sequence[bytes],
        leaving: AbstractSet[str],
    ) -> list[Item]:
        ids: Iterable[str] = repeat("")
        if self.keyed:
            ids = [idempotency_key(self.spec_id, self.target, *pair) for pair in zip(keys, hashes, strict=True)]
        items = list(map(Item, keys, payloads, sources, ids))
        if leaving:
            items = [replace(item, delete=item.key in leaving) for item in items]
        return items


def waves(keys: Sequence[str | None]) -> list[list[int]]:
    """The indices of `keys` in as few groups as hold no key twice, each key's in order.

    Records of one key must reach the target one after the other, however many requests a writer makes at once.
    """
    groups: list[list[int]] = [[]]
    seen = Counter[str]()
    for index, key in enumerate(keys):
        number = 0
        if key is not None:
            number = seen[key]
            seen[key] += 1
        if number == len(groups):
            groups.append([])
        groups[number].append(index)
    return groups
