"""Tables of GitHub Flavored Markdown: each cell with its span."""

from __future__ import annotations

import pytest

from speclab.core.errors import UsageError
from speclab.spec.document import Document, MarkdownTable
from speclab.spec.outline import TextLines, read_blocks
from speclab.spec.table import read_table


def table_of(text: str) -> MarkdownTable:
    document = Document.parse(f"## Field Mapping\n\n{text}\n")
    table = document.table(document.sections[0])
    assert table is not None
    return table


def texts(text: str) -> list[tuple[str, ...]]:
    table = table_of(text)
    return [table.header.texts, *(row.texts for row in table.rows)]


@pytest.mark.parametrize(
    ("row", "cells"),
    [
        ("| a | b |", ("a", "b")),
        ("a | b", ("a", "b")),
        ("| a | b", ("a", "b")),
        ("a | b |", ("a", "b")),
        ("|a|b|", ("a", "b")),
        ("  | a | b |  ", ("a", "b")),
        ("|\ta\t|\tb\t|", ("a", "b")),
        ("|\u00a0a |b\u00a0|", ("a", "b")),
        ("| | b |", ("", "b")),
        ("|| b |", ("", "b")),
        ("| a | |", ("a", "")),
        ("| a |", ("a", "")),
        ("a", ("a", "")),
        ("|", ("", "")),
        ("| a | b | c |", ("a", "b")),
        (r"| a \| b | c |", ("a | b", "c")),
        (r"| a \\| b | c |", (r"a \| b", "c")),
        ("| `a|b` | c |", ("`a", "b`")),
        ("| `a\\|b` | c |", ("`a|b`", "c")),
        ("| a\\ | b |", ("a\\", "b")),
        ("a | b\\", ("a", "b\\")),
        ("| <b>a</b> | [b](x) |", ("<b>a</b>", "[b](x)")),
        ("| 漢字 | 👩\u200d👩\u200d👧 |", ("漢字", "👩\u200d👩\u200d👧")),
        ("| a\x0bb\u2028c | d\x85 |", ("a\x0bb\u2028c", "d")),
        ("| - a | # b |", ("- a", "# b")),
        ("| \0 | \udcff |", ("\0", "\udcff")),
    ],
)
def test_row_is_split_into_its_cells(row: str, cells: tuple[str, ...]) -> None:
    assert texts(f"| one | two |\n|---|---|\n{row}\n| last | row |") == [("one", "two"), cells, ("last", "row")]


@pytest.mark.parametrize(
    "marks", ["|---|---|", "|:--|--:|", "| :-: | - |", "---|---", "|---|---", "  |---|---|", "|---|---|  ", ":-|-:"]
)
def test_delimiter_row_may_have_many_forms(marks: str) -> None:
    assert texts(f"| one | two |\n{marks}\n| a | b |") == [("one", "two"), ("a", "b")]


def test_cells_have_their_spans() -> None:
    text = "## A\r\n\r\n| one | two | three |\r\n|---|---|---|\r\n|  a\\|b | |\r\n"
    document = Document.parse(text)
    (table,) = document.tables(document.sections[0])
    a, b, c = table.rows[0].cells
    assert (a.text, a.span.of(text), a.line, a.column) == ("a|b", "a\\|b", 5, 4)
    assert (b.text, b.span.of(text), b.line, b.column) == ("", "", 5, 11)
    assert (c.text, c.span.of(text), c.line, c.column) == ("", "", 5, 12)
    assert table.rows[0].span.of(text) == "|  a\\|b | |"


def test_row_counts_its_surplus_cells() -> None:
    assert [row.surplus for row in table_of("| a | b |\n|---|---|\n| 1 | 2 | 3 | 4 |\n| 1 |").rows] == [2, 0]


def test_table_may_be_a_header_only_or_a_single_column() -> None:
    assert texts("| a | b |\n|---|---|") == [("a", "b")]
    assert texts("| a |\n|---|\n| 1 |\n2") == [("a",), ("1",), ("2",)]


