"""The SCHEMA a target is given: JSON Schema of the records that are written."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from speclab.jsonvalue import Json, Record

_TYPES: Final[Mapping[type, str]] = {
    str: "string",
    bool: "boolean",
    int: "integer",
    float: "number",
    list: "array",
    dict: "object",
}


class Shape:
    """The types of the fields as the records so far have them, in the order they were first seen.

    It only grows: a whole number and one with a fraction are a number, and what was once there stays. So the columns
    of a target do not change their minds from batch to batch.
    """

    def __init__(self) -> None:
        self._types: dict[str, set[str]] = {}

    def add(self, records: Iterable[Record]) -> None:
        """Learn from `records`."""
        for record in records:
            for name, value in record.items():
                types = self._types.setdefault(name, set())
                if value is not None:
                    types.add(_TYPES[type(value)])

    def schema(self, key: Sequence[str]) -> dict[str, Json]:
        """The schema of a record; its `key` is never null, and a field that always was may be anything."""
        properties: dict[str, Json] = {}
        for name, seen in self._types.items():
            types = seen - {"integer"} if "number" in seen else seen
            listed: list[Json] = [*sorted(types)]
            if name not in key:
                listed.append("null")
            properties[name] = {"type": listed} if types else {}
        required: list[Json] = [*key]
        return {"type": "object", "properties": properties, "required": required}
