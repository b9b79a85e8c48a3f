"""Rows of a file: CSV, JSON Lines, JSON and Parquet read as records with their positions."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from json import JSONDecodeError, JSONDecoder
from typing import BinaryIO, Final

from speclab.connectors.api import check_readable, limited_lines, too_long
from speclab.connectors.file.formats import FileFormat, FormatOptions, build_decode_error
from speclab.connectors.file.locations import FileRow, RowPosition
from speclab.connectors.file.parquet import read_parquet
from speclab.core.errors import BadResponse
from speclab.core.json import Json, LenientValue, Record, decode_leniently, encode
from speclab.core.text import format_suggestion

_BOM: Final = b"\xef\xbb\xbf"
_ENCODING: Final = "; `encoding` says how a table is encoded, such as cp1252"
# As long as a cell may be; a quote that is never closed ends there. The csv module has one limit per process, none per
# reader; it is set here because the app, `map` and `fields` read tables as well as runs do.
csv.field_size_limit(16_000_000)


@dataclass(frozen=True, slots=True)
class TableHeader:
    """The columns of a table, the header line (empty if there is none), and the start of the rows."""

    columns: tuple[str, ...]
    raw: bytes
    end: RowPosition

    @property
    def line_end(self) -> str:
        """The line end of the table."""
        return "\r\n" if self.raw.endswith(b"\r\n") else "\n"


@dataclass(frozen=True, slots=True)
class TableMismatch:
    """Why a record cannot be written to a file, and the field that is the cause."""

    message: str
    field: str


def read_header(stream: BinaryIO, name: str, layout: FormatOptions) -> TableHeader | None:
    """Return the header of the table `stream`; None for an empty file. Raise `BadResponse`."""
    if layout.columns:
        return TableHeader(layout.columns, b"", RowPosition())
    found = next(_cells(stream, name, layout, RowPosition()), None)
    if found is None:
        return None
    names, raw, line, end = found
    if not is_text(raw):
        raise _undecodable(raw, name, line)
    twice = [each for at, each in enumerate(names) if each in names[:at]]
    if twice:
        raise BadResponse(
            f"{name}:{line}: the column {twice[0]!r} exists twice", hint="Give each column its own name in the header."
        )
    return TableHeader(tuple(names), raw, end)


def read_table(stream: BinaryIO, name: str, layout: FormatOptions, start: RowPosition) -> Iterator[FileRow]:
    """Yield the records of the table `stream` from `start`. Raise `BadResponse` with `name` and line."""
    head = read_header(stream, name, layout)
    if head is None:
        return
    columns, of = head.columns, "in `columns`" if layout.columns else "in the header"
    for cells, raw, line, end in _cells(stream, name, layout, start if start.offset else head.end):
        if len(cells) != len(columns):
            raise BadResponse(f"{name}:{line}: expected {len(columns)} cells, as {of}, found {len(cells)}")
        record: Record = dict(zip(columns, cells, strict=True))
        if not is_text(raw):
            record = check_readable(record, raw, f"{name}:{line}", hint=_ENCODING)
        yield FileRow(record, raw, end)


def _undecodable(raw: bytes, name: str, line: int) -> BadResponse:
    """Return the error for a header that is not UTF-8."""
    try:
        raw.decode()
    except UnicodeDecodeError as error:
        return build_decode_error(name, line + raw[: error.start].count(b"\n"), error.start, raw[error.start], "UTF-8")
    raise AssertionError("it is UTF-8")


class TableLines:
    """Formats the lines of a table with `columns`."""

    def __init__(self, name: str, layout: FormatOptions, columns: Sequence[str], line_end: str = "\n") -> None:
        self.columns = columns
        self.line_end = line_end
        self._name = name
        self._encoding = layout.encoding
        self._is_bare = not layout.quote
        self._text = io.StringIO(newline="")
        self._writer = csv.writer(
            self._text,
            delimiter=layout.delimiter,
            quotechar=layout.quote or None,
            quoting=csv.QUOTE_MINIMAL if layout.quote else csv.QUOTE_NONE,
            lineterminator="\r\n",  # so that both characters are quoted within a cell
        )

    def format_header(self) -> bytes:
        """Return the header line."""
        return self._line(self.columns)

    def line(self, record: Record) -> bytes:
        """Return the line of `record`; fields without a column are omitted. Raise `ValueError`: see `misfit`."""
        return self._line([format_cell(record.get(column)) for column in self.columns])

    def misfit(self, record: Record) -> TableMismatch | None:
        """Return why the cells of `record` cannot be written in this dialect and encoding; None if they can."""
        if self._is_bare and len(self.columns) == 1 and not format_cell(record.get(self.columns[0])):
            name = self.columns[0]
            return TableMismatch(
                f"{self._name}: {name} is empty, which cannot be written as a line without `quote`", name
            )
        for field, value in record.items() if not self._writes([*record, *map(format_cell, record.values())]) else ():
            try:
                self._line([field, format_cell(value)]).decode().encode(self._encoding)
            except UnicodeEncodeError as error:
                odd = ascii(error.object[error.start])
                return TableMismatch(f"{self._name}: the character {odd} in {field} is not in {self._encoding}", field)
            except csv.Error:
                return TableMismatch(
                    f"{self._name}: {field} contains a delimiter or line end, and `quote` is empty", field
                )
        return None

    def foreign(self, record: Record) -> TableMismatch | None:
        """Return a mismatch for the first field of `record` without a column."""
        found = next((field for field in record if field not in self.columns), None)
        if found is None:
            return None
        return TableMismatch(f"{self._name} has no column {found!r}{format_suggestion(found, self.columns)}", found)

    def _writes(self, cells: Sequence[str]) -> bool:
        try:
            self._line(cells).decode().encode(self._encoding)
        except (UnicodeEncodeError, csv.Error):
            return False
        return True

    def _line(self, cells: Sequence[str]) -> bytes:
        self._text.seek(0)
        self._text.truncate()
        self._writer.writerow(cells)
        return (self._text.getvalue().removesuffix("\r\n") + self.line_end).encode()


def format_cell(value: Json) -> str:
    """Return `value` as the text of a cell: empty for null, JSON for lists and objects."""
    if value is None:
        return ""
    return value if isinstance(value, str) else encode(value).decode()


def is_text(raw: bytes) -> bool:
    """Whether `raw` is valid UTF-8."""
    try:
        raw.decode()
    except UnicodeDecodeError:
        return False
    return True


def _cells(
    stream: BinaryIO, name: str, layout: FormatOptions, start: RowPosition
) -> Iterator[tuple[list[str], bytes, int, RowPosition]]:
    """Yield the rows of a table without blank lines: cells, bytes, first line, and the position after the row."""
    stream.seek(start.offset)
    taken: list[bytes] = []

    def lines() -> Iterator[str]:
        for raw, size in limited_lines(stream):
            if size > len(raw):
                line = spot.line + len(taken)
                raise BadResponse(f"{name}:{line}: {too_long(raw, size, '').reason}")
            taken.append(raw)
            text = raw.removeprefix(_BOM) if start.offset == 0 and len(taken) == 1 else raw
            yield text.decode("utf-8", "surrogateescape")

    reader = csv.reader(
        lines(),
        delimiter=layout.delimiter,
        quotechar=layout.quote or None,
        quoting=csv.QUOTE_MINIMAL if layout.quote else csv.QUOTE_NONE,
        strict=True,
    )
    spot = start
    while True:
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise BadResponse(f"{name}:{spot.line}: {error}") from None
        raw, line = b"".join(taken), spot.line
        spot = RowPosition(spot.offset + len(raw), line + len(taken))
        taken.clear()
        if cells:
            yield cells, raw, line, spot


MAX_LIST: Final = 50_000_000
"""Maximum bytes of a JSON list, decompressed: its text is read whole."""

_MAX_AT_ONCE: Final = 4_000_000
_BLANKS: Final = re.compile(r"[ \t\r\n]*")


def read_rows(
    stream: BinaryIO, name: str, layout: FormatOptions, start: RowPosition | None = None
) -> Iterator[FileRow]:
    """Yield the records of `stream` (decompressed) from `start`.

    Raise `BadResponse` for content that is not in the format.
    """
    start = start or RowPosition()
    match layout.format:
        case FileFormat.JSONL:
            return _json_lines(stream, name, start)
        case FileFormat.JSON:
            return _json_list(stream, name, start)
        case FileFormat.CSV | FileFormat.TSV:
            return read_table(stream, name, layout, start)
        case FileFormat.PARQUET:
            return read_parquet(stream, name, start)


def _json_lines(stream: BinaryIO, name: str, start: RowPosition) -> Iterator[FileRow]:
    stream.seek(start.offset)
    offset, line = start.offset, start.line
    for raw, size in limited_lines(stream):
        end = RowPosition(offset + size, line + 1)
        if size > len(raw):
            yield FileRow(too_long(raw, size, f"{name}:{line}"), raw, end)
        elif raw.strip():
            yield FileRow(_json_line(raw, name, line), raw, end)
        offset, line = end.offset, end.line


def _json_line(raw: bytes, name: str, line: int) -> Record:
    try:
        found = decode_leniently(raw)
    except ValueError as error:
        message = f"{name}:{line}: no JSON: {error}"
        raise BadResponse(message, hint="Expected one JSON object a line.") from None
    if not isinstance(found.value, dict):
        raise BadResponse(f"{name}:{line}: expected a JSON object, found {raw[:40].decode(errors='replace')!r}")
    return found.value if found.is_clean else check_readable(found.value, raw, f"{name}:{line}")


def _json_list(stream: BinaryIO, name: str, start: RowPosition) -> Iterator[FileRow]:
    """Yield the records of a list, which is read whole; its offsets count records instead of bytes."""
    text = stream.read(MAX_LIST + 1)
    if len(text) > MAX_LIST:
        raise BadResponse(
            f"{name}: a list of more than {MAX_LIST:,} bytes, unpacked, which would be read whole",
            hint="Write JSON Lines, one object a line, which is read a page at a time.",
        )
    try:
        entries = _entries(text) if len(text) > _MAX_AT_ONCE else _entries_at_once(text)
        for index, found in enumerate(entries):
            if not isinstance(found.value, dict):
                raise BadResponse(f"{name}: entry {index} of the list is not an object")
            if index >= start.offset:
                place = f"{name}: entry {index} of the list"
                record = found.value if found.is_clean else check_readable(found.value, place=place)
                yield FileRow(record, b"", RowPosition(index + 1, 1))
    except _NoListError as error:
        raise BadResponse(f"{name}:1: expected a list of objects, found {error}") from None
    except ValueError as error:
        line = text[: getattr(error, "pos", 0)].count(b"\n") + 1
        raise BadResponse(f"{name}:{line}: no JSON: {error}") from None


class _NoListError(ValueError):
    """A JSON text is not a list; the message says what it is."""


def _entries_at_once(text: bytes) -> Iterator[LenientValue]:
    found = decode_leniently(text)
    if not isinstance(found.value, list):
        raise _NoListError("an object" if isinstance(found.value, dict) else "a single value")
    return (LenientValue(value, found.is_clean) for value in found.value)


def _entries(text: bytes) -> Iterator[LenientValue]:
    """Yield the entries of a list one by one: parsing all at once takes up to 25 times as much memory."""
    decoded = text.decode("utf-8", "surrogateescape")
    scan, at = (
        JSONDecoder(parse_int=str, parse_float=str).raw_decode,
        _after_blanks(decoded, 1 if decoded.startswith("\ufeff") else 0),
    )
    if not decoded.startswith("[", at):
        raise _NoListError("an object" if decoded.startswith("{", at) else "a single value")
    at = _after_blanks(decoded, at + 1)
    if decoded.startswith("]", at):
        at, ended = at + 1, True
    else:
        ended = False
    while not ended:
        _, end = scan(decoded, at)
        yield decode_leniently(decoded[at:end].encode("utf-8", "surrogateescape"))
        at = _after_blanks(decoded, end)
        ended = decoded.startswith("]", at)
        if not ended and not decoded.startswith(",", at):
            raise JSONDecodeError("Expecting ',' delimiter", decoded, at)
        at = at + 1 if ended else _after_blanks(decoded, at + 1)
    if _after_blanks(decoded, at) < len(decoded):
        raise JSONDecodeError("Extra data", decoded, at)


def _after_blanks(text: str, at: int) -> int:
    found = _BLANKS.match(text, at)
    return found.end() if found else at
