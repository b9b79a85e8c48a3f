"""The columns of a Parquet file that is written: those it has, those the spec gives a type, those the records bring.

A column that has a type keeps it. Any other takes it from the first value: true or false, whole numbers, numbers, or
text, to which objects and lists come as JSON. Whole numbers become numbers once there is a fraction, as long as no
digit is lost by that. What does not fit is told, and never bent to fit.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import time
from functools import lru_cache
from math import inf
from typing import TYPE_CHECKING, Final

from speclab.connectors.file.tables import Misfit
from speclab.connectors.jsontext import NO_NUMBERS, as_json, encode
from speclab.errors import BadAnswer
from speclab.jsonvalue import Json, Record

if TYPE_CHECKING:
    import pyarrow as pa

_EXACT: Final = 2**53
"""Up to here every whole number is a number (IEEE 754 binary64)."""
_IN_WORDS: Final = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}


@dataclass(frozen=True, slots=True)
class _Column:
    """What a column holds: the type it has, or of what kind its values were (None: there was none)."""

    fixed: pa.DataType | None = None
    fits: Callable[[Json], bool] | None = None  # what the fixed type says of a value
    kind: type | None = None
    exact: bool = True  # whether all whole numbers so far are numbers, too
    nullable: bool = True

    def takes(self, value: Json) -> _Column | None:
        """The column after `value`; None if it does not fit."""
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
        """The type in the file; text where there was no value."""
        import pyarrow as pa

        if self.fixed is not None:
            return self.fixed
        return {bool: pa.bool_(), int: pa.int64(), float: pa.float64()}.get(self.kind or str, pa.string())

    def in_words(self) -> str:
        """What the column holds, for a message."""
        return str(self.fixed) if self.fixed is not None else _IN_WORDS.get(self.kind or str, "text")


class Columns:
    """The columns of one file, as they come to be."""

    def __init__(self, name: str, old: pa.Schema | None, declared: Mapping[str, str], key: Sequence[str]) -> None:
        """The columns of the file `name`: of the `old` one, and as `declared`; if there are none at all, the `key`.

        Raises `BadAnswer` where the two differ.
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
            kind, before = arrow_type(text), self._known.get(column, _Column())
            if before.fixed not in (None, kind):
                raise BadAnswer(
                    f"{name}: the column {column!r} is {before.fixed} in the file, and {text} in `types`",
                    hint="An upsert keeps what the file has; mode replace makes it anew.",
                )
            self._known[column] = before if before.fixed == kind else _fixed(kind, nullable=True)
        self._needed = [column for column, known in self._known.items() if not known.nullable]

    def misfit(self, record: Record) -> Misfit | None:
        """Why `record` does not fit; if it does, it is taken."""
        changed: dict[str, _Column] = {}
        for name, value in record.items():
            column = self._known.get(name) or _Column()
            after = column.takes(value)
            if after is None:
                message = f"{self._name}: the column {name!r} holds {column.in_words()}; found {_shown(value)}"
                return Misfit(message, name)
            if after is not column or name not in self._known:
                changed[name] = after
        for name in self._needed:
            if name not in record:
                return Misfit(f"{self._name}: the column {name!r} takes no null, and the record has no {name}", name)
        self._known |= changed
        return None

    def schema(self) -> pa.Schema:
        """The columns as they are now, with what else the old file says of itself."""
        import pyarrow as pa

        known = self._known or dict.fromkeys(self._key, _Column())
        fields = [pa.field(name, column.arrow(), column.nullable) for name, column in known.items()]
        if self._old is not None:
            count = len(self._old)
            fields[:count] = [old.with_type(new.type) for old, new in zip(self._old, fields, strict=False)]
        return pa.schema(fields, self._old.metadata if self._old is not None else None)


def batch_of(records: Sequence[Record], schema: pa.Schema) -> pa.RecordBatch:
    """`records`, which fit, as a batch of `schema`."""
    import pyarrow as pa

    columns = [_array([record.get(field.name) for record in records], field.type) for field in schema]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def arrow_type(text: str) -> pa.DataType:
    """The Arrow type that `types` calls `text`."""
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
    """A column of the type `kind`, which takes what is one of it, whole: nothing is cut, or guessed."""
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
            return _without_nulls(as_json(found)) == _without_nulls(value)
        except (pa.ArrowException, ValueError, OverflowError, TypeError):
            return False

    return _Column(kind, way.check or tried, nullable=nullable)


