"""A file as it is written from start to end, in each format."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import BinaryIO, Protocol

from speclab.connectors.file.formats import Format, Row, cell, json_line, table_line
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


def output(stream: BinaryIO, kind: Format, columns: Sequence[str], *, widened: bool) -> Output:
    """The output of a `kind` to `stream`; a table gets `columns`, `widened` if the old file had fewer."""
    match kind:
        case Format.JSONL:
            return _Lines(stream)
        case Format.JSON:
            return _List(stream)
        case Format.CSV | Format.TSV:
            return _Table(stream, kind, columns, widened=widened)


def fields(records: Iterable[Record]) -> list[str]:
    """All fields of `records`, in the order they first come."""
    return list(dict.fromkeys(name for record in records for name in record))


class _Lines:
    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def copy(self, row: Row) -> None:
        self._stream.write(row.raw if row.raw.endswith(b"\n") else row.raw + b"\n")

    def add(self, record: Record) -> None:
        self._stream.write(json_line(record))

    def end(self) -> None:
        pass


class _List:
    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._before = b"[\n"

    def copy(self, row: Row) -> None:
        self.add(row.record)

    def add(self, record: Record) -> None:
        self._stream.write(self._before + encode(record))
        self._before = b",\n"

    def end(self) -> None:
        self._stream.write(b"[]\n" if self._before.startswith(b"[") else b"\n]\n")


class _Table:
    def __init__(self, stream: BinaryIO, kind: Format, columns: Sequence[str], *, widened: bool) -> None:
        self._stream = stream
        self._kind = kind
        self._columns = columns
        self._widened = widened
        if columns:
            stream.write(table_line(columns, kind))

    def copy(self, row: Row) -> None:
        if self._widened:
            self.add(row.record)
        else:
            self._stream.write(row.raw if row.raw.endswith(b"\n") else row.raw + b"\n")

    def add(self, record: Record) -> None:
        self._stream.write(table_line([cell(record.get(name)) for name in self._columns], self._kind))

    def end(self) -> None:
        pass
