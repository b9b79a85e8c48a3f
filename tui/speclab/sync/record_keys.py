"""What identifies a record: its key at the source, the hash of its payload, and the idempotency key of a write."""

from __future__ import annotations

import hashlib
import json
import re
import uuid
from collections.abc import Sequence
from typing import Final

import orjson

from speclab.connectors.api import UnreadableRecord
from speclab.core.json import Json, Record, encode_canonical
from speclab.core.paths import FieldPath

_NAMESPACE: Final = uuid.uuid5(uuid.NAMESPACE_URL, "https://speclab.dev/idempotency")
_NUMBER: Final = re.compile(r"-?[0-9]+(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?")
_FIRST_OF_NUMBER: Final = frozenset("-0123456789")


class RecordKey:
    """The `key` setting of a system: one path, or several, to the values that identify a record."""

    def __init__(self, paths: str | Sequence[str]) -> None:
        self._paths = [FieldPath.parse(path) for path in ([paths] if isinstance(paths, str) else paths)]
        self._field = None
        self._numeric_type: type | None = None  # of keys that look like numbers: str or int, as the first one read
        if len(self._paths) == 1 and len(parts := self._paths[0].parts) == 1 and isinstance(parts[0], str):
            self._field = parts[0]

    def __str__(self) -> str:
        """Return the paths as the spec writes them."""
        return ", ".join(map(str, self._paths))

    def extract(self, record: Record) -> str | None:
        """Return the key of `record` as text; None if a part is missing, null or empty, or the record is unreadable.

        Text is used as it is, a number as JSON writes it; several parts become a JSON list.
        """
        if isinstance(record, UnreadableRecord):
            return None
        try:
            values = [path.get(record) for path in self._paths]
        except KeyError:
            return None
        if len(values) == 1:
            return _key_text(values[0])
        return None if None in map(_key_text, values) else encode_canonical(values).decode()

    def extract_all(self, records: Sequence[Record]) -> list[str | None]:
        """Return the key of each record as `extract` does, but None where text and numbers could be confused.

        The text "1" and the number 1 would be the same key, so two records would count as one. The type that is read
        first is accepted.
        """
        name = self._field
        if name is None:
            keys = [self.extract(record) for record in records]
            return keys if len(self._paths) > 1 else self._reject_other_type(records, keys)
        keys = []
        has_text = has_number = False
        for record in records:
            # Most keys are one field with text or a whole number: no function call for those.
            value = record.get(name) if type(record) is dict else None
            if type(value) is str and value:
                keys.append(value)
                has_text = True
            elif type(value) is int:
                keys.append(str(value))
                has_number = True
            else:
                keys.append(self.extract(record))
                has_text = has_number = True
        if has_number != has_text and self._numeric_type is (int if has_number else str):
            return keys
        return self._reject_other_type(records, keys)

    def _reject_other_type(self, records: Sequence[Record], keys: list[str | None]) -> list[str | None]:
        """Set those `keys` to None that look like a number and are not of the type that was read first."""
        (path,) = self._paths
        for index, key in enumerate(keys):
            if key is None or key[0] not in _FIRST_OF_NUMBER or not _NUMBER.fullmatch(key):
                continue
            type_ = str if isinstance(path.get(records[index]), str) else int
            self._numeric_type = self._numeric_type or type_
            if type_ is not self._numeric_type:
                keys[index] = None
        return keys


def build_stand_in_key(record: Record) -> str:
    """Return the key of a record that has none: a hash of its content, so that the same record is one dead letter."""
    text = record.raw if isinstance(record, UnreadableRecord) else encode_canonical(record)
    return f"#{hashlib.blake2b(text, digest_size=6).hexdigest()}"


class Hasher:
    """Hashes payloads for one target: 16 bytes of BLAKE2b over JSON with sorted keys.

    The target is part of the hash (BLAKE2's personalization, which costs nothing): a spec that is pointed at another
    system finds nothing unchanged there.
    """

    def __init__(self, target: str) -> None:
        person = hashlib.blake2b(target.encode(), digest_size=16).digest()
        self._empty = hashlib.blake2b(digest_size=16, person=person)
        self.deleted: Final = self._digest(b"deleted")  # not valid JSON, so no payload has this hash
        """The hash of a record that was deleted at the target."""

    def hash(self, payload: Record) -> bytes:
        """Return the hash of `payload`."""
        return self._digest(encode_canonical(payload))

    def hash_all(self, payloads: Sequence[Record]) -> list[bytes]:
        """Return the hash of each payload."""
        hashes: list[bytes] = []
        start, dumps, options = self._empty.copy, orjson.dumps, orjson.OPT_SORT_KEYS
        try:
            for payload in payloads:
                hash_ = start()  # copying costs half as much as passing the parameters again
                hash_.update(dumps(payload, None, options))
                hashes.append(hash_.digest())
        except TypeError:  # a value that orjson does not support, see `encode_canonical`
            return [self.hash(payload) for payload in payloads]
        return hashes

    def _digest(self, text: bytes) -> bytes:
        hash_ = self._empty.copy()
        hash_.update(text)
        return hash_.digest()


def build_idempotency_key(spec_id: str, target: str, key: str, payload_hash: bytes) -> str:
    """Return the key by which a target can recognize a repeated write: a UUIDv5 (RFC 9562) of spec, target and record.

    It depends on nothing else, so it is the same after a crash and need not be stored before the write.
    """
    return str(uuid.uuid5(_NAMESPACE, json.dumps([spec_id, target, key, payload_hash.hex()])))


def _key_text(value: Json) -> str | None:
    if isinstance(value, str):
        return value or None
    if isinstance(value, int | float) and not isinstance(value, bool):
        return encode_canonical(value).decode()
    return None
