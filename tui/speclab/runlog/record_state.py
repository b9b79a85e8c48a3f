"""What is known to be at the target, a hash a record: the one part of the run log whose size is the source's.

Keys come in any order, so a page's thousand upserts would touch a thousand places of a big table, and each dirty
place is 4 KB to log: 7 µs a record at 100,000 records, and 20 at a million. So a page's states are first appended,
as one row, and many pages at once are merged into the table in the order of its keys: 2 to 3 µs.

Looking a key up costs another 1.5 µs. The first run of an flow, the longest there is, asks for keys that are
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
        self._pages: dict[int, dict[str, bytes]] = {}  # by flow: what its unmerged pages say
        self._first: tuple[int, bytearray] | None = None  # the flow in its first run, and what it may have

    def forget(self) -> None:
        """Take back what was only meant to be written: the transaction failed."""
        self._pages.clear()
        self._first = None

    def begin(self, db: sqlite3.Connection, flow: int) -> None:
        """A run begins, until whose end nobody else adds states: merge what a killed one has left."""
        self.merge(db, flow)
        known = db.execute("SELECT 1 FROM record_state WHERE flow_id = ? LIMIT 1", (flow,)).fetchone()
        self._first = None if known else (flow, bytearray(_SLOTS))

    def end(self, db: sqlite3.Connection, flow: int) -> None:
        """A run is over: merge all there is."""
        self.merge(db, flow)
        if self._first is not None and self._first[0] == flow:
            self._first = None

    def get(self, db: sqlite3.Connection, flow: int, keys: Sequence[str]) -> dict[str, bytes]:
        """The hashes of those of `keys` that are known to be at the target."""
        stored = _stored(keys)
        asked = self._not_new(flow, stored)
        if not asked:
            return {}
        found = dict(
            db.execute(
                "SELECT key, hash FROM record_state WHERE flow_id = ? AND key IN (SELECT value FROM json_each(?))",
                (flow, json.dumps(asked)),
            )
        )
        pages = self._unmerged(db, flow)
        found |= {key: pages[key] for key in pages.keys() & asked}
        if stored is keys or not found:
            return found
        return {key: found[as_stored] for key, as_stored in zip(keys, stored, strict=True) if as_stored in found}

    def add(self, db: sqlite3.Connection, flow: int, states: Sequence[tuple[str, bytes]]) -> None:
        """Remember the (key, hash) pairs of one page."""
        if not states:
            return
        pages = self._pages[flow] = self._unmerged(db, flow)
        names, hashes = zip(*states, strict=True)
        keys = _stored(names)
        db.execute(
            "INSERT INTO record_state_page (flow_id, keys, hashes) VALUES (?, ?, ?)",
            (flow, json.dumps(keys), b"".join(hashes)),
        )
        pages.update(zip(keys, hashes, strict=True))
        if self._first is not None and self._first[0] == flow:
            slots = self._first[1]
            for key in keys:
                slots[hash(key) % _SLOTS] = 1
        if len(pages) >= _MERGE_AT:
            self.merge(db, flow)

    def drop(self, db: sqlite3.Connection, flow: int, keys: Sequence[str]) -> None:
        """Know nothing of `keys` any more."""
        if not keys:
            return
        self.merge(db, flow)
        db.execute(
            "DELETE FROM record_state WHERE flow_id = ? AND key IN (SELECT value FROM json_each(?))",
            (flow, json.dumps(_stored(keys))),
        )

    def decided(self, db: sqlite3.Connection, failures: Sequence[str], *, there: bool) -> None:
        """Take what is in doubt, of open failures that a person looked into, for `there`, or for what is to be sent."""
        rows = db.execute(
            "SELECT flow.id, key FROM failure JOIN flow ON flow.spec_id = failure.spec_id AND flow.name = failure.flow "
            "WHERE failure.state = 'unknown' AND key <> '' AND failure.id IN (SELECT value FROM json_each(?))",
            (json.dumps(list(failures)),),
        ).fetchall()
        for flow, key in rows:
            known = self.get(db, flow, [key])
            self.add(db, flow, [(key, mark_in_flight(hash_) if there else UNKNOWN_HASH) for hash_ in known.values()])

    def merge(self, db: sqlite3.Connection, flow: int) -> None:
        """Move what the pages hold into the table."""
        pages = self._unmerged(db, flow)
        keys = sorted(pages)
        flat = list(chain.from_iterable(zip(keys, map(pages.__getitem__, keys), strict=True)))
        step = 2 * _ROWS
        whole = len(flat) - len(flat) % step
        db.executemany(_upsert(flow, _ROWS), (flat[i : i + step] for i in range(0, whole, step)))
        db.executemany(_upsert(flow, 1), zip(flat[whole::2], flat[whole + 1 :: 2], strict=True))
        db.execute("DELETE FROM record_state_page WHERE flow_id = ?", (flow,))
        self._pages.pop(flow, None)

    def _not_new(self, flow: int, keys: Sequence[str]) -> Sequence[str]:
        """Those of `keys` of which something may be known."""
        if self._first is None or self._first[0] != flow:
            return keys
        slots = self._first[1]
        return [key for key in keys if slots[hash(key) % _SLOTS]]

    def _unmerged(self, db: sqlite3.Connection, flow: int) -> dict[str, bytes]:
        """What the pages say; read from the file unless this process wrote them all."""
        if flow in self._pages:
            return self._pages[flow]
        pages: dict[str, bytes] = {}
        for keys, hashes in db.execute(
            "SELECT keys, hashes FROM record_state_page WHERE flow_id = ? ORDER BY id", (flow,)
        ):
            pages.update(zip(json.loads(keys), _cut(hashes), strict=True))
        return pages


def _stored(keys: Sequence[str]) -> Sequence[str]:
    """`keys` as SQLite can store them: nearly always, as they are."""
    return keys if "".join(keys).isascii() else [text(key) for key in keys]


def _cut(hashes: bytes) -> list[bytes]:
    return [hashes[i : i + HASH_BYTES] for i in range(0, len(hashes), HASH_BYTES)]


def _upsert(flow: int, rows: int) -> str:
    return (
        f"INSERT INTO record_state (flow_id, key, hash) VALUES {', '.join([f'({flow:d}, ?, ?)'] * rows)} "
        "ON CONFLICT DO UPDATE SET hash = excluded.hash WHERE hash <> excluded.hash"
    )
