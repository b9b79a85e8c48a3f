from __future__ import annotations

from collections.abc import Callable

import pytest

from speclab.core.json import Json
from speclab.mapping import MappingFailure

Apply = Callable[..., Json]


@pytest.mark.parametrize(
    ("cell", "values", "expected"),
    [
        ('Concat(" ")', ["Ada", "Lovelace"], "Ada Lovelace"),
        ("Concat", ["a", "b", "c"], "abc"),
        ('Concat(" ")', ["Ada", None], "Ada"),
        ('Concat(" ")', [None, None], None),
        ('Concat(" ")', ["", "b"], " b"),
        ('Concat("-")', [1067, "Dresden", True], "1067-Dresden-true"),
        ('Trim, Uppercase, Concat(" ")', [" a ", " b"], "A B"),
        ('Trim, Concat(" "), Title', [" ada ", "LOVELACE "], "Ada Lovelace"),
        ('Default("?"), Concat("/")', [None, "b"], "?/b"),
        ('Concat(" "), Default("nobody")', [None, None], "nobody"),
        ('Concat(";")', [["a", None, 5]], "a;5"),
        ('Concat(";")', ["a"], "a"),
        ('Split(", "), Concat(";")', ["a, b"], "a;b"),
        ("First", [None, 5, "a"], 5),
        ("First", [None, None], None),
        ("First", [[None, 7]], 7),
        ("List", ["a", None, {"b": 1}], ["a", {"b": 1}]),
        ("List", [None, None], None),
        ("Decimal(2), List", ["1.50", "2"], [1.5, 2.0]),
        ("Decimal, First", [None, "1.50"], 1.5),
        ('Decimal(2), Concat(" ")', ["1.5", "2"], "1.50 2.00"),
    ],
)
def test_several_values_are_joined(apply: Apply, cell: str, values: list[Json], expected: Json) -> None:
    assert apply(cell, *values) == expected


@pytest.mark.parametrize(
    ("cell", "values", "reason"),
    [
        ("Concat", [["a"], "b"], "cannot join a list"),
        ("Concat", [[{"a": 1}]], "cannot join an object"),
        ("Decimal, List", ["1", "12345678901234567.89"], "more digits"),
        ('Trim, Concat(" ")', ["a", 5], "takes text, not 5"),
    ],
)
def test_values_that_cannot_be_joined_fail(apply: Apply, cell: str, values: list[Json], reason: str) -> None:
    with pytest.raises(MappingFailure, match=reason):
        apply(cell, *values)


def test_failing_value_of_several_is_named(apply: Apply) -> None:
    with pytest.raises(MappingFailure) as caught:
        apply('Trim, Concat(" ")', "a", 5)
    (failure,) = caught.value.failures
    assert (failure.step, failure.value) == ("Trim", 5)
