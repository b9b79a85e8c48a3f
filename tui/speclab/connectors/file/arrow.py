"""Writing Parquet: records as Arrow columns, checked against their types."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import time
from functools import lru_cache
from math import inf
from typing import TYPE_CHECKING, BinaryIO, Final

from speclab.connectors.file.locations import FileRow
from speclab.connectors.file.parquet import ArrowFileRow, converting_parquet_write_errors
from speclab.connectors.file.rows import TableMismatch
from speclab.core.errors import BadResponse
from speclab.core.json import NO_NUMBERS, Json, Record, encode, to_json

if TYPE_CHECKING:
    import pyarrow as pa


_EXACT: Final = 2**53
"""Every integer up to this limit is exact as a double (IEEE 754 binary64)."""
_IN_WORDS: Final = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}


@dataclass(frozen=True, slots=True)
class _Column:
    """The type of a column: `fixed`, or the kind of its values so far (None: only nulls)."""

    fixed: pa.DataType | None = None
    fits: Callable[[Json], bool] | None = None  # whether the fixed type can store a value
    kind: type | None = None
    exact: bool = True  # whether all integers so far are exact as doubles
    nullable: bool = True

    def takes(self, value: Json) -> _Column | None:
        """Return the column after `value`; None if the value does not fit."""
        if value is None:
            return self if self.nullable else None
        if self.fits is not None:
            return self if self.fits(value) else None
        kind: type = str if isinstance(value, dict | list) else type(value)
        if self.kind is not str and type(value) is str and value in NO_NUMBERS:
            kind = float
        if isinstance(value, str) and not _is_text(value):
            return None
        if kind is int and isinstance(value, int) and not -(2**63) <= value < 2**63:
            return None
        exact = self.exact and (kind is not int or (isinstance(value, int) and abs(value) <= _EXACT))
        if self.kind in (None, kind):
            return self if self.kind is kind and exact == self.exact else _Column(kind=kind, exact=exact)
        if {self.kind, kind} == {int, float} and exact:
            return _Column(kind=float)
        return None

    def arrow(self) -> pa.DataType:
        """Return the Arrow type; text for a column without values."""
        import pyarrow as pa

        if self.fixed is not None:
            return self.fixed
        return {bool: pa.bool_(), int: pa.int64(), float: pa.float64()}.get(self.kind or str, pa.string())

    def in_words(self) -> str:
        """Return the content of the column for a message."""
        return str(self.fixed) if self.fixed is not None else _IN_WORDS.get(self.kind or str, "text")


class ArrowColumns:
    """The columns of one file, extended record by record."""

    def __init__(self, name: str, old: pa.Schema | None, declared: Mapping[str, str], key: Sequence[str]) -> None:
        """Create columns from the `old` file and the `declared` types; if there are none, from the `key`.

        Raise `SpecError` for conflicting types.
        """
        from pyarrow import types

        self._name = name
        self._old = old
        self._key = key
        self._known: dict[str, _Column] = {}
        for field in old or ():
            is_open = types.is_null(field.type)
            self._known[field.name] = _Column() if is_open else _fixed(field.type, nullable=field.nullable)
        for column, text in declared.items():
            kind, before = parse_arrow_type(text), self._known.get(column, _Column())
            if before.fixed not in (None, kind):
                raise BadResponse(
                    f"{name}: the column {column!r} is {before.fixed} in the file, and {text} in `types`",
                    hint="An upsert keeps what the file has; mode replace creates a new file.",
                )
            self._known[column] = before if before.fixed == kind else _fixed(kind, nullable=True)
        self._needed = [column for column, known in self._known.items() if not known.nullable]

    def misfit(self, record: Record) -> TableMismatch | None:
        """Return why `record` does not fit; if it fits, its types are added."""
        changed: dict[str, _Column] = {}
        for name, value in record.items():
            column = self._known.get(name) or _Column()
            after = column.takes(value)
            if after is None:
                message = f"{self._name}: the column {name!r} holds {column.in_words()}; found {_shown(value)}"
                return TableMismatch(message, name)
            if after is not column or name not in self._known:
                changed[name] = after
        for name in self._needed:
            if name not in record:
                return TableMismatch(
                    f"{self._name}: the column {name!r} takes no null, and the record has no {name}", name
                )
        self._known |= changed
        return None

    def schema(self) -> pa.Schema:
        """Return the current columns as a schema, with the metadata of the old file."""
        import pyarrow as pa

        known = self._known or dict.fromkeys(self._key, _Column())
        fields = [pa.field(name, column.arrow(), column.nullable) for name, column in known.items()]
        if self._old is not None:
            count = len(self._old)
            fields[:count] = [old.with_type(new.type) for old, new in zip(self._old, fields, strict=False)]
        return pa.schema(fields, self._old.metadata if self._old is not None else None)


def build_batch(records: Sequence[Record], schema: pa.Schema) -> pa.RecordBatch:
    """Return `records`, which fit, as a batch of `schema`."""
    import pyarrow as pa

    columns = [_array([record.get(field.name) for record in records], field.type) for field in schema]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def parse_arrow_type(text: str) -> pa.DataType:
    """Return the Arrow type for a name in `types`."""
    import pyarrow as pa

    decimal = re.fullmatch(r"decimal\((\d+), *(\d+)\)", text)
    if decimal is not None:
        return pa.decimal128(int(decimal[1]), int(decimal[2]))
    return {
        "text": pa.string(),
        "integer": pa.int64(),
        "number": pa.float64(),
        "boolean": pa.bool_(),
        "date": pa.date32(),
        "datetime": pa.timestamp("us", "UTC"),
        "binary": pa.binary(),
    }[text]


def _fixed(kind: pa.DataType, *, nullable: bool) -> _Column:
    """Return a column of the type `kind`, which accepts only values it stores exactly."""
    import pyarrow as pa

    way = _way(kind)

    def tried(value: Json) -> bool:
        if type(value) not in way.takes:
            return False
        try:
            array = _array([value], kind)
            if not way.looked_at:
                return True
            (found,) = array.to_pylist(maps_as_pydicts="strict")
            return _without_nulls(to_json(found)) == _without_nulls(value)
        except (pa.ArrowException, ValueError, OverflowError, TypeError):
            return False

    return _Column(kind, way.check or tried, nullable=nullable)


@dataclass(frozen=True, slots=True)
class _Conversion:
    """How JSON is converted to a type: a conversion per value, an intermediate type, and a check of the value."""

    made: Callable[[Json], object] | None = None
    through: pa.DataType | None = None
    check: Callable[[Json], bool] | None = None
    takes: tuple[type, ...] = (str,)
    looked_at: bool = False


@lru_cache(maxsize=256)
def _way(kind: pa.DataType) -> _Conversion:
    import pyarrow as pa
    from pyarrow import types

    text, by_text, bytes_ = _Conversion(_text, check=_is_text), _Conversion(through=pa.string()), _Conversion(_bytes)
    ways: tuple[tuple[Callable[[pa.DataType], bool], Callable[[], _Conversion]], ...] = (
        (types.is_boolean, lambda: _Conversion(check=lambda value: isinstance(value, bool))),
        (types.is_integer, lambda: _Conversion(check=_within(kind))),
        (types.is_floating, lambda: _Conversion(_number, check=_near(kind))),
        (types.is_string, lambda: text),
        (types.is_large_string, lambda: text),
        (types.is_string_view, lambda: text),
        (types.is_date, lambda: by_text),
        (types.is_timestamp, lambda: by_text),
        (types.is_decimal, lambda: _Conversion(str, pa.string(), takes=(int, float, str))),
        (types.is_time, lambda: _Conversion(_time, looked_at=True)),
        (types.is_binary, lambda: bytes_),
        (types.is_large_binary, lambda: bytes_),
        (types.is_fixed_size_binary, lambda: bytes_),
        (types.is_dictionary, lambda: _way(kind.value_type)),
        (types.is_nested, lambda: _Conversion(takes=(dict, list), looked_at=True)),
    )
    return next((way() for matches, way in ways if matches(kind)), _Conversion(takes=()))


def _within(kind: pa.DataType) -> Callable[[Json], bool]:
    """Whether a value is an integer in the range of the integer type `kind`."""
    from pyarrow import types

    bits: int = kind.bit_width
    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if types.is_signed_integer(kind) else (0, (1 << bits) - 1)
    return lambda value: type(value) is int and low <= value <= high


def _near(kind: pa.DataType) -> Callable[[Json], bool]:
    """Whether a value is in the range of a floating type `kind`; integers must be exact, fractions are rounded."""
    whole, reach = {16: (2**11, 65504.0), 32: (2**24, 3.4028234663852886e38)}.get(kind.bit_width, (_EXACT, inf))

    def near(value: Json) -> bool:
        if type(value) is float:
            return abs(value) <= reach
        return abs(value) <= whole if type(value) is int else type(value) is str and value in NO_NUMBERS

    return near


def _array(values: Sequence[Json], kind: pa.DataType) -> pa.Array:
    """Return `values` as an array of `kind`."""
    import pyarrow as pa
    from pyarrow import types

    way = _way(kind)
    made = way.made
    found: Iterable[object] = values if made is None else [None if value is None else made(value) for value in values]
    if types.is_date64(kind):  # Arrow does not cast text to it
        return pa.array(found, pa.string()).cast(pa.date32()).cast(kind)
    return pa.array(found, way.through or kind).cast(kind)


def _text(value: Json) -> str:
    return value if isinstance(value, str) else encode(value).decode()


def _number(value: Json) -> Json:
    """Return `value`, a number or one of `NO_NUMBERS`, for Arrow."""
    return float(value) if type(value) is str else value


def _bytes(value: Json) -> bytes:
    return base64.b64decode(str(value), validate=True)


def _time(value: Json) -> time:
    return time.fromisoformat(str(value))


def _is_text(value: Json) -> bool:
    """Whether `value` can be stored as UTF-8 text or as JSON; half a surrogate pair cannot."""
    if not isinstance(value, str):
        return isinstance(value, dict | list)
    try:
        value.isascii() or value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _without_nulls(value: Json) -> Json:
    """Return `value` without null fields, which is how a struct omits fields."""
    if isinstance(value, dict):
        return {name: _without_nulls(inner) for name, inner in value.items() if inner is not None}
    return [_without_nulls(inner) for inner in value] if isinstance(value, list) else value


def _shown(value: Json) -> str:
    text = encode(value).decode()
    return text if len(text) <= 60 else f"{text[:59]}…"


_RECORDS: Final = 1000
"""Records buffered before they become a batch, which takes far less memory."""
_GROUP_ROWS: Final = 200_000
_GROUP_BYTES: Final = 16_000_000


class ParquetRecordFormat:
    """Parquet, whose columns have types."""

    def __init__(self, name: str, old: pa.Schema | None, declared: Mapping[str, str], key: Sequence[str]) -> None:
        """Create a format with the columns of the `old` file, if they stay, and the `declared` types of the spec."""
        self._name = name
        self._columns = ArrowColumns(name, old, declared, key)

    def recall(self, records: Iterable[Record]) -> None:
        """Add the types of `records`, which fit."""
        for record in records:
            self._columns.misfit(record)

    def misfit(self, record: Record) -> TableMismatch | None:
        """Return a mismatch for a value that its column cannot store."""
        return self._columns.misfit(record)

    def output(self, stream: BinaryIO, records: Iterable[Record]) -> ParquetOutput:
        """Return an output with the columns that `records` need. Raise `BadResponse` if they no longer fit the file."""
        for record in records:
            misfit = self._columns.misfit(record)
            if misfit is not None:
                raise BadResponse(misfit.message, hint="The file has changed since the record was taken.")
        return ParquetOutput(self._name, stream, self._columns.schema())


class ParquetOutput:
    """One file, in row groups. Raises `BadResponse` for values that Parquet cannot store."""

    def __init__(self, name: str, stream: BinaryIO, schema: pa.Schema) -> None:
        """Create the file `name` with the columns of `schema`."""
        import pyarrow.parquet as pq

        self._name = name
        self._schema = schema
        with converting_parquet_write_errors(name):
            self._writer = pq.ParquetWriter(stream, schema)
        self._run: tuple[pa.RecordBatch, int, int] | None = None
        self._records: list[Record] = []
        self._group: list[pa.RecordBatch] = []
        self._rows = 0
        self._bytes = 0

    def copy(self, row: FileRow) -> None:
        """Write a row of the old file unchanged."""
        if not isinstance(row, ArrowFileRow):
            self.add(row.record)
            return
        if self._run is not None and self._run[0] is row.batch and self._run[2] == row.index:
            self._run = (row.batch, self._run[1], row.index + 1)
            return
        self._settle()
        self._run = (row.batch, row.index, row.index + 1)

    def add(self, record: Record) -> None:
        """Write a new record."""
        if self._run is not None or len(self._records) >= _RECORDS:
            self._settle()
        self._records.append(record)

    def end(self) -> None:
        """Write the remaining records and the footer."""
        self._settle()
        with converting_parquet_write_errors(self._name):
            self._write()
        self.close()

    def close(self) -> None:
        """Write the footer of an incomplete file, so that it can be closed."""
        self._writer.close()

    def _settle(self) -> None:
        """Turn the buffered records into batches."""
        with converting_parquet_write_errors(self._name):
            if self._run is not None:
                batch, start, stop = self._run
                self._gather(self._widened(batch.slice(start, stop - start)))
            if self._records:
                self._gather(build_batch(self._records, self._schema))
        self._run, self._records = None, []

    def _gather(self, batch: pa.RecordBatch) -> None:
        self._group.append(batch)
        self._rows += batch.num_rows
        self._bytes += batch.nbytes
        if self._rows >= _GROUP_ROWS or self._bytes >= _GROUP_BYTES:
            self._write()

    def _write(self) -> None:
        import pyarrow as pa

        if self._group:
            self._writer.write_table(pa.Table.from_batches(self._group, self._schema), row_group_size=_GROUP_ROWS)
        self._group, self._rows, self._bytes = [], 0, 0
        pa.default_memory_pool().release_unused()  # it retains far more than a group needs

    def _widened(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Return a batch of the old file with the new columns."""
        import pyarrow as pa

        if batch.schema.equals(self._schema):
            return batch
        columns = [
            batch.column(field.name).cast(field.type)
            if field.name in batch.schema.names
            else pa.nulls(batch.num_rows, field.type)
            for field in self._schema
        ]
        return pa.RecordBatch.from_arrays(columns, schema=self._schema)
