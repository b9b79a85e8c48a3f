"""Reading Parquet in batches: dates, decimals and bytes are converted as for databases."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Final

from speclab.connectors.file.locations import FileRow, RowPosition
from speclab.core.errors import BadResponse, SpecError
from speclab.core.json import Json, Record, to_json

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

_BATCH: Final = 1000
_BUFFER: Final = 1 << 20
"""Bytes per column that are read at once; a row group may be far larger than memory."""


@dataclass(frozen=True, slots=True)
class ArrowFileRow(FileRow):
    """A row of a Parquet file, with its position in a batch."""

    batch: pa.RecordBatch
    index: int


def read_parquet(stream: BinaryIO, name: str, start: RowPosition) -> Iterator[ArrowFileRow]:
    """Yield the records of `stream` from `start`, whose offsets count records. Raise `BadResponse` and `SpecError`."""
    with converting_parquet_read_errors(name):
        file = _opened(stream, name)
        groups, number = _groups_from(file, start.offset)
        skip = start.offset - number
        for batch in file.iter_batches(_BATCH, row_groups=groups, use_threads=False):
            records = convert_batch(batch, name)
            for index in range(min(skip, len(records)), len(records)):
                yield ArrowFileRow(records[index], b"", RowPosition(number + index + 1), batch, index)
            skip = max(0, skip - len(records))
            number += len(records)


def read_schema(stream: BinaryIO, name: str) -> pa.Schema:
    """Return the columns of a Parquet file. Raise `BadResponse` and `SpecError`."""
    with converting_parquet_read_errors(name):
        return _opened(stream, name).schema_arrow


def check_installed() -> None:
    """Raise `SpecError` if pyarrow is not installed."""
    try:
        import pyarrow as pa  # noqa: F401
    except ModuleNotFoundError:
        raise SpecError(
            "Parquet is read and written by pyarrow, which is not installed",
            hint="pip install 'speclab-tui[parquet]' brings it.",
        ) from None


@contextmanager
def converting_parquet_read_errors(name: str) -> Iterator[None]:
    """Convert read errors of pyarrow to `BadResponse`."""
    check_installed()
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, OSError) as error:
        raise BadResponse(f"{name}: cannot be read as Parquet: {str(error).rstrip('.')}") from None


@contextmanager
def converting_parquet_write_errors(name: str) -> Iterator[None]:
    """Convert write errors of pyarrow to `BadResponse`; a full disk stays an `OSError`."""
    import pyarrow as pa

    try:
        yield
    except pa.ArrowException as error:
        raise BadResponse(f"{name}: cannot be written as Parquet: {str(error).rstrip('.')}") from None


def convert_batch(batch: pa.RecordBatch, name: str) -> list[Record]:
    """Return the rows of `batch` as records. Raise `BadResponse` for a date out of range."""
    columns = []
    for field, column in zip(batch.schema, batch.columns, strict=True):
        try:
            columns.append(_values(column))
        except (ValueError, OverflowError) as error:
            raise BadResponse(f"{name}: the column {field.name!r} ({field.type}) cannot be read: {error}") from None
    return [dict(zip(batch.schema.names, row, strict=True)) for row in zip(*columns, strict=True)]


def _opened(stream: BinaryIO, name: str) -> pq.ParquetFile:
    """Open `stream` as a Parquet file. Raise `BadResponse` and pyarrow's errors."""
    import pyarrow.parquet as pq

    file = pq.ParquetFile(stream, buffer_size=_BUFFER, pre_buffer=False)
    names = file.schema_arrow.names
    twice = [each for at, each in enumerate(names) if each in names[:at]]
    if twice:
        raise BadResponse(f"{name}: the column {twice[0]!r} exists twice")
    return file


def _values(column: pa.Array) -> list[Json]:
    """Return the values of `column` as JSON."""
    from pyarrow import types

    kind = column.type
    if types.is_string(kind) or types.is_boolean(kind) or types.is_integer(kind) or _is_finite(column):
        plain: list[Json] = column.to_pylist()
        return plain
    if types.is_timestamp(kind) and kind.unit == "ns":
        return _nanoseconds(column)
    return list(map(to_json, column.to_pylist(maps_as_pydicts="strict")))


def _is_finite(column: pa.Array) -> bool:
    """Whether `column` has floating point numbers that are all finite."""
    from pyarrow import compute, types

    return types.is_floating(column.type) and bool(compute.all(compute.is_finite(column), min_count=0).as_py())


def _nanoseconds(column: pa.Array) -> list[Json]:
    """Return times as text, with nine digits where a Python time has too few."""
    import pyarrow as pa

    fine = column.cast(pa.int64()).to_pylist()
    coarse = pa.array([value if value is None else value // 1000 for value in fine], pa.int64())
    times = coarse.cast(pa.timestamp("us", column.type.tz)).to_pylist()
    found: list[Json] = []
    for value, time in zip(fine, times, strict=True):
        text = to_json(time)
        if isinstance(text, str) and value % 1000:
            seconds, zone = text[:19], text[19:].partition(".")[2][6:] if "." in text else text[19:]
            text = f"{seconds}.{value % 1_000_000_000:09d}{zone}"
        found.append(text)
    return found


def _groups_from(file: pq.ParquetFile, offset: int) -> tuple[list[int], int]:
    """Return the row groups after `offset` records, and the number of records before them."""
    before = 0
    for group in range(file.num_row_groups):
        size = file.metadata.row_group(group).num_rows
        if before + size > offset:
            return list(range(group, file.num_row_groups)), before
        before += size
    return [], before
