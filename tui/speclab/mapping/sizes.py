"""Limits on the size of what a mapping makes, so that no spec can fill the memory.

A step's result has at most `MAX_TEXT` characters (or is no longer than what it was given), a list made from a text at
most `MAX_ITEMS` items, and all values of one mapped record together at most `MAX_RECORD` characters.
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
"""Characters of a text that a step makes."""

MAX_ITEMS: Final = 100_000
"""Items of a list that a step makes of a text."""

MAX_RECORD: Final = 16_000_000
"""Characters of all values of a mapped record."""

_MAX_FREE: Final = MAX_RECORD // MAX_TEXT
_MAX_SHOWN: Final = 10_000


def check_text_size(made: int, given: int) -> None:
    """Check that a text of `made` characters may be made of one of `given`. Raises `StepError`."""
    if made > MAX_TEXT and made > given:
        raise StepError(f"would make a text of {made:,} characters of {given:,}; at most {MAX_TEXT:,} are allowed")


def check_item_count(made: int) -> None:
    """Check that a list of `made` items may be made of a text. Raises `StepError`."""
    if made > MAX_ITEMS:
        raise StepError(f"would make a list of {made:,} items; at most {MAX_ITEMS:,} are allowed")


def add_size(size: int, value: Value | Dropped) -> int:
    """Return `size` with the characters of `value` added. Raises `StepError` where a record would be too large."""
    size += len(value) if type(value) is str else _measure(value)
    if size > MAX_RECORD:
        raise StepError(f"would make a record of {size:,} characters or more; at most {MAX_RECORD:,} are allowed")
    return size


def select_measured(rows: Sequence[CompiledRow]) -> Sequence[bool]:
    """Return for each row whether the size of its value counts for the record's.

    None does where the rows cannot make more of a record than `MAX_RECORD` beyond what is read: rows that copy a field
    once copy no more than the record has, and few others stay within `MAX_TEXT` each.
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
    """Return `value` as it is worth keeping to be looked at: a very long text or list cut, with its length."""
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
