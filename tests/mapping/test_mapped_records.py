from __future__ import annotations

from collections.abc import Callable

import pytest

from speclab.core.json import Json, Record
from speclab.core.outcome import Stage
from speclab.mapping import Mapper, MappingFailure

MakeMapper = Callable[..., Mapper]

FULL_NAME = ("name.given, name.family", "full_name", 'Trim, Concat(" ")')


def test_mapped_record_has_the_order_of_the_rows(mapper_of: MakeMapper) -> None:
    mapper = mapper_of(("id", "external_id", ""), FULL_NAME, ("", "origin", 'Constant("crm")'))
    mapped = mapper.map({"name": {"family": "Lovelace", "given": "Ada "}, "id": 7, "more": True})
    assert list(mapped.items()) == [("external_id", 7), ("full_name", "Ada Lovelace"), ("origin", "crm")]


@pytest.mark.parametrize(
    "record", [{}, {"a": None}, {"a": {}}, {"a": {"b": None}}, {"a": {"b": []}}, {"a": {"b": [1]}}]
)
def test_missing_field_is_null(mapper_of: MakeMapper, record: Record) -> None:
    assert mapper_of(("a.b[1]", "x", "Trim")).map(record) == {"x": None}


@pytest.mark.parametrize("cell", ["Direct", "Trim", "Integer", 'Date("%d/%m/%Y")', "Text", 'Concat(" ")', "First"])
def test_null_passes_through_and_is_written(mapper_of: MakeMapper, cell: str) -> None:
    assert mapper_of(("a", "x", cell)).map({"a": None}) == {"x": None}


def test_required_fails_for_a_missing_field(mapper_of: MakeMapper) -> None:
    with pytest.raises(MappingFailure, match="x, Required: the value is null or missing"):
        mapper_of(("a.b", "x", "Required")).map({})


@pytest.mark.parametrize(
    ("path", "record", "reason"),
    [
        ("name.given", {"name": "Ada"}, 'name is "Ada", which has no field given'),
        ("name.given", {"name": ["Ada"]}, 'name is \\["Ada"\\], which has no field given'),
        ("tags[0]", {"tags": {"0": "a"}}, 'tags is {"0": "a"}, which has no item 0'),
        ("a.b.c", {"a": {"b": 5}}, "a.b is 5, which has no field c"),
    ],
)
def test_path_through_a_scalar_fails_at_the_source_field(
    mapper_of: MakeMapper, path: str, record: Record, reason: str
) -> None:
    with pytest.raises(MappingFailure, match=reason) as caught:
        mapper_of(("id", "id", ""), (f"id, {path}", "x", "First")).map({"id": 1, **record})
    (failure,) = caught.value.failures
    assert (failure.line, failure.column, failure.length, failure.step) == (42, 23, len(path), None)


def test_all_failing_rows_are_reported_with_their_locations(mapper_of: MakeMapper) -> None:
    mapper = mapper_of(
        ("email", "email", "Required, Trim, Lowercase"),
        ("id", "id", ""),
        ("born", "birth_date", 'Trim, Date("%d/%m/%Y")'),
        ("state", "stage", "Lookup(stage), Uppercase"),
        lookups={"stage": {"A": "active"}},
    )
    with pytest.raises(MappingFailure) as caught:
        mapper.map({"email": "", "id": 1, "born": " 1815-12-10", "state": "P0"})
    places = [(one.row, one.line, one.column, one.length, one.step, one.value) for one in caught.value.failures]
    assert places == [
        ("email", 41, 60, 8, "Required", ""),
        ("birth_date", 43, 66, 16, 'Date("%d/%m/%Y")', "1815-12-10"),
        ("stage", 44, 60, 13, "Lookup(stage)", "P0"),
    ]
    assert {one.stage for one in caught.value.failures} == {Stage.MAP}
    assert str(caught.value.failures[2]) == 'stage, Lookup(stage): no entry for "P0" in lookups.stage'


def test_columns_count_the_backslashes_before_pipes(mapper_of: MakeMapper) -> None:
    mapper = mapper_of(("a", "x", 'Replace("|", "||"), Integer'))
    with pytest.raises(MappingFailure) as caught:
        mapper.map({"a": "1|2"})
    (failure,) = caught.value.failures
    assert failure.column == 60 + len(r'Replace("\|", "\|\|"), ')


