"""Differences between a record as a target has it and as the mapping makes it, field by field."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation

import orjson

from speclab.jsonvalue import Json, Record
from speclab.paths import FieldPath
from speclab.sync.identity import canonical


@dataclass(frozen=True, slots=True)
class Difference:
    """One field that a write would change; both values are JSON, `was` is empty where there is no such field."""

    field: str
    was: str
    becomes: str


def differences(found: Record, mapped: Record) -> list[Difference]:
    """The fields of `mapped` that `found` has not, or has otherwise.

    What is the same in other clothes is the same: a number as text, a boolean as 0 or 1, an object as its JSON, as
    databases and tables of text keep them. What only the target has does not count.
    """
    return list(_differences(found, mapped, ()))


def _differences(found: Record, mapped: Record, path: tuple[str, ...]) -> Iterator[Difference]:
    for name, value in mapped.items():
        here = (*path, name)
        was = found.get(name)
        if isinstance(was, dict) and isinstance(value, dict):
            yield from _differences(was, value, here)
        elif name not in found:
            yield Difference(str(FieldPath(here)), "", _text(value))
        elif not _same(was, value):
            yield Difference(str(FieldPath(here)), _text(was), _text(value))


def _same(was: Json, value: Json) -> bool:
    if was == value:
        return True
    if isinstance(was, str):
        if isinstance(value, dict | list):
            return _parsed(was) == value
        if isinstance(value, bool):
            return was.lower() in (("true", "1") if value else ("false", "0"))
        if isinstance(value, int | float):
            return _number(was, type(value)) == value
        return value is None and not was
    return False


def _number(text: str, kind: type[float]) -> float | Decimal | None:
    try:  # a float has not all digits of a whole number, and a decimal has none of what a float rounds
        return float(text) if kind is float else Decimal(text)
    except (ValueError, InvalidOperation):
        return None


def _parsed(text: str) -> Json:
    try:
        value: Json = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    return value


def _text(value: Json) -> str:
    return canonical(value).decode()
