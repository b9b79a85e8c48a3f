"""From source records to mapped batches: keys, hashes, mapping, contract, unchanged records."""

from __future__ import annotations

import hashlib
import json
import re
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from itertools import compress, repeat
from typing import Final

import orjson

from speclab.connectors.api import MappedRecord, WriteError, WriteResult
from speclab.connectors.unreadable import UnreadableRecord
from speclab.core.json import Json, Record
from speclab.core.outcome import ErrorClass, FailureState, Outcome, Stage
from speclab.core.paths import FieldPath, PathSyntaxError
from speclab.mapping import Mapper, MappingFailure, RowFailure
from speclab.runlog.rows import FailureRow, NewFailure
from speclab.spec.integration import Integration, MappingRow

_NAMESPACE: Final = uuid.uuid5(uuid.NAMESPACE_URL, "https://speclab.dev/idempotency")
_NUMBER: Final = re.compile(r"-?[0-9]+(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?")
_BEGINS_NUMBER: Final = frozenset("-0123456789")
_SORTED: Final = orjson.OPT_SORT_KEYS


class RecordKey:
    """The `key` of a system: one path, or several, to what a record is known by."""

    def __init__(self, paths: str | Sequence[str]) -> None:
        self._paths = [FieldPath.parse(path) for path in ([paths] if isinstance(paths, str) else paths)]
        self._plain = None
        self._kind: type | None = None  # of keys that read as a number: text or int, as the first of them is
        if len(self._paths) == 1 and len(parts := self._paths[0].parts) == 1 and isinstance(parts[0], str):
            self._plain = parts[0]

    def __str__(self) -> str:
        """The paths, as the spec writes them."""
        return ", ".join(map(str, self._paths))

    def of(self, record: Record) -> str | None:
        """The key of `record` as text; None where a part of it is missing, null or empty, or the record is unreadable.

        Text is itself, a number as JSON writes it; several parts are a JSON list.
        """
        if isinstance(record, UnreadableRecord):
            return None
        try:
            values = [path.get(record) for path in self._paths]
        except KeyError:
            return None
        if len(values) == 1:
            return _text(values[0])
        return None if None in map(_text, values) else canonical(values).decode()

    def of_all(self, records: Sequence[Record]) -> list[str | None]:
        """The key of each record, as `of` gives it; None where it is text and that of another record a number.

        The text "1" and the number 1 would be one key, and their records one record. Whichever is read first stays.
        """
        name = self._plain
        if name is None:
            keys = [self.of(record) for record in records]
            return keys if len(self._paths) > 1 else self._apart(records, keys)
        keys = []
        texts = numbers = False
        for record in records:
            # By far the most keys are one field that holds text or a whole number: no call for those.
            value = record.get(name) if type(record) is dict else None
            if type(value) is str and value:
                keys.append(value)
                texts = True
            elif type(value) is int:
                keys.append(str(value))
                numbers = True
            else:
                keys.append(self.of(record))
                texts = numbers = True
        if (numbers and not texts and self._kind is int) or (texts and not numbers and self._kind is str):
            return keys
        return self._apart(records, keys)

    def _apart(self, records: Sequence[Record], keys: list[str | None]) -> list[str | None]:
        """Return `keys`, which are of `records`, without those of the kind that was not read first."""
        (path,) = self._paths
        for index, key in enumerate(keys):
            if key is None or key[0] not in _BEGINS_NUMBER or not _NUMBER.fullmatch(key):
                continue
            kind = str if isinstance(path.get(records[index]), str) else int
            self._kind = self._kind or kind
            if kind is not self._kind:
                keys[index] = None
        return keys


def stand_in(record: Record) -> str:
    """What a record without a key goes by: a hash of all of it.

    So reading it again does not make another dead letter of it.
    """
    text = record.raw if isinstance(record, UnreadableRecord) else canonical(record)
    return f"#{hashlib.blake2b(text, digest_size=6).hexdigest()}"


