"""The file writer, and the formats of the records that it writes."""

from __future__ import annotations

import asyncio
import errno
import gzip
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from io import FileIO
from typing import TYPE_CHECKING, BinaryIO, Final, Protocol, cast

import orjson

from speclab.connectors.api import MappedRecord, UnreadableRecord, WriteError, WriteResult
from speclab.connectors.file.arrow import ParquetRecordFormat
from speclab.connectors.file.formats import (
    FileFormat,
    FormatOptions,
    converting_read_errors,
    open_decoded,
    open_encoded,
)
from speclab.connectors.file.locations import (
    FileRow,
    LocalTargetLocation,
    RowPosition,
    append_with_intent,
    open_regular,
    undo_partial_append,
)
from speclab.connectors.file.parquet import read_schema
from speclab.connectors.file.remote import get_target_location
from speclab.connectors.file.rows import TableHeader, TableLines, TableMismatch, format_cell, read_header, read_rows
from speclab.connectors.file.settings import FileSystem, explain_no_append
from speclab.connectors.secrets.references import References
from speclab.core.errors import BadResponse, SpecError, Unreachable
from speclab.core.json import Record, encode, encode_canonical
from speclab.core.locks import lock
from speclab.core.outcome import Effect, ErrorClass
from speclab.core.paths import FieldPath, PathSyntaxError

if TYPE_CHECKING:
    import pyarrow as pa


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