@dataclass(frozen=True, slots=True)
class _Way:
    """How JSON comes to a type: what is made of each value, through which type, and what can be said of one before.

    A `check` knows whether a value fits. Without one, values of the types it `takes` are tried; if `looked_at`, they
    are compared afterwards, as Arrow would leave out what it has no place for.
    """

    made: Callable[[Json], object] | None = None
    through: pa.DataType | None = None
    check: Callable[[Json], bool] | None = None
    takes: tuple[type, ...] = (str,)
    looked_at: bool = False


@lru_cache(maxsize=256)
def _way(kind: pa.DataType) -> _Way:
    import pyarrow as pa
    from pyarrow import types

    text, by_text, bytes_ = _Way(_text, check=_is_text), _Way(through=pa.string()), _Way(_bytes)
    ways: tuple[tuple[Callable[[pa.DataType], bool], Callable[[], _Way]], ...] = (
        (types.is_boolean, lambda: _Way(check=lambda value: isinstance(value, bool))),
        (types.is_integer, lambda: _Way(check=_within(kind))),
        (types.is_floating, lambda: _Way(_number, check=_near(kind))),
        (types.is_string, lambda: text),
        (types.is_large_string, lambda: text),
        (types.is_string_view, lambda: text),
        (types.is_date, lambda: by_text),
        (types.is_timestamp, lambda: by_text),
        (types.is_decimal, lambda: _Way(str, pa.string(), takes=(int, float, str))),
        (types.is_time, lambda: _Way(_time, looked_at=True)),
        (types.is_binary, lambda: bytes_),
        (types.is_large_binary, lambda: bytes_),
        (types.is_fixed_size_binary, lambda: bytes_),
        (types.is_dictionary, lambda: _way(kind.value_type)),
        (types.is_nested, lambda: _Way(takes=(dict, list), looked_at=True)),
    )
    return next((way() for matches, way in ways if matches(kind)), _Way(takes=()))


def _within(kind: pa.DataType) -> Callable[[Json], bool]:
    """Whether a value is a whole number that an integer type `kind` reaches."""
    from pyarrow import types

    bits: int = kind.bit_width
    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if types.is_signed_integer(kind) else (0, (1 << bits) - 1)
    return lambda value: type(value) is int and low <= value <= high


def _near(kind: pa.DataType) -> Callable[[Json], bool]:
    """Whether a value is a number that a floating type `kind` reaches; a whole one must be exact, others come near."""
    whole, reach = {16: (2**11, 65504.0), 32: (2**24, 3.4028234663852886e38)}.get(kind.bit_width, (_EXACT, inf))

    def near(value: Json) -> bool:
        if type(value) is float:
            return abs(value) <= reach
        return abs(value) <= whole if type(value) is int else type(value) is str and value in NO_NUMBERS

    return near


def _array(values: Sequence[Json], kind: pa.DataType) -> pa.Array:
    """`values` as an array of `kind`."""
    import pyarrow as pa
    from pyarrow import types

    way = _way(kind)
    made = way.made
    found: Iterable[object] = values if made is None else [None if value is None else made(value) for value in values]
    if types.is_date64(kind):  # to which text does not come by itself
        return pa.array(found, pa.string()).cast(pa.date32()).cast(kind)
    return pa.array(found, way.through or kind).cast(kind)


def _text(value: Json) -> str:
    return value if isinstance(value, str) else encode(value).decode()


def _number(value: Json) -> Json:
    """`value`, which is a number or in `NO_NUMBERS`, as Arrow takes it."""
    return float(value) if type(value) is str else value


def _bytes(value: Json) -> bytes:
    return base64.b64decode(str(value), validate=True)


def _time(value: Json) -> time:
    return time.fromisoformat(str(value))


def _is_text(value: Json) -> bool:
    """Whether `value` is text that can be in UTF-8, or comes to it as JSON; half a surrogate pair cannot."""
    if not isinstance(value, str):
        return isinstance(value, dict | list)
    try:
        value.isascii() or value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _without_nulls(value: Json) -> Json:
    """`value` with fields left out that are null, which is how a struct has fields that are not there."""
    if isinstance(value, dict):
        return {name: _without_nulls(inner) for name, inner in value.items() if inner is not None}
    return [_without_nulls(inner) for inner in value] if isinstance(value, list) else value


def _shown(value: Json) -> str:
    text = encode(value).decode()
    return text if len(text) <= 60 else f"{text[:59]}…"
