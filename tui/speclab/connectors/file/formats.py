"""The formats of files: from bytes to records and back, with the place of every record.

Text is UTF-8, with or without a byte order mark. A cell of CSV or TSV is text and nothing else: no number is guessed.
"""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import BinaryIO, Final, cast

from speclab.connectors.jsontext import decode, encode
from speclab.errors import BadAnswer, SpecError
from speclab.jsonvalue import Json, Record

_BOM: Final = b"\xef\xbb\xbf"


class Format(StrEnum):
    """How records stand in a file."""

    JSONL = "jsonl"
    JSON = "json"
    CSV = "csv"
    TSV = "tsv"

    @classmethod
    def of(cls, path: str, named: str | None) -> Format:
        """The format `named`, or the one `path` ends in. Raises `SpecError`."""
        if named is not None:
            return cls(named)
        ending = path.removesuffix(".gz").rpartition(".")[2].lower()
        if ending == "ndjson":
            return cls.JSONL
        try:
            return cls(ending)
        except ValueError:
            endings = ", ".join(f".{each}" for each in cls)
            raise SpecError(f"path: {path!r} does not end in one of {endings}; set `format`") from None


@dataclass(frozen=True, slots=True)
class Spot:
    """A place between two records: the offset in bytes (after gunzip), and the number of the line that begins there."""

    offset: int = 0
    line: int = 1


@dataclass(frozen=True, slots=True)
class Row:
    """One record, the bytes it was read from, and the place after it."""

    record: Record
    raw: bytes
    end: Spot


def opened(path: Path) -> BinaryIO:
    """`path`, open for reading, gunzipped if it ends in .gz."""
    return cast("BinaryIO", gzip.open(path, "rb")) if path.suffix == ".gz" else path.open("rb")


def rows(stream: BinaryIO, name: str, kind: Format, start: Spot | None = None) -> Iterator[Row]:
    """The records of `stream` from `start` on.

    Raises `BadAnswer` with `name` and line for what cannot be read.
    """
    start = start or Spot()
    match kind:
        case Format.JSONL:
            return _json_lines(stream, name, start)
        case Format.JSON:
            return _json_list(stream, name, start)
        case Format.CSV | Format.TSV:
            return _table(stream, name, kind, start)


def header(stream: BinaryIO, name: str, kind: Format) -> list[str]:
    """The names of a table's columns; none in an empty file. Raises `BadAnswer`."""
    found = next(_cells(stream, name, kind, Spot()), None)
    names = found[0] if found else []
    twice = [each for at, each in enumerate(names) if each in names[:at]]
    if twice:
        raise BadAnswer(f"{name}:1: the column {twice[0]!r} is there twice")
    return names


def json_line(record: Record) -> bytes:
    """`record` as a line of JSON Lines."""
    return encode(record) + b"\n"


def table_line(cells: Sequence[str], kind: Format) -> bytes:
    """`cells` as a line of a table."""
    out = io.StringIO()
    csv.writer(out, delimiter=_delimiter(kind), lineterminator="\n").writerow(cells)
    return out.getvalue().encode("utf-8", "surrogatepass")


def cell(value: Json) -> str:
    """`value` as the text of a cell: nothing for null, JSON for what is no text."""
    if value is None:
        return ""
    return value if isinstance(value, str) else encode(value).decode()


def _delimiter(kind: Format) -> str:
    return "\t" if kind is Format.TSV else ","


def _json_lines(stream: BinaryIO, name: str, start: Spot) -> Iterator[Row]:
    stream.seek(start.offset)
    offset, line = start.offset, start.line
    for raw in stream:
        offset += len(raw)
        line += 1
        if not raw.strip():
            continue
        try:
            record = decode(raw)
        except ValueError as error:
            raise BadAnswer(f"{name}:{line - 1}: no JSON: {error}", hint="Expected one JSON object a line.") from None
        if not isinstance(record, dict):
            raise BadAnswer(f"{name}:{line - 1}: expected a JSON object, found {raw[:40].decode(errors='replace')!r}")
        yield Row(record, raw, Spot(offset, line))


def _json_list(stream: BinaryIO, name: str, start: Spot) -> Iterator[Row]:
    """A list is read whole; its spots count records instead of bytes."""
    text = stream.read()
    try:
        found = decode(text)
    except ValueError as error:
        line = text[: getattr(error, "pos", 0)].count(b"\n") + 1
        raise BadAnswer(f"{name}:{line}: no JSON: {error}") from None
    if not isinstance(found, list):
        what = "an object" if isinstance(found, dict) else "a single value"
        raise BadAnswer(f"{name}:1: expected a list of objects, found {what}")
    for index, record in enumerate(found):
        if not isinstance(record, dict):
            raise BadAnswer(f"{name}: entry {index} of the list is no object")
        if index >= start.offset:
            yield Row(record, b"", Spot(index + 1, 1))


def _table(stream: BinaryIO, name: str, kind: Format, start: Spot) -> Iterator[Row]:
    names = header(stream, name, kind)
    at = start if start.offset else None
    for cells, raw, end in _cells(stream, name, kind, at or Spot()):
        if at is None:  # the header itself
            at = end
            continue
        if len(cells) != len(names):
            raise BadAnswer(f"{name}:{at.line}: expected {len(names)} cells, as in the header, found {len(cells)}")
        at = end
        yield Row(dict(zip(names, cells, strict=True)), raw, end)


def _cells(stream: BinaryIO, name: str, kind: Format, start: Spot) -> Iterator[tuple[list[str], bytes, Spot]]:
    """The rows of a table as cells, blank lines left out."""
    stream.seek(start.offset)
    taken: list[bytes] = []

    def lines() -> Iterator[str]:
        for raw in stream:
            taken.append(raw)
            yield (raw.removeprefix(_BOM) if start.offset == 0 and len(taken) == 1 else raw).decode("utf-8")

    reader = csv.reader(lines(), delimiter=_delimiter(kind), strict=True)
    spot = start
    while True:
        try:
            cells = next(reader)
        except StopIteration:
            return
        except (csv.Error, UnicodeDecodeError) as error:
            reason = "not UTF-8" if isinstance(error, UnicodeDecodeError) else str(error)
            raise BadAnswer(f"{name}:{spot.line}: {reason}") from None
        raw = b"".join(taken)
        spot = Spot(spot.offset + len(raw), spot.line + len(taken))
        taken.clear()
        if cells:
            yield cells, raw, spot
