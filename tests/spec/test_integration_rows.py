"""Rows of the Field Mapping table: paths without prefix, and locations for problems."""

from __future__ import annotations

import pytest

from speclab.core.outcome import Level
from speclab.spec.document import Document
from speclab.spec.integration import MappingRow
from speclab.spec.problems import Problem, ProblemCollector
from speclab.spec.rules import read_rows

HEAD = "## Field Mapping\n\n| Source Field | Target Field | Transformation | Notes |\n|---|---|---|---|\n"
FIRST = 5
"""Line of the first row below that head."""


def rows(text: str) -> tuple[tuple[MappingRow, ...], list[Problem]]:
    document = Document.parse(text)
    findings = ProblemCollector("spec.md", text, document.position, needs=Level.INFO)
    return read_rows(document, document.sections[0], findings), findings.in_order()


def render(problems: list[Problem]) -> list[str]:
    return [f"{problem.line}:{problem.column} {problem.code} {problem.message}" for problem in problems]


def test_row_has_paths_without_prefixes_and_columns() -> None:
    found, problems = rows(
        HEAD + '| source.name.given, source.name.family | target.full_name | Trim, Concat(" ") | n |\n'
    )
    assert problems == []
    assert found == (
        MappingRow(
            sources=("name.given", "name.family"),
            target="full_name",
            transformation='Trim, Concat(" ")',
            notes="n",
            line=FIRST,
            source_columns=(10, 29),
            target_column=50,
            transformation_column=62,
        ),
    )


def test_prefixes_may_be_missing_and_odd_keys_keep_their_commas() -> None:
    found, problems = rows(HEAD + '| source["a, b"], tags[0], source.source | ["odd key"].x | | |\n')
    assert problems == []
    assert (found[0].sources, found[0].target) == (('["a, b"]', "tags[0]", "source"), '["odd key"].x')
    assert found[0].source_columns == (9, 19, 35)


def test_row_that_computes_its_value_has_no_source() -> None:
    found, problems = rows(
        HEAD + '| | target.origin | Constant("crm") | |\n| \u2014 | target.total | = source.a * 2 | |\n'
    )
    assert problems == []
    assert [(row.sources, row.source_columns, row.transformation) for row in found] == [
        ((), (), 'Constant("crm")'),
        ((), (), "= source.a * 2"),
    ]


def test_columns_may_be_in_any_order_with_additional_ones() -> None:
    found, problems = rows(
        "## Field Mapping\n\nNotes | Owner | target field | Transform | Source Field\n--|--|--|--|--\n"
        "why | Ada | target.a | Trim | source.b\n"
    )
    assert problems == []
    assert [(row.sources, row.target, row.transformation, row.notes) for row in found] == [(("b",), "a", "Trim", "why")]
    assert (found[0].target_column, found[0].transformation_column, found[0].source_columns) == (20, 24, (38,))


def test_code_spans_in_cells_are_ignored() -> None:
    found, problems = rows(HEAD + "| `source.a`, `source.b` | `target.c` | `Trim, Concat` | |\n")
    assert problems == []
    assert (found[0].sources, found[0].target, found[0].transformation) == (("a", "b"), "c", "Trim, Concat")
    assert (found[0].source_columns, found[0].target_column, found[0].transformation_column) == ((11, 23), 36, 42)


def test_column_in_a_transformation_counts_the_backslashes_of_its_pipes() -> None:
    line = r'| source.a | target.b | Split("\|"), Concat(" \| "), Trim | |'
    found, problems = rows(HEAD + line + "\n")
    row = found[0]
    assert problems == []
    assert row.transformation == 'Split("|"), Concat(" | "), Trim'
    for name in ("Split", "Concat", "Trim"):
        assert row.column(row.transformation.index(name)) == line.index(name) + 1


def test_invalid_path_is_reported_at_the_exact_character() -> None:
    _, problems = rows(HEAD + "| source.ok, source.a..b | target.c | | |\n| source.a | target.x[y] | | |\n")
    assert render(problems) == [
        "5:23 D303 'a..b' is not a valid source path: unexpected '.'",
        "6:22 D303 'x[y]' is not a valid target path: unexpected '['",
    ]


