"""Editing tables: an edit of one cell or row changes one line."""

from __future__ import annotations

import pytest

from speclab.core.errors import EditRejected
from speclab.spec.document import Document, MarkdownTable

ALIGNED = "| Source Field | Target Field | Notes |\n|--------------|-------------:|-------|\n"


def read(text: str) -> tuple[Document, MarkdownTable]:
    document = Document.parse(f"## Field Mapping\n\n{text}")
    table = document.table(document.sections[0])
    assert table is not None
    return document, table


def table_text(document: Document) -> str:
    return document.text.removeprefix("## Field Mapping\n\n")


def with_cell(header: str, row: str, column: str, text: str) -> str:
    """Return the only row under `header` after the edit."""
    document, table = read(f"{header}\n{row}\n\nafter\n")
    after = document.with_cell(table, 0, column, text)
    new = after.tables(after.sections[0])[0]
    assert new.cell(0, column).text == text.strip()
    return table_text(after).removeprefix(f"{header}\n").removesuffix("\n\nafter\n")


@pytest.mark.parametrize(
    ("row", "text", "after"),
    [
        ("| a | b |", "x", "| x | b |"),
        ("| a | b |", "longer", "| longer | b |"),
        ("|a|b|", "x", "|x|b|"),
        ("|a|b|", "x\\", "|x\\ |b|"),
        ("a | b", "x", "x | b"),
        ("  |  a\t|b|  ", "x", "  |  x\t|b|  "),
        ("|\u00a0a | b |", "x", "|\u00a0x | b |"),
        ("| | b |", "x", "| x | b |"),
        ("|| b |", "x", "| x | b |"),
        ("|    | b |", "x", "| x   | b |"),
        ("| a | b |", "", "|  | b |"),
        ("| a | b |", " x ", "| x | b |"),
        ("| a | b |", "x | y", r"| x \| y | b |"),
        ("| a | b |", r"x \| y", r"| x \\| y | b |"),
        ("| a | b |", "`x|y`", r"| `x\|y` | b |"),
        ("| a | b | surplus |", "x", "| x | b | surplus |"),
        ("| a", "x", "| x"),
        ("| a | b |", "---", "| --- | b |"),
        ("| a | b |", "<!-- x", "| <!-- x | b |"),
    ],
)
def test_cell_is_set_within_its_padding(row: str, text: str, after: str) -> None:
    assert with_cell("| One Column | Two |\n|---|---|", row, "One Column", text) == after


@pytest.mark.parametrize(
    ("text", "after"),
    [
        ("longer", "| longer       | b            | c     |"),
        ("漢字", "| 漢字         | b            | c     |"),
        ("", "|              | b            | c     |"),
        ("exactly_here", "| exactly_here | b            | c     |"),
        ("longer_than_the_column", "| longer_than_the_column | b            | c     |"),
    ],
)
def test_aligned_cell_stays_aligned_if_it_fits(text: str, after: str) -> None:
    row = "| a            | b            | c     |"
    assert with_cell(ALIGNED.removesuffix("\n"), row, "Source Field", text) == after


@pytest.mark.parametrize(
    ("row", "after"),
    [
        ("| a |", "| a |  | x |"),
        ("| a", "| a |  | x"),
        ("a", "a |  | x"),
        ("| a | b |  ", "| a | b | x |  "),
        ("|", "|  |  | x |"),
    ],
)
def test_missing_cell_of_a_short_row_is_added(row: str, after: str) -> None:
    assert with_cell("| A | B | C |\n|---|---|---|", row, "C", "x") == after


@pytest.mark.parametrize("text", ["- x", "# x", "> x", "1. x", "```", "~~~", "<!--", "***", "", "<div>", "    x"])
@pytest.mark.parametrize("row", ["a | b", "  a | b", "a"])
def test_row_without_outer_pipes_gets_them_if_the_value_needs_them(row: str, text: str) -> None:
    document, table = read(f"A | B\n---|---\n{row}\nc | d\n\nafter\n")
    after = document.with_cell(table, 0, "A", text)
    new = after.tables(after.sections[0])[0]
    assert [r.texts for r in new.rows] == [(text.strip(), table.rows[0].cells[1].text), ("c", "d")]
    assert after.text.endswith("\nc | d\n\nafter\n")


@pytest.mark.parametrize("text", ["a\nb", "a\rb", "a\r\nb", "a\n"])
def test_cell_holds_one_line(text: str) -> None:
    document, table = read("| A |\n|---|\n| a |\n")
    with pytest.raises(EditRejected, match="a table cell is one line of text"):
        document.with_cell(table, 0, "A", text)


