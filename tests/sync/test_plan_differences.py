"""Differences between a stored and a new record, field by field."""

from __future__ import annotations

from speclab.core.json import Json, Record
from speclab.sync.plan import Difference, find_differences


def fields(found: Record, expected_row: Record) -> list[str]:
    return [one.field for one in find_differences(found, expected_row)]


def test_differing_and_missing_fields_are_reported_with_both_values() -> None:
    found: Record = {"id": 1, "name": "Ada", "only_there": True}
    assert find_differences(found, {"id": 1, "name": "Grace", "born": None}) == [
        Difference("name", '"Ada"', '"Grace"'),
        Difference("born", "", "null"),
    ]


def test_objects_are_compared_by_field_and_lists_as_a_whole() -> None:
    found: Record = {"address": {"city": "Ulm", "since": 1999}, "tags": ["a", "b"]}
    assert fields(found, {"address": {"city": "Ulm"}, "tags": ["a", "b"]}) == []
    assert fields(found, {"address": {"city": "Bonn", "odd key": 1}, "tags": ["b", "a"]}) == [
        "address.city",
        'address["odd key"]',
        "tags",
    ]


def test_equal_values_in_different_notations_are_equal() -> None:
    kept: list[tuple[Json, Json]] = [
        ("1.50", 1.5),
        (1, True),
        (0, False),
        ("true", True),
        ("", None),
        ('{"b": 1, "a": 2}', {"a": 2, "b": 1}),
        ("[1, 2]", [1, 2]),
    ]
    for was, value in kept:
        assert fields({"x": was}, {"x": value}) == [], (was, value)


def test_values_that_only_look_alike_differ() -> None:
    kept: list[tuple[Json, Json]] = [("one", 1), ("", 0), (None, ""), ("{", {}), ("True ", True), ("Ada", ["Ada"])]
    kept.append(("9007199254740993", 9007199254740992))
    for was, value in kept:
        assert fields({"x": was}, {"x": value}) == ["x"], (was, value)
