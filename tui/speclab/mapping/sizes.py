"""Limits on the size of mapped values, so that no spec can exhaust the memory.

A step's result has at most `MAX_TEXT` characters (or is no longer than its input), a list made from a text at most
`MAX_ITEMS` items, and all values of one mapped record together at most `MAX_RECORD` characters.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from speclab.mapping.types import Dropped, StepError

if TYPE_CHECKING:
    from speclab.mapping.types import Value

MAX_TEXT: Final = 1_000_000
"""Maximum characters of a step's result."""

MAX_ITEMS: Final = 100_000
"""Maximum items of a list made from a text."""

MAX_RECORD: Final = 16_000_000
"""Maximum characters of all values of a mapped record."""

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
