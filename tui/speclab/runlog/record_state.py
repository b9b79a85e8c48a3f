"""State of records between runs: hashes of their mapped form, and the keys that the source has."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, repeat
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import orjson

from speclab.core.json import Record
from speclab.runlog.connection import encode_json, encode_text, translate_errors
from speclab.runlog.rows import FullScan, MissingRecord, ScanCounts, SeenRecords, TargetState
from speclab.runlog.schema import DEFAULT_FLOW, OPEN

HASH_BYTES: Final = 16
UNKNOWN_HASH: Final = bytes(HASH_BYTES)
"""The hash of a record whose write is in flight or has an unknown outcome; no record has this hash."""
_MERGE_AT: Final = 20_000  # states; merging them locks the file for about 50 ms
_ROWS: Final = 20  # per statement: fewer need more calls, more need a longer plan
_SLOTS: Final = 1 << 22  # of the filter, one byte each: with a million keys, a fifth of the lookups is not avoided


_NO_TARGETS: Final[Mapping[str, TargetState]] = {}


def mark_in_flight(hash_: bytes) -> bytes:
    """Return the hash that marks `hash_` as in flight to a target that is not idempotent; its own inverse."""
    return bytes(255 - byte for byte in hash_)


@dataclass(slots=True)
class _Unmerged:
    """The states in the pages of a flow, by key."""

    hashes: dict[str, bytes] = field(default_factory=dict)
    targets: dict[str, TargetState] = field(default_factory=dict)

    def add(self, keys: Sequence[str], hashes: Sequence[bytes], targets: Mapping[str, TargetState]) -> None:
        """Add a page. A hash that comes without a version makes the version unknown."""
        self.hashes.update(zip(keys, hashes, strict=True))
        if self.targets:
            for key in self.targets.keys() & keys:
                self.targets[key] = self.targets[key]._replace(version=None)
        for key, target in targets.items():
            self.targets[key] = target.keep_id(self.targets.get(key))


class RecordStates:
    """The tables `record_state` and `record_state_page`, inside the writer's transactions."""

    def __init__(self) -> None:
        self._pages: dict[int, _Unmerged] = {}  # by flow id
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
        pages = self._get_unmerged(db, flow).hashes
        found |= {key: pages[key] for key in pages.keys() & asked}
        if stored is keys or not found:
            return found
        return {key: found[as_stored] for key, as_stored in zip(keys, stored, strict=True) if as_stored in found}

    def get_targets(self, db: sqlite3.Connection, flow: int, keys: Sequence[str]) -> dict[str, TargetState]:
        """Return the id and version at the target, for those of `keys` that have one."""
        stored = _encode_keys(keys)
        rows = db.execute(
            "SELECT key, target_id, version FROM record_state WHERE flow_id = ? AND key IN "
            "(SELECT value FROM json_each(?)) AND coalesce(target_id, version) IS NOT NULL",
            (flow, json.dumps(stored)),
        )
        found = {key: TargetState(target_id, version) for key, target_id, version in rows}
        pages = self._get_unmerged(db, flow)
        for key in pages.hashes.keys() & stored:
            if key in found or key in pages.targets:
                found[key] = pages.targets.get(key, TargetState()).keep_id(found.get(key))
        return {key: found[as_stored] for key, as_stored in zip(keys, stored, strict=True) if as_stored in found}

    def add(
        self,
        db: sqlite3.Connection,
        flow: int,
        states: Sequence[tuple[str, bytes]],
        targets: Mapping[str, TargetState] = _NO_TARGETS,
    ) -> None:
        """Add the (key, hash) pairs of one page, and the id and version at the target where they are known."""
        if not states:
            return
        pages = self._pages[flow] = self._get_unmerged(db, flow)
        names, hashes = zip(*states, strict=True)
        keys = _encode_keys(names)
        if targets:
            targets = {encode_text(key): TargetState(*map(encode_text, target)) for key, target in targets.items()}
        db.execute(
            "INSERT INTO record_state_page (flow_id, keys, hashes, targets) VALUES (?, ?, ?, ?)",
            (flow, json.dumps(keys), b"".join(hashes), json.dumps(targets) if targets else None),
        )
        pages.add(keys, hashes, targets)
        if self._first is not None and self._first[0] == flow:
            slots = self._first[1]
            for key in keys:
                slots[hash(key) % _SLOTS] = 1
        if len(pages.hashes) >= _MERGE_AT:
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
        hashes, targets = pages.hashes, pages.targets
        keys = sorted(hashes.keys() - targets.keys() if targets else hashes)
        flat = list(chain.from_iterable(zip(keys, map(hashes.__getitem__, keys), strict=True)))
        step = 2 * _ROWS
        whole = len(flat) - len(flat) % step
        db.executemany(_build_hashes_upsert(flow, _ROWS), (flat[i : i + step] for i in range(0, whole, step)))
        db.executemany(_build_hashes_upsert(flow, 1), zip(flat[whole::2], flat[whole + 1 :: 2], strict=True))
        db.executemany(_UPSERT_TARGET, [(flow, key, hashes[key], *targets[key]) for key in sorted(targets)])
        db.execute("DELETE FROM record_state_page WHERE flow_id = ?", (flow,))
        self._pages.pop(flow, None)

    def _filter_known(self, flow: int, keys: Sequence[str]) -> Sequence[str]:
        """Return those of `keys` that may have a state."""
        if self._first is None or self._first[0] != flow:
            return keys
        slots = self._first[1]
        return [key for key in keys if slots[hash(key) % _SLOTS]]

    def _get_unmerged(self, db: sqlite3.Connection, flow: int) -> _Unmerged:
        """Return the states of the pages; read from the file unless this process wrote them all."""
        if flow in self._pages:
            return self._pages[flow]
        pages = _Unmerged()
        for keys, hashes, targets in db.execute(
            "SELECT keys, hashes, targets FROM record_state_page WHERE flow_id = ? ORDER BY id", (flow,)
        ):
            found = {key: TargetState(*values) for key, values in json.loads(targets).items()} if targets else {}
            pages.add(json.loads(keys), _split_hashes(hashes), found)
        return pages


