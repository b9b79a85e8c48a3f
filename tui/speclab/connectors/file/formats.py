"""The records of a file, whatever its format, with the place of every one; JSON, which needs little, is read here."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

from speclab.connectors.file.layout import Format, Layout
from speclab.connectors.file.packing import undecodable
from speclab.connectors.file.parquet import parquet_rows
from speclab.connectors.file.row import Row, Spot
from speclab.connectors.file.tables import table_rows
from speclab.connectors.jsontext import decode
from speclab.errors import BadAnswer


def rows(stream: BinaryIO, name: str, layout: Layout, start: Spot | None = None) -> Iterator[Row]:
    """The records of `stream` (unpacked) from `start` on.

    Raises `BadAnswer` with `name` and line for what cannot be read.
    """
    start = start or Spot()
    match layout.format:
        case Format.JSONL:
            return _json_lines(stream, name, start)
        case Format.JSON:
            return _json_list(stream, name, start)
        case Format.CSV | Format.TSV:
            return table_rows(stream, name, layout, start)
        case Format.PARQUET:
            return parquet_rows(stream, name, start)


def _json_lines(stream: BinaryIO, name: str, start: Spot) -> Iterator[Row]:
    stream.seek(start.offset)
    offset, line = start.offset, start.line
    for raw in stream:
        if raw.strip():
            try:
                record = decode(raw)
            except ValueError as error:
                _check_text(raw, name, line, offset)
                message = f"{name}:{line}: no JSON: {error}"
                raise BadAnswer(message, hint="Expected one JSON object a line.") from None
            if not isinstance(record, dict):
                raise BadAnswer(f"{name}:{line}: expected a JSON object, found {raw[:40].decode(errors='replace')!r}")
            yield Row(record, raw, Spot(offset + len(raw), line + 1))
        offset += len(raw)
        line += 1


def _json_list(stream: BinaryIO, name: str, start: Spot) -> Iterator[Row]:
    """A list is read whole; its spots count records instead of bytes."""
    text = stream.read()
    try:
        found = decode(text)
    except ValueError as error:
        _check_text(text, name, 1, 0)
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


def _check_text(text: bytes, name: str, line: int, offset: int) -> None:
    """Raise `BadAnswer` if `text`, which begins at `line` and `offset`, is not UTF-8."""
    try:
        text.decode()
    except UnicodeDecodeError as error:
        line += text[: error.start].count(b"\n")
        raise undecodable(name, line, offset + error.start, text[error.start], "UTF-8") from None
