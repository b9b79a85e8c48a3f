from __future__ import annotations

import math
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from speclab.core.json import Json, Record
from speclab.mapping.cel import EvaluationError, RecordExpression

RECORD: Record = {"a": 7, "b": 2.5, "l": [3, 0.25, 12]}


@dataclass(frozen=True)
class Number:
    """A number with its exact value; an expression's text and value are built side by side."""

    text: str
    value: float | None  # None: it is undefined

    def atom(self) -> Number:
        return Number(f"({self.text})", self.value)

    def negative(self) -> Number:
        return Number(f"-{self.text}", None if self.value is None else -self.value)

    def whole(self) -> Number:
        return Number(f"int({self.text})", None if self.value is None else math.trunc(self.value))

    def with_(self, sign: str, other: Number) -> Number:
        text = f"{self.text} {sign} {other.text}"
        one, two = self.value, other.value
        if one is None or two is None:
            return Number(text, None)
        if sign in "/%" and not two:
            return Number(text, None)
        if sign == "%":
            both_whole = float(one).is_integer() and float(two).is_integer()
            return Number(text, math.fmod(one, two) if both_whole else None)
        return Number(
            text, one + two if sign == "+" else one - two if sign == "-" else one * two if sign == "*" else one / two
        )


ATOMS = st.one_of(
    st.integers(0, 20).map(lambda number: Number(str(number), number)),
    st.sampled_from([0.5, 0.25, 4.0]).map(lambda number: Number(str(number), number)),
    st.sampled_from(
        [
            Number("source.a", 7),
            Number('source["b"]', 2.5),
            Number("source.l[2]", 12),
            Number("source.l[size(source.l) - 3]", 3),
            Number("[5, source.b][1 - 1]", 5),
            Number("0x10", 16),
            Number('timestamp("2024-01-01T10:30:00Z").getMinutes()', 30),
            Number('"abcd".size()', 4),
        ]
    ),
)


def terms(inner: st.SearchStrategy[Number]) -> st.SearchStrategy[Number]:
    factors = st.one_of(
        inner.map(Number.atom), inner.map(Number.whole), inner.map(Number.atom).map(Number.negative), ATOMS
    )
    products = st.lists(st.tuples(st.sampled_from("*/%"), factors), max_size=3)
    return st.builds(chained, factors, products).flatmap(
        lambda first: st.tuples(st.sampled_from("+-"), st.builds(chained, factors, products)).map(
            lambda more: first.with_(*more)
        )
    )


def chained(first: Number, more: list[tuple[str, Number]]) -> Number:
    for sign, other in more:
        first = first.with_(sign, other)
    return first


@settings(max_examples=100, deadline=None)
@given(st.recursive(ATOMS, terms, max_leaves=6))
def test_mixed_numbers_calculate_as_expected(number: Number) -> None:
    expression = RecordExpression(number.text)
    if number.value is None or abs(number.value) > 2**50:
        return
    assert expression.evaluate(RECORD) == pytest.approx(number.value, rel=1e-12, abs=1e-12)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("int(source.a / 2) * 100", 300),
        ("int(source.a * 100 / 60) % 60", 11),
        ("source.a % 4 % 2 + 0.5", 1.5),
        ("7 * 3 % 4 / 2", 0.5),
        ("-source.a % 4 / 1", -3),
        ("source.l[size(source.l) - 1] / 5", 2.4),
        ("source.l.filter(x, x / 1 > 1).map(x, x % 2)", [1, 0]),
        ('timestamp("2024-03-05T01:30:00Z").getMinutes() / 60', 0.5),
        ("int(source.b) + 0.5 // a comment", 2.5),
    ],
)
def test_integer_arithmetic_is_available(text: str, expected: Json) -> None:
    assert RecordExpression(text).evaluate(RECORD) == expected


@pytest.mark.parametrize(
    ("text", "record", "reason"),
    [
        ("source.b % 2", RECORD, r"% takes whole numbers; convert with int"),
        ("source.a % 0 / 2", RECORD, "^modulo by zero"),
        ("source.a + 0.5", {"a": 2**60}, "too large for calculations with fractions"),
        ("int(source.a) + 0.5", {"a": str(2**60)}, "too large for calculations with fractions"),
        ("sum(source.a)", {"a": [2**63, 2**63]}, r"sum\(\): the result does not fit into 64 bits"),
        ("math.ceil(source.a)", {"a": 1e300}, r"math.ceil\(\): the result does not fit into 64 bits"),
        ("math.round(source.a)", {"a": 1e300}, r"math.round\(\): the result does not fit into 64 bits"),
        ("math.round(source.a)", {"a": math.inf}, r"math.round\(\) takes a number, not inf"),
        ("math.floor(source.a)", {"a": math.nan}, r"math.floor\(\) takes a number, not nan"),
    ],
)
def test_undefined_calculation_has_a_reason(text: str, record: Record, reason: str) -> None:
    with pytest.raises(EvaluationError, match=reason):
        RecordExpression(text).evaluate(record)
