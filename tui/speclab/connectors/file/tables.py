"""Tables of text, CSV and TSV: their header, their rows, and the lines that are written to one.

A cell is text and nothing else: no number is guessed. What is written keeps to the line ends the file has.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO, Final

from speclab.connectors.file.layout import Layout
from speclab.connectors.file.lines import limited_lines, too_long
from speclab.connectors.file.packing import undecodable
from speclab.connectors.file.row import Row, Spot
from speclab.connectors.jsontext import encode
from speclab.connectors.unreadable import checked
from speclab.errors import BadAnswer
from speclab.jsonvalue import Json, Record
from speclab.spec.names import meant

_BOM: Final = b"\xef\xbb\xbf"
_ENCODING: Final = "; `encoding` says how a table is encoded, such as cp1252"
csv.field_size_limit(16_000_000)  # as long as a cell may be; a quote that is never closed ends there


@dataclass(frozen=True, slots=True)
class Header:
    """The columns of a table, the line they stand in (empty if they stand in none), and where the rows begin."""

    columns: tuple[str, ...]
    raw: bytes
    end: Spot

    @property
    def line_end(self) -> str:
        """What ends the lines of the table."""
        return "\r\n" if self.raw.endswith(b"\r\n") else "\n"


@dataclass(frozen=True, slots=True)
class Misfit:
    """Why a record cannot be in a file, and the field that is to blame."""

    message: str
    field: str


def header(stream: BinaryIO, name: str, layout: Layout) -> Header | None:
    """The header of the table `stream`; None in an empty file. Raises `BadAnswer`."""
    if layout.columns:
        return Header(layout.columns, b"", Spot())
    found = next(_cells(stream, name, layout, Spot()), None)
    if found is None:
        return None
    names, raw, line, end = found
    if not is_text(raw):
        raise _undecodable(raw, name, line)
    twice = [each for at, each in enumerate(names) if each in names[:at]]
    if twice:
        raise BadAnswer(
            f"{name}:{line}: the column {twice[0]!r} is there twice", hint="Give each a name of its own in the header."
        )
    return Header(tuple(names), raw, end)


def table_rows(stream: BinaryIO, name: str, layout: Layout, start: Spot) -> Iterator[Row]:
    """The records of the table `stream` from `start` on. Raises `BadAnswer` with `name` and line."""
    head = header(stream, name, layout)
    if head is None:
        return
    columns, of = head.columns, "in `columns`" if layout.columns else "in the header"
    for cells, raw, line, end in _cells(stream, name, layout, start if start.offset else head.end):
        if len(cells) != len(columns):
            raise BadAnswer(f"{name}:{line}: expected {len(columns)} cells, as {of}, found {len(cells)}")
        record: Record = dict(zip(columns, cells, strict=True))
        if not is_text(raw):
            record = checked(record, raw, f"{name}:{line}", hint=_ENCODING)
        yield Row(record, raw, end)


def _undecodable(raw: bytes, name: str, line: int) -> BadAnswer:
    """Return the error of a header that is not UTF-8, and stands at the beginning of its file."""
    try:
        raw.decode()
    except UnicodeDecodeError as error:
        return undecodable(name, line + raw[: error.start].count(b"\n"), error.start, raw[error.start], "UTF-8")
    raise AssertionError("it is UTF-8")


class TableLines:
    """Writes the lines of a table of `columns`."""

    def __init__(self, name: str, layout: Layout, columns: Sequence[str], line_end: str = "\n") -> None:
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
            lineterminator="\r\n",  # so that either of the two is quoted within a cell
        )

    def header(self) -> bytes:
        """The line that names the columns."""
        return self._line(self.columns)

    def line(self, record: Record) -> bytes:
        """The line of `record`; fields that are no column are not in it. Raises `ValueError`: see `misfit`."""
        return self._line([cell(record.get(column)) for column in self.columns])

    def misfit(self, record: Record) -> Misfit | None:
        """Why the cells of `record` cannot be written in this dialect and encoding, if they cannot."""
        if self._is_bare and len(self.columns) == 1 and not cell(record.get(self.columns[0])):
            name = self.columns[0]
            return Misfit(f"{self._name}: {name} is empty, which is no line where `quote` is none", name)
        for field, value in record.items() if not self._writes([*record, *map(cell, record.values())]) else ():
            try:
                self._line([field, cell(value)]).decode().encode(self._encoding)
            except UnicodeEncodeError as error:
                odd = ascii(error.object[error.start])
                return Misfit(f"{self._name}: the character {odd} in {field} is not in {self._encoding}", field)
            except csv.Error:
                return Misfit(f"{self._name}: {field} has a delimiter or line end in it, and `quote` is none", field)
        return None

    def foreign(self, record: Record) -> Misfit | None:
        """The first field of `record` that is no column, if there is one."""
        found = next((field for field in record if field not in self.columns), None)
        if found is None:
            return None
        return Misfit(f"{self._name} has no column {found!r}{meant(found, self.columns)}", found)

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


def cell(value: Json) -> str:
    """`value` as the text of a cell: nothing for null, JSON for what is no text."""
    if value is None:
        return ""
    return value if isinstance(value, str) else encode(value).decode()


def is_text(raw: bytes) -> bool:
    """Whether `raw` is UTF-8."""
    try:
        raw.decode()
    except UnicodeDecodeError:
        return False
    return True


def _cells(stream: BinaryIO, name: str, layout: Layout, start: Spot) -> Iterator[tuple[list[str], bytes, int, Spot]]:
    """The rows of a table, blank lines left out: its cells, its bytes, the line it begins in, the place after it."""
    stream.seek(start.offset)
    taken: list[bytes] = []

    def lines() -> Iterator[str]:
        for raw, size in limited_lines(stream):
            if size > len(raw):
                line = spot.line + len(taken)
                raise BadAnswer(f"{name}:{line}: {too_long(raw, size, '').reason}")
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
            raise BadAnswer(f"{name}:{spot.line}: {error}") from None
        raw, line = b"".join(taken), spot.line
        spot = Spot(spot.offset + len(raw), line + len(taken))
        taken.clear()
        if cells:
            yield cells, raw, line, spot
