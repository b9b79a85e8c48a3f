"""The fields that records have: as samples of them show, or as a JSON Schema says."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from speclab.jsonvalue import Json, Record
from speclab.mapping.kinds import Kind, kind_of
from speclab.paths import FieldPath

_DEEPEST: Final = 6
_KEPT: Final = 20
_OF_SCHEMA: Final = {
    "string": Kind.TEXT,
    "integer": Kind.INTEGER,
    "number": Kind.NUMBER,
    "boolean": Kind.BOOLEAN,
    "array": Kind.LIST,
    "object": Kind.OBJECT,
}
_OF_FORMAT: Final = {"date": Kind.DATE, "date-time": Kind.DATETIME}

Schema = Mapping[str, Json]


@dataclass(frozen=True, slots=True)
class Field:
    """A field of records: its path, the kinds of values it has, and some of these, none of them null.

    `share` is the part of the records looked at in which it is there and not null, from 0 to 1; None where none were
    looked at. `declared` is its type as the system that has it calls it, empty where it does not say. `required` is
    True if the system takes, or has, no record without it.
    """

    path: FieldPath
    kind: Kind
    values: tuple[Json, ...] = ()
    share: float | None = None
    declared: str = ""
    required: bool = False


def fields_of(records: Iterable[Record]) -> tuple[Field, ...]:
    """The fields of `records`, in the order they are first seen; of a list of objects those of its first item."""
    found: dict[FieldPath, list[Json]] = {}
    total = 0
    for record in records:
        total += 1
        _gather(record, (), found)
    return tuple(field_of(path, values, total) for path, values in found.items())


def field_of(path: FieldPath, values: Iterable[Json], total: int) -> Field:
    """The field at `path` that has `values` in so many records; nulls among them do not count."""
    present = [value for value in values if value is not None]
    kind = Kind(0)
    for value in present:
        kind |= kind_of(value)
    return Field(path, kind, tuple(present[:_KEPT]), round(len(present) / total, 4) if total else None)


def fields_of_schema(schema: Schema) -> tuple[Field, ...]:
    """The fields of records that a JSON Schema describes, in its order; of a list of objects those of its first item.

    A field is required if its object, and every object around it, says so.
    """
    return tuple(_described(schema, (), required=True))


def _gather(value: Json, path: tuple[str | int, ...], found: dict[FieldPath, list[Json]]) -> None:
    if isinstance(value, dict) and value and len(path) < _DEEPEST:
        for key, item in value.items():
            _gather(item, (*path, key), found)
    elif isinstance(value, list) and value and isinstance(value[0], dict) and len(path) < _DEEPEST:
        _gather(value[0], (*path, 0), found)
    elif path:
        found.setdefault(FieldPath(path), []).append(value)


def _described(schema: Schema, path: tuple[str | int, ...], *, required: bool) -> Iterator[Field]:
    properties, items = schema.get("properties"), schema.get("items")
    if isinstance(properties, dict) and properties and len(path) < _DEEPEST:
        wanted = schema.get("required")
        wanted = wanted if isinstance(wanted, list) else []
        for key, inner in properties.items():
            described = inner if isinstance(inner, dict) else {}
            yield from _described(described, (*path, key), required=required and key in wanted)
    elif isinstance(items, dict) and items.get("properties") and len(path) < _DEEPEST:
        yield from _described(items, (*path, 0), required=False)
    elif path:
        kind, names = Kind(0), []
        for one in _alternatives(schema):
            kind |= _kind(one)
            names += _names(one)
        yield Field(FieldPath(path), kind, declared=" or ".join(dict.fromkeys(names)), required=required)


def _alternatives(schema: Schema) -> Iterator[Schema]:
    """`schema`, and what else it says a value may be."""
    yield schema
    for word in ("anyOf", "oneOf"):
        others = schema.get(word)
        for other in others if isinstance(others, list) else []:
            if isinstance(other, dict):
                yield from _alternatives(other)


def _types(schema: Schema) -> list[str]:
    """The types that a schema names, but for null: that a field may be empty is told otherwise."""
    types = schema.get("type")
    names = types if isinstance(types, list) else [types]
    return [name for name in names if isinstance(name, str) and name != "null"]


def _names(schema: Schema) -> list[str]:
    form = schema.get("format")
    return [f"{name} ({form})" if name == "string" and form else name for name in _types(schema)]


def _kind(schema: Schema) -> Kind:
    kind = Kind(0)
    for name in _types(schema):
        form = schema.get("format")
        is_time = name == "string" and isinstance(form, str) and form in _OF_FORMAT
        kind |= _OF_FORMAT[str(form)] if is_time else _OF_SCHEMA.get(name, Kind(0))
    return kind
