from __future__ import annotations

from collections.abc import Callable

import pytest

from speclab.core.json import Json
from speclab.core.outcome import Stage
from speclab.mapping import Mapper
from speclab.spec.problems import Problem

MakeMapper = Callable[..., Mapper]
FindProblems = Callable[..., list[Problem]]


@pytest.mark.parametrize(
    ("schema", "value", "reason"),
    [
        ({"format": "email"}, "ada", 'not a valid email address: "ada"'),
        ({"format": "date"}, "10/12/1815", 'not a valid date: "10/12/1815"'),
        ({"minimum": 0}, -1, "-1 is less than the minimum of 0"),
        ({"type": "string"}, None, 'null is not of type "string"'),
        ({"enum": ["a", "b"]}, "c", '"c" is not one of'),
        ({"pattern": "^[A-Z]{2}$"}, "Deutschland", "does not match"),
        ({"maxLength": 3}, "x" * 1000, "x… is longer than 3 characters"),
        ({"items": {"type": "string"}, "minItems": 1000}, ["x"] * 999, '"x"… has less than 1000 items'),
    ],
)
def test_contract_violation_is_a_failure_of_its_row(
    mapper_of: MakeMapper, schema: Json, value: Json, reason: str
) -> None:
    mapper = mapper_of(("id", "id", ""), ("a", "b", ""), check={"b": schema})
    (failure,) = mapper.check({"id": 1, "b": value})
    assert failure.reason.startswith(reason) or reason in failure.reason
    assert len(failure.reason) <= 201
    assert (failure.row, failure.line, failure.column, failure.length) == ("b", 42, 40, 1)
    assert (failure.stage, failure.step, failure.value) == (Stage.CHECK, None, value)


@pytest.mark.parametrize(
    ("schema", "value"),
    [({"format": "email"}, "ada@example.org"), ({"format": "email"}, None), ({"minimum": 0}, 0), ({}, 1)],
)
def test_valid_field_has_no_failure(mapper_of: MakeMapper, schema: Json, value: Json) -> None:
    assert mapper_of(("a", "b", ""), check={"b": schema}).check({"b": value}) == ()


def test_all_violations_are_reported(mapper_of: MakeMapper) -> None:
    mapper = mapper_of(
        ("a", "a", ""), ("b", "b", ""), check={"a": {"type": "string", "enum": ["x"]}, "b": {"minimum": 5}}
    )
    assert [failure.row for failure in mapper.check({"a": 1, "b": 1})] == ["a", "a", "b"]


def test_omitted_field_is_not_checked(mapper_of: MakeMapper) -> None:
    assert mapper_of(("a", "b", "Drop"), check={"b": {"type": "string"}}).check({}) == ()


def test_checks_follow_paths_into_objects_and_lists(mapper_of: MakeMapper) -> None:
    mapper = mapper_of(
        ("city", "address.city", ""),
        ("tag", "tags[0]", ""),
        ("lines", "lines", ""),
        check={
            "address.city": {"minLength": 2},
            "target.tags[0]": {"type": "string"},
            "address": {"required": ["zip"]},
            "lines": {"items": {"properties": {"qty": {"minimum": 1}}}},
        },
    )
    failures = mapper.check({"address": {"city": "X"}, "tags": [1], "lines": [{"qty": 1}, {"qty": 0}]})
    assert [(failure.row, failure.reason) for failure in failures] == [
        ("address.city", '"X" is shorter than 2 characters'),
        ("tags[0]", '1 is not of type "string"'),
        ("address.city", 'address: "zip" is a required property'),
        ("lines", "lines[1].qty: 0 is less than the minimum of 1"),
    ]


def test_whole_and_fractional_numbers_are_integers_as_json_schema_says(mapper_of: MakeMapper) -> None:
    assert mapper_of(("a", "b", ""), check={"b": {"type": "integer"}}).check({"b": 12.0}) == ()


@pytest.mark.parametrize(
    ("check", "message", "fix"),
    [
        ({"emial": {}}, "check: no row writes 'emial'. Did you mean 'email'?", "email"),
        ({"zzz": {}}, "check: no row writes 'zzz'. The keys are target fields of the table.", None),
        ({"email": {"format": "emial"}}, "check: email.format: Unknown format: 'emial'", None),
        ({"email": {"required": True}}, 'check: email.required: true is not of type "array"', None),
        ({"email": {"pattern": "("}}, 'check: email.pattern: not a valid regex: "("', None),
        ({"a b": {}}, "a b is not a valid path: unexpected ' '", None),
    ],
)
def test_invalid_check_is_a_problem(problems_of: FindProblems, check: Json, message: str, fix: str | None) -> None:
    (problem,) = problems_of(("mail", "email", "Lowercase"), check=check)
    assert problem.message == message
    assert problem.fix == fix
