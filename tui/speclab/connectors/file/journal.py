"""Upserts into a file: a journal beside it, merged into a new file at the end of the run."""

from __future__ import annotations

import asyncio
import errno
import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from io import FileIO
from pathlib import Path
from typing import BinaryIO, Final

from speclab.connectors.api import MappedRecord, RuntimeContext, Writer, WriteResult
from speclab.connectors.file.locations import append_durably
from speclab.connectors.file.settings import FileSystem
from speclab.connectors.file.writer import BATCH, AppendingWriter, FileTarget, RecordFormat, RecordOutput
from speclab.connectors.secrets.references import References
from speclab.core.clock import Clock
from speclab.core.errors import Unauthorized, Unreachable
from speclab.core.files import make_private_directory
from speclab.core.json import Json, Record, decode, encode
from speclab.core.locks import try_lock
from speclab.core.outcome import Effect
from speclab.spec.auth import Auth
from speclab.spec.settings import RetrySettings

_CACHE: Final = 8_000
"""KiB of the journal's index in memory."""


class Journal:
    """Keys and records (null for a delete) in the order they were written; the last of a key counts.

    One writer of any process holds the journal, from before its first entry until the entries are merged: two writers
    that merge into one file at once would lose each other's records.
    """

    def __init__(self, path: Path) -> None:
        """Create a journal at `path`; the file exists during a run."""
        self.path = path
        self._stream: FileIO | None = None

    def exists(self) -> bool:
        """Whether there are entries that are not merged yet."""
        try:
            return self.path.stat().st_size > 0
        except (FileNotFoundError, NotADirectoryError):
            return False

    def hold(self) -> bool:
        """Take the lock of the journal; False if another writer holds it. Raise `OSError`.

        The lock is on the file itself, which its holder may remove: a lock on a removed file is released and taken
        again. Symbolic links are not followed.
        """
        if self._stream is not None:
            return True
        make_private_directory(self.path.parent)
        while True:
            flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
            stream = os.fdopen(os.open(self.path, flags, 0o666), "ab", buffering=0)
            try:
                if not try_lock(stream.fileno()):
                    return False
                if self._is_current(stream):
                    self._mend(stream)
                    self._stream = stream
                    return True
            finally:
                if self._stream is not stream:
                    stream.close()

    def add(self, entries: Iterable[tuple[str, Record | None]]) -> None:
        """Append `entries` durably, all or none. Raise `OSError`, also if another writer holds the journal."""
        append_durably(self._held(), b"".join(encode([key, record]) + b"\n" for key, record in entries))

    @contextmanager
    def entries(self) -> Iterator[Entries]:
        """Yield the entries of the journal for lookup.

        Raise `OSError`, also if there is no room for the index, or another writer holds the journal.
        """
        self._held()
        with self.path.open("rb") as stream, closing(sqlite3.connect("", isolation_level=None)) as index:
            try:
                yield Entries(stream, index)
            except sqlite3.Error as error:
                full = error.sqlite_errorcode == sqlite3.SQLITE_FULL
                raise OSError(errno.ENOSPC if full else errno.EIO, f"the index of {self.path.name}: {error}") from None

    def clear(self) -> None:
        """Delete all entries and keep the lock. Raise `OSError`."""
        os.ftruncate(self._held().fileno(), 0)

    def close(self) -> None:
        """Release the journal; the file stays if it has entries."""
        if self._stream is not None:
            if os.fstat(self._stream.fileno()).st_size == 0:
                self.path.unlink(missing_ok=True)
            self._stream.close()
            self._stream = None

    def remove(self) -> None:
        """Remove the journal and release it, after its entries were merged."""
        self.path.unlink(missing_ok=True)  # before the lock is released, or the next holder's file would be removed
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def _held(self) -> FileIO:
        if not self.hold():
            raise BlockingIOError(errno.EAGAIN, "another run is writing to this file", os.fspath(self.path))
        assert self._stream is not None  # noqa: S101 - it is held
        return self._stream

    def _is_current(self, stream: FileIO) -> bool:
        """Whether the open file is still the one at the path."""
        try:
            return os.path.samestat(os.fstat(stream.fileno()), self.path.lstat())
        except FileNotFoundError:
            return False

    def _mend(self, stream: FileIO) -> None:
        """Remove an entry that a crash left incomplete: it was never reported as written."""
        with self.path.open("rb") as lines:
            os.ftruncate(stream.fileno(), sum(len(line) for line in lines if line.endswith(b"\n")))


