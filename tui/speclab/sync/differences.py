"""Compare a record as the target has it with the record that the mapping produces, field by field."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation

import orjson

from speclab.core.json import Json, Record, encode_canonical
from speclab.core.paths import FieldPath


@dataclass(frozen=True, slots=True)
class Difference:
    """A field that a write would change. Both values are JSON; `was` is empty if the target has no such field."""

    field: str
    was: str
    becomes: str


def find_differences(found: Record, mapped: Record) -> list[Difference]:
    """Return the fields of `mapped` that are missing or different in the `found` record of the target.

    Values that only differ in their form are equal: a number as text, a boolean as 0 or 1, an object as its JSON, as
    databases and text files store them. Fields that only the target has are ignored.
    """
    return list(_compare(found, mapped, ()))


def _compare(found: Record, mapped: Record, path: tuple[str, ...]) -> Iterator[Difference]:
    for name, value in mapped.items():
        field = (*path, name)
        was = found.get(name)
        if isinstance(was, dict) and isinstance(value, dict):
            yield from _compare(was, value, field)
        elif name not in found:
            yield Difference(str(FieldPath(field)), "", _to_text(value))
        elif not _is_equal(was, value):
            yield Difference(str(FieldPath(field)), _to_text(was), _to_text(value))


def _is_equal(was: Json, value: Json) -> bool:
    if was == value:
        return True
    if isinstance(was, str):
        if isinstance(value, dict | list):
            return _parse_json(was) == value
        if isinstance(value, bool):
            return was.lower() in (("true", "1") if value else ("false", "0"))
        if isinstance(value, int | float):
            return _parse_number(was, type(value)) == value
        return value is None and not was
    return False


def _parse_number(text: str, type_: type[float]) -> float | Decimal | None:
    try:  # a float does not have all digits of a large integer, and a decimal is not rounded like a float
        return float(text) if type_ is float else Decimal(text)
    except (ValueError, InvalidOperation):
        return None


def _parse_json(text: str) -> Json:
    try:
        value: Json = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    return value


def _to_text(value: Json) -> str:
    return encode_canonical(value).decode()