BATCH: Final = 1000
"""Records that are written at once."""
_PASSING: Final = frozenset({errno.EIO, errno.EAGAIN, errno.EINTR})
"""Errors that may be over when it is tried again; any other is of the path itself, or of the disk."""
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""No record is the cause of these errors, and none may be given up for them."""


class FileTarget:
    """A file as the settings describe it, references resolved."""

    def __init__(self, system: FileSystem, references: References) -> None:
        """Raises `SpecError` for settings that cannot work."""
        self.place = get_target_location(system, references)
        self.name = self.place.name
        self.layout = FormatOptions.of(system.path, system)
        self._key = [_path(text) for text in ((system.key,) if isinstance(system.key, str) else system.key)]

    def columns(self) -> Sequence[str]:
        """The columns that the file says it has, if it is of a kind that does. Raises `BadResponse`."""
        if self.layout.format is FileFormat.PARQUET:
            schema = self._schema()
            return schema.names if schema is not None else ()
        head = self.read_header() if self.layout.is_table else None
        return head.columns if head else ()

    def read_header(self) -> TableHeader | None:
        """Return the header of the existing table; None if there is none. Raise `BadResponse`."""
        if not self.place.exists():
            return TableHeader(self.layout.columns, b"", RowPosition()) if self.layout.columns else None
        with self._opened() as stream:
            return read_header(stream, self.name, self.layout)

    def form(self, *, merged: bool) -> RecordFormat:
        """What the file takes, `merged` with what it holds or as a new one. Raises `BadResponse`."""
        if self.layout.format is FileFormat.PARQUET:
            key = [str(path) for path in self._key]
            return ParquetRecordFormat(self.name, self._schema() if merged else None, self.layout.types, key)
        if not self.layout.is_table:
            return JsonRecordFormat(self.name, self.layout)
        return TableRecordFormat(self.name, self.layout, self.read_header() if merged or self.layout.columns else None)

    def _schema(self) -> pa.Schema | None:
        if not self.place.exists():
            return None
        with self._opened() as stream:
            return read_schema(stream, self.name)

    @contextmanager
    def _opened(self) -> Iterator[BinaryIO]:
        """Yield the decoded content of the file. Raise `BadResponse` if it cannot be read."""
        seeking = self.layout.format is FileFormat.PARQUET
        with (
            converting_read_errors(self.name),
            open_decoded(self.place.opened(seeking=seeking), self.name, self.layout) as stream,
        ):
            yield stream

    def read_rows(self) -> Iterator[FileRow]:
        """What the file holds. Raises `BadResponse` for what cannot be read."""
        with self._opened() as stream:
            for row in read_rows(stream, self.name, self.layout):
                if isinstance(row.record, UnreadableRecord):
                    raise BadResponse(f"{row.record.place}: {row.record.reason}")
                yield row

    @contextmanager
    def replacing(self) -> Iterator[BinaryIO]:
        """Where to write the text that takes the place of the file when the block ends well. Raises `OSError`."""
        with self.place.replacing() as stream, open_encoded(stream, self.layout) as text:
            yield text

    def key_of(self, record: Record) -> str | None:
        """The key of a record, or of a row that was read back as text; None where a part is missing or empty."""
        try:
            parts = [format_cell(path.get(record)) for path in self._key]
        except KeyError:
            return None
        return encode(parts).decode() if all(parts) else None

    def find_target_id(self, record: MappedRecord) -> str | None:
        """Return the key of a mapped record as text; None if it is the key of the record at the source."""
        parts = [path.get(record.payload) for path in self._key]
        text = format_cell(parts[0]) if len(parts) == 1 else encode_canonical(parts).decode()
        return text if text != record.key else None

    def tried(self, work: Callable[[], object]) -> WriteError | None:
        """None if `work` goes well, a refusal for an error that may pass. Raises `Unreachable` for any other."""
        try:
            work()
        except OSError as error:
            reason = f"{self.name}: {error.strerror or error}"
            if error.errno not in _PASSING:
                full = error.errno in _FULL
                hint = (
                    "Make room; the next run goes on from here." if full else "Check `path`, and who may write there."
                )
                raise Unreachable(reason, hint=hint) from None
            return self.write_error(ErrorClass.SERVER, reason)
        return None

    def misfitting(self, misfit: TableMismatch) -> WriteError:
        """The refusal of a record that cannot be in the file."""
        return self.write_error(ErrorClass.REJECTED, misfit.message, field=misfit.field)

    def keyless(self) -> WriteError:
        """The refusal of a record without a key."""
        key = ", ".join(map(str, self._key))
        return self.write_error(ErrorClass.REJECTED, f"the key `{key}` is empty or not mapped", field=key)

    def write_error(self, error_class: ErrorClass, message: str, field: str | None = None) -> WriteError:
        """A refusal of something that surely is not in the file."""
        return WriteError(error_class, message, request=f"write {self.name}", field=field, sent=False)


def _path(text: str) -> FieldPath:
    try:
        return FieldPath.parse(text)
    except PathSyntaxError as error:
        raise SpecError(f"key: {text!r} is not a valid path: {error}") from None


class AppendingWriter:
    """Appends records to a file. It cannot recognize records that are already in the file."""

    batch = BATCH
    idempotent = False
    keyed = False
    deletes = False

    def __init__(self, target: FileTarget) -> None:
        """Raises `SpecError` for a file that can only be written whole."""
        reason = explain_no_append(target.name, target.layout.format, target.layout.encoding)
        if reason or not isinstance(target.place, LocalTargetLocation):
            raise SpecError(f"mode: {reason}")
        self._target = target
        self._path = target.place.path
        self._mark = self._path.with_name(f".{self._path.name}.adding")
        self._table: TableLines | None = None

    async def write(self, items: Sequence[MappedRecord]) -> Sequence[WriteResult]:
        """Return one result per record, in order; a created record is on the disk.

        A record with a field that has no column fails. Raise `Unreachable` if the file cannot be written.
        """
        return await asyncio.to_thread(self._write, items)

    async def close(self) -> None:
        """Nothing is held open between batches."""

    def _write(self, items: Sequence[MappedRecord]) -> list[WriteResult]:
        results: list[WriteResult | None] = [None] * len(items)
        write_error = self._target.tried(lambda: self._append(items, results))
        rest = WriteResult(error=write_error) if write_error else WriteResult(Effect.CREATED)
        return [result or rest for result in results]

    def _append(self, items: Sequence[MappedRecord], results: list[WriteResult | None]) -> None:
        """Append the lines of `items` durably, all or none; records that do not fit get their write error."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._opened() as stream:
            undo_partial_append(stream, self._mark)
            if self._target.layout.is_table:
                lines = self._table_lines(items, results)
            else:
                lines = [format_json_line(item.payload) for item in items]
            if lines:
                self._add(stream, b"".join(lines))

    def _opened(self) -> FileIO:
        """Open the file for appending and lock it: another spec may append to it or replace it."""
        while True:
            stream = cast("FileIO", open_regular(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT, "a+b"))
            lock(stream.fileno())
            if os.path.samestat(os.fstat(stream.fileno()), self._path.stat()):
                return stream
            stream.close()

    def _table_lines(self, items: Sequence[MappedRecord], results: list[WriteResult | None]) -> list[bytes]:
        """Return the lines of a table for `items`; records with a field that has no column get their write error."""
        lines: list[bytes] = []
        table = self._table = self._table or self._found()
        if table is None:  # the table does not exist before this batch
            table = TableLines(self._target.name, self._target.layout, collect_fields(item.payload for item in items))
            lines.append(table.format_header())
        for index, item in enumerate(items):
            misfit = table.foreign(item.payload) or table.misfit(item.payload)
            if misfit is None:
                lines.append(table.line(item.payload))
            else:
                results[index] = WriteResult(error=self._target.misfitting(misfit))
        return lines

    def _found(self) -> TableLines | None:
        """Return the existing table; None if there is none."""
        head = self._target.read_header()
        if head is None:
            return None
        return TableLines(self._target.name, self._target.layout, head.columns, head.line_end)

    def _add(self, stream: FileIO, text: bytes) -> None:
        """Append `text` in the encoding and compression of the file."""
        encoding = self._target.layout.encoding
        text = text.decode().encode(encoding)
        if self._target.layout.gzipped:
            text = gzip.compress(text)  # a separate member (RFC 1952)
        elif stream.seek(0, os.SEEK_END):
            last = "\n".encode(encoding)
            stream.seek(-len(last), os.SEEK_END)
            if stream.read() != last:
                text = (self._table.line_end if self._table else "\n").encode(encoding) + text
        append_with_intent(stream, text, self._mark)
