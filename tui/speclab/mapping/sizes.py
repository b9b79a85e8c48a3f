"""Limits on the size of mapped values, so that no spec can exhaust the memory.

A step's result has at most `MAX_TEXT` characters (or is no longer than its input), a list made from a text at most
`MAX_ITEMS` items, and all values of one mapped record together at most `MAX_RECORD` characters.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from speclab.mapping.types import Dropped, StepError

if TYPE_CHECKING:
    from speclab.mapping.compiler import CompiledRow
    from speclab.mapping.types import Value

MAX_TEXT: Final = 1_000_000
"""Maximum characters of a step's result."""

MAX_ITEMS: Final = 100_000
"""Maximum items of a list made from a text."""

MAX_RECORD: Final = 16_000_000
"""Maximum characters of all values of a mapped record."""

_MAX_FREE: Final = MAX_RECORD // MAX_TEXT
_MAX_SHOWN: Final = 10_000


def check_text_size(made: int, given: int) -> None:
    """Check the size of a text of `made` characters from an input of `given`. Raises `StepError`."""
    if made > MAX_TEXT and made > given:
        raise StepError(f"result too long: {made:,} characters from {given:,}; the limit is {MAX_TEXT:,}")


def check_item_count(made: int) -> None:
    """Check the size of a list of `made` items. Raises `StepError`."""
    if made > MAX_ITEMS:
        raise StepError(f"result too long: a list of {made:,} items; the limit is {MAX_ITEMS:,}")


def add_size(size: int, value: Value | Dropped) -> int:
    """Return `size` plus the size of `value`. Raises `StepError` if the record becomes too large."""
    size += len(value) if type(value) is str else _measure(value)
    if size > MAX_RECORD:
        raise StepError(f"mapped record too large: {size:,} characters or more; the limit is {MAX_RECORD:,}")
    return size


def select_measured(rows: Sequence[CompiledRow]) -> Sequence[bool]:
    """Return for each row whether its value has to be measured.

    None has to be if the mapped record cannot exceed the source record by more than `MAX_RECORD`: rows that copy a
    field once add nothing, and a few others are limited to `MAX_TEXT` each.
    """
    paths = Counter(source.path.parts for row in rows for source in row.sources)
    around = {path[:length] for path in paths for length in range(1, len(path))}

    def may_grow(row: CompiledRow) -> bool:
        if row.origin is not None or any(bound.step.may_grow for bound in row.steps):
            return True
        reads = [source.path.parts for source in row.sources]
        return any(
            paths[path] > 1 or path in around or any(path[:length] in paths for length in range(1, len(path)))
            for path in reads
        )

    measured = [may_grow(row) for row in rows]
    return measured if sum(measured) > _MAX_FREE else [False] * len(rows)


def shorten(value: Value) -> Value:
    """Return `value` for display: a very long text or list is cut, with its length."""
    if isinstance(value, str) and len(value) > _MAX_SHOWN:
        return f"{value[:_MAX_SHOWN]}… ({len(value):,} characters)"
    if isinstance(value, list) and len(value) > _MAX_SHOWN:
        return [*value[:_MAX_SHOWN], f"… ({len(value):,} items)"]
    return value


def _measure(value: object) -> int:
    size, left = 0, [value]
    while left:
        one = left.pop()
        if isinstance(one, str):
            size += len(one)
        elif isinstance(one, list):
            size += len(one)
            left += one
        elif isinstance(one, dict):
            size += sum(map(len, one))
            left += one.values()
        else:
            size += 1
    return size
