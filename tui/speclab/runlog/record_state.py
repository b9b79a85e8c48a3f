"""What is known to be at the target, a hash a record: the one part of the run log whose size is the source's.

Keys come in any order, so a page's thousand upserts would touch a thousand places of a big table, and each dirty
place is 4 KB to log: 7 µs a record at 100,000 records, and 20 at a million. So a page's states are first appended,
as one row, and many pages at once are merged into the table in the order of its keys: 2 to 3 µs.

Looking a key up costs another 1.5 µs. The first run of an integration, the longest there is, asks for keys that are
hardly ever there; a filter of what it has written itself tells nearly all of them without a look.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from itertools import chain
from typing import Final

from speclab.runlog.connection import text

HASH_BYTES: Final = 16
UNKNOWN_HASH: Final = bytes(HASH_BYTES)
"""Stands for the hash of a record whose write is under way, or had no sure end: equal to none."""
_MERGE_AT: Final = 20_000  # states; merging them holds the file for some 50 ms
_ROWS: Final = 20  # a statement: fewer cost calls, more cost SQLite its plan
_SLOTS: Final = 1 << 22  # of the filter, a byte each: with a million keys in it, a fifth is looked up in vain


def mark_in_flight(hash_: bytes) -> bytes:
    """What stands for `hash_` while that is on its way to where it may not be twice; and the other way round."""
    return bytes(255 - byte for byte in hash_)


class RecordStates:
    """The table `record_state`, and what `record_state_page` still holds for it, within the writer's transactions."""

    def __init__(self) -> None:
        self._pages: dict[int, dict[str, bytes]] = {}  # by integration: what its unmerged pages say
        self._first: tuple[int, bytearray] | None = None  # the integration in its first run, and what it may have

    def forget(self) -> None:
        """Take back what was only meant to be written: the transaction failed."""
        self._pages.clear()
        self._first = None

    def begin(self, db: sqlite3.Connection, integration: int) -> None:
        """A run begins, until whose end nobody else adds states: merge what a killed one has left."""
        self.merge(db, integration)
        known = db.execute("SELECT 1 FROM record_state WHERE integration = ? LIMIT 1", (integration,)).fetchone()
        self._first = None if known else (integration, bytearray(_SLOTS))

    def end(self, db: sqlite3.Connection, integration: int) -> None:
        """A run is over: merge all there is."""
        self.merge(db, integration)
        if self._first is not None and self._first[0] == integration:
            self._first = None

    def get(self, db: sqlite3.Connection, integration: int, keys: Sequence[str]) -> dict[str, bytes]:
        """The hashes of those of `keys` that are known to be at the target."""
        stored = _stored(keys)
        asked = self._not_new(integration, stored)
        if not asked:
            return {}
        found = dict(
            db.execute(
                "SELECT key, hash FROM record_state WHERE integration = ? AND key IN (SELECT value FROM json_each(?))",
                (integration, json.dumps(asked)),
            )
        )
        pages = self._unmerged(db, integration)
        found |= {key: pages[key] for key in pages.keys() & asked}
        if stored is keys or not found:
            return found
        return {key: found[as_stored] for key, as_stored in zip(keys, stored, strict=True) if as_stored in found}

    def add(self, db: sqlite3.Connection, integration: int, states: Sequence[tuple[str, bytes]]) -> None:
        """Remember the (key, hash) pairs of one page."""
        if not states:
            return
        pages = self._pages[integration] = self._unmerged(db, integration)
        names, hashes = zip(*states, strict=True)
        keys = _stored(names)
        db.execute(
            "INSERT INTO record_state_page (integration, keys, hashes) VALUES (?, ?, ?)",
            (integration, json.dumps(keys), b"".join(hashes)),
        )
        pages.update(zip(keys, hashes, strict=True))
        if self._first is not None and self._first[0] == integration:
            slots = self._first[1]
            for key in keys:
                slots[hash(key) % _SLOTS] = 1
        if len(pages) >= _MERGE_AT:
            self.merge(db, integration)

    def drop(self, db: sqlite3.Connection, integration: int, keys: Sequence[str]) -> None:
        """Know nothing of `keys` any more."""
        if not keys:
            return
        self.merge(db, integration)
        db.execute(
            "DELETE FROM record_state WHERE integration = ? AND key IN (SELECT value FROM json_each(?))",
            (integration, json.dumps(_stored(keys))),
        )

    def decided(self, db: sqlite3.Connection, failures: Sequence[str], *, there: bool) -> None:
        """Take what is in doubt, of open failures that a person looked into, for `there`, or for what is to be sent."""
        rows = db.execute(
            "SELECT integration.id, key FROM failure JOIN integration USING (spec_id) WHERE failure.state = 'unknown' "
            "AND key <> '' AND failure.id IN (SELECT value FROM json_each(?))",
            (json.dumps(list(failures)),),
        ).fetchall()
        for integration, key in rows:
            known = self.get(db, integration, [key])
            self.add(
                db, integration, [(key, mark_in_flight(hash_) if there else UNKNOWN_HASH) for hash_ in known.values()]
            )

    def merge(self, db: sqlite3.Connection, integration: int) -> None:
        """Move what the pages hold into the table."""
        pages = self._unmerged(db, integration)
        keys = sorted(pages)
        flat = list(chain.from_iterable(zip(keys, map(pages.__getitem__, keys), strict=True)))
        step = 2 * _ROWS
        whole = len(flat) - len(flat) % step
        db.executemany(_upsert(integration, _ROWS), (flat[i : i + step] for i in range(0, whole, step)))
        db.executemany(_upsert(integration, 1), zip(flat[whole::2], flat[whole + 1 :: 2], strict=True))
        db.execute("DELETE FROM record_state_page WHERE integration = ?", (integration,))
        self._pages.pop(integration, None)

    def _not_new(self, integration: int, keys: Sequence[str]) -> Sequence[str]:
        """Those of `keys` of which something may be known."""
        if self._first is None or self._first[0] != integration:
            return keys
        slots = self._first[1]
        return [key for key in keys if slots[hash(key) % _SLOTS]]

    def _unmerged(self, db: sqlite3.Connection, integration: int) -> dict[str, bytes]:
        """What the pages say; read from the file unless this process wrote them all."""
        if integration in self._pages:
            return self._pages[integration]
        pages: dict[str, bytes] = {}
        for keys, hashes in db.execute(
            "SELECT keys, hashes FROM record_state_page WHERE integration = ? ORDER BY id", (integration,)
        ):
            pages.update(zip(json.loads(keys), _cut(hashes), strict=True))
        return pages


def _stored(keys: Sequence[str]) -> Sequence[str]:
    """`keys` as SQLite can store them: nearly always, as they are."""
    return keys if "".join(keys).isascii() else [text(key) for key in keys]


def _cut(hashes: bytes) -> list[bytes]:
    return [hashes[i : i + HASH_BYTES] for i in range(0, len(hashes), HASH_BYTES)]


def _upsert(integration: int, rows: int) -> str:
    return (
        f"INSERT INTO record_state (integration, key, hash) VALUES {', '.join([f'({integration:d}, ?, ?)'] * rows)} "
        "ON CONFLICT DO UPDATE SET hash = excluded.hash WHERE hash <> excluded.hash"
    )
