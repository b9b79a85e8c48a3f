"""Record states: a hash per record known to be at the target. These tables grow with the source.

Keys arrive in any order, so the upserts of a page would change a thousand different pages of a big table, each of
which adds 4 KB to the WAL: 7 µs per record at 100,000 records, 20 µs at a million. Therefore the states of a page are
appended as one row, and many pages at once are merged into the table in the order of its keys: 2 to 3 µs per record.

A lookup costs another 1.5 µs. The first run of a flow, which is the longest, looks for keys that are almost never
there; a filter of the keys that it has written avoids nearly all of these lookups.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from itertools import chain
from typing import Final

from speclab.runlog.connection import encode_text

HASH_BYTES: Final = 16
UNKNOWN_HASH: Final = bytes(HASH_BYTES)
"""The hash of a record whose write is in flight or has an unknown outcome; no record has this hash."""
_MERGE_AT: Final = 20_000  # states; merging them locks the file for about 50 ms
_ROWS: Final = 20  # per statement: fewer need more calls, more need a longer plan
_SLOTS: Final = 1 << 22  # of the filter, one byte each: with a million keys, a fifth of the lookups is not avoided


def mark_in_flight(hash_: bytes) -> bytes:
    """Return the hash that marks `hash_` as in flight to a target that is not idempotent; its own inverse."""
    return bytes(255 - byte for byte in hash_)


class RecordStates:
    """The tables `record_state` and `record_state_page`, inside the writer's transactions."""

    def __init__(self) -> None:
        self._pages: dict[int, dict[str, bytes]] = {}  # flow id -> states of its unmerged pages
        self._first: tuple[int, bytearray] | None = None  # flow id in its first run, filter of its keys

    def reset(self) -> None:
        """Discard the cache after a transaction was rolled back."""
        self._pages.clear()
        self._first = None

    def begin_run(self, db: sqlite3.Connection, flow: int) -> None:
        """Merge the pages of a killed run; until `end_run`, only this run adds states."""
        self.merge(db, flow)
        known = db.execute("SELECT 1 FROM record_state WHERE flow_id = ? LIMIT 1", (flow,)).fetchone()
        self._first = None if known else (flow, bytearray(_SLOTS))

    def end_run(self, db: sqlite3.Connection, flow: int) -> None:
        """Merge all pages at the end of a run."""
        self.merge(db, flow)
        if self._first is not None and self._first[0] == flow:
            self._first = None

    def get(self, db: sqlite3.Connection, flow: int, keys: Sequence[str]) -> dict[str, bytes]:
        """Return the hashes of those of `keys` that are known to be at the target."""
        stored = _encode_keys(keys)
        asked = self._filter_known(flow, stored)
        if not asked:
            return {}
        found = dict(
            db.execute(
                "SELECT key, hash FROM record_state WHERE flow_id = ? AND key IN (SELECT value FROM json_each(?))",
                (flow, json.dumps(asked)),
            )
        )
        pages = self._get_unmerged(db, flow)
        found |= {key: pages[key] for key in pages.keys() & asked}
        if stored is keys or not found:
            return found
        return {key: found[as_stored] for key, as_stored in zip(keys, stored, strict=True) if as_stored in found}

    def add(self, db: sqlite3.Connection, flow: int, states: Sequence[tuple[str, bytes]]) -> None:
        """Add the (key, hash) pairs of one page."""
        if not states:
            return
        pages = self._pages[flow] = self._get_unmerged(db, flow)
        names, hashes = zip(*states, strict=True)
        keys = _encode_keys(names)
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
        """Delete the states of `keys`."""
        if not keys:
            return
        self.merge(db, flow)
        db.execute(
            "DELETE FROM record_state WHERE flow_id = ? AND key IN (SELECT value FROM json_each(?))",
            (flow, json.dumps(_encode_keys(keys))),
        )

    def resolve_unknown(self, db: sqlite3.Connection, failures: Sequence[str], *, arrived: bool) -> None:
        """Resolve the unknown outcome of failures: the records `arrived`, or must be sent again."""
        rows = db.execute(
            "SELECT flow.id, key FROM failure JOIN flow ON flow.spec_id = failure.spec_id AND flow.name = failure.flow "
            "WHERE failure.state = 'unknown' AND key <> '' AND failure.id IN (SELECT value FROM json_each(?))",
            (json.dumps(list(failures)),),
        ).fetchall()
        for flow, key in rows:
            known = self.get(db, flow, [key])
            self.add(db, flow, [(key, mark_in_flight(hash_) if arrived else UNKNOWN_HASH) for hash_ in known.values()])

    def merge(self, db: sqlite3.Connection, flow: int) -> None:
        """Move the states of the pages into the table."""
        pages = self._get_unmerged(db, flow)
        keys = sorted(pages)
        flat = list(chain.from_iterable(zip(keys, map(pages.__getitem__, keys), strict=True)))
        step = 2 * _ROWS
        whole = len(flat) - len(flat) % step
        db.executemany(_build_upsert(flow, _ROWS), (flat[i : i + step] for i in range(0, whole, step)))
        db.executemany(_build_upsert(flow, 1), zip(flat[whole::2], flat[whole + 1 :: 2], strict=True))
        db.execute("DELETE FROM record_state_page WHERE flow_id = ?", (flow,))
        self._pages.pop(flow, None)

    def _filter_known(self, flow: int, keys: Sequence[str]) -> Sequence[str]:
        """Return those of `keys` that may have a state."""
        if self._first is None or self._first[0] != flow:
            return keys
        slots = self._first[1]
        return [key for key in keys if slots[hash(key) % _SLOTS]]

    def _get_unmerged(self, db: sqlite3.Connection, flow: int) -> dict[str, bytes]:
        """Return the states of the pages; read from the file unless this process wrote them all."""
        if flow in self._pages:
            return self._pages[flow]
        pages: dict[str, bytes] = {}
        for keys, hashes in db.execute(
            "SELECT keys, hashes FROM record_state_page WHERE flow_id = ? ORDER BY id", (flow,)
        ):
            pages.update(zip(json.loads(keys), _split_hashes(hashes), strict=True))
        return pages


def _encode_keys(keys: Sequence[str]) -> Sequence[str]:
    """Return `keys` as SQLite can store them; nearly always unchanged."""
    return keys if "".join(keys).isascii() else [encode_text(key) for key in keys]


def _split_hashes(hashes: bytes) -> list[bytes]:
    return [hashes[i : i + HASH_BYTES] for i in range(0, len(hashes), HASH_BYTES)]


def _build_upsert(flow: int, rows: int) -> str:
    return (
        f"INSERT INTO record_state (flow_id, key, hash) VALUES {', '.join([f'({flow:d}, ?, ?)'] * rows)} "
        "ON CONFLICT DO UPDATE SET hash = excluded.hash WHERE hash <> excluded.hash"
    )
