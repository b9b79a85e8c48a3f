"""The values that cross every border here: what JSON can say, and nothing else."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import TypeAlias

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"
Record: TypeAlias = dict[str, Json]
"""One record, as read or as mapped: a JSON object."""

JsonView: TypeAlias = "bool | int | float | str | Sequence[JsonView] | Mapping[str, JsonView] | None"
"""The same, for those that only look."""


def loses_digits(number: str) -> bool:
    """Whether a double would not keep the digits of `number`: it is neither its shortest form nor a longer print."""
    mantissa = number.lower().partition("e")[0]
    if "." not in mantissa and "e" not in number.lower():
        return False  # a whole number, which has all of its digits
    try:
        exact, double = Decimal(number), float(number)
    except (ValueError, ArithmeticError):
        return False  # digits and dots in a text
    if not math.isfinite(double):
        return True
    digits = len(mantissa.lstrip("-0.").replace(".", ""))
    return exact not in (Decimal(repr(double)), Decimal(f"{double:.{max(digits, 1) - 1}e}"))
