"""What databases hold, as records have it: by the drivers' own types where Python has such a value, else as text.

Nothing is guessed and no value stops a read: PostgreSQL's `infinity`, the month of an interval and a time of 24:00 are
nothing that Python has, and a TIME of MySQL is one of a clock, not a number of days.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Final, TypeAlias

from sqlalchemy import Dialect

from speclab.connectors.jsontext import as_json
from speclab.jsonvalue import Json

if TYPE_CHECKING:
    from collections.abc import Callable

    from psycopg.abc import AdaptContext, Buffer, Loader
    from psycopg.adapt import AdaptersMap

Bound: TypeAlias = "str | int | float | bytes | None"
"""A value that can be bound, and that a database takes for the one it gave."""

_BEYOND_PYTHON: Final = ("date", "timestamp", "timestamptz", "time", "timetz")
_RANGES: Final = ("int4", "int8", "num", "date", "ts", "tstz")
_BYTES: Final = "base64"


def bound(value: object, dialect: Dialect) -> Bound:
    """`value`, as a driver gives it, as it can be bound to find it again."""
    if value is None or isinstance(value, bytes | str | int):
        return value
    if isinstance(value, float) and math.isfinite(value) and dialect.name != "postgresql":
        return value
    return str(as_json(value))  # 0.1 of a `real` is not that of a `double precision`; as text it is what the column is


def kept(key: Sequence[Bound]) -> Json:
    """The values of a key as a checkpoint keeps them; bytes are told from text."""
    return [{_BYTES: as_json(value)} if isinstance(value, bytes) else value for value in key]


def unkept(held: Json) -> tuple[Bound, ...] | None:
    """What `kept` was given; None for anything else."""
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


def teach_psycopg(adapters: AdaptersMap) -> None:
    """Have PostgreSQL's own text for what Python has no value for."""
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
    """The loader `kind`, but text where it finds no value."""
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


def pymysql_conversions() -> Mapping[object, Callable[..., object]]:
    """PyMySQL's own, but a TIME stays as it is, and a BIT is the number it is."""
    from pymysql.constants import FIELD_TYPE
    from pymysql.converters import conversions

    return {
        **{kind: convert for kind, convert in conversions.items() if kind != FIELD_TYPE.TIME},
        FIELD_TYPE.BIT: lambda data: int.from_bytes(data, "big"),
    }
