"""Writing records as JSON Lines, a JSON list, or a table."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import BinaryIO, Protocol

import orjson

from speclab.connectors.file.formats import FileFormat, FormatOptions
from speclab.connectors.file.locations import FileRow
from speclab.connectors.file.rows import TableHeader, TableLines, TableMismatch
from speclab.core.json import Record, encode


class RecordOutput(Protocol):
    """Takes records one by one."""

    def copy(self, row: FileRow) -> None:
        """Write a record of the old file, byte for byte where the format allows it."""

    def add(self, record: Record) -> None:
        """Write a new record."""

    def end(self) -> None:
        """Write the end of the file, after the last record."""

    def close(self) -> None:
        """Release open resources, whether or not the output is complete."""


def collect_fields(records: Iterable[Record]) -> list[str]:
    """All fields of `records`, in the order they first come."""
    return list(dict.fromkeys(name for record in records for name in record))


def format_json_line(record: Record) -> bytes:
    """`record` as a line of JSON Lines."""
    return encode(record) + b"\n"


class LinesOutput:
    """JSON Lines."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def copy(self, row: FileRow) -> None:
        """Write the line as it was."""
        self._stream.write(row.raw if row.raw.endswith(b"\n") else row.raw + b"\n")

    def add(self, record: Record) -> None:
        """Write a line."""
        self._stream.write(format_json_line(record))

    def end(self) -> None:
        """Do nothing: the last line needs no end."""

    def close(self) -> None:
        """Do nothing: no resource is open."""


class ListOutput:
    """A JSON list, one record a line."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._before = b"[\n"

    def copy(self, row: FileRow) -> None:
        """Write the record again."""
        self.add(row.record)

    def add(self, record: Record) -> None:
        """Write an entry."""
        self._stream.write(self._before + encode(record))
        self._before = b",\n"

    def end(self) -> None:
        """Close the list."""
        self._stream.write(b"[]\n" if self._before.startswith(b"[") else b"\n]\n")

    def close(self) -> None:
        """Do nothing: no resource is open."""


class TableOutput:
    """CSV or TSV: the `old` header and rows as they were, unless there are more columns now."""

    def __init__(self, stream: BinaryIO, lines: TableLines, old: TableHeader | None) -> None:
        self._stream = stream
        self._lines = lines
        self._line_end = (old.line_end if old else "\n").encode()
        self._same = old is not None and list(old.columns) == list(lines.columns)
        if old is not None and self._same:
            self._whole(old.raw)
        elif lines.columns:
            stream.write(lines.format_header())

    def copy(self, row: FileRow) -> None:
        """Write the row unchanged, or with the new columns."""
        if self._same:
            self._whole(row.raw)
        else:
            self.add(row.record)

    def add(self, record: Record) -> None:
        """Write a row."""
        self._stream.write(self._lines.line(record))

    def end(self) -> None:
        """Do nothing: the last line needs no end."""

    def close(self) -> None:
        """Do nothing: no resource is open."""

    def _whole(self, raw: bytes) -> None:
        """Write a line and add a missing line end; without a header nothing."""
        self._stream.write(raw if not raw or raw.endswith(b"\n") else raw + self._line_end)


class RecordFormat(Protocol):
    """How the records of a run are written to a file."""

    def recall(self, records: Iterable[Record]) -> None:
        """Add `records` that an interrupted run wrote."""

    def misfit(self, record: Record) -> TableMismatch | None:
        """Return why `record` does not fit the file and the records added before; if it fits, it is added."""

    def output(self, stream: BinaryIO, records: Iterable[Record]) -> RecordOutput:
        """Return the output for the old rows and `records`, which are all new records."""


class JsonRecordFormat:
    """JSON and JSON Lines, which accept every record with valid text."""

    def __init__(self, name: str, layout: FormatOptions) -> None:
        self._name = name
        self._lines = layout.format is FileFormat.JSONL

    def recall(self, records: Iterable[Record]) -> None:
        """Do nothing: records are independent of each other."""

    def misfit(self, record: Record) -> TableMismatch | None:
        """Return a mismatch for half a surrogate pair, for which readers of JSON differ (RFC 8259, section 8.2)."""
        try:
            orjson.dumps(record)
        except TypeError:  # it contains such a half, or an integer beyond 64 bits, which is valid
            for field, value in record.items():
                try:
                    json.dumps({field: value}, ensure_ascii=False).encode()
                except UnicodeEncodeError:
                    return TableMismatch(
                        f"{self._name}: {ascii(field)[1:-1]} contains half a surrogate pair, which is not valid text",
                        field,
                    )
        return None

    def output(self, stream: BinaryIO, records: Iterable[Record]) -> RecordOutput:
        """Return an output for lines or a list."""
        del records
        return LinesOutput(stream) if self._lines else ListOutput(stream)


class TableRecordFormat:
    """CSV and TSV, which get a column for a new field; a file without a header does not."""

    def __init__(self, name: str, layout: FormatOptions, old: TableHeader | None) -> None:
        self._name = name
        self._layout = layout
        self._old = old
        self._lines = self._of(old.columns if old else ())

    def recall(self, records: Iterable[Record]) -> None:
        """Do nothing: rows are independent of each other."""

    def misfit(self, record: Record) -> TableMismatch | None:
        """Return why a cell cannot store a value, or, without a header, which field has no column."""
        foreign = self._lines.foreign(record) if self._layout.columns else None
        return foreign or self._lines.misfit(record)

    def output(self, stream: BinaryIO, records: Iterable[Record]) -> RecordOutput:
        """Return an output with the columns of the table, and those of `records`."""
        known = self._old.columns if self._old else ()
        return TableOutput(stream, self._of(tuple(dict.fromkeys([*known, *collect_fields(records)]))), self._old)

    def _of(self, columns: tuple[str, ...]) -> TableLines:
        return TableLines(self._name, self._layout, columns, self._old.line_end if self._old else "\n")
