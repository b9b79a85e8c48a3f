from __future__ import annotations

from collections.abc import Callable

import pytest

from speclab.core.json import Json, Record
from speclab.mapping import Mapper
from speclab.mapping.fields import collect_fields, find_unmapped, suggest
from speclab.mapping.lint import check_samples
from speclab.mapping.types import ValueKind

MakeMapper = Callable[..., Mapper]

RECORDS: list[Record] = [
    {
        "id": "c_1",
        "name": {"given": "Ada ", "family": "Lovelace"},
        "mail": "Ada@Example.org",
        "born": "10/12/1815",
        "joined": "2024-02-29",
        "tel": None,
        "zip": "W1",
        "score": "12",
        "count": 5,
        "tags": ["a"],
        "lines": [{"qty": 1}, {"price": 2}],
        "empty": {},
    },
    {"id": "c_2", "tel": "+44", "born": "31/01/1990", "count": 1.5, "odd key": True},
]


def test_fields_of_samples_are_found_with_their_kinds() -> None:
    found = {str(field.path): field for field in collect_fields(RECORDS)}
    assert list(found)[:3] == ["id", "name.given", "name.family"]
    assert found["count"].kind == ValueKind.INTEGER | ValueKind.NUMBER
    assert found["tel"].values == ("+44",)
    assert found["tags"].kind == ValueKind.LIST
    assert found["empty"].kind == ValueKind.OBJECT
    assert {"lines[0].qty", '["odd key"]'} <= set(found)
    assert "lines[1].price" not in found


@pytest.mark.parametrize(
    ("target", "source", "transformation"),
    [
        ("external_id", "source.id", "Direct"),
        ("email", "source.mail", "Trim, Lowercase"),
        ("birth_date", "source.born", 'Date("%d/%m/%Y")'),
        ("phone", "source.tel", "Direct"),
        ("firstName", "source.name.given", "Trim"),
        ("person.last_name", "source.name.family", "Direct"),
        ("postal_code", "source.zip", "Direct"),
    ],
)
def test_target_gets_the_similar_source_field(target: str, source: str, transformation: str) -> None:
    best, *_ = suggest(target, collect_fields(RECORDS))
    assert (best.target, best.source, best.transformation) == (target, source, transformation)
    assert 70 <= best.score <= 100


@pytest.mark.parametrize(
    ("target", "schema", "transformation"),
    [
        ("score", {"type": "integer"}, "Trim, Integer"),
        ("score", {"type": "number"}, "Trim, Decimal"),
        ("count", {"type": "string"}, "Text"),
        ("joined", {"format": "date"}, "Date"),
        ("born", {"format": "date"}, 'Date("%d/%m/%Y")'),
    ],
)
def test_suggested_steps_follow_the_schema_of_the_target(
    target: str, schema: dict[str, Json], transformation: str
) -> None:
    assert suggest(target, collect_fields(RECORDS), schema)[0].transformation == transformation


def test_ambiguous_date_format_is_not_guessed() -> None:
    fields = collect_fields([{"born": "01/02/2024"}])
    assert suggest("birth_date", fields)[0].transformation == "Direct"


def test_constant_of_the_contract_is_suggested() -> None:
    (best,) = suggest("region", collect_fields(RECORDS), {"const": "EU"})
    assert (best.source, best.transformation) == ("", 'Constant("EU")')


def test_target_without_similar_field_gets_no_suggestion() -> None:
    assert suggest("warranty", collect_fields(RECORDS)) == ()


def test_targets_that_no_row_writes_are_unmapped() -> None:
    known = ["email", "address", "name.given", "name.middle", "tags[0]", "email", "no path"]
    assert find_unmapped(["email", "address.city", "name.given"], known) == ("name.middle", "tags[0]")


def test_field_in_no_sample_is_a_warning(mapper_of: MakeMapper) -> None:
    mapper = mapper_of(("id, mial", "a", "First"), ("", "b", "= has(source.scor) ? source.scor : 0"), ("tel", "c", ""))
    (first,) = check_samples(mapper, RECORDS, "x.md")
    assert first.message == "'mial' is missing in all 2 sample records and is null. Did you mean 'mail'?"
    assert (first.code, first.line, first.column, first.length) == ("M201", 41, 23, 4)


def test_without_samples_nothing_is_missing(mapper_of: MakeMapper) -> None:
    assert check_samples(mapper_of(("a", "b", "")), [], "x.md") == []
