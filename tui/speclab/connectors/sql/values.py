"""Conversion of values from and to a database, and keys normalized as the database compares them."""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from datetime import UTC, date, datetime, time
from decimal import Decimal
from functools import lru_cache
from typing import TYPE_CHECKING, Final, TypeAlias
from uuid import UUID

from sqlalchemy import Dialect

from speclab.connectors.api import MappedRecord
from speclab.core.json import Json, decode, encode, encode_canonical, to_json

if TYPE_CHECKING:
    from collections.abc import Callable

    from psycopg.abc import AdaptContext, Buffer, Loader
    from psycopg.adapt import AdaptersMap


Bound: TypeAlias = "str | int | float | bytes | None"
"""A value that can be bound as a parameter and matches the value that the database returned."""

_BEYOND_PYTHON: Final = ("date", "timestamp", "timestamptz", "time", "timetz")
_RANGES: Final = ("int4", "int8", "num", "date", "ts", "tstz")
_BYTES: Final = "base64"


def to_bound_value(value: object, dialect: Dialect) -> Bound:
    """Convert a `value` from a driver to a parameter that matches it."""
    if value is None or isinstance(value, bytes | str | int):
        return value
    if isinstance(value, float) and math.isfinite(value) and dialect.name != "postgresql":
        return value
    return str(to_json(value))  # 0.1 as `real` differs from 0.1 as `double precision`; text has the value of the column


def dump_key(key: Sequence[Bound]) -> Json:
    """Return the values of a key for a checkpoint; bytes are distinguished from text."""
    return [{_BYTES: to_json(value)} if isinstance(value, bytes) else value for value in key]


def load_key(held: Json) -> tuple[Bound, ...] | None:
    """Return the key from `dump_key`; None for anything else."""
    if not isinstance(held, list):
        return None
    key: list[Bound] = []
    for value in held:
        match value:
            case {"base64": str() as text}:
                key.append(base64.b64decode(text))
            case None | str() | int() | float():
                key.append(value)
            case _:
                return None
    return tuple(key)


def register_psycopg_loaders(adapters: AdaptersMap) -> None:
    """Load values that Python cannot represent as PostgreSQL's text."""
    from psycopg.pq import Format
    from psycopg.types.string import TextLoader

    for name in _BEYOND_PYTHON:
        oid = adapters.types[name].oid
        loader = adapters.get_loader(oid, Format.TEXT)
        if loader is not None:
            adapters.register_loader(oid, _or_text(loader))
    for name in ("interval", *(f"{kind}{end}" for kind in _RANGES for end in ("range", "multirange"))):
        adapters.register_loader(name, TextLoader)


@lru_cache
def _or_text(kind: type[Loader]) -> type[Loader]:
    """Return the loader `kind` with text for values that it cannot represent."""
    from psycopg import DataError, adapt

    class OrText(adapt.Loader):
        def __init__(self, oid: int, context: AdaptContext | None = None) -> None:
            super().__init__(oid, context)
            self._load = kind(oid, context).load

        def load(self, data: Buffer) -> object:
            try:
                return self._load(data)
            except DataError:
                return bytes(data).decode()

    return OrText


def get_pymysql_conversions() -> Mapping[object, Callable[..., object]]:
    """Return PyMySQL's conversions, with TIME as text and BIT as a number."""
    from pymysql.constants import FIELD_TYPE
    from pymysql.converters import conversions

    return {
        **{kind: convert for kind, convert in conversions.items() if kind != FIELD_TYPE.TIME},
        FIELD_TYPE.BIT: lambda data: int.from_bytes(data, "big"),
    }


Spelling: TypeAlias = "tuple[Hashable, ...]"


class Padded(str):
    """The value of a CHAR column in PostgreSQL: text padded with spaces."""

    __slots__ = ()


class KeyNormalizer:
    """Normalizes the keys of one table; `types` are those of its key columns, `object` if unknown."""

    def __init__(self, types: Mapping[str, type]) -> None:
        self._columns = tuple(types)
        self._readings = tuple(map(_reading, types.values()))
        self._texts = [name for name, kind in types.items() if issubclass(kind, str)]
        self.exact = all(kind in _READINGS and kind is not float for kind in types.values())
        """Whether a key with different text is certainly a different key."""

    def spelt(self, key: Sequence[object]) -> Spelling:
        """Return the normalized form, which is equal for equal keys."""
        if len(key) == 1:
            return (self._readings[0](key[0]),)
        return tuple([read(value) for read, value in zip(self._readings, key, strict=True)])

    def as_texts(self, items: Sequence[MappedRecord]) -> Sequence[MappedRecord]:
        """Return `items` with keys as text where the column is text.

        PostgreSQL rejects comparing a number with a text column, and in MySQL `5` equals `05`.
        """
        if all({type(item.payload.get(name)) for item in items} == {str} for name in self._texts):
            return items
        return [item._replace(payload={**item.payload, **self._convert_key(item)}) for item in items]

    def _convert_key(self, item: MappedRecord) -> dict[str, Json]:
        return {name: _as_text(item.payload[name]) for name in self._texts if item.payload.get(name) is not None}


def is_same_value(kind: type, was: object, value: Json) -> bool:
    """Whether a column of type `kind` that contains `was` would be unchanged after writing `value`."""
    if was is None or value is None:
        return was is value
    read = _reading(kind)
    return read(was) == read(value)


def _as_text(value: Json) -> str:
    """Return a value as a text column stores it."""
    if isinstance(value, str):
        return value
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return encode(value).decode()


def _reading(kind: type) -> Callable[[object], Hashable]:
    read = _READINGS.get(kind, str)

    def spelling(value: object) -> Hashable:
        try:
            return read(value)
        except (ValueError, ArithmeticError, KeyError):  # not a value of this type: the database converts or rejects it
            return str(value)

    return str if read is str else spelling


def _number(value: object) -> Hashable:
    return value if isinstance(value, int) else Decimal(str(value))


def _time(value: object) -> Hashable:
    moment = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
    return moment.astimezone(UTC).replace(tzinfo=None) if moment.tzinfo is not None else moment


def _day(value: object) -> Hashable:
    return value if isinstance(value, date) else datetime.fromisoformat(str(value)).date()


def _hours(value: object) -> Hashable:
    return value if isinstance(value, time) else time.fromisoformat(str(value))


def _bytes(value: object) -> Hashable:
    return value if isinstance(value, bytes) else str(value).encode()


def _truth(value: object) -> Hashable:
    return value if isinstance(value, bool) else _TRUTHS[str(value).lower()]


def _json(value: object) -> Hashable:
    return encode_canonical(decode(value.encode()) if isinstance(value, str) else value)  # type: ignore[arg-type]


_TRUTHS: Final = {"true": True, "t": True, "1": True, "false": False, "f": False, "0": False}
_READINGS: Final[Mapping[type, Callable[[object], Hashable]]] = {
    str: str,
    Padded: lambda value: str(value).rstrip(" "),
    int: _number,
    Decimal: _number,
    datetime: _time,
    date: _day,
    UUID: lambda value: UUID(str(value)),
    bytes: _bytes,
    float: lambda value: float(str(value)),
    time: _hours,
    bool: _truth,
    dict: _json,
}
