"""The shape of the mapped record: where each row's value goes, which rows are in each other's way, how it is built."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TypeAlias

from speclab.jsonvalue import Json, Record
from speclab.mapping.place import Findings, of_target
from speclab.mapping.program import Row
from speclab.mapping.step import Dropped
from speclab.paths import FieldPath


@dataclass(frozen=True, slots=True)
class Shape:
    """An object or a list of the mapped record; its parts are rows, by number, or further shapes.

    `keys` are the names of an object's fields, in the order of the rows; a list has None.
    """

    parts: tuple[int | Shape, ...]
    keys: tuple[str, ...] | None

    def build(self, values: Sequence[Json | Dropped]) -> Json:
        """The object or list of `values`, one for each row; what is dropped, and what is empty for it, is left out."""
        found: list[tuple[str, Json]] = []
        for number, part in enumerate(self.parts):
            value = values[part] if isinstance(part, int) else part.build(values)
            if isinstance(value, Dropped) or (isinstance(part, Shape) and not value):
                continue
            found.append((self.keys[number] if self.keys is not None else "", value))
        return dict(found) if self.keys is not None else [value for _, value in found]


def build(shape: Shape, values: Sequence[Json | Dropped]) -> Record:
    """The mapped record of `values`, one for each row."""
    built = shape.build(values)
    return built if isinstance(built, dict) else {}


_Tree: TypeAlias = "dict[str | int, _Tree | Row]"


def shape_of(rows: Sequence[Row]) -> Shape:
    """The shape of the record that `rows` write, which must not be in each other's way."""
    tree: _Tree = {}
    for row in rows:
        _put(tree, row)
    numbers = {id(row): number for number, row in enumerate(rows)}
    return _shape(tree, numbers)


def check_targets(rows: Iterable[Row], findings: Findings) -> None:
    """Tell of rows whose targets cannot both be written: the same, one within the other, a list with a gap."""
    tree: _Tree = {}
    for row in rows:
        other = _put(tree, row)
        if other is None:
            continue
        where = f"row {other.target} in line {other.written.line}"
        if other.target == row.target:
            findings.error(
                "D301", of_target(row.written), f"{row.target} is written twice: see line {other.written.line}"
            )
        else:
            findings.error("M111", of_target(row.written), f"{row.target} and {where} write to one place")
    _check_lists(tree, (), findings)


def _put(tree: _Tree, row: Row) -> Row | None:
    """Put the row in its place; the row that is there already, if one is, or that stands in the way."""
    *way, last = row.target.parts
    for part in way:
        if _other_kind(tree, part):
            return _any_row(tree)
        below = tree.setdefault(part, {})
        if isinstance(below, Row):
            return below
        tree = below
    if last in tree or _other_kind(tree, last):
        there = tree.get(last, tree)
        return there if isinstance(there, Row) else _any_row(there)
    tree[last] = row
    return None


def _other_kind(tree: _Tree, part: str | int) -> bool:
    """Whether `tree` is a list where `part` is a field, or the other way round; it is never both."""
    return any(isinstance(key, int) is not isinstance(part, int) for key in islice(tree, 1))


def _any_row(tree: _Tree) -> Row:
    first = next(iter(tree.values()))
    return first if isinstance(first, Row) else _any_row(first)


def _check_lists(tree: _Tree, path: tuple[str | int, ...], findings: Findings) -> None:
    numbers = {key for key in tree if isinstance(key, int)}
    gap = next((number for number in range(len(numbers)) if number not in numbers), None)
    for key, below in tree.items():
        if gap is not None and key == max(numbers):
            row = below if isinstance(below, Row) else _any_row(below)
            missing = FieldPath((*path, gap))
            findings.error("M111", of_target(row.written), f"no row writes {missing}: a list's items have no gaps")
        if not isinstance(below, Row):
            _check_lists(below, (*path, key), findings)


def _shape(tree: _Tree, numbers: dict[int, int]) -> Shape:
    keys = sorted(tree) if all(isinstance(key, int) for key in tree) else list(tree)
    parts = tuple(
        numbers[id(part)] if isinstance(part, Row) else _shape(part, numbers) for part in (tree[key] for key in keys)
    )
    is_list = bool(keys) and isinstance(keys[0], int)
    return Shape(parts, None if is_list else tuple(str(key) for key in keys))