class Hasher:
    """Hashes of payloads as they stand at one target: 16 bytes of BLAKE2b over JSON with sorted keys.

    The target goes into the hash (as BLAKE2's personalisation, which costs nothing): a spec that is pointed at
    another system finds nothing unchanged there.
    """

    def __init__(self, target: str) -> None:
        person = hashlib.blake2b(target.encode(), digest_size=16).digest()
        self._empty = hashlib.blake2b(digest_size=16, person=person)
        self.deleted: Final = self._digest(b"deleted")  # no JSON reads so
        """The hash of a record that is deleted at the target."""

    def of(self, payload: Record) -> bytes:
        """The hash of `payload`."""
        return self._digest(canonical(payload))

    def of_all(self, payloads: Sequence[Record]) -> list[bytes]:
        """The hash of each payload."""
        hashes: list[bytes] = []
        start, dumps, options = self._empty.copy, orjson.dumps, _SORTED
        try:
            for payload in payloads:
                hash_ = start()  # a copy costs half of what the parameters do
                hash_.update(dumps(payload, None, options))
                hashes.append(hash_.digest())
        except TypeError:  # something in there is beyond orjson, see `canonical`
            return [self.of(payload) for payload in payloads]
        return hashes

    def _digest(self, text: bytes) -> bytes:
        hash_ = self._empty.copy()
        hash_.update(text)
        return hash_.digest()


def canonical(value: Json) -> bytes:
    """`value` as JSON with sorted keys: equal values, equal bytes."""
    try:
        return orjson.dumps(value, None, _SORTED)
    except TypeError:  # an integer beyond 64 bits, or half a surrogate pair: rare, and no reason to fail a record
        return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def idempotency_key(spec_id: str, target: str, key: str, payload_hash: bytes) -> str:
    """The key that makes a write happen once: UUIDv5 (RFC 9562) of what is written where, for whom.

    It is made of nothing else, so it is the same after a crash, and needs no storing before the send.
    """
    return str(uuid.uuid5(_NAMESPACE, json.dumps([spec_id, target, key, payload_hash.hex()])))


def _text(value: Json) -> str | None:
    if isinstance(value, str):
        return value or None
    if isinstance(value, int | float) and not isinstance(value, bool):
        return canonical(value).decode()
    return None


_WRAPPERS: Final = frozenset(
    {"body", "data", "attributes", "properties", "input", "inputs", "record", "records", "payload", "request", "fields",
     "resource", "object", "entity", "items", "variables", "params", "json"}
)  # fmt: skip
"""Names of what APIs put around a record, which an error's location may begin with."""


class FailureFactory:
    """Makes the failures of one spec; every one of them points into its file, `file` as the run log names it."""

    def __init__(self, integration: Integration, file: str) -> None:
        self._file = file
        self._source_line = integration.source_line
        self._target_line = integration.target_line
        self._key = integration.source.key
        self._rows = {row.target: row for row in integration.rows}
        spellings = Counter(map(_spelling, self._rows))
        self._spelled = {_spelling(name): row for name, row in self._rows.items() if spellings[_spelling(name)] == 1}

    def keyless(self, record: Record) -> NewFailure:
        """The failure of a record that cannot be read, or has nothing at the source's `key`."""
        if isinstance(record, UnreadableRecord):
            place = f"{record.place}: " if record.place else ""
            return NewFailure(
                key=stand_in(record),
                state=FailureState.DEAD,
                stage=Stage.READ,
                error_class=ErrorClass.BAD_ANSWER,
                message=f"{place}{record.reason}",
                file=self._file,
                line=self._source_line,
                source={},
                response=record.text,
            )
        key = self._key if isinstance(self._key, str) else ", ".join(self._key)
        message = f"the record has no key: expected text or a number at {key}"
        if (mixed := RecordKey(self._key).of(record)) is not None:
            message = (
                f"the key {mixed} at {key} is text where others are numbers, or a number where others are text: "
                "two records would be taken for one; have the source write all keys alike"
            )
        return NewFailure(
            key=stand_in(record),
            state=FailureState.DEAD,
            stage=Stage.READ,
            error_class=ErrorClass.BAD_ANSWER,
            message=message,
            file=self._file,
            line=self._source_line,
            source=record,
        )

    def unmapped(
        self, key: str, record: Record, failures: Sequence[RowFailure], payload: Record | None = None
    ) -> NewFailure:
        """The failure of a record that a mapping row cannot take, or whose `payload` breaks `check`."""
        first, *others = failures
        what = "" if first.row else "filter: " if first.stage is Stage.MAP else "deleted: "
        also = f" (and {', '.join(str(other.row) for other in others)})" if others else ""
        return NewFailure(
            key=key,
            state=FailureState.DEAD,
            stage=first.stage,
            error_class=ErrorClass.CONTRACT if first.stage is Stage.CHECK else ErrorClass.MAPPING,
            message=f"{what}{first.reason}{also}",
            file=self._file,
            line=first.line,
            row=first.row,
            column=first.column,
            source=record,
            payload=payload,
        )

    def refused(
        self,
        item: MappedRecord,
        write_error: WriteError,
        state: FailureState,
        next_attempt_at: str | None = None,
    ) -> NewFailure:
        """The failure of a record that the target did not take; blames a mapping row where the answer names a field."""
        row = self._blamed(write_error.field)
        return NewFailure(
            key=item.key,
            state=state,
            stage=Stage.WRITE,
            error_class=write_error.error_class,
            message=write_error.message,
            file=self._file,
            line=row.line if row else self._target_line,
            row=row.target if row else None,
            column=row.transformation_column if row else None,
            source=item.source,
            payload=item.payload,
            status=write_error.status,
            request=write_error.request,
            response=write_error.response,
            idempotency_key=item.idempotency_key or None,
            next_attempt_at=next_attempt_at,
        )

    def _blamed(self, field: str | None) -> MappingRow | None:
        """The row that fills `field`, or the nearest around it (`address` for `address.city`) or in it.

        Steps before it that wrap a record in requests (`[0].properties.email`) are left out if no row has them.
        """
        steps = _steps(field) if field else ()
        while steps:
            for end in range(len(steps), 0, -1):
                name = str(FieldPath(steps[:end]))
                if row := self._rows.get(name) or self._spelled.get(_spelling(name)):
                    return row
            if inner := next((row for name, row in self._rows.items() if _steps(name)[: len(steps)] == steps), None):
                return inner
            if not (isinstance(steps[0], int) or steps[0] in _WRAPPERS):
                return None
            steps = steps[1:]
        return None


