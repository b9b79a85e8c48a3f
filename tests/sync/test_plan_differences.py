"""What a write would change, field by field."""

from __future__ import annotations

from speclab.core.json import Json, Record
from speclab.sync.plan import Difference, find_differences


def fields(found: Record, mapped: Record) -> list[str]:
    return [one.field for one in find_differences(found, mapped)]


def test_what_differs_and_what_is_not_there_is_told_with_both_values() -> None:
    found: Record = {"id": 1, "name": "Ada", "only_there": True}
    assert find_differences(found, {"id": 1, "name": "Grace", "born": None}) == [
        Difference("name", '"Ada"', '"Grace"'),
        Difference("born", "", "null"),
    ]


def test_objects_are_compared_inside_and_lists_whole() -> None:
    found: Record = {"address": {"city": "Ulm", "since": 1999}, "tags": ["a", "b"]}
    assert fields(found, {"address": {"city": "Ulm"}, "tags": ["a", "b"]}) == []
    assert fields(found, {"address": {"city": "Bonn", "odd key": 1}, "tags": ["b", "a"]}) == [
        "address.city",
        'address["odd key"]',
        "tags",
    ]


def test_the_same_in_other_clothes_is_the_same() -> None:
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


def test_what_only_looks_alike_differs() -> None:
    kept: list[tuple[Json, Json]] = [("one", 1), ("", 0), (None, ""), ("{", {}), ("True ", True), ("Ada", ["Ada"])]
    kept.append(("9007199254740993", 9007199254740992))
    for was, value in kept:
        assert fields({"x": was}, {"x": value}) == ["x"], (was, value)