def _encode_keys(keys: Sequence[str]) -> Sequence[str]:
    """Return `keys` as SQLite can store them; nearly always unchanged."""
    return keys if "".join(keys).isascii() else [encode_text(key) for key in keys]


def _split_hashes(hashes: bytes) -> list[bytes]:
    return [hashes[i : i + HASH_BYTES] for i in range(0, len(hashes), HASH_BYTES)]


def _build_hashes_upsert(flow: int, rows: int) -> str:
    return (
        f"INSERT INTO record_state (flow_id, key, hash) VALUES {', '.join([f'({flow:d}, ?, ?)'] * rows)} "
        "ON CONFLICT DO UPDATE SET hash = excluded.hash, version = NULL "
        "WHERE hash <> excluded.hash OR version IS NOT NULL"
    )


_UPSERT_TARGET: Final = (
    "INSERT INTO record_state (flow_id, key, hash, target_id, version) VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE "
    "SET hash = excluded.hash, target_id = coalesce(excluded.target_id, target_id), version = excluded.version"
)


"""Records; merging them locks the file for about 100 ms."""
_BEHIND: Final = "full_scan < (SELECT complete FROM full_scan WHERE flow_id = :flow)"
_DELIVERED: Final = (
    "EXISTS (SELECT 1 FROM record_state s WHERE s.flow_id = source_key.flow_id AND s.key = source_key.key "
    "AND s.hash <> :deleted)"
)
_SEEN: Final = "EXISTS (SELECT 1 FROM source_key p WHERE p.flow_id = s.flow_id AND p.key = s.key)"
PLACE: Final = "coalesce(json_extract(identity, '$.place'), json_extract(identity, '$.target'))"
"""The identity used for a delete at the target: records with the same one are one record there."""
_FAILED: Final = (
    "EXISTS (SELECT 1 FROM failure f WHERE f.spec_id = :spec AND f.flow = :name AND f.key = source_key.key "
    f"AND f.{OPEN} AND f.key <> '')"
)


