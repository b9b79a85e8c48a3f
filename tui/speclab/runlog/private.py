"""Values that the run log masks, for as long as a retry needs them: a file beside the run log, private to its user."""

from __future__ import annotations

import json
import os
import secrets
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

from speclab.core.files import sync_directory
from speclab.core.masking import FieldRule, Masker
from speclab.runlog.connection import encode_json, refuse_linked, translate_errors
from speclab.runlog.rows import FailureRow, NewFailure

_BUSY_SECONDS: Final = 10.0
_SCHEMA: Final = (
    "CREATE TABLE IF NOT EXISTS salt (value BLOB NOT NULL)",
    "CREATE TABLE IF NOT EXISTS record (failure TEXT PRIMARY KEY, source TEXT NOT NULL, payload TEXT) WITHOUT ROWID",
)


def private_path(runlog: Path) -> Path:
    """Return the path of the private file that belongs to the run log at `runlog`."""
    return runlog.with_name(f"{runlog.name}-private")


class PrivateRecords:
    """The records of open failures whose stored form is masked.

    The file is created with mode 0600 for the first masked record. A record is saved before the page that refers to it
    is committed, and deleted once its failure is closed.
    """

    def __init__(self, runlog: Path) -> None:
        self.path = private_path(runlog)
        self._db: sqlite3.Connection | None = None

    def close(self) -> None:
        """Close the file."""
        if self._db is not None:
            self._db.close()
            self._db = None

    def protect(self, failures: Sequence[tuple[str, NewFailure]]) -> list[NewFailure]:
        """Return the failures (by id) as the run log stores them, and save the originals of masked ones.

        Raises `RunLogError` if they cannot be saved.
        """
        stored, records = [], []
        hashes = any(FieldRule.HASH in failure.policy.rules.values() for _, failure in failures)
        salt = self._get_salt() if hashes else None
        for id_, failure in failures:
            masker = Masker(failure.policy, salt)
            source = masker.mask_record(failure.source)
            payload = None if failure.payload is None else masker.mask_record(failure.payload)
            if source is failure.source and payload is failure.payload:
                unread = not failure.source and failure.response
                stored.append(replace(failure, response=masker.mask_pairs(failure.response)) if unread else failure)
                continue
            original = None if failure.payload is None else encode_json(failure.payload)
            if failure.file:  # a failure that a script reports has no spec and is never retried
                records.append((id_, encode_json(failure.source), original))
            stored.append(
                replace(
                    failure,
                    source=source,
                    payload=payload,
                    message=masker.mask_text(failure.message) or "",
                    request=masker.mask_text(failure.request),
                    response=masker.mask_text(failure.response),
                )
            )
        if records:
            with self._transaction() as db:
                db.executemany("INSERT OR REPLACE INTO record VALUES (?, ?, ?)", records)
        return stored

    def restore(self, rows: Sequence[FailureRow]) -> list[FailureRow]:
        """Return `rows` with the original values of masked records; rows without them stay `masked`."""
        masked = [row.id for row in rows if row.masked]
        if not masked or not self.path.exists():
            return list(rows)
        with translate_errors(self.path):
            found = self._open().execute(
                "SELECT failure, source, payload FROM record WHERE failure IN (SELECT value FROM json_each(?))",
                (json.dumps(masked),),
            )
            records = {id_: (source, payload) for id_, source, payload in found}
        restored = []
        for row in rows:
            if row.id in records:
                source, payload = records[row.id]
                payload = None if payload is None or row.payload is None else json.loads(payload)
                restored.append(replace(row, source=json.loads(source), payload=payload))
            else:
                restored.append(row)
        return restored

    def delete_closed(self, find_open: Callable[[Sequence[str]], set[str]]) -> int:
        """Delete the records of failures that `find_open` does not return; return how many."""
        if not self.path.exists():
            return 0
        with self._transaction() as db:
            known = [row[0] for row in db.execute("SELECT failure FROM record")]
            closed = set(known) - find_open(known)
            db.executemany("DELETE FROM record WHERE failure = ?", [(one,) for one in closed])
        return len(closed)

    def _get_salt(self) -> bytes:
        """Return the salt of hashes, which is created once."""
        with self._transaction() as db:
            db.execute("INSERT INTO salt SELECT ? WHERE NOT EXISTS (SELECT 1 FROM salt)", (secrets.token_bytes(32),))
            (salt,) = db.execute("SELECT value FROM salt LIMIT 1").fetchone()
        return bytes(salt)

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with translate_errors(self.path):
            db = self._open()
            db.execute("BEGIN IMMEDIATE")
            try:
                yield db
                db.execute("COMMIT")
            except BaseException:
                if db.in_transaction:
                    db.execute("ROLLBACK")
                raise

    def _open(self) -> sqlite3.Connection:
        if self._db is not None and self.path.exists():
            return self._db
        self.close()
        refuse_linked(self.path)
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        os.close(descriptor)
        sync_directory(self.path.parent)
        db = sqlite3.connect(self.path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)
        try:
            db.execute("PRAGMA secure_delete = ON")
            for statement in _SCHEMA:
                db.execute(statement)
        except BaseException:
            db.close()
            raise
        self._db = db
        return db


def mask_message(message: str, reported: Sequence[NewFailure], stored: Sequence[NewFailure]) -> str:
    """Return the message of a page with the messages of its failures as they are stored."""
    for failure, masked in zip(reported, stored, strict=True):
        if failure.message != masked.message:
            message = message.replace(failure.message, masked.message)
    return message
