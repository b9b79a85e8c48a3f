from __future__ import annotations

from collections.abc import Callable

import pytest

from speclab.core.json import Json
from speclab.mapping import Mapper

MakeMapper = Callable[..., Mapper]


def test_explanation_has_every_step_of_a_row(mapper_of: MakeMapper) -> None:
    mapper = mapper_of(("name.given, name.family", "full_name", 'Trim, Uppercase, Concat(" ")'))
    (result,) = mapper.explain({"name": {"given": "Ada ", "family": "Lovelace"}})
    assert result.sample == (("name.given", "Ada "), ("name.family", "Lovelace"))
    assert [(step.text, step.start, step.end, step.values) for step in result.steps] == [
        ("Trim", 0, 4, ("Ada", "Lovelace")),
        ("Uppercase", 6, 15, ("ADA", "LOVELACE")),
        ('Concat(" ")', 17, 28, ("ADA LOVELACE",)),
    ]
    assert (result.row, result.line, result.value, result.type) == ("full_name", 41, "ADA LOVELACE", "text")
    assert result.failure is None
    assert not result.dropped


def test_failure_is_explained_with_the_steps_before_it(mapper_of: MakeMapper) -> None:
    (result,) = mapper_of(("born", "birth_date", 'Trim, Date("%d/%m/%Y"), Required')).explain({"born": " 1815-12-10"})
    assert [step.text for step in result.steps] == ["Trim"]
    assert result.failure is not None
    assert (result.failure.step, result.failure.column, result.value, result.type) == ('Date("%d/%m/%Y")', 66, None, "")


def test_decimal_between_steps_is_shown_as_text(mapper_of: MakeMapper) -> None:
    (result,) = mapper_of(("a", "b", "Decimal(2)")).explain({"a": "12.5"})
    assert result.steps[0].values == ("12.50",)
    assert result.value == 12.5


def test_fields_an_expression_reads_are_its_sample(mapper_of: MakeMapper) -> None:
    (result,) = mapper_of(("", "b", "= source.qty * source.price, Round(1)")).explain({"qty": 2, "price": 1.26, "x": 0})
    assert result.sample == (("qty", 2), ("price", 1.26))
    assert [(step.text, step.values) for step in result.steps] == [
        ("= source.qty * source.price", (2.52,)),
        ("Round(1)", ("2.5",)),
    ]


def test_missing_fields_are_named(mapper_of: MakeMapper) -> None:
    (result,) = mapper_of(("a, b.c", "d", "First")).explain({"a": None, "b": {}})
    assert result.missing == ("b.c",)
    assert result.sample == (("a", None), ("b.c", None))
    assert result.type == "null"


def test_failing_row_does_not_affect_the_explanation_of_others(mapper_of: MakeMapper) -> None:
    results = mapper_of(("a", "a", "Integer"), ("b", "b", "Drop"), ("c", "c", "")).explain({"a": "x", "c": [1]})
    assert [(one.value, one.dropped, one.type, one.failure is not None) for one in results] == [
        (None, False, "", True),
        (None, True, "null", False),
        ([1], False, "list", False),
    ]


@pytest.mark.parametrize(
    ("cell", "value", "expected"),
    [
        ("", "x", "text"),
        ("", 5, "integer"),
        ("", 1.5, "number"),
        ("", True, "boolean"),
        ("", {}, "object"),
        ("Date", "2024-01-01", "date"),
        ("DateTime", "2024-01-01T00:00:00Z", "datetime"),
        ('Date("%Y-%m-%d", "%d.%m.%Y")', "2024-01-01", "text"),
        ("Decimal", "1.5", "number"),
        ("Integer", "1", "integer"),
        ("Lookup(t)", "a", "number"),
        ('Split(",")', "a", "list"),
        ("Boolean", "yes", "boolean"),
        ("= source.f0 == 'a'", "a", "boolean"),
    ],
)
def test_result_has_a_type(mapper_of: MakeMapper, cell: str, value: Json, expected: str) -> None:
    lookups: dict[str, Json] = {"t": {"a": 1, "b": 1.5}} if "Lookup" in cell else {}
    (result,) = mapper_of(("" if cell.startswith("=") else "f0", "b", cell), lookups=lookups).explain({"f0": value})
    assert result.type == expected
