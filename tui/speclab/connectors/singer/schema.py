"""The SCHEMA a target is given: JSON Schema of the records that are written."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, TypeAlias

from speclab.jsonvalue import Json, Record
from speclab.mapping.fields import Field, fields_of
from speclab.mapping.kinds import Kind
from speclab.paths import FieldPath

_TYPES: Final = (
    (Kind.BOOLEAN, "boolean"),
    (Kind.INTEGER, "integer"),
    (Kind.NUMBER | Kind.DECIMAL, "number"),
    (Kind.ANY_TEXT, "string"),
    (Kind.LIST, "array"),
    (Kind.OBJECT, "object"),
)
_FORMATS: Final[Mapping[Kind, str]] = {Kind.DATE: "date", Kind.DATETIME: "date-time"}

_Tree: TypeAlias = "dict[str, _Tree | Kind]"


class Shape:
    """The fields of the records a target is given: what the mapping says of their kinds, or else what they hold.

    Kinds that are seen are only ever added to, so the columns of a target do not change back from batch to batch.
    """

    def __init__(self) -> None:
        self._declared: dict[FieldPath, Kind] = {}
        self._seen: dict[FieldPath, Kind] = {}

    def declare(self, fields: Iterable[Field]) -> None:
        """Take what the mapping says. One that may be of several types is known by what it holds."""
        self._declared = {field.path: field.kind for field in fields if len(_types(field.kind)) == 1}

    def see(self, records: Iterable[Record]) -> None:
        """Learn from `records`."""
        for field in fields_of(records):
            self._seen[field.path] = self._seen.get(field.path, Kind(0)) | field.kind

    def schema(self, key: Sequence[str]) -> dict[str, Json]:
        """The schema of a record; any field but its `key` may be null, and one that always was is told as text."""
        tree: _Tree = {}
        for path, kind in (self._seen | self._declared).items():
            _put(tree, path, kind)
        described: dict[str, Json] = {name: _described(inner, nullable=name not in key) for name, inner in tree.items()}
        return {"type": "object", "properties": described, "required": [*key]}


def _put(tree: _Tree, path: FieldPath, kind: Kind) -> None:
    """Put a field into its place; what stands within a list is told by the list alone."""
    for at, part in enumerate(path.parts[:-1]):
        if isinstance(path.parts[at + 1], int):
            tree[str(part)] = Kind.LIST
            return
        inner = tree.get(str(part))
        if not isinstance(inner, dict):  # not there, or empty or null in the records so far
            inner = tree[str(part)] = {}
        tree = inner
    tree.setdefault(str(path.parts[-1]), kind)


def _described(node: _Tree | Kind, *, nullable: bool) -> dict[str, Json]:
    null: list[Json] = ["null"] if nullable else []
    if isinstance(node, dict):
        properties: dict[str, Json] = {name: _described(inner, nullable=True) for name, inner in node.items()}
        return {"type": ["object", *null], "properties": properties}
    types: list[Json] = [*(_types(node) or ["string"])]
    described: dict[str, Json] = {"type": [*types, *null]}
    if node in _FORMATS:
        described["format"] = _FORMATS[node]
    return described


def _types(kind: Kind) -> list[str]:
    """The JSON types of values of `kind`; a number with a fraction and one without are one."""
    found = [name for one, name in _TYPES if kind & one]
    return [name for name in found if name != "integer" or "number" not in found]