def test_invalid_path_after_an_escaped_pipe_is_reported_at_its_column_in_the_file() -> None:
    line = r'| source["a\|b"], source.c..d | target.e | | |'
    _, problems = rows(HEAD + line + "\n")
    assert render(problems) == [f"5:{line.index('..') + 2} D303 'c..d' is not a valid source path: unexpected '.'"]


def test_expression_in_the_source_column_is_referred_to_the_transformation() -> None:
    _, problems = rows(HEAD + "| = source.qty, 2 | target.total | | |\n")
    assert render(problems) == [
        "5:3 D303 '= source.qty, 2' is not a valid source path; write expressions in Transformation"
    ]


def test_empty_source_between_two_commas_is_reported() -> None:
    _, problems = rows(HEAD + "| source.a,, source.b | target.c | | |\n")
    assert render(problems) == ["5:12 D303 '' is not a valid source path: a path is empty"]


def test_duplicate_target_is_reported_at_the_second_row_in_any_notation() -> None:
    found, problems = rows(
        HEAD + '| source.a | target.x | | |\n| source.b | ["x"] | | |\n| source.c | target.x | | |\n'
    )
    assert render(problems) == [
        "6:14 D301 '[\"x\"]' is already the target on line 5",
        "7:14 D301 'x' is already the target on line 5",
    ]
    assert [row.line for row in found] == [5]


@pytest.mark.parametrize("target", ["", "-"])
def test_row_with_content_and_no_target_is_reported(target: str) -> None:
    found, problems = rows(HEAD + f"| source.a | {target} | Trim | |\n| | | | |\n")
    assert found == ()
    assert render(problems) == ["5:14 D302 this row has no target; name the field it fills, or delete the row"]


def test_unescaped_pipe_is_reported_at_the_end_of_the_table() -> None:
    line = '| source.a | target.b | Replace("|", "") | note |'
    _, problems = rows(HEAD + line + "\n")
    assert render(problems) == [
        f"5:{line.index(' | note') + 1} D304 more cells than the table has columns; write a pipe inside a cell as \\|"
    ]
    assert problems[0].level is Level.WARNING


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("", "1:1 D201 the Field Mapping has no table; a run needs one row per target field"),
        (
            "| Source Field | Target Field | Transformation | Notes |\n|---|---|---|---|\n",
            "1:1 D201 the Field Mapping has no rows; a run needs one row per target field",
        ),
        (
            HEAD.partition("\n\n")[2]
            + "| source.field1 | target.field1 | Direct | |\n| source.field2 | target.field2 | Uppercase | |\n",
            "1:1 D201 the Field Mapping still has the template's example rows; a run needs one row per target field",
        ),
    ],
)
def test_mapping_without_rows_is_reported_as_missing(body: str, message: str) -> None:
    found, problems = rows(f"## Field Mapping\n\n{body}")
    assert found == ()
    assert render(problems) == [message]
    assert problems[0].level is Level.INFO


def test_example_row_beside_a_real_one_is_a_row() -> None:
    found, problems = rows(HEAD + "| source.field1 | target.field1 | Direct | |\n| source.a | target.b | | |\n")
    assert [row.target for row in found] == ["field1", "b"]
    assert problems == []


def test_missing_column_is_reported_at_the_header() -> None:
    _, problems = rows("## Field Mapping\n\n| Sorce Feild | Target Field |\n|---|---|\n| a | b |\n")
    assert render(problems) == [
        "3:3 D202 the Field Mapping has no column 'Source Field'; did you mean 'Sorce Feild' to be it?"
    ]
    assert problems[0].fix == "Source Field"
    _, problems = rows("## Field Mapping\n\n| Source Field | Target Field |\n|---|---|\n| a | b |\n")
    assert [(problem.line, problem.code, problem.level) for problem in problems] == [(3, "D202", Level.WARNING)]