class SourceKeys:
    """The tables `full_scan`, `source_key` and `source_key_page`, inside the writer's transactions."""

    def __init__(self) -> None:
        self._unmerged: dict[int, int] = {}  # flow id -> number of records in its pages

    def reset(self) -> None:
        """Discard the cache after a transaction was rolled back."""
        self._unmerged.clear()

    def open_full_scan(self, db: sqlite3.Connection, flow: int, target: str) -> FullScan:
        """Return the state of full scans; keys of records at another target than `target` are deleted."""
        row = db.execute("SELECT target, latest, held FROM full_scan WHERE flow_id = ?", (flow,)).fetchone()
        if row is not None and row[0] == encode_text(target):
            return FullScan(row[1], row[2])
        for table in ("source_key", "source_key_page", "full_scan"):
            db.execute(f"DELETE FROM {table} WHERE flow_id = ?", (flow,))
        self._unmerged.pop(flow, None)
        db.execute("INSERT INTO full_scan (flow_id, target) VALUES (?, ?)", (flow, encode_text(target)))
        return FullScan(0, 0)

    def add(self, db: sqlite3.Connection, flow: int, seen: SeenRecords, *, moves: bool) -> None:
        """Add the source keys of a page; `moves` if the checkpoint moves with it."""
        db.execute(
            "UPDATE full_scan SET latest = max(latest, :number), "
            "held = CASE WHEN :moves THEN CASE WHEN :ends THEN 0 ELSE :number END ELSE held END, "
            "keyless = CASE WHEN :keyless THEN :number ELSE keyless END, "
            "complete = CASE WHEN :ends AND :moves AND :number > 0 AND NOT :keyless AND keyless <> :number "
            "THEN :number ELSE complete END, undecided = undecided OR (:ends AND :moves AND :number > 0) "
            "WHERE flow_id = :flow",
            {
                "flow": flow,
                "number": seen.full_scan,
                "moves": moves,
                "ends": seen.ends,
                "keyless": seen.keyless,
            },
        )
        # SQLite's JSON ends a text at a NUL: records with such a key are ignored, not confused with another.
        seen_keys = [key for key in seen.identities if "\x00" not in key]
        if not seen_keys:
            return
        identities = [_encode_identity(seen.identities[key]) for key in seen_keys]
        keys = [key if key.isascii() else encode_text(key) for key in seen_keys]
        self._clear_tombstones(db, flow, keys)
        waiting = self._count_unmerged(db, flow) + len(keys)
        # A record seen outside a full scan counts as seen in the latest: it existed after that scan started.
        db.execute(
            "INSERT INTO source_key_page (flow_id, full_scan, keys, identities, records) "
            "SELECT flow_id, latest, ?, ?, ? FROM full_scan WHERE flow_id = ?",
            (json.dumps(keys), json.dumps(identities), len(keys), flow),
        )
        self._unmerged[flow] = waiting
        if waiting >= _MERGE_AT:
            self.merge(db, flow)

    def interrupt_scan(self, db: sqlite3.Connection, flow: int) -> None:
        """Leave the full scan that the checkpoint is inside of: the page that moved it has no source keys."""
        db.execute("UPDATE full_scan SET held = 0 WHERE flow_id = ? AND held <> 0", (flow,))

    def merge(self, db: sqlite3.Connection, flow: int) -> None:
        """Move the keys of the pages into the table, in key order."""
        latest: dict[str, tuple[int, str | None]] = {}
        for full_scan, keys, identities in db.execute(
            "SELECT full_scan, keys, identities FROM source_key_page WHERE flow_id = ? ORDER BY id", (flow,)
        ):
            for key, identity in zip(json.loads(keys), json.loads(identities), strict=True):
                known = latest.get(key, (0, None))
                latest[key] = full_scan, known[1] if identity is None else identity
        rows = [(key, *latest[key]) for key in sorted(latest)]
        whole = len(rows) - len(rows) % _ROWS
        many = (tuple(chain.from_iterable(rows[at : at + _ROWS])) for at in range(0, whole, _ROWS))
        db.executemany(_build_keys_upsert(flow, _ROWS), many)
        db.executemany(_build_keys_upsert(flow, 1), rows[whole:])
        db.execute("DELETE FROM source_key_page WHERE flow_id = ?", (flow,))
        self._unmerged[flow] = 0

    def count_scan(self, db: sqlite3.Connection, flow: int, run: str, deleted: bytes) -> ScanCounts:
        """Count missing records, and delete the keys of those that neither reached the target nor failed.

        A record is at the target if it has a state other than `deleted`, the hash of a record that was deleted there.
        """
        full_scan = db.execute("SELECT nameless FROM full_scan WHERE flow_id = ? AND undecided", (flow,)).fetchone()
        if full_scan is None:
            return ScanCounts(0, 0, 0)
        self.merge(db, flow)
        spec_id, name, balanced = db.execute(
            "SELECT spec_id, flow, read = written + unchanged + filtered + waiting + dead + unknown "
            "FROM run WHERE id = ?",
            (run,),
        ).fetchone()
        scope = {"flow": flow, "spec": spec_id, "name": name, "deleted": deleted}

        def count(what: str) -> int:
            (found,) = db.execute(f"SELECT count(*) FROM {what}", scope).fetchone()
            return int(found)

        behind = f"source_key WHERE flow_id = :flow AND {_BEHIND}"
        db.execute(f"DELETE FROM {behind} AND NOT {_DELIVERED} AND NOT {_FAILED}", scope)
        replaced = db.execute(
            f"SELECT key, tombstone, {_DELIVERED} FROM {behind} AND {PLACE} IN "
            f"(SELECT {PLACE} FROM source_key WHERE flow_id = :flow AND NOT {_BEHIND})",
            scope,
        ).fetchall()
        missing = count(f"{behind} AND NOT tombstone AND identity IS NOT NULL") - sum(
            not tombstone for _, tombstone, _ in replaced
        )
        known = count("record_state WHERE flow_id = :flow AND hash <> :deleted")
        known -= sum(delivered for _, _, delivered in replaced)
        nameless = count(f"{behind} AND identity IS NULL AND {_DELIVERED}") + count(
            f"record_state s WHERE flow_id = :flow AND hash <> :deleted AND NOT {_SEEN}"
        )
        self._update_undecided(db, flow, nameless)
        changed = nameless if nameless != full_scan[0] else 0
        return ScanCounts(missing, changed, known, tuple(key for key, _, _ in replaced), bool(balanced))

    def get_missing(self, db: sqlite3.Connection, flow: int, after: str, limit: int) -> list[MissingRecord]:
        """Return missing records that are not handled yet, in key order, with a key greater than `after`."""
        rows = db.execute(
            f"SELECT key, identity FROM source_key WHERE flow_id = :flow AND key > :after AND {_BEHIND} "
            "AND NOT tombstone ORDER BY key LIMIT :limit",
            {"flow": flow, "after": encode_text(after), "limit": limit},
        ).fetchall()
        if not rows:
            self._update_undecided(db, flow)
        return [MissingRecord(key, None if identity is None else json.loads(identity)) for key, identity in rows]

    def mark_handled(self, db: sqlite3.Connection, flow: int, keys: Sequence[str], deleted: Sequence[str]) -> None:
        """Mark missing records as handled, by their `keys`; the keys of those `deleted` at the target are dropped."""
        for statement, which in (
            ("UPDATE source_key SET tombstone = 1", keys),
            ("DELETE FROM source_key", deleted),
        ):
            db.execute(
                f"{statement} WHERE flow_id = ? AND key IN (SELECT value FROM json_each(?))",
                (flow, json.dumps([encode_text(key) for key in which])),
            )

    def get_tombstones(self, db: sqlite3.Connection, flow: int, keys: Sequence[str]) -> dict[str, Record]:
        """Return the identity at the target of those of `keys` that are tombstones."""
        stored = {encode_text(key): key for key in keys}
        rows = db.execute(
            "SELECT key, identity FROM source_key WHERE flow_id = ? AND tombstone = 1 AND identity IS NOT NULL "
            "AND key IN (SELECT value FROM json_each(?))",
            (flow, json.dumps(list(stored))),
        )
        return {stored[key]: json.loads(identity) for key, identity in rows}

    def _update_undecided(self, db: sqlite3.Connection, flow: int, nameless: int | None = None) -> None:
        """Store whether missing records are left to handle, so that incremental runs need not count them."""
        db.execute(
            f"UPDATE full_scan SET nameless = coalesce(:nameless, nameless), undecided = EXISTS "
            f"(SELECT 1 FROM source_key WHERE flow_id = :flow AND {_BEHIND} AND NOT tombstone) WHERE flow_id = :flow",
            {"flow": flow, "nameless": nameless},
        )

    def _clear_tombstones(self, db: sqlite3.Connection, flow: int, keys: Sequence[str]) -> None:
        """Clear tombstones of records that are back at once, not when pages are merged: retries read them."""
        if db.execute("SELECT 1 FROM source_key WHERE flow_id = ? AND tombstone = 1 LIMIT 1", (flow,)).fetchone():
            db.execute(
                "UPDATE source_key SET tombstone = 0 WHERE flow_id = ? AND tombstone = 1 "
                "AND key IN (SELECT value FROM json_each(?))",
                (flow, json.dumps(keys)),
            )

    def _count_unmerged(self, db: sqlite3.Connection, flow: int) -> int:
        """Return the number of records in the pages; read from the file once, for pages of a killed run."""
        if flow not in self._unmerged:
            (self._unmerged[flow],) = db.execute(
                "SELECT coalesce(sum(records), 0) FROM source_key_page WHERE flow_id = ?", (flow,)
            ).fetchone()
        return self._unmerged[flow]