def test_decimal_that_json_cannot_hold_fails_at_the_last_step(mapper_of: MakeMapper) -> None:
    with pytest.raises(MappingFailure, match="more digits than a JSON number can hold") as caught:
        mapper_of(("a", "x", "Trim, Decimal")).map({"a": "0.12345678901234567890"})
    (failure,) = caught.value.failures
    assert (failure.step, failure.column, failure.value) == ("Decimal", 66, "0.12345678901234567890")


def test_targets_nest(mapper_of: MakeMapper) -> None:
    mapper = mapper_of(
        ("city", "address.city", ""),
        ("a", "tags[0]", ""),
        ("b", "tags[1].name", ""),
        ("zip", "address.zip", ""),
        ("c", '["odd key"]["b.c"]', ""),
    )
    assert mapper.map({"city": "London", "zip": "W1", "a": 1, "b": 2, "c": 3}) == {
        "address": {"city": "London", "zip": "W1"},
        "tags": [1, {"name": 2}],
        "odd key": {"b.c": 3},
    }


def test_dropped_field_leaves_no_empty_object(mapper_of: MakeMapper) -> None:
    mapper = mapper_of(
        ("city", "address.city", "Drop"),
        ("zip", "address.zip", "Drop"),
        ("a", "tags[0]", "Drop"),
        ("b", "tags[1]", "Drop"),
        ("id", "id", ""),
    )
    assert mapper.map({"id": 1}) == {"id": 1}
    assert mapper.map({"id": 1, "zip": "W1", "b": "x"}) == {"address": {"zip": "W1"}, "tags": ["x"], "id": 1}


@pytest.mark.parametrize(
    ("record", "accepted"), [({"email": "a@b.org"}, True), ({"email": ""}, False), ({"email": None}, True)]
)
def test_filter_accepts_records_for_which_it_is_true(mapper_of: MakeMapper, record: Record, accepted: Json) -> None:
    mapper = mapper_of(("email", "email", ""), filter='source.email != ""')
    assert mapper.accepts(record) is accepted


def test_without_a_filter_all_records_are_accepted(mapper_of: MakeMapper) -> None:
    assert mapper_of(("a", "a", "")).accepts({}) is True


@pytest.mark.parametrize(
    ("text", "reason", "value"),
    [
        ('source.email != ""', "there is no field 'email'", {}),
        ("source.id", "expected true or false, got 1", {"id": 1}),
    ],
)
def test_failing_filter_is_a_failure_of_the_record(mapper_of: MakeMapper, text: str, reason: str, value: Json) -> None:
    mapper = mapper_of(("id", "id", ""), filter=text)
    with pytest.raises(MappingFailure, match=f"filter: {reason}") as caught:
        mapper.accepts({"id": 1})
    (failure,) = caught.value.failures
    assert (failure.row, failure.stage, failure.line, failure.value) == (None, Stage.MAP, 1, value)


def test_steps_follow_an_expression(mapper_of: MakeMapper) -> None:
    mapper = mapper_of(("", "amount", "= source.qty * source.price, Round(2)"))
    assert mapper.map({"qty": 3, "price": 9.995}) == {"amount": 29.99}
    assert mapper.map({"qty": 3, "price": 10}) == {"amount": 30.0}


def test_evaluate_filters_maps_and_checks_a_record(mapper_of: MakeMapper) -> None:
    mapper = mapper_of(
        ("email", "email", "Required, Trim"),
        filter="source.test != true",
        check={"target.email": {"type": "string", "format": "email"}},
    )
    filtered = mapper.evaluate({"email": "ada@example.org", "test": True})
    assert (filtered.record, filtered.failures, filtered.is_filtered) == (None, (), True)
    mapped = mapper.evaluate({"email": " ada@example.org", "test": False})
    assert (mapped.record, mapped.failures, mapped.is_filtered) == ({"email": "ada@example.org"}, (), False)
    broken = mapper.evaluate({"email": "ada", "test": False})
    assert broken.record == {"email": "ada"}
    assert [failure.stage for failure in broken.failures] == [Stage.CHECK]
    failing: list[Record] = [{"test": False}, {"email": "ada@example.org"}]  # on the row, on the filter
    for record in failing:
        failed = mapper.evaluate(record)
        assert (failed.record, failed.is_filtered) == (None, False)
        assert [failure.stage for failure in failed.failures] == [Stage.MAP]
