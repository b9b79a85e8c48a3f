"""How text, numbers, true and false become one another: the rules that several steps share."""

from __future__ import annotations

import math
from decimal import ROUND_HALF_UP, Context, Decimal, InvalidOperation
from typing import Final

from speclab.mapping.kinds import show
from speclab.mapping.step import StepError

MAX_PLACES: Final = 20
"""Decimal places that numbers can be asked to have."""

WHOLE: Final = range(-(2**63), 2**64)
"""The whole numbers that JSON readers and databases take unharmed."""

_EXACT: Final = Context(prec=400, rounding=ROUND_HALF_UP)
"""Enough digits for any double and for any number a person has typed."""
_UNITS: Final = [Decimal(1).scaleb(-places) for places in range(MAX_PLACES + 1)]
_SAFE_TEXT: Final = 16
"""A decimal of so many characters, point or sign included, has at most 15 digits: any such is a double's own."""


def text_of(value: str | float | Decimal) -> str:
    """`value` as text: numbers as JSON writes them, decimals with their places, `true` and `false`."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Decimal):
        return format(value, "f")
    return repr(value if isinstance(value, int) else _finite(value))


def decimal_of(value: float | Decimal) -> Decimal:
    """`value` as it is written, so 0.1 is 0.1 and not what the double nearest to it is."""
    if isinstance(value, float):
        return Decimal(repr(_finite(value)))
    return Decimal(value)


def _finite(value: float) -> float:
    if not math.isfinite(value):
        raise StepError(f"{value} is no number that JSON can write")
    return value


def at_places(value: Decimal, places: int) -> Decimal:
    """`value` with so many decimal places, halves rounded away from zero."""
    try:
        return value.quantize(_UNITS[places], context=_EXACT)
    except InvalidOperation:
        raise StepError(f"{show(value)} has too many digits") from None


def whole(value: int) -> int:
    """`value`, if 64 bits hold it."""
    if value not in WHOLE:
        raise StepError(f"{show(value)} is beyond 64 bits; Text keeps all its digits")
    return value


def json_number(value: Decimal) -> int | float:
    """`value` as a JSON number, which must say exactly the same: whole without places, else a double."""
    text = str(value)
    if len(text) <= _SAFE_TEXT and "E" not in text:
        return float(text) if "." in text else int(text)
    if value.as_tuple().exponent == 0:
        return whole(int(value))
    number = float(value)
    if not math.isfinite(number) or Decimal(repr(number)) != value:
        raise StepError(f"{show(value)} has more digits than a JSON number keeps; Text keeps them all")
    return number
