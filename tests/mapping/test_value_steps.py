from __future__ import annotations

from collections.abc import Callable

import pytest

from speclab.core.json import Json
from speclab.mapping import Mapper, MappingFailure

Apply = Callable[..., Json]
MakeMapper = Callable[..., Mapper]

STATUS: dict[str, Json] = {"status": {"A": "active", "2": "second", "true": "yes", "none": None}}


@pytest.mark.parametrize("value", ["a", 5, 1.5, True, None, [1], {"a": None}])
@pytest.mark.parametrize("cell", ["", "Direct", "direct"])
def test_direct_accepts_any_value_unchanged(apply: Apply, cell: str, value: Json) -> None:
    assert apply(cell, value) == value


@pytest.mark.parametrize(
    ("cell", "given_", "expected"),
    [
        ("Lookup(status)", "A", "active"),
        ("Lookup(status)", 2, "second"),
        ("Lookup(status)", True, "yes"),
        ("Lookup(status)", "none", None),
        ("Lookup(status)", None, None),
        ('Lookup("status"), Default("x")', "none", "x"),
        ('Default("x")', None, "x"),
        ('Default("x")', "", ""),
        ("Default(0)", None, 0),
        ("Default(1.5)", None, 1.5),
        ("Default(false)", None, False),
        ('NullIf("")', "", None),
        ('NullIf("")', "a", "a"),
        ("NullIf(1)", 1, None),
        ("NullIf(1)", True, True),
        ('NullIf("n/a"), Default("x")', "n/a", "x"),
        ("Required", 0, 0),
        ("Required", False, False),
        ("Required", [], []),
        ("Json", {"b": [1, "é"]}, '{"b":[1,"é"]}'),
        ("ParseJson", "[1, 2.5, null]", [1, 2.5, None]),
        ("ParseJson", str(2**70), 2**70),
    ],
)
def test_values_are_converted(apply: Apply, cell: str, given_: Json, expected: Json) -> None:
    result = apply(cell, given_, lookups=STATUS)
    assert result == expected
    assert type(result) is type(expected)


@pytest.mark.parametrize(
    ("cell", "given_", "reason"),
    [
        ("Lookup(status)", "B", 'no entry for "B" in lookups.status'),
        ("Lookup(status)", "secondd", "no entry"),
        ("Lookup(status)", "nome", 'the nearest is "none"'),
        ("Lookup(status)", 2.0, "not 2.0"),
        ("Lookup(status)", ["A"], 'not \\["A"\\]'),
        ("Required", None, "the value is null or missing"),
        ("Required", "", "the value is empty text"),
        ("Trim, Required", "  ", "the value is empty text"),
        ("ParseJson", "{a: 1}", "expected JSON, got .* at character 2"),
        ("ParseJson", "[NaN]", "NaN is not valid JSON"),
        ("ParseJson", "[1e999]", "1e999 is too large"),
        ("ParseJson", "[" * 100_000, "nested too deep"),
        ("ParseJson", "[" + "1" * 5000 + "]", "a whole number of 5000 digits is too long"),
        ("Json", 2**70, "cannot be written as JSON"),
        ("Json", [None, float("nan")], "cannot be written as JSON"),
        ("Text", float("inf"), "inf cannot be written as a JSON number"),
    ],
)
def test_invalid_values_fail(apply: Apply, cell: str, given_: Json, reason: str) -> None:
    with pytest.raises(MappingFailure, match=reason):
        apply(cell, given_, lookups=STATUS)


@pytest.mark.parametrize(
    ("cell", "expected"),
    [('Constant("EU")', "EU"), ("Constant(1)", 1), ("Constant(null)", None), ("Constant(true)", True)],
)
def test_constant_needs_no_source_field(mapper_of: MakeMapper, cell: str, expected: Json) -> None:
    assert mapper_of(("", "a", cell)).map({}) == {"a": expected}


def test_drop_omits_the_field_only_for_null(mapper_of: MakeMapper) -> None:
    mapper = mapper_of(("a", "a", "Drop"), ("b", "b", 'NullIf(""), Drop'))
    assert mapper.map({"a": None, "b": ""}) == {}
    assert mapper.map({"b": "x"}) == {"b": "x"}
    assert mapper.map({"a": "", "b": "x"}) == {"a": "", "b": "x"}


@pytest.mark.parametrize("number", ["0.12345678901234567890", "12345678901234567.89"])
def test_parse_json_fails_for_a_number_that_would_lose_digits(mapper_of: MakeMapper, number: str) -> None:
    with pytest.raises(MappingFailure, match=f"{number} has more digits than a JSON number can hold"):
        mapper_of(("a", "b", "ParseJson")).map({"a": f"[{number}]"})