def _encode_identity(identity: Record | None) -> str | None:
    """Return an identity as JSON text, ten times as fast as `encode_json`: there is one per record."""
    if identity is None:
        return None
    try:
        return orjson.dumps(identity).decode()
    except TypeError:  # an integer beyond 64 bits, or half a surrogate pair
        return encode_json(identity)


def _build_keys_upsert(flow: int, rows: int) -> str:
    return (
        "INSERT INTO source_key (flow_id, key, full_scan, identity) "
        f"VALUES {', '.join([f'({flow:d}, ?, ?, ?)'] * rows)} "
        "ON CONFLICT DO UPDATE SET full_scan = excluded.full_scan, identity = coalesce(excluded.identity, identity)"
    )


_CHUNK: Final = 500
_MISSING: Final = f"""
WITH known AS (
    SELECT key, max(full_scan) AS full_scan, max(identity) AS identity, min(tombstone) AS tombstone FROM (
        SELECT key, full_scan, identity, tombstone FROM source_key WHERE flow_id = :flow
        UNION ALL SELECT key, full_scan, identity, 0 FROM unmerged)
    GROUP BY key),
taken AS (
    SELECT place FROM seen
    UNION SELECT {PLACE} FROM known WHERE full_scan >= :before OR key IN (SELECT key FROM seen))
SELECT key, identity FROM known
WHERE full_scan < :before AND NOT tombstone AND identity IS NOT NULL AND key NOT IN (SELECT key FROM seen)
    AND NOT EXISTS (SELECT 1 FROM taken WHERE place = {PLACE})"""


