from __future__ import annotations

import json
import math
from collections.abc import Callable
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from speclab.core.json import Json
from speclab.mapping import MappingFailure
from speclab.mapping.steps import STEPS
from speclab.mapping.types import INTEGER_RANGE, StepError, to_json_number

Apply = Callable[..., Json]


@pytest.mark.parametrize(
    ("cell", "given_", "expected"),
    [
        ("Integer", "42", 42),
        ("Integer", "-007", -7),
        ("Integer", "+5", 5),
        ("Integer", 42, 42),
        ("Integer", 42.0, 42),
        ("Integer", "18446744073709551615", 2**64 - 1),
        ("Decimal, Integer", "12.00", 12),
        ("Decimal", "12.5", 12.5),
        ("Decimal", "12", 12),
        ("Decimal", ".5", 0.5),
        ("Decimal(2)", "12.50", 12.5),
        ("Decimal(2)", "12.500", 12.5),
        ("Decimal(2)", "-0.10", -0.1),
        ("Decimal(2)", 12, 12.0),
        ("Decimal(2)", 0.1, 0.1),
        ("Decimal(0)", "12.0", 12),
        ("Decimal(2), Text", "7", "7.00"),
        ("Decimal(2), Text", "12", "12.00"),
        ("Decimal(2)", "12", 12.0),
        ("Decimal, NullIf(0.1)", "0.10", None),
        ("Round(1), NullIf(0.1)", 0.12, None),
        ("Decimal, Round(2)", "2.675", 2.68),
        ("Round(2)", 2.675, 2.68),
        ("Round", -2.5, -3),
        ("Round(1)", 5, 5.0),
        ("Text", 1.0, "1.0"),
        ("Text", 10**18, "1000000000000000000"),
        ("Text", False, "false"),
        ("Boolean", "YES", True),
        ("Boolean", "off", False),
        ("Boolean", 1, True),
        ("Boolean", 0, False),
        ("Boolean", True, True),
        ('Boolean("J", "N")', "N", False),
    ],
)
def test_numbers_are_converted(apply: Apply, cell: str, given_: Json, expected: Json) -> None:
    result = apply(cell, given_)
    assert result == expected
    assert type(result) is type(expected)


@pytest.mark.parametrize(
    ("cell", "given_", "reason"),
    [
        ("Integer", "12abc", 'expected a whole number, got "12abc"'),
        ("Integer", " 12", "expected a whole number"),
        ("Integer", "1_000", "expected a whole number"),
        ("Integer", "\u0661\u0662", "expected a whole number"),
        ("Integer", "12.0", "expected a whole number"),
        ("Integer", "", "expected a whole number"),
        ("Integer", 12.5, "expected a whole number, got 12.5; Round"),
        ("Integer", True, "not true"),
        ("Integer", "9" * 30, "does not fit into 64 bits"),
        ("Integer", "9" * 5000, "expected a whole number"),
        ("Decimal", "1,234.50", "expected a number"),
        ("Decimal", "1e5", "expected a number"),
        ("Decimal", "NaN", "expected a number"),
        ("Decimal", "5.", "expected a number"),
        ("Decimal(2)", "12.345", "more than 2 decimal places"),
        ("Decimal(2)", 0.1 + 0.2, "more than 2 decimal places"),
        ("Decimal", "12345678901234567.89", "more digits than a JSON number can hold"),
        ("Decimal", "9" * 25, "does not fit into 64 bits"),
        ("Round(2)", "1.5", "takes a number, not"),
        ("Round(2)", 10**500, "has too many digits"),
        ("Boolean", "maybe", "expected"),
        ("Boolean", 2, "got 2"),
        ("Boolean", "", "expected"),
        ('Boolean("J", "N")', "j", 'expected "J" or "N"'),
        ("Text", [1], "not \\[1\\]"),
    ],
)
def test_no_format_is_guessed(apply: Apply, cell: str, given_: Json, reason: str) -> None:
    with pytest.raises(MappingFailure, match=reason):
        apply(cell, given_)


@pytest.mark.parametrize("cell", ["Integer", "Decimal(2)", "Round(2)", "Boolean", "Text"])
def test_null_stays_null(apply: Apply, cell: str) -> None:
    assert apply(cell, None) is None


@given(st.decimals(allow_nan=False, allow_infinity=False, places=4, min_value=-(10**9), max_value=10**9))
def test_decimal_of_fifteen_digits_keeps_its_digits(value: Decimal) -> None:
    assert Decimal(json.dumps(to_json_number(value))) == value


@given(st.decimals(allow_nan=False, allow_infinity=False))
def test_json_number_is_exact_or_fails(value: Decimal) -> None:
    exact = math.isfinite(float(value)) and Decimal(repr(float(value))) == value
    whole = value.as_tuple().exponent == 0 and int(value) in INTEGER_RANGE
    if exact or whole:
        assert Decimal(repr(to_json_number(value))) == value
    else:
        with pytest.raises(StepError, match=r"digits|64 bits"):
            to_json_number(value)


@given(st.from_regex(r"[+-]?([0-9]{1,6}(\.[0-9]{1,4})?|\.[0-9]{1,4})", fullmatch=True), st.integers(0, 4))
def test_decimal_has_the_requested_places_and_value(text: str, places: int) -> None:
    read = STEPS["Decimal"].make(places)
    exact = Decimal(text)
    try:
        value = read(text)  # type: ignore[arg-type]
    except StepError:
        assert round(exact, places) != exact
    else:
        assert isinstance(value, Decimal)
        assert (value, value.as_tuple().exponent) == (exact, -places)
