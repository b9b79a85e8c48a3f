"""A file as it is written from start to end, in each format."""

from __future__ import annotations

from collections.abc import Iterable
from typing import BinaryIO, Protocol

from speclab.connectors.file.row import Row
from speclab.connectors.file.tables import Header, TableLines
from speclab.connectors.jsontext import encode
from speclab.jsonvalue import Record


class Output(Protocol):
    """Takes records one by one."""

    def copy(self, row: Row) -> None:
        """Write a record of the old file, byte for byte where the format allows it."""

    def add(self, record: Record) -> None:
        """Write a new record."""

    def end(self) -> None:
        """Write what stands after the last record."""

    def close(self) -> None:
        """Let go of what is held open, whether it came to the end or not."""


def fields(records: Iterable[Record]) -> list[str]:
    """All fields of `records`, in the order they first come."""
    return list(dict.fromkeys(name for record in records for name in record))


def json_line(record: Record) -> bytes:
    """`record` as a line of JSON Lines."""
    return encode(record) + b"\n"


class Lines:
    """JSON Lines."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def copy(self, row: Row) -> None:
        """Write the line as it was."""
        self._stream.write(row.raw if row.raw.endswith(b"\n") else row.raw + b"\n")

    def add(self, record: Record) -> None:
        """Write a line."""
        self._stream.write(json_line(record))

    def end(self) -> None:
        """Nothing stands after the last line."""

    def close(self) -> None:
        """Nothing is held open."""


class List:
    """A JSON list, one record a line."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._before = b"[\n"

    def copy(self, row: Row) -> None:
        """Write the record anew."""
        self.add(row.record)

    def add(self, record: Record) -> None:
        """Write an entry."""
        self._stream.write(self._before + encode(record))
        self._before = b",\n"

    def end(self) -> None:
        """Close the list."""
        self._stream.write(b"[]\n" if self._before.startswith(b"[") else b"\n]\n")

    def close(self) -> None:
        """Nothing is held open."""


class Table:
    """CSV or TSV: the `old` header and rows as they were, unless there are more columns now."""

    def __init__(self, stream: BinaryIO, lines: TableLines, old: Header | None) -> None:
        self._stream = stream
        self._lines = lines
        self._line_end = (old.line_end if old else "\n").encode()
        self._same = old is not None and list(old.columns) == list(lines.columns)
        if old is not None and self._same:
            self._whole(old.raw)
        elif lines.columns:
            stream.write(lines.header())

    def copy(self, row: Row) -> None:
        """Write the row as it was, or with the columns that are new."""
        if self._same:
            self._whole(row.raw)
        else:
            self.add(row.record)

    def add(self, record: Record) -> None:
        """Write a row."""
        self._stream.write(self._lines.line(record))

    def end(self) -> None:
        """Nothing stands after the last row."""

    def close(self) -> None:
        """Nothing is held open."""

    def _whole(self, raw: bytes) -> None:
        """Write a line, which may have been the last one and without an end; no line of a file without a header."""
        self._stream.write(raw if not raw or raw.endswith(b"\n") else raw + self._line_end)