def _steps(field: str) -> tuple[str | int, ...]:
    try:
        return FieldPath.parse(field).parts
    except PathSyntaxError:
        return (field,)


def _spelling(name: str) -> str:
    """`name` as it is compared with a location in another style: `FirstName`, `first_name` and `first-name` are one."""
    return name.replace("_", "").replace("-", "").casefold()


def unanswered(row: FailureRow) -> WriteResult:
    """The answer that a record did not get when `row` was stored: what became of it is not known now either."""
    return WriteResult(
        error=WriteError(
            error_class=row.error_class,
            message=row.message,
            request=row.request or "",
            response=row.response or "",
            status=row.status,
        )
    )


def unreadable(row: FailureRow) -> NewFailure:
    """Return the failure `row`, which was stored without its record, as it is: a dead letter."""
    return NewFailure(
        key=row.key,
        state=FailureState.DEAD,
        stage=row.stage,
        error_class=row.error_class,
        message=row.message,
        file=row.file or "",
        line=row.line,
        source={},
        request=row.request,
        response=row.response,
    )


@dataclass(frozen=True, slots=True)
class MappedBatch:
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

    def unlike(self, at_target: Mapping[str, bytes]) -> MappedBatch:
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
class Transformer:
    """All of a spec and its target that drafts depend on.

    `deleted` tells a deleted record, where the spec says how. `keyed` and `deletes` are what the writer can do.
    """

    spec_id: str
    target: str
    key: RecordKey
    mapper: Mapper
    deleted: Callable[[Record], bool] | None
    hasher: Hasher
    failures: FailureFactory
    keyed: bool
    deletes: bool

    def minds(self, record: Record) -> bool:
        """Whether the mapping is about `record`, as far as can be told: it is neither deleted nor filtered."""
        try:
            return not (self.deleted is not None and self.deleted(record)) and self.mapper.accepts(record)
        except MappingFailure:
            return True

    def map_batches(self, records: Sequence[Record]) -> list[MappedBatch]:
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

    def items(self, draft: MappedBatch) -> list[MappedRecord]:
        """What is to be sent of `draft`."""
        ids: Iterable[str] = repeat("")
        if self.keyed:
            pairs = zip(draft.keys, draft.hashes, strict=True)
            ids = [idempotency_key(self.spec_id, self.target, key, hash_) for key, hash_ in pairs]
        deletes = [key in draft.leaving for key in draft.keys] if draft.leaving else repeat(False)
        return list(map(MappedRecord, draft.keys, draft.payloads, draft.sources, ids, deletes))

    def departed(self, identities: Mapping[str, Record]) -> MappedBatch:
        """The draft of records that the source has no more, by key, with what was kept of each (see `Names`)."""
        keys, kept = list(identities), list(identities.values())
        outcomes = Counter[Outcome]()
        if not self.deletes:
            outcomes[Outcome.FILTERED] = len(keys)
            kept = []
        sent = keys[: len(kept)]
        return MappedBatch(
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

    def _draft(self, records: Sequence[Record], of: Sequence[str | None]) -> MappedBatch:
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
        return MappedBatch(
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
