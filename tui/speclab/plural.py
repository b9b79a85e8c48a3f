"""Numbers with what they count, as every message and every screen says them."""

from __future__ import annotations


def plural(number: int, one: str, many: str = "") -> str:
    """`1 row`, `2 rows`; `many` where an s is not enough."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"
