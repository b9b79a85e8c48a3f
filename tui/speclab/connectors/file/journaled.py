"""Files that are put in their place whole: merged with what they held, by key, or replaced."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import closing, suppress
from typing import Final

from speclab.clock import Clock
from speclab.connectors.base import Answer, Item
from speclab.connectors.file.form import Form
from speclab.connectors.file.journal import Entries, Journal
from speclab.connectors.file.output import Output
from speclab.connectors.file.target import BATCH, Target
from speclab.errors import Unauthorized, Unreachable
from speclab.jsonvalue import Record
from speclab.outcome import Effect

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

    def __init__(self, target: Target, clock: Clock, patience: float) -> None:
        """A writer to `target`, which waits `patience` seconds for another run that writes to the same file."""
        self._target = target
        self._clock = clock
        self._patience = patience
        self._journal = Journal(target.place.journal)
        self._form: Form | None = None

    async def write(self, items: Sequence[Item]) -> Sequence[Answer]:
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
                if waited >= self._patience:
                    raise Unreachable(
                        f"{self._target.name}: another run is writing to this file",
                        hint="Two specs with one target file take turns: give them schedules, or files, of their own.",
                    )
                await self._clock.sleep(_LOOK_AGAIN)
                waited += _LOOK_AGAIN
        except OSError:
            return  # it is met again when the first record is added, and told as what it is

    def _write(self, items: Sequence[Item]) -> list[Answer]:
        form = self._form = self._form or self._begun()
        answers: list[Answer | None] = []
        entries: list[tuple[str, Record | None]] = []
        for item in items:
            key = self._target.key_of(item.payload)
            misfit = None if item.delete or key is None else form.misfit(item.payload)
            if key is None:
                answers.append(Answer(refusal=self._target.keyless()))
            elif misfit is not None:
                answers.append(Answer(refusal=self._target.misfitting(misfit)))
            else:
                answers.append(None)
                entries.append((key, None if item.delete else item.payload))
        refusal = self._target.tried(lambda: self._journal.add(entries)) if entries else None
        refused = Answer(refusal=refusal) if refusal else None
        return [
            answer or refused or Answer(Effect.DELETED if item.delete else Effect.WRITTEN)
            for answer, item in zip(answers, items, strict=True)
        ]

    def _begun(self) -> Form:
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

    def _merge(self, out: Output, entries: Entries) -> None:
        """Write the rows of the old file, those of the journal in their place; what is left of that is new."""
        for row in self._target.rows():
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
