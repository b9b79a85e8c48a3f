"""What records and a table spell in two ways, and is the same: of a key, which row it is; else, that nothing changed.

A record says `"A0EE…"`, `5` or `2024-01-01T00:00:00Z` where the table has `a0ee…`, `5.00` or a time of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Final, TypeAlias
from uuid import UUID

from speclab.connectors.base import Item
from speclab.connectors.jsontext import decode, encode, encode_sorted
from speclab.jsonvalue import Json

Spelling: TypeAlias = "tuple[Hashable, ...]"


class Padded(str):
    """What a column of CHAR holds in PostgreSQL: text to which blanks were added."""

    __slots__ = ()


class Keys:
    """The keys of one table; `types` are those of its key columns, in their order, `object` for what is not known."""

    def __init__(self, types: Mapping[str, type]) -> None:
        self._columns = tuple(types)
        self._readings = tuple(map(_reading, types.values()))
        self._texts = [name for name, kind in types.items() if issubclass(kind, str)]
        self.exact = all(kind in _READINGS and kind is not float for kind in types.values())
        """Whether a key that is spelt otherwise is another one, for sure."""

    def spelt(self, key: Sequence[object]) -> Spelling:
        """What is equal for one key, whoever spells it."""
        if len(key) == 1:
            return (self._readings[0](key[0]),)
        return tuple([read(value) for read, value in zip(self._readings, key, strict=True)])

    def as_texts(self, items: Sequence[Item]) -> Sequence[Item]:
        """`items` with their keys as text where the column is one.

        A number that is compared to a column of text is refused by PostgreSQL, and in MySQL `5` is `05`, too.
        """
        if all({type(item.payload.get(name)) for item in items} == {str} for name in self._texts):
            return items
        return [item._replace(payload={**item.payload, **self._told(item)}) for item in items]

    def _told(self, item: Item) -> dict[str, Json]:
        return {name: _as_text(item.payload[name]) for name in self._texts if item.payload.get(name) is not None}


def same(kind: type, was: object, value: Json) -> bool:
    """Whether a column with values of that `kind`, which holds `was`, would hold just that if `value` were written."""
    if was is None or value is None:
        return was is value
    read = _reading(kind)
    return read(was) == read(value)


def _as_text(value: Json) -> str:
    """A value as a column of text has it."""
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
        except (ValueError, ArithmeticError, KeyError):  # the database takes what is no such value here, or refuses it
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
    return encode_sorted(decode(value.encode()) if isinstance(value, str) else value)  # type: ignore[arg-type]


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
