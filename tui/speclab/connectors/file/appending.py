"""Appending to a file: every batch is added in one piece, or not at all."""

from __future__ import annotations

import asyncio
import gzip
import os
from collections.abc import Sequence

from rapidfuzz import process

from speclab.connectors.base import Answer, Item
from speclab.connectors.file.durable import add
from speclab.connectors.file.formats import Format, cell, json_line, table_line
from speclab.connectors.file.output import fields
from speclab.connectors.file.target import BATCH, Target
from speclab.errors import SpecError
from speclab.outcome import Effect, ErrorClass


class AppendingWriter:
    """Adds records to the end of a file. Nothing tells one that was there before from a new one."""

    batch = BATCH
    idempotent = False
    keyed = False
    deletes = False

    def __init__(self, target: Target) -> None:
        """Raises `SpecError` for a format that has an end after its last record."""
        if target.format is Format.JSON:
            raise SpecError("mode: a JSON list cannot be appended to; use jsonl, or mode upsert or replace")
        self._target = target
        self._columns: list[str] = []

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
        if self._target.format is Format.JSONL:
            lines = [json_line(item.payload) for item in items]
        else:
            lines = self._table_lines(items, answers)
        refusal = self._target.tried(lambda: self._add(b"".join(lines))) if lines else None
        rest = Answer(refusal=refusal) if refusal else Answer(Effect.CREATED)
        return [answer or rest for answer in answers]

    def _table_lines(self, items: Sequence[Item], answers: list[Answer | None]) -> list[bytes]:
        """The lines of a table for `items`; those with a field that is no column get their answer instead."""
        kind = self._target.format
        lines: list[bytes] = []
        self._columns = self._columns or self._target.header()
        if not self._columns:
            self._columns = fields(item.payload for item in items)
            lines.append(table_line(self._columns, kind))
        for index, item in enumerate(items):
            foreign = next((name for name in item.payload if name not in self._columns), None)
            if foreign is None:
                lines.append(table_line([cell(item.payload.get(name)) for name in self._columns], kind))
                continue
            near = process.extractOne(foreign, self._columns, score_cutoff=70)
            message = f"{self._target.name} has no column {foreign!r}" + (
                f". Did you mean {near[0]!r}?" if near else ""
            )
            answers[index] = Answer(refusal=self._target.refusal(ErrorClass.REJECTED, message, field=foreign))
        return lines

    def _add(self, text: bytes) -> None:
        """Append `text` on the disk, all or nothing."""
        path = self._target.path
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a+b", buffering=0) as stream:
            size = stream.seek(0, os.SEEK_END)
            if path.suffix == ".gz":
                text = gzip.compress(text)  # a member of its own, as RFC 1952 has it
            elif size:
                stream.seek(size - 1)
                text = text if stream.read(1) == b"\n" else b"\n" + text
            add(stream, text)
