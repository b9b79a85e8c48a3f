"""Sample records: which fields they have, and which source fields of a mapping are in none of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from speclab.jsonvalue import Json, Record
from speclab.mapping.kinds import Kind, kind_of
from speclab.mapping.mapper import Mapper
from speclab.mapping.place import Findings, Place, in_cell, of_source
from speclab.mapping.program import Row
from speclab.paths import FieldPath
from speclab.spec.names import slip
from speclab.spec.problem import Problem

_DEEPEST: Final = 6
_KEPT: Final = 20


@dataclass(frozen=True, slots=True)
class Field:
    """A field of sample records: its path, what kinds of values it has, and some of them that are not null."""

    path: FieldPath
    kind: Kind
    values: tuple[Json, ...]


def fields_of(records: Iterable[Record]) -> tuple[Field, ...]:
    """The fields of `records`, in the order they are first seen; of a list of objects those of its first item."""
    found: dict[FieldPath, list[Json]] = {}
    for record in records:
        _gather(record, (), found)
    return tuple(_field(path, values) for path, values in found.items())


def check_samples(mapper: Mapper, records: Sequence[Record], file: str) -> list[Problem]:
    """Warnings of source fields that are in none of `records` (M201), with the field that is probably meant."""
    findings = Findings(file)
    if not records:
        return findings.problems
    names = [str(field.path) for field in fields_of(records)]
    for row in mapper.rows:
        for number, path in enumerate(row.reads):
            if not any(_has(record, path) for record in records):
                meant = slip(str(path), names)
                hint = f" Did you mean '{meant}'?" if meant else ""
                message = f"'{path}' is in none of {len(records)} sample records and reads as null.{hint}"
                findings.warning("M201", _place(row, number), message)
    return findings.problems


def _place(row: Row, number: int) -> Place:
    if row.origin:
        return in_cell(row.written, row.origin.start, row.origin.end)
    return of_source(row.written, number)


def _has(record: Record, path: FieldPath) -> bool:
    try:
        path.get(record)
    except KeyError:
        return False
    return True


def _gather(value: Json, path: tuple[str | int, ...], found: dict[FieldPath, list[Json]]) -> None:
    if isinstance(value, dict) and value and len(path) < _DEEPEST:
        for key, item in value.items():
            _gather(item, (*path, key), found)
    elif isinstance(value, list) and value and isinstance(value[0], dict) and len(path) < _DEEPEST:
        _gather(value[0], (*path, 0), found)
    elif path:
        kept = found.setdefault(FieldPath(path), [])
        if value is not None and len(kept) < _KEPT:
            kept.append(value)


def _field(path: FieldPath, values: Sequence[Json]) -> Field:
    kind = Kind(0)
    for value in values:
        kind |= kind_of(value)
    return Field(path, kind, tuple(values))
