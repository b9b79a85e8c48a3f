"""Steps on numbers and booleans."""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal
from typing import Final

from speclab.mapping.types import (
    MAX_PLACES,
    Parameter,
    ParameterType,
    Step,
    StepError,
    StepExample,
    ValueKind,
    check_integer,
    format_value,
    round_to_places,
    to_decimal,
)

_MAX_DIGITS: Final = 300
_INTEGER: Final = re.compile(r"[+-]?[0-9]+")
_DECIMAL: Final = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]+)?|\.[0-9]+)")
_TRUE: Final = frozenset({"true", "yes", "y", "on", "1"})
_FALSE: Final = frozenset({"false", "no", "n", "off", "0"})


def _integer(value: str | float | Decimal) -> int:
    if isinstance(value, int):
        return check_integer(value)
    if isinstance(value, str):
        if len(value) > _MAX_DIGITS or not _INTEGER.fullmatch(value):
            raise StepError(f"expected a whole number, got {format_value(value)}")
        return check_integer(int(value))
    exact = to_decimal(value)
    if exact != exact.to_integral_value():
        raise StepError(f"expected a whole number, got {format_value(exact)}; Round(0) rounds it")
    return check_integer(int(exact))


def _decimal(places: int | None = None) -> Callable[[str | float | Decimal], Decimal]:
    def apply(value: str | float | Decimal) -> Decimal:
        if isinstance(value, str):
            if len(value) > _MAX_DIGITS or not _DECIMAL.fullmatch(value):
                raise StepError(f"expected a number like 1234.5, got {format_value(value)}")
            exact = Decimal(value)
            if "." in value and len(value) - value.index(".") - 1 == places:
                return exact
        else:
            exact = to_decimal(value)
        if places is None:
            return exact
        fitted = round_to_places(exact, places)
        if fitted != exact:
            raise StepError(
                f"{format_value(exact)} has more than {places} decimal places; Decimal, Round({places}) rounds it"
            )
        return fitted

    return apply


def _round(places: int = 0) -> Callable[[float | Decimal], Decimal]:
    return lambda value: round_to_places(to_decimal(value), places)


def _boolean(yes: str | None = None, no: str | None = None) -> Callable[[str | float | Decimal], bool]:
    if (yes is None) != (no is None) or (yes is not None and yes == no):
        raise ValueError('expected two different words, as in Boolean("J", "N"), or none')
    true = _TRUE if yes is None else frozenset({yes})
    false = _FALSE if no is None else frozenset({no})

    def apply(value: str | float | Decimal) -> bool:
        if isinstance(value, bool):
            return value
        word = value if isinstance(value, str) else format_value(value)
        if yes is None:
            word = word.lower()
        if word in true:
            return True
        if word in false:
            return False
        expected = "yes or no, true or false, 1 or 0" if yes is None else f"{format_value(yes)} or {format_value(no)}"
        raise StepError(f"expected {expected}, got {format_value(value)}")

    return apply


def _places(value: int) -> str | None:
    return None if value <= MAX_PLACES else f"must be at most {MAX_PLACES}"


NUMBER_STEPS: Final = (
    Step(
        "Integer",
        "Converts text, or a number without a fraction, to a whole number.",
        takes=ValueKind.ANY_TEXT | ValueKind.ANY_NUMBER,
        returns=ValueKind.INTEGER,
        make=lambda: _integer,
        may_fail=True,
        example=StepExample("Integer", "42", 42),
        other_names=("int", "whole", "long", "toint", "tonumber"),
    ),
    Step(
        "Decimal",
        "Converts text or a number to an exact number with at most `places` decimal places.",
        takes=ValueKind.ANY_TEXT | ValueKind.ANY_NUMBER,
        returns=ValueKind.DECIMAL,
        make=_decimal,
        parameters=(Parameter("places", ParameterType.COUNT, optional=True, check=_places),),
        may_fail=True,
        example=StepExample("Decimal(2)", "1234.50", 1234.5),
        other_names=("number", "numeric", "float", "double", "money", "currency"),
    ),
    Step(
        "Round",
        "Rounds a number to `places` decimal places (default: 0), halves away from zero.",
        takes=ValueKind.ANY_NUMBER,
        returns=ValueKind.DECIMAL,
        make=_round,
        parameters=(Parameter("places", ParameterType.COUNT, optional=True, check=_places),),
        may_fail=True,
        example=StepExample("Round(2)", 2.675, 2.68),
        other_names=("rounded", "fixed", "tofixed", "precision"),
    ),
    Step(
        "Boolean",
        "Converts true/false, yes/no, y/n, on/off and 1/0, in any case, or two words of your choice, to true or false.",
        takes=ValueKind.ANY_TEXT | ValueKind.INTEGER | ValueKind.BOOLEAN,
        returns=ValueKind.BOOLEAN,
        make=_boolean,
        parameters=(
            Parameter("yes", ParameterType.TEXT, optional=True),
            Parameter("no", ParameterType.TEXT, optional=True),
        ),
        may_fail=True,
        example=StepExample("Boolean", "Yes", True),
        other_names=("bool", "flag", "yesno", "tobool"),
    ),
)
"""In the order of the help."""
