"""The temporary store of a reconciliation: the records of both sides, ordered by key, and the keys that differ."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NamedTuple

from speclab.connectors.api import RecordLister, UnreadableRecord
from speclab.core.json import Json, Record, decode, encode_canonical
from speclab.core.paths import FieldPath

_CACHE: Final = 4_000
"""Kilobytes that SQLite uses to sort, and to cache pages."""
NO_RECORD: Final = b""
"""In place of a payload: the source says that the record is deleted."""
UNKNOWN: Final = b"?"
"""In place of a payload: the target did not say whether it has the record."""


class DifferenceKind(StrEnum):
    """How the target differs from the mapped source in one record."""

    MISSING = "missing"  # only the source has it
    EXTRA = "extra"  # only the target has it
    FIELD = "field"  # a field has another value
    TYPE = "type"  # a field has the same value with another type, such as "42" and 42
    DUPLICATE = "duplicate"  # its key occurs more than once


class KeyGroup(NamedTuple):
    """The records of one side with one key: their number, the last one, and whether they differ."""

    key: bytes
    size: int
    payload: bytes
    differs: bool


@dataclass(frozen=True, slots=True)
class TargetKeys:
    """The keys by which records of both sides are matched: those of the target, as it compares them."""

    paths: Sequence[FieldPath]
    lister: RecordLister | None

    def extract(self, record: Record) -> bytes | None:
        """Return the key of a mapped or stored record; None if a part is missing or null."""
        if isinstance(record, UnreadableRecord):
            return None
        try:
            parts = [path.get(record) for path in self.paths]
        except KeyError:
            return None
        if None in parts:
            return None
        texts = self.lister.normalize_key(parts) if self.lister is not None else _as_texts(parts)
        text = texts[0] if len(texts) == 1 else encode_canonical(list(texts)).decode()
        return text.encode("utf-8", "surrogatepass")


def _as_texts(parts: Sequence[Json]) -> list[str]:
    return [part if isinstance(part, str) else encode_canonical(part).decode() for part in parts]


class ReconcileStore:
    """A temporary file with the records of both sides and the keys that differ, so that memory stays flat."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self.keys = TargetKeys((), None)
        self._db = db
        self._last: dict[str, bytes] = {"source": b"", "target": b""}
        self._is_ordered: dict[str, bool] = {"source": True, "target": True}

    @classmethod
    @contextmanager
    def open(cls) -> Iterator[ReconcileStore]:
        """Open an empty store, in a file that SQLite deletes as soon as it is open: it never has a name on the disk."""
        with closing(sqlite3.connect("", isolation_level=None, check_same_thread=False)) as db:
            db.executescript(
                f"PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA cache_size = -{_CACHE};"
                "PRAGMA temp_store = FILE;"
                "CREATE TABLE source (id INTEGER PRIMARY KEY, key BLOB NOT NULL, payload BLOB NOT NULL);"
                "CREATE TABLE target (id INTEGER PRIMARY KEY, key BLOB NOT NULL, payload BLOB NOT NULL);"
                "CREATE TABLE difference (key BLOB PRIMARY KEY, kind TEXT NOT NULL, record BLOB) WITHOUT ROWID;"
                "BEGIN"
            )
            yield cls(db)

    def add(self, side: str, rows: Sequence[tuple[bytes, bytes]]) -> None:
        """Add keys and payloads of one side."""
        last, ordered = self._last[side], self._is_ordered[side]
        for key, _ in rows if ordered else ():
            if key < last:
                self._is_ordered[side] = False
                break
            last = key
        self._last[side] = last
        self._db.executemany(f"INSERT INTO {side} (key, payload) VALUES (?, ?)", rows)  # noqa: S608 - a constant

    def count(self, side: str) -> int:
        """Return the number of records of one side, without deleted and unknown ones."""
        sql = f"SELECT count(*) FROM {side} WHERE length(payload) > 1"  # noqa: S608 - a constant
        return int(self._db.execute(sql).fetchone()[0])

    def merge(self) -> Iterator[tuple[bytes, KeyGroup | None, KeyGroup | None]]:
        """Yield each key in order, with its records of the source and of the target."""
        left, right = (_group(self._read(side)) for side in ("source", "target"))
        source, target = next(left, None), next(right, None)
        while source is not None or target is not None:
            if target is None or (source is not None and source.key < target.key):
                assert source is not None  # noqa: S101 - one of both is left
                yield source.key, source, None
                source = next(left, None)
            elif source is None or target.key < source.key:
                yield target.key, None, target
                target = next(right, None)
            else:
                yield source.key, source, target
                source, target = next(left, None), next(right, None)

    def add_difference(self, key: bytes, kind: DifferenceKind, record: bytes | None) -> None:
        """Remember that the record with `key` differs, and the `record` of the target if only the target has it."""
        self._db.execute("INSERT INTO difference (key, kind, record) VALUES (?, ?, ?)", (key, kind.value, record))

    def find_differences(self, keys: Iterable[bytes]) -> dict[bytes, DifferenceKind]:
        """Return those of `keys` that differ, and how."""
        found: dict[bytes, DifferenceKind] = {}
        for key in keys:
            row = self._db.execute("SELECT kind FROM difference WHERE key = ?", (key,)).fetchone()
            if row is not None:
                found[key] = DifferenceKind(row[0])
        return found

    def get_extra(self, limit: int, after: bytes) -> list[tuple[bytes, Record]]:
        """Return the first records that only the target has, with a key greater than `after`."""
        rows = self._db.execute(
            "SELECT key, record FROM difference WHERE kind = 'extra' AND key > ? ORDER BY key LIMIT ?", (after, limit)
        )
        return [(key, decode_record(record)) for key, record in rows]

    def forget(self, keys: Iterable[bytes]) -> None:
        """Remove differences that are repaired."""
        self._db.executemany("DELETE FROM difference WHERE key = ?", [(key,) for key in keys])

    def _read(self, side: str) -> Iterator[tuple[bytes, bytes]]:
        order = "id" if self._is_ordered[side] else "key, id"  # SQLite sorts on disk
        return self._db.execute(f"SELECT key, payload FROM {side} ORDER BY {order}")  # noqa: S608 - constants


def _group(rows: Iterator[tuple[bytes, bytes]]) -> Iterator[KeyGroup]:
    """Yield the records of each key as one group; a key whose last record is deleted has none."""
    group: KeyGroup | None = None
    for key, payload in rows:
        if group is not None and group.key == key:
            if NO_RECORD in (payload, group.payload):
                group = KeyGroup(key, 1, payload, differs=False)
            else:
                differs = group.differs or payload != group.payload
                group = KeyGroup(key, group.size + 1, payload, differs)
            continue
        if group is not None and group.payload != NO_RECORD:
            yield group
        group = KeyGroup(key, 1, payload, differs=False)
    if group is not None and group.payload != NO_RECORD:
        yield group


def decode_record(text: bytes) -> Record:
    """Return the record that a payload encodes."""
    value = decode(text)
    assert isinstance(value, dict)  # noqa: S101 - a record was stored
    return value
