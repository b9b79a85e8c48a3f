from __future__ import annotations

import pytest

from speclab.core.paths import FieldPath
from speclab.mapping.completion import Candidate, complete_source, complete_step, complete_target
from speclab.mapping.steps import STEPS

FIELDS = [FieldPath.parse(text) for text in ("id", "name.given", "name.family", 'tags[0]["odd key"]', '["a b"]')]


def texts(candidates: tuple[Candidate, ...]) -> list[str]:
    return [candidate.text for candidate in candidates]


def test_empty_cell_can_begin_with_any_step() -> None:
    assert [text.rstrip("(") for text in texts(complete_step("", 0))] == list(STEPS)


def test_step_that_starts_is_not_offered_later() -> None:
    assert "Constant(" not in texts(complete_step("Trim, ", 6))


@pytest.mark.parametrize(
    ("cell", "expected", "start"),
    [
        ("up", "Uppercase", 0),
        ("Trim, low", "Lowercase", 6),
        ("Trim, Dat", "Date", 6),
        ("coal", "First", 0),
        ("repl", "Replace(", 0),
        ("Lookup(", "status", 7),
        ("Lookup(st", "status", 7),
        ("Trim, Date(", '"%d/%m/%Y"', 11),
        ('Date("%Y', '"%Y%m%d"', 5),
        ('Date("%d/%m/%Y", "%Y-', '"%Y-%m-%d"', 17),
        ("Hash(", '"sha256"', 5),
        ("Default(t", "true", 8),
        ("= sou", "source.id", 2),
        ("= source.na", "source.name.given", 2),
        ("= 1 + source.", "source.id", 6),
        ("= ", "source.id", 2),
        ("= source.id == si", "size(", 15),
        ("= source.id in ", "source.id", 15),
        ("= [source.id, ", "source.id", 14),
        ("= source.id, Ro", "Round", 13),
    ],
)
def test_best_candidate_comes_first(cell: str, expected: str, start: int) -> None:
    candidates = complete_step(cell, len(cell), fields=FIELDS, lookups=["status", "stage"])
    assert (candidates[0].text, candidates[0].start, candidates[0].end) == (expected, start, len(cell))


def test_fields_are_completed_in_the_syntax_of_expressions() -> None:
    assert texts(complete_step("= source", 8, fields=FIELDS))[3:] == ['source.tags[0]["odd key"]', 'source["a b"]']


@pytest.mark.parametrize(
    "cell",
    [
        "Truncate(5)",
        "Trim, Truncate(5) ",
        "Trim up",
        "= size(source.id)",
        '= "a"',
        '= "sour',
        "= 1 ",
        "= source.id == 'a'",
    ],
)
def test_nothing_is_offered_in_invalid_positions(cell: str) -> None:
    assert complete_step(cell, len(cell), fields=FIELDS, lookups=["status"]) == ()


@pytest.mark.parametrize("cell", ['Replace("a(', 'Concat("', "Trim(", "Truncate("])
def test_nothing_is_offered_for_free_text(cell: str) -> None:
    assert complete_step(cell, len(cell), fields=FIELDS, lookups=["status"]) == ()


def test_candidate_has_a_description() -> None:
    (candidate,) = complete_step("Trunc", 5)
    assert candidate == Candidate("Truncate(", 0, 5, "Truncate(length): Cuts text to at most `length` characters.")


def test_completion_works_within_a_cell() -> None:
    candidates = complete_step("up, Trim", 2)
    assert (candidates[0].text, candidates[0].start, candidates[0].end) == ("Uppercase", 0, 2)


def test_source_fields_are_completed_one_by_one() -> None:
    assert texts(complete_source("source.id, na", 13, FIELDS)) == ["source.name.given", "source.name.family"]
    assert complete_source("source.id, na", 13, FIELDS)[0].start == 11
    assert texts(complete_source("", 0, FIELDS))[-1] == 'source["a b"]'


def test_comma_in_a_quoted_key_does_not_separate_source_fields() -> None:
    fields = [FieldPath(("odd, key",)), FieldPath(("key",))]
    (whole,) = complete_source('source["odd, k', 14, fields)
    assert (whole.text, whole.start) == ('source["odd, key"]', 0)
    assert complete_source('source["odd, key"], ke', 22, fields)[0].start == 20


def test_exact_match_comes_first() -> None:
    fields = [FieldPath(("customer_id",)), FieldPath(("id",))]
    assert texts(complete_source("id", 2, fields)) == ["id", "source.customer_id"]
    assert texts(complete_source("source.id", 9, fields)) == ["source.id", "source.customer_id"]


def test_target_fields_are_completed() -> None:
    assert texts(complete_target("target.em", 9, ["email", "name"])) == ["target.email"]
    assert texts(complete_target("mai", 3, ["email", "name"])) == ["target.email"]