class MissingPreview:
    """Finds the records of a flow that a read would find missing; keys seen so far are in a temporary table."""

    def __init__(self, path: Path, spec_id: str, target: str) -> None:
        """Open the run log at `path` for `spec_id`, whose records are at `target`."""
        self._path = path
        with translate_errors(path):
            self._db = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None)
            self._db.execute("CREATE TEMP TABLE seen (key TEXT PRIMARY KEY, place TEXT) WITHOUT ROWID")
            self._db.execute("CREATE TEMP TABLE unmerged (full_scan INTEGER, key TEXT, identity TEXT)")
            row = self._db.execute(
                "SELECT id, latest, held, CASE WHEN undecided THEN complete ELSE 0 END "
                "FROM flow LEFT JOIN full_scan ON flow_id = id AND target = ? WHERE spec_id = ? AND name = ?",
                (encode_text(target), spec_id, DEFAULT_FLOW),
            ).fetchone()
            self._flow = row[0] if row else -1
            pages = self._db.execute(
                "SELECT full_scan, keys, identities FROM source_key_page WHERE flow_id = ?", (self._flow,)
            )
            for full_scan, keys, identities in pages:
                of_page = zip(repeat(full_scan), json.loads(keys), json.loads(identities), strict=False)
                self._db.executemany("INSERT INTO unmerged VALUES (?, ?, ?)", of_page)
        known = row is not None and row[1] is not None
        self.full_scan = FullScan(row[1], row[2]) if known else FullScan(0, 0)
        """Numbers of the full scans so far."""
        self.undecided = int(row[3]) if known else 0
        """Number of the full scan whose missing records are not deleted yet; 0 if all are."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._db.close()

    def add_seen(self, identities: Mapping[str, Record | None]) -> None:
        """Add keys that the source has, each with its identity at the target (see `SeenRecords`)."""
        rows = [(encode_text(key), None if one is None else encode_json(one)) for key, one in identities.items()]
        one = "SELECT ? AS key, ? AS identity"
        self._db.executemany(f"INSERT OR REPLACE INTO seen SELECT key, {PLACE} FROM ({one})", rows)

    def get_missing(self, before: int) -> Iterator[list[MissingRecord]]:
        """Yield chunks of the records that were not seen now, and not in a full scan numbered `before` or later."""
        with translate_errors(self._path):
            found = self._db.execute(_MISSING, {"flow": self._flow, "before": before})
            while rows := found.fetchmany(_CHUNK):
                yield [MissingRecord(key, json.loads(identity)) for key, identity in rows]

    def count_known(self, deleted: bytes) -> int:
        """Return how many records are known to be at the target, except in unmerged pages of a killed run."""
        (count,) = self._db.execute(
            "SELECT count(*) FROM record_state WHERE flow_id = ? AND hash <> ?", (self._flow, deleted)
        ).fetchone()
        return int(count)
