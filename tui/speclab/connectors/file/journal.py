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
from speclab.connectors.file.record_format import RecordFormat, RecordOutput
from speclab.connectors.file.settings import FileSystem
from speclab.connectors.file.writer import BATCH, AppendingWriter, FileTarget
from speclab.connectors.secrets.references import References
from speclab.core.clock import Clock
from speclab.core.errors import Unauthorized, Unreachable
from speclab.core.file_lock import try_lock
from speclab.core.json import Json, Record, decode, encode
from speclab.core.outcome import Effect
from speclab.core.state_files import make_private_directory
from speclab.spec.auth import Auth
from speclab.spec.settings import RetrySettings

_CACHE: Final = 8_000
"""KiB of the index of a journal that are in memory."""


class Journal:
    """Keys and records (null for one that was deleted), in the order they were written; the last of a key counts.

    One writer of any process holds it, from before its first entry until the entries are in their place: two that
    merged into one file at once would each leave out what the other has written.
    """

    def __init__(self, path: Path) -> None:
        """The journal at `path`, which is there while a run is on its way."""
        self.path = path
        self._stream: FileIO | None = None

    def exists(self) -> bool:
        """Whether anything was written that is not in its place yet."""
        try:
            return self.path.stat().st_size > 0
        except (FileNotFoundError, NotADirectoryError):
            return False

    def hold(self) -> bool:
        """Hold the journal from now on; False if another writer does. Raises `OSError`.

        The lock is `flock(2)` on the file itself, which its holder may remove: who got one that was removed gets the
        next. A symbolic link is not followed.
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
        """Write `entries` to the disk, all or none. Raises `OSError`, also if another writer holds the journal."""
        append_durably(self._held(), b"".join(encode([key, record]) + b"\n" for key, record in entries))

    @contextmanager
    def entries(self) -> Iterator[Entries]:
        """What is in the journal, to be looked up.

        Raises `OSError`, also where there is no room to index it, and if another writer holds the journal.
        """
        self._held()
        with self.path.open("rb") as stream, closing(sqlite3.connect("", isolation_level=None)) as index:
            try:
                yield Entries(stream, index)
            except sqlite3.Error as error:
                full = error.sqlite_errorcode == sqlite3.SQLITE_FULL
                raise OSError(errno.ENOSPC if full else errno.EIO, f"the index of {self.path.name}: {error}") from None

    def clear(self) -> None:
        """Forget all entries, and hold the journal still. Raises `OSError`."""
        os.ftruncate(self._held().fileno(), 0)

    def close(self) -> None:
        """Let go of the journal; the file stays if there is anything in it."""
        if self._stream is not None:
            if os.fstat(self._stream.fileno()).st_size == 0:
                self.path.unlink(missing_ok=True)
            self._stream.close()
            self._stream = None

    def remove(self) -> None:
        """Forget it all, and let go: it is in its place now."""
        self.path.unlink(missing_ok=True)  # before the lock goes, or it would be the next one's
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def _held(self) -> FileIO:
        if not self.hold():
            raise BlockingIOError(errno.EAGAIN, "another run is writing to this file", os.fspath(self.path))
        assert self._stream is not None  # noqa: S101 - it is held
        return self._stream

    def _is_current(self, stream: FileIO) -> bool:
        """Whether the file that was opened is still the one at the path."""
        try:
            return os.path.samestat(os.fstat(stream.fileno()), self.path.lstat())
        except FileNotFoundError:
            return False

    def _mend(self, stream: FileIO) -> None:
        """Cut off what a crash left half written: nobody was told it was there."""
        with self.path.open("rb") as lines:
            os.ftruncate(stream.fileno(), sum(len(line) for line in lines if line.endswith(b"\n")))


class Entries:
    """The entries of a journal: the last of each key, in the order the keys first came.

    Where each is, is in a database on the disk that SQLite removes by itself: a run's keys need not fit into memory.
    """

    def __init__(self, stream: BinaryIO, index: sqlite3.Connection) -> None:
        """The entries of `stream`, found by an `index` that is empty yet."""
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
        """The record of `key`, once; None if it was deleted, or taken before."""
        found = self._index.execute("SELECT at FROM entry WHERE key = ? AND NOT taken", (key,)).fetchone()
        if found is None:
            return None
        self._index.execute("UPDATE entry SET taken = 1 WHERE key = ?", (key,))
        return self._at(*found)

    def left(self) -> Iterator[Record]:
        """The records that were not taken, without those that were deleted."""
        for found in self._index.execute("SELECT at FROM entry WHERE NOT taken ORDER BY rowid"):
            record = self._at(*found)
            if record is not None:
                yield record

    def _at(self, offset: int) -> Record | None:
        self._stream.seek(offset)
        return _entry(self._stream.readline())[1]


def _places(stream: BinaryIO) -> Iterator[tuple[str, int]]:
    """The key of each entry, and where it begins."""
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
        """A writer to `target`, which waits `wait_budget` seconds for another run that writes to the same file."""
        self._target = target
        self._clock = clock
        self._wait_budget = wait_budget
        self._journal = Journal(target.place.journal)
        self._form: RecordFormat | None = None

    async def write(self, items: Sequence[MappedRecord]) -> Sequence[WriteResult]:
        """One answer an item, in order; what is answered as written is on the disk, in the journal.

        A record that cannot be in the file is refused. Raises `Unreachable` where nothing can be written beside the
        file, and `BadAnswer` where it holds something that nothing can be merged with.
        """
        await self._hold()
        return await asyncio.to_thread(self._write, items)

    async def _hold(self) -> None:
        """Be the only one, of all runs of all specs, that writes to the file. Raises `Unreachable`."""
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
            return  # it is met again when the first record is added, and told as what it is

    def _write(self, items: Sequence[MappedRecord]) -> list[WriteResult]:
        form = self._form = self._form or self._begun()
        answers: list[WriteResult | None] = []
        entries: list[tuple[str, Record | None]] = []
        for item in items:
            key = self._target.key_of(item.payload)
            misfit = None if item.delete or key is None else form.misfit(item.payload)
            if key is None:
                answers.append(WriteResult(error=self._target.keyless()))
            elif misfit is not None:
                answers.append(WriteResult(error=self._target.misfitting(misfit)))
            else:
                answers.append(None)
                entries.append((key, None if item.delete else item.payload))
        write_error = self._target.tried(lambda: self._journal.add(entries)) if entries else None
        refused = WriteResult(error=write_error) if write_error else None
        return [
            answer or refused or WriteResult(Effect.DELETED if item.delete else Effect.WRITTEN)
            for answer, item in zip(answers, items, strict=True)
        ]

    def _begun(self) -> RecordFormat:
        """What the file takes beside what is in the journal already; says early of a place that is out of reach."""
        with suppress(*() if self._merged else (Unauthorized,)):  # who may write need not be let look
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
        """Put the journal's records into the place of the file, together with what it holds if they are merged."""
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
        """Whether the journal is ours, or was left by a run that is over."""
        try:
            return self._journal.hold() and self._journal.exists()
        except OSError as error:
            raise self._kept(error) from None

    def _kept(self, error: OSError) -> Unreachable:
        return Unreachable(f"{self._target.name}: {error.strerror or error}", hint=self._kept_hint())

    def _kept_hint(self) -> str:
        return f"What was written is in {self._journal.path}, and goes into the file with the next run."

    def _merge(self, out: RecordOutput, entries: Entries) -> None:
        """Write the rows of the old file, those of the journal in their place; what is left of that is new."""
        for row in self._target.read_rows():
            key = self._target.key_of(row.record)
            if key is None or key not in entries:
                out.copy(row)
            elif (record := entries.take(key)) is not None:  # else it is deleted, or a second row of its key
                out.add(record)


class UpsertingWriter(_JournaledWriter):
    """Merges records into a file by key; rows of other keys stay as they are, byte for byte."""

    _merged = True

    async def close(self) -> None:
        """Merge what was written into the file.

        Raises `BadAnswer` for a file that cannot be read, `Unreachable` for one that cannot be written; what was
        written stays in the journal then, for the next run.
        """
        try:
            if self._journal.exists() and await asyncio.to_thread(self._holds):  # else it is of a run under way
                await asyncio.to_thread(self._publish)
        finally:
            self._journal.close()


class ReplacingWriter(_JournaledWriter):
    """Makes a file of what one run writes, and of nothing else."""

    _merged = False

    async def begin(self) -> None:
        """Forget what a run that was broken off has left. Raises `Unreachable`."""
        try:
            await self._hold()
            await asyncio.to_thread(self._journal.clear)
        except OSError as error:
            raise Unreachable(f"{self._journal.path}: {error.strerror or error}") from None
        self._form = None

    async def finish(self) -> None:
        """Put the new file in the place of the old one."""
        await self._hold()
        await asyncio.to_thread(self._publish)

    async def close(self) -> None:
        """Close the journal. If the run did not finish, the one that goes on from its checkpoint adds to it."""
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
