"""The records of a file, whatever its format, with the place of every one; JSON, which needs little, is read here."""

from __future__ import annotations

import re
from collections.abc import Iterator
from json import JSONDecodeError, JSONDecoder
from typing import BinaryIO, Final

from speclab.connectors.file.layout import Format, Layout
from speclab.connectors.file.lines import limited_lines, too_long
from speclab.connectors.file.parquet import parquet_rows
from speclab.connectors.file.row import Row, Spot
from speclab.connectors.file.tables import table_rows
from speclab.connectors.jsontext import Lenient, decode_leniently
from speclab.connectors.unreadable import checked
from speclab.errors import BadAnswer
from speclab.jsonvalue import Record

MAX_LIST: Final = 50_000_000
"""Bytes of a JSON list, unpacked: its text is read whole."""

_MAX_AT_ONCE: Final = 4_000_000
_BLANKS: Final = re.compile(r"[ \t\r\n]*")


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
    for raw, size in limited_lines(stream):
        end = Spot(offset + size, line + 1)
        if size > len(raw):
            yield Row(too_long(raw, size, f"{name}:{line}"), raw, end)
        elif raw.strip():
            yield Row(_json_line(raw, name, line), raw, end)
        offset, line = end.offset, end.line


def _json_line(raw: bytes, name: str, line: int) -> Record:
    try:
        found = decode_leniently(raw)
    except ValueError as error:
        message = f"{name}:{line}: no JSON: {error}"
        raise BadAnswer(message, hint="Expected one JSON object a line.") from None
    if not isinstance(found.value, dict):
        raise BadAnswer(f"{name}:{line}: expected a JSON object, found {raw[:40].decode(errors='replace')!r}")
    return found.value if found.is_clean else checked(found.value, raw, f"{name}:{line}")


def _json_list(stream: BinaryIO, name: str, start: Spot) -> Iterator[Row]:
    """A list is read whole; its spots count records instead of bytes."""
    text = stream.read(MAX_LIST + 1)
    if len(text) > MAX_LIST:
        raise BadAnswer(
            f"{name}: a list of more than {MAX_LIST:,} bytes, unpacked, which would be read whole",
            hint="Write JSON Lines, one object a line, which is read a page at a time.",
        )
    try:
        entries = _entries(text) if len(text) > _MAX_AT_ONCE else _entries_at_once(text)
        for index, found in enumerate(entries):
            if not isinstance(found.value, dict):
                raise BadAnswer(f"{name}: entry {index} of the list is no object")
            if index >= start.offset:
                place = f"{name}: entry {index} of the list"
                record = found.value if found.is_clean else checked(found.value, place=place)
                yield Row(record, b"", Spot(index + 1, 1))
    except _NoListError as error:
        raise BadAnswer(f"{name}:1: expected a list of objects, found {error}") from None
    except ValueError as error:
        line = text[: getattr(error, "pos", 0)].count(b"\n") + 1
        raise BadAnswer(f"{name}:{line}: no JSON: {error}") from None


class _NoListError(ValueError):
    """A JSON text that is no list; says what it is."""


def _entries_at_once(text: bytes) -> Iterator[Lenient]:
    found = decode_leniently(text)
    if not isinstance(found.value, list):
        raise _NoListError("an object" if isinstance(found.value, dict) else "a single value")
    return (Lenient(value, found.is_clean) for value in found.value)


def _entries(text: bytes) -> Iterator[Lenient]:
    """Read the entries of a list one by one: all of them at once would take up to 25 times as much memory."""
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