def test_other_line_separators_are_text() -> None:
    document, table = read("| A |\n|---|\n| a |\n")
    after = document.with_cell(table, 0, "A", "a\x0bb\u2028c")
    assert table_text(after) == "| A |\n|---|\n| a\x0bb\u2028c |\n"


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_rows_are_added_deleted_moved_and_duplicated_as_whole_lines(newline: str) -> None:
    document = Document.parse("## S\n\n| One | B |\n|---|---|\n| 1 | x |\n| 2 | |\n".replace("\n", newline))
    (table,) = document.tables(document.sections[0])

    def rows(after: Document) -> list[str]:
        return after.text.split(newline)[4:]

    assert rows(document.with_row_added(table, 0, {"b": "y|z"})) == ["| | y\\|z |", "| 1 | x |", "| 2 | |", ""]
    assert rows(document.with_row_added(table, 2, {"One": "3"})) == ["| 1 | x |", "| 2 | |", "| 3 | |", ""]
    assert rows(document.with_row_deleted(table, 0)) == ["| 2 | |", ""]
    assert rows(document.with_row_deleted(table, 1)) == ["| 1 | x |", ""]
    assert rows(document.with_row_moved(table, 0, 1)) == ["| 2 | |", "| 1 | x |", ""]
    assert rows(document.with_row_moved(table, 1, 0)) == ["| 2 | |", "| 1 | x |", ""]
    assert rows(document.with_row_duplicated(table, 0)) == ["| 1 | x |", "| 1 | x |", "| 2 | |", ""]


def test_last_line_of_a_file_stays_without_a_line_end() -> None:
    document, table = read("| A |\n|---|\n| 1 |\n| 2 |")
    assert table_text(document.with_row_added(table, 2, {"A": "3"})) == "| A |\n|---|\n| 1 |\n| 2 |\n| 3 |"
    assert table_text(document.with_row_deleted(table, 1)) == "| A |\n|---|\n| 1 |"
    assert table_text(document.with_row_moved(table, 0, 1)) == "| A |\n|---|\n| 2 |\n| 1 |"
    assert table_text(document.with_row_duplicated(table, 1)) == "| A |\n|---|\n| 1 |\n| 2 |\n| 2 |"


def test_table_may_lose_its_last_row_and_get_a_first() -> None:
    document, table = read("| A |\n|---|\n| 1 |\n\nafter\n")
    empty = document.with_row_deleted(table, 0)
    assert table_text(empty) == "| A |\n|---|\n\nafter\n"
    (table,) = empty.tables(empty.sections[0])
    assert table_text(empty.with_row_added(table, 0, {"A": "new"})) == "| A |\n|---|\n| new |\n\nafter\n"


@pytest.mark.parametrize(
    ("table", "added"),
    [
        (ALIGNED + "| a            | b            | c     |\n", "| x            | y            |       |"),
        (ALIGNED + "| a | b | c |\n", "| x | y | |"),
        (ALIGNED + "|a|b|c|\n", "| x | y | |"),
        (ALIGNED, "| x            | y            |       |"),
        ("Source | Target | Notes\n---|---|---\na | b | c\n", "x | y |"),
        ("  | Source | Target | Notes |\n  |---|---|---|\n  | a | b | c |\n", "  | x | y | |"),
    ],
)
def test_new_row_has_the_format_of_its_neighbours(table: str, added: str) -> None:
    document, read_table = read(table)
    after = document.with_row_added(read_table, 9, {"source": "x", "target": "y"})
    assert table_text(after) == f"{table}{added}\n"


def test_new_row_gets_outer_pipes_if_it_needs_them() -> None:
    document, table = read("A | B\n---|---\na | b\n")
    assert table_text(document.with_row_added(table, 1, {"B": "x"})) == "A | B\n---|---\na | b\n|  | x |\n"
    assert table_text(document.with_row_added(table, 0, {"A": "- x"})) == "A | B\n---|---\n| - x |  |\na | b\n"


def test_columns_are_aligned_on_request() -> None:
    document, table = read("|A|Field|C|\n|:-|:-:|-:|\n|漢字|`a\\|b`|\n| 1 | 2 | 3 | 4 |\nx\n\nafter\n")
    after = document.with_table_aligned(table)
    assert table_text(after) == (
        "| A    | Field  | C   |\n"
        "| :--- | :----: | --: |\n"
        "| 漢字 | `a\\|b` |     |\n"
        "| 1    | 2      | 3   | 4 |\n"
        "| x    |        |     |\n"
        "\nafter\n"
    )


def test_table_of_another_version_is_not_edited() -> None:
    document, table = read("| A |\n|---|\n| 1 |\n")
    longer = document.with_row_added(table, 0, {"A": "0"})
    with pytest.raises(EditRejected, match="the table is not in this version of the file"):
        longer.with_cell(table, 0, "A", "x")


def test_rows_with_and_without_outer_pipes_can_be_swapped() -> None:
    document, table = read("A | B\n---|---\n| 1 | 2 |\n3 | 4\n")
    assert [row.texts for row in table.rows] == [("1", "2"), ("3", "4")]
    moved = document.with_row_moved(table, 1, 0)
    assert [row.texts for row in moved.tables(moved.sections[0])[0].rows] == [("3", "4"), ("1", "2")]
