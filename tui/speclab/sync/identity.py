"""Who a record is and what it says: keys, payload hashes and idempotency keys, all the same on every run."""

from __future__ import annotations

import hashlib
import json
import re
import uuid
from collections.abc import Sequence
from typing import Final

import orjson

from speclab.connectors.unreadable import UnreadableRecord
from speclab.jsonvalue import Json, Record
from speclab.paths import FieldPath

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