class Entries:
    """The entries of a journal: the last of each key, in the order in which the keys first occurred.

    Their offsets are in a temporary SQLite database on the disk: the keys of a run may exceed the memory.
    """

    def __init__(self, stream: BinaryIO, index: sqlite3.Connection) -> None:
        """Create entries for `stream`, with an empty `index`."""
        self._stream = stream
        self._index = index
        index.execute(f"PRAGMA cache_size = -{_CACHE}")
        index.execute("CREATE TABLE entry (key TEXT UNIQUE, at INTEGER, taken INTEGER DEFAULT 0)")
        index.execute("BEGIN")
        index.executemany(
            "INSERT INTO entry (key, at) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET at = excluded.at",
            _places(stream),
        )

    def __contains__(self, key: str) -> bool:
        """Whether there is an entry of `key`, taken or not."""
        return self._index.execute("SELECT 1 FROM entry WHERE key = ?", (key,)).fetchone() is not None

    def take(self, key: str) -> Record | None:
        """Return the record of `key` once; None if it was deleted, or taken before."""
        found = self._index.execute("SELECT at FROM entry WHERE key = ? AND NOT taken", (key,)).fetchone()
        if found is None:
            return None
        self._index.execute("UPDATE entry SET taken = 1 WHERE key = ?", (key,))
        return self._at(*found)

    def left(self) -> Iterator[Record]:
        """Yield the records that were not taken, without deletes."""
        for found in self._index.execute("SELECT at FROM entry WHERE NOT taken ORDER BY rowid"):
            record = self._at(*found)
            if record is not None:
                yield record

    def _at(self, offset: int) -> Record | None:
        self._stream.seek(offset)
        return _entry(self._stream.readline())[1]


def _places(stream: BinaryIO) -> Iterator[tuple[str, int]]:
    """Yield the key and the offset of each entry."""
    offset = 0
    for line in stream:
        yield _entry(line)[0], offset
        offset += len(line)


def _entry(line: bytes) -> tuple[str, Record | None]:
    entry: Json = decode(line)
    match entry:
        case [str(key), None]:
            return key, None
        case [str(key), dict(record)]:
            return key, record
    raise ValueError(f"no entry of a journal: {line[:80]!r}")


_LOOK_AGAIN: Final = 0.1
"""Seconds between two tries for a file that another run writes to."""