def test_table_needs_no_blank_line_around_it() -> None:
    document = Document.parse("## A\ntext\n| a |\n|---|\n| 1 |\nbelongs to it\n## B\n| b |\n|---|\n<!-- ends it -->\n")
    assert [row.texts for row in document.tables(document.sections[0])[0].rows] == [("1",), ("belongs to it",)]
    assert document.tables(document.sections[1])[0].rows == ()


@pytest.mark.parametrize(
    "text",
    [
        "> | a |\n> |---|\n> | 1 |",
        "- | a |\n  |---|\n  | 1 |",
        "    | a |\n    |---|\n    | 1 |",
        "```\n| a |\n|---|\n```",
        "<!--\n| a |\n|---|\n-->",
        "| a | b |\n|---|\n| 1 | 2 |",
        "| a |\n| 1 |",
    ],
)
def test_text_in_other_blocks_or_without_delimiter_row_is_not_a_table(text: str) -> None:
    document = Document.parse(f"## Field Mapping\n\n{text}\n")
    assert document.tables(document.sections[0]) == ()
    assert document.mapping is None


def test_byte_order_mark_is_not_in_a_cell() -> None:
    lines = TextLines.of_file("\ufeff| a |\n|---|\n| 1 |\n")
    (block,) = read_blocks(lines, 0)
    table = read_table(lines, block)
    assert table.header.texts == ("a",)
    assert (table.header.cells[0].line, table.header.cells[0].column) == (1, 3)


@pytest.mark.parametrize(
    "header",
    [
        "Source Field | Target Field | Transformation | Notes",
        "source field | TARGET FIELD | transformation | notes",
        "Source field | Target | Transform | Note",
        "Source | Target | Transformations | Notes",
        "**Source** | `Target Field` | Transformation Rule | Notes",
        "Source System Field | Target System Field | Transformation | Notes",
    ],
)
def test_columns_of_the_mapping_are_recognized_by_similar_names(header: str) -> None:
    document = Document.parse(f"## field  mapping\n\n{header}\n---|---|---|---\nsource.a | target.b | Trim | x\n")
    assert document.mapping is not None
    assert dict(document.mapping.columns) == {"Source Field": 0, "Target Field": 1, "Transformation": 2, "Notes": 3}
    assert document.mapping.cell(0, "Transformation").text == "Trim"


def test_mappings_columns_may_be_in_any_order_more_or_fewer() -> None:
    table = table_of("| Owner | Target | Why | Source |\n|---|---|---|---|\n| me | target.b | so | source.a |")
    assert dict(table.columns) == {"Owner": 0, "Target Field": 1, "Why": 2, "Source Field": 3}
    assert table.cell(0, "owner").text == "me"
    assert table.key(0) == "b"


def test_first_table_with_the_mappings_columns_is_the_mapping() -> None:
    document = Document.parse(
        "## Field Mapping\n\n| Code | Name |\n|---|---|\n\n| Source | Target |\n|---|---|\n| a | b |\n\n"
        "| Source | Target |\n|---|---|\n| c | d |\n"
    )
    assert document.mapping is not None
    assert document.mapping.rows[0].texts == ("a", "b")


@pytest.mark.parametrize("key", ["target.email", "email", "Email", "target.Email"])
def test_row_is_found_by_its_target_path(key: str) -> None:
    table = table_of("| Source | Target |\n|---|---|\n| a | target.id |\n| b | `target.email` |")
    assert table.find(key) == 1


def test_row_of_another_table_is_found_by_its_first_cell() -> None:
    table = table_of("| Alert | When |\n|---|---|\n| Too slow | x |\n| target.y | z |")
    assert (table.find("Too slow"), table.find("target.y")) == (0, 1)


def test_missing_or_ambiguous_row_or_column_is_reported() -> None:
    table = table_of("| Source | Target |\n|---|---|\n| a | target.email |\n| b | target.id |\n| c | target.id |")
    with pytest.raises(UsageError, match=r"no row 'target\.emial'") as error:
        table.find("target.emial")
    assert error.value.hint == "did you mean 'email'?"
    with pytest.raises(UsageError, match="2 rows are called 'id', on lines 6, 7"):
        table.find("id")
    with pytest.raises(UsageError, match="no column 'Sauce'") as error:
        table.column("Sauce")
    assert error.value.hint.startswith("its columns are 'Source Field'")
