"""Fields of records, from samples or from a JSON Schema."""

from __future__ import annotations

from collections.abc import Iterable

from speclab.core.json import Json, Record
from speclab.core.paths import FieldPath
from speclab.mapping.fields import Field, collect_fields, read_schema_fields
from speclab.mapping.types import ValueKind

RECORDS: list[Record] = [
    {"id": 1, "name": {"given": "Ada", "family": None}, "tags": ["a"], "lines": [{"sku": "x", "qty": 2}], "odd key": 1},
    {"id": "c_2", "name": {"given": "Grace"}, "tags": [], "lines": []},
]
STREAM: dict[str, Json] = {
    "type": "object",
    "required": ["id", "name"],
    "properties": {
        "id": {"type": "integer"},
        "name": {
            "type": ["null", "object"],
            "required": ["given"],
            "properties": {"given": {"type": "string"}, "family": {"type": ["null", "string"]}},
        },
        "seen": {"anyOf": [{"type": "string", "format": "date-time"}, {"type": "null"}]},
        "lines": {"type": "array", "items": {"type": "object", "required": ["sku"], "properties": {"sku": {}}}},
        "tags": {"type": "array", "items": {"type": "string"}},
        "extra": {"type": ["object", "null"]},
        "rate": {"type": ["number", "string"]},
    },
}


def by_path(fields: Iterable[Field]) -> dict[str, Field]:
    return {str(field.path): field for field in fields}


def test_paths_are_dotted_in_the_order_they_are_first_seen() -> None:
    paths = ["id", "name.given", "name.family", "tags", "lines[0].sku", "lines[0].qty", '["odd key"]', "lines"]
    assert list(by_path(collect_fields(RECORDS))) == paths


def test_field_has_all_kinds_seen_and_its_share_of_records() -> None:
    fields = by_path(collect_fields(RECORDS))
    assert (fields["id"].kind, fields["id"].share) == (ValueKind.INTEGER | ValueKind.TEXT, 1.0)
    assert (fields["name.family"].kind, fields["name.family"].share) == (ValueKind(0), 0.0)
    assert (fields["lines[0].sku"].values, fields["lines[0].sku"].share) == (("x",), 0.5)


def test_only_some_values_are_kept_of_all_records() -> None:
    values: list[Json] = [*range(30), "text"]
    (field,) = collect_fields({"a": value} for value in values)
    assert len(field.values) == 20
    assert field.kind == ValueKind.INTEGER | ValueKind.TEXT


def test_no_records_have_no_fields() -> None:
    assert collect_fields([]) == ()


def test_fields_of_a_schema_have_types_and_required() -> None:
    reported = [
        (str(field.path), field.kind, field.declared, field.required, field.share)
        for field in read_schema_fields(STREAM)
    ]
    assert reported == [
        ("id", ValueKind.INTEGER, "integer", True, None),
        ("name.given", ValueKind.TEXT, "string", True, None),
        ("name.family", ValueKind.TEXT, "string", False, None),
        ("seen", ValueKind.DATETIME, "string (date-time)", False, None),
        ("lines[0].sku", ValueKind(0), "", False, None),
        ("tags", ValueKind.LIST, "array", False, None),
        ("extra", ValueKind.OBJECT, "object", False, None),
        ("rate", ValueKind.NUMBER | ValueKind.TEXT, "number or string", False, None),
    ]


def test_empty_schema_has_no_fields() -> None:
    assert read_schema_fields({}) == ()
    assert read_schema_fields({"type": "object", "properties": "none"}) == ()


def test_deeply_nested_schema_is_cut() -> None:
    schema: dict[str, Json] = {"type": "string"}
    for _ in range(40):
        schema = {"type": "object", "properties": {"in": schema}}
    (field,) = read_schema_fields(schema)
    assert field.path == FieldPath(("in",) * 6)
