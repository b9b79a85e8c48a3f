"""What a file of one format takes: whether a record fits, and how all of them are written."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import BinaryIO, Protocol

import orjson

from speclab.connectors.file.layout import Format, Layout
from speclab.connectors.file.output import Lines, List, Output, Table, fields
from speclab.connectors.file.tables import Header, Misfit, TableLines
from speclab.jsonvalue import Record


class Form(Protocol):
    """How records of a run come into a file."""

    def recall(self, records: Iterable[Record]) -> None:
        """Know of `records` that were taken before, by a run that was broken off."""

    def misfit(self, record: Record) -> Misfit | None:
        """Why `record` cannot be in the file together with what was taken before; if it can, it is taken, too."""

    def output(self, stream: BinaryIO, records: Iterable[Record]) -> Output:
        """Where to write the old rows and `records`, which are all that is new."""


class JsonForm:
    """JSON and JSON Lines, which take every record of text that is some."""

    def __init__(self, name: str, layout: Layout) -> None:
        self._name = name
        self._lines = layout.format is Format.JSONL

    def recall(self, records: Iterable[Record]) -> None:
        """Records have nothing to do with each other."""

    def misfit(self, record: Record) -> Misfit | None:
        """Half a surrogate pair, which a reader of JSON may make of what it likes (RFC 8259, section 8.2)."""
        try:
            orjson.dumps(record)
        except TypeError:  # there is such a half in it, or an integer beyond 64 bits, which is well
            for field, value in record.items():
                try:
                    json.dumps({field: value}, ensure_ascii=False).encode()
                except UnicodeEncodeError:
                    return Misfit(
                        f"{self._name}: {ascii(field)[1:-1]} has half a surrogate pair, which is no text", field
                    )
        return None

    def output(self, stream: BinaryIO, records: Iterable[Record]) -> Output:
        """Lines, or a list."""
        del records
        return Lines(stream) if self._lines else List(stream)


class TableForm:
    """CSV and TSV, which are widened by a field that is new; but not where nothing in the file names the columns."""

    def __init__(self, name: str, layout: Layout, old: Header | None) -> None:
        self._name = name
        self._layout = layout
        self._old = old
        self._lines = self._of(old.columns if old else ())

    def recall(self, records: Iterable[Record]) -> None:
        """Rows have nothing to do with each other."""

    def misfit(self, record: Record) -> Misfit | None:
        """What a cell cannot say, and a field that is no column where there is no header."""
        foreign = self._lines.foreign(record) if self._layout.columns else None
        return foreign or self._lines.misfit(record)

    def output(self, stream: BinaryIO, records: Iterable[Record]) -> Output:
        """A table with the columns it had, and those of `records`."""
        known = self._old.columns if self._old else ()
        return Table(stream, self._of(tuple(dict.fromkeys([*known, *fields(records)]))), self._old)

    def _of(self, columns: tuple[str, ...]) -> TableLines:
        return TableLines(self._name, self._layout, columns, self._old.line_end if self._old else "\n")
