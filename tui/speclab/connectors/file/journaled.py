"""Files that are put in their place whole: merged with what they held, by key, or replaced."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from pathlib import Path

from speclab.connectors.base import Answer, Item
from speclab.connectors.file.formats import Format, Row, opened, rows
from speclab.connectors.file.journal import Entries, Journal
from speclab.connectors.file.output import Output, fields, output
from speclab.connectors.file.replacing import replacing
from speclab.connectors.file.target import BATCH, Target
from speclab.errors import Unreachable
from speclab.outcome import Effect


class _JournaledWriter:
    """Takes records into the journal of a file."""

    batch = BATCH
    idempotent = True
    keyed = False
    deletes = True

    def __init__(self, target: Target) -> None:
        self._target = target
        self._journal = Journal(target.path)

    async def write(self, items: Sequence[Item]) -> Sequence[Answer]:
        """One answer an item, in order; what is answered as written is on the disk, in the journal.

        Raises `Unreachable` where nothing can be written beside the file.
        """
        return await asyncio.to_thread(self._write, items)

    def _write(self, items: Sequence[Item]) -> list[Answer]:
        keys = [self._target.key_of(item.payload) for item in items]
        entries = [
            (key, None if item.delete else item.payload)
            for key, item in zip(keys, items, strict=True)
            if key is not None
        ]
        refusal = self._target.tried(lambda: self._journal.add(entries))
        refused = Answer(refusal=refusal) if refusal else None
        return [
            Answer(refusal=self._target.keyless())
            if key is None
            else refused or Answer(Effect.DELETED if item.delete else Effect.WRITTEN)
            for key, item in zip(keys, items, strict=True)
        ]

    def _publish(self, old: Path | None) -> None:
        """Put the journal's records into the place of the file, together with those of the `old` one."""
        columns = self._target.header() if old else []
        try:
            with self._journal.entries() as entries, replacing(self._target.path) as stream:
                wider = self._wider(columns, entries)
                out = output(stream, self._target.format, wider, widened=bool(columns) and wider != columns)
                if old:
                    with opened(old) as before:
                        self._merge(out, rows(before, self._target.name, self._target.format), entries)
                for record in entries.left():
                    out.add(record)
                out.end()
        except OSError as error:
            raise Unreachable(
                f"{self._target.name}: {error.strerror or error}",
                hint=f"What was written is in {self._journal.path}, and goes into the file with the next run.",
            ) from None
        self._journal.remove()

    def _merge(self, out: Output, old: Iterator[Row], entries: Entries) -> None:
        """Write the rows of the `old` file, those of the journal in their place; what is left of that is new."""
        done: set[str] = set()
        for row in old:
            key = self._target.key_of(row.record)
            if key is not None and key in entries:
                done.add(key)
                record = entries.take(key)
                if record is not None:
                    out.add(record)
            elif key not in done:  # a second row of a key that was written goes: one row a key
                out.copy(row)

    def _wider(self, columns: list[str], entries: Entries) -> list[str]:
        """The `columns` of a table and those the journal adds."""
        if self._target.format in (Format.JSON, Format.JSONL):
            return []
        return list(dict.fromkeys([*columns, *fields(entries.left())]))


class UpsertingWriter(_JournaledWriter):
    """Merges records into a file by key; rows of other keys stay as they are, byte for byte."""

    async def close(self) -> None:
        """Merge what was written into the file.

        Raises `BadAnswer` for a file that cannot be read, `Unreachable` for one that cannot be written; what was
        written stays in the journal then, for the next run.
        """
        try:
            if self._journal.exists():
                path = self._target.path
                await asyncio.to_thread(self._publish, path if path.exists() else None)
        finally:
            self._journal.close()


class ReplacingWriter(_JournaledWriter):
    """Makes a file of what one run writes, and of nothing else."""

    async def finish(self) -> None:
        """Put the new file in the place of the old one."""
        await asyncio.to_thread(self._publish, None)

    async def close(self) -> None:
        """Close the journal. If the run did not finish, the one that goes on from its checkpoint adds to it."""
        self._journal.close()