class _JournaledWriter:
    """Takes records into the journal of a file."""

    batch = BATCH
    idempotent = True
    keyed = False
    deletes = True

    _merged: bool
    """Whether what the file holds stays in it."""

    def __init__(self, target: FileTarget, clock: Clock, wait_budget: float) -> None:
        """Create a writer that waits up to `wait_budget` seconds for another run that writes to the file."""
        self._target = target
        self._clock = clock
        self._wait_budget = wait_budget
        self._journal = Journal(target.place.journal)
        self._form: RecordFormat | None = None

    async def write(self, items: Sequence[MappedRecord]) -> Sequence[WriteResult]:
        """Return one result per record, in order; a written record is on the disk, in the journal.

        A record that the file cannot store fails. Raise `Unreachable` if the journal cannot be written, and
        `BadResponse` for a file that cannot be merged with.
        """
        await self._hold()
        return await asyncio.to_thread(self._write, items)

    async def _hold(self) -> None:
        """Wait for the lock of the journal, across all runs and specs. Raise `Unreachable`."""
        waited = 0.0
        try:
            while not await asyncio.to_thread(self._journal.hold):
                if waited >= self._wait_budget:
                    raise Unreachable(
                        f"{self._target.name}: another run is writing to this file",
                        hint="Two specs with one target file take turns: give them schedules, or files, of their own.",
                    )
                await self._clock.sleep(_LOOK_AGAIN)
                waited += _LOOK_AGAIN
        except OSError:
            return  # the first record that is added meets the error again and reports it

    def _write(self, items: Sequence[MappedRecord]) -> list[WriteResult]:
        form = self._form = self._form or self._begun()
        results: list[WriteResult] = []
        entries: list[tuple[str, Record | None]] = []
        for item in items:
            key = self._target.key_of(item.payload)
            misfit = None if item.delete or key is None else form.misfit(item.payload)
            if key is None:
                results.append(WriteResult(error=self._target.keyless()))
            elif misfit is not None:
                results.append(WriteResult(error=self._target.misfitting(misfit)))
            else:
                effect = Effect.DELETED if item.delete else Effect.WRITTEN
                results.append(WriteResult(effect, target_id=self._target.find_target_id(item)))
                entries.append((key, None if item.delete else item.payload))
        write_error = self._target.tried(lambda: self._journal.add(entries)) if entries else None
        if write_error is None:
            return results
        refused = WriteResult(error=write_error)
        return [result if result.error is not None else refused for result in results]

    def _begun(self) -> RecordFormat:
        """Return the record format, with the entries of the journal added; report an unreachable location early."""
        with suppress(*() if self._merged else (Unauthorized,)):  # a user who may write is not always allowed to read
            self._target.place.exists()
        form = self._target.form(merged=self._merged)
        try:
            if self._journal.exists():
                with self._journal.entries() as entries:
                    form.recall(entries.left())
        except OSError as error:
            raise self._kept(error) from None
        return form

    def _publish(self) -> None:
        """Replace the file with the records of the journal, merged with the old file if `_merged`."""
        form = self._target.form(merged=self._merged)
        old = self._merged and self._target.place.exists()
        try:
            with (
                self._journal.entries() as entries,
                self._target.replacing() as stream,
                closing(form.output(stream, entries.left())) as out,
            ):
                if old:
                    self._merge(out, entries)
                for record in entries.left():
                    out.add(record)
                out.end()
        except OSError as error:
            raise self._kept(error) from None
        except (Unreachable, Unauthorized) as error:
            raise type(error)(error.message, hint=self._kept_hint()) from None
        self._journal.remove()

    def _holds(self) -> bool:
        """Whether the journal is held by this writer, or was left by a run that ended."""
        try:
            return self._journal.hold() and self._journal.exists()
        except OSError as error:
            raise self._kept(error) from None

    def _kept(self, error: OSError) -> Unreachable:
        return Unreachable(f"{self._target.name}: {error.strerror or error}", hint=self._kept_hint())

    def _kept_hint(self) -> str:
        return f"What was written is in {self._journal.path}, and goes into the file with the next run."

    def _merge(self, out: RecordOutput, entries: Entries) -> None:
        """Write the rows of the old file, replaced by those of the journal; the remaining entries are new."""
        for row in self._target.read_rows():
            key = self._target.key_of(row.record)
            if key is None or key not in entries:
                out.copy(row)
            elif (record := entries.take(key)) is not None:  # else it is deleted, or a second row of its key
                out.add(record)


class UpsertingWriter(_JournaledWriter):
    """Merges records into a file by key; rows of other keys are unchanged, byte for byte."""

    _merged = True

    async def close(self) -> None:
        """Merge the written records into the file.

        Raise `BadResponse` for a file that cannot be read, and `Unreachable` for one that cannot be written; the
        records stay in the journal for the next run.
        """
        try:
            if self._journal.exists() and await asyncio.to_thread(self._holds):  # otherwise a running process holds it
                await asyncio.to_thread(self._publish)
        finally:
            self._journal.close()


class ReplacingWriter(_JournaledWriter):
    """Creates a file with the records of one run and nothing else."""

    _merged = False

    async def begin(self) -> None:
        """Delete the records of an interrupted run. Raise `Unreachable`."""
        try:
            await self._hold()
            await asyncio.to_thread(self._journal.clear)
        except OSError as error:
            raise Unreachable(f"{self._journal.path}: {error.strerror or error}") from None
        self._form = None

    async def finish(self) -> None:
        """Replace the old file with the new one."""
        await self._hold()
        await asyncio.to_thread(self._publish)

    async def close(self) -> None:
        """Close the journal. If the run did not finish, the run that continues from its checkpoint adds to it."""
        self._journal.close()


def open_file_writer(
    system: FileSystem, auth: Auth, references: References, context: RuntimeContext, retry: RetrySettings
) -> Writer:
    """Return the writer for the file's `mode`. Raises `SpecError` for settings that cannot work."""
    del auth, retry  # the file system knows the user
    target = FileTarget(references.resolve_settings(system), references)
    match system.mode:
        case "append":
            return AppendingWriter(target)
        case "upsert":
            return UpsertingWriter(target, context.clock, system.limits.timeout)
        case "replace":
            return ReplacingWriter(target, context.clock, system.limits.timeout)
