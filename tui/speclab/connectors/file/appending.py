"""Appending to a file: every batch is added in one piece, or not at all."""

from __future__ import annotations

import asyncio
import fcntl
import gzip
import os
from collections.abc import Sequence
from io import FileIO
from typing import cast

from speclab.connectors.base import Answer, Item
from speclab.connectors.file.durable import add_marked, mend
from speclab.connectors.file.output import fields, json_line
from speclab.connectors.file.place import LocalPlace, open_regular
from speclab.connectors.file.tables import TableLines
from speclab.connectors.file.target import BATCH, Target
from speclab.errors import SpecError
from speclab.outcome import Effect
from speclab.spec.systems.file import why_not_append


class AppendingWriter:
    """Adds records to the end of a file. Nothing tells one that was there before from a new one."""

    batch = BATCH
    idempotent = False
    keyed = False
    deletes = False

    def __init__(self, target: Target) -> None:
        """Raises `SpecError` for a file that can only be written whole."""
        reason = why_not_append(target.name, target.layout.format, target.layout.encoding)
        if reason or not isinstance(target.place, LocalPlace):
            raise SpecError(f"mode: {reason}")
        self._target = target
        self._path = target.place.path
        self._mark = self._path.with_name(f".{self._path.name}.adding")
        self._table: TableLines | None = None

    async def write(self, items: Sequence[Item]) -> Sequence[Answer]:
        """One answer an item, in order; what is answered as created is on the disk.

        A record with a field that is no column of the table is refused. Raises `Unreachable` where the file cannot be
        written at all.
        """
        return await asyncio.to_thread(self._write, items)

    async def close(self) -> None:
        """Nothing is held open between batches."""

    def _write(self, items: Sequence[Item]) -> list[Answer]:
        answers: list[Answer | None] = [None] * len(items)
        refusal = self._target.tried(lambda: self._append(items, answers))
        rest = Answer(refusal=refusal) if refusal else Answer(Effect.CREATED)
        return [answer or rest for answer in answers]

    def _append(self, items: Sequence[Item], answers: list[Answer | None]) -> None:
        """Put the lines of `items` on the disk, all or nothing; those that cannot be in the file get their answer."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._opened() as stream:
            mend(stream, self._mark)
            if self._target.layout.is_table:
                lines = self._table_lines(items, answers)
            else:
                lines = [json_line(item.payload) for item in items]
            if lines:
                self._add(stream, b"".join(lines))

    def _opened(self) -> FileIO:
        """The file, open at its end, and locked: another spec may append to it, too, or put a new one in its place."""
        while True:
            stream = cast("FileIO", open_regular(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT, "a+b"))
            fcntl.flock(stream, fcntl.LOCK_EX)
            if os.path.samestat(os.fstat(stream.fileno()), self._path.stat()):
                return stream
            stream.close()

    def _table_lines(self, items: Sequence[Item], answers: list[Answer | None]) -> list[bytes]:
        """The lines of a table for `items`; those with a field that is no column get their answer instead."""
        lines: list[bytes] = []
        table = self._table = self._table or self._found()
        if table is None:  # nor is it there before this batch is
            table = TableLines(self._target.name, self._target.layout, fields(item.payload for item in items))
            lines.append(table.header())
        for index, item in enumerate(items):
            misfit = table.foreign(item.payload) or table.misfit(item.payload)
            if misfit is None:
                lines.append(table.line(item.payload))
            else:
                answers[index] = Answer(refusal=self._target.misfitting(misfit))
        return lines

    def _found(self) -> TableLines | None:
        """The table that is there; None if there is none."""
        head = self._target.header()
        if head is None:
            return None
        return TableLines(self._target.name, self._target.layout, head.columns, head.line_end)

    def _add(self, stream: FileIO, text: bytes) -> None:
        """Append `text`, in the encoding and the packing of the file."""
        encoding = self._target.layout.encoding
        text = text.decode().encode(encoding)
        if self._target.layout.gzipped:
            text = gzip.compress(text)  # a member of its own, as RFC 1952 has it
        elif stream.seek(0, os.SEEK_END):
            last = "\n".encode(encoding)
            stream.seek(-len(last), os.SEEK_END)
            if stream.read() != last:
                text = (self._table.line_end if self._table else "\n").encode(encoding) + text
        add_marked(stream, text, self._mark)
