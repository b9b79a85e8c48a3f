"""Three-way merge: rows by target path and cell, other text by lines; clashes stay conflicts."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from speclab.spec.document import Document
from speclab.spec.store import Merge, Side, merge

HEAD = "---\nspec_id: x\nstatus: draft\nupdated: 2026-01-01\n---\n\n## Field Mapping\n\n"
COLUMNS = "| Source | Target | Transformation | Notes |\n|---|---|---|---|\n"
ROWS = "| a | target.a | Trim | |\n| b | target.b | | |\n| c | target.c | | note |\n"
BASE = Document.parse(f"{HEAD}{COLUMNS}{ROWS}\n## Next\n\ntext\n")
Edit = Callable[[Document], Document]


def cell(key: str, column: str, text: str) -> Edit:
    def edit(document: Document) -> Document:
        assert document.mapping is not None
        return document.with_cell(document.mapping, document.mapping.find(key), column, text)

    return edit


def added(at: int, **cells: str) -> Edit:
    def edit(document: Document) -> Document:
        assert document.mapping is not None
        return document.with_row_added(document.mapping, at, cells)

    return edit


def deleted(key: str) -> Edit:
    def edit(document: Document) -> Document:
        assert document.mapping is not None
        return document.with_row_deleted(document.mapping, document.mapping.find(key))

    return edit


def moved(key: str, to: int) -> Edit:
    def edit(document: Document) -> Document:
        assert document.mapping is not None
        return document.with_row_moved(document.mapping, document.mapping.find(key), to)

    return edit


def aligned(document: Document) -> Document:
    assert document.mapping is not None
    return document.with_table_aligned(document.mapping)


def key(name: str, value: str) -> Edit:
    return lambda document: document.with_front_matter(name, value)


def merged(mine: Edit, theirs: Edit) -> Merge:
    return merge(BASE, mine(BASE), theirs(BASE))


def rows(text: str) -> list[tuple[str, ...]]:
    mapping = Document.parse(text).mapping
    assert mapping is not None
    return [row.texts for row in mapping.rows]


@pytest.mark.parametrize(
    ("mine", "theirs", "expected"),
    [
        (cell("a", "Transformation", "Trim, Lowercase"), cell("a", "Notes", "why"), {"a": "a|Trim, Lowercase|why"}),
        (cell("a", "Notes", "x"), cell("b", "Notes", "y"), {"a": "a|Trim|x", "b": "b||y"}),
        (cell("a", "Notes", "x"), deleted("b"), {"a": "a|Trim|x", "b": None}),
        (cell("a", "Notes", "x"), added(1, Target="target.n"), {"a": "a|Trim|x", "n": "||"}),
        (added(3, Target="target.m"), added(3, Target="target.n"), {"m": "||", "n": "||"}),
        (added(0, Target="target.n", Source="x"), added(3, Target="target.n", Notes="y"), {"n": "x||y"}),
        (deleted("a"), deleted("a"), {"a": None}),
        (moved("c", 0), cell("c", "Notes", "x"), {"c": "c||x"}),
        (cell("a", "Notes", "same"), cell("a", "Notes", "same"), {"a": "a|Trim|same"}),
        (aligned, cell("a", "Notes", "x"), {"a": "a|Trim|x"}),
        (cell("a", "Notes", "a|b\\"), cell("a", "Source", "a2"), {"a": "a2|Trim|a|b\\"}),
    ],
)
def test_rows_are_merged_by_target_path_and_cell(mine: Edit, theirs: Edit, expected: dict[str, str | None]) -> None:
    for one, other in ((mine, theirs), (theirs, mine)):
        result = merged(one, other)
        assert result.conflicts == ()
        found = {row[1].removeprefix("target."): "|".join((row[0], *row[2:])) for row in rows(result.resolved())}
        wanted = {"a": "a|Trim|", "b": "b||", "c": "c||note"} | expected
        assert found == {name: row for name, row in wanted.items() if row is not None}
        assert result.resolved().endswith("\n\n## Next\n\ntext\n")


def test_moved_rows_stay_moved_in_a_merge() -> None:
    result = merged(moved("c", 0), added(1, Target="target.n"))
    assert [row[1] for row in rows(result.resolved())] == ["target.c", "target.a", "target.n", "target.b"]
    result = merged(added(1, Target="target.n"), moved("c", 0))
    assert [row[1] for row in rows(result.resolved())] == ["target.c", "target.a", "target.n", "target.b"]


def test_row_with_one_conflicting_cell_has_the_other_cells_of_both() -> None:
    def mine(document: Document) -> Document:
        return cell("a", "Transformation", "Upper")(cell("a", "Notes", "mine")(document))

    def theirs(document: Document) -> Document:
        return cell("a", "Transformation", "Lower")(cell("a", "Source", "theirs")(document))

    result = merged(mine, theirs)
    (conflict,) = result.conflicts
    assert conflict.base == "| a | target.a | Trim | |\n"
    assert conflict.mine == "| theirs | target.a | Upper | mine |\n"
    assert conflict.theirs == "| theirs | target.a | Lower | mine |\n"
    assert result.resolved([Side.MINE]) == BASE.text.replace(conflict.base, conflict.mine)
    assert result.resolved([Side.THEIRS]) == BASE.text.replace(conflict.base, conflict.theirs)
    assert result.resolved([Side.BOTH]) == BASE.text.replace(conflict.base, conflict.mine + conflict.theirs)
    with pytest.raises(ValueError, match="expected 1 sides, got 0"):
        result.resolved()


def test_row_changed_by_one_and_deleted_by_the_other_is_a_conflict() -> None:
    (conflict,) = merged(cell("b", "Notes", "x"), deleted("b")).conflicts
    assert (conflict.mine, conflict.theirs) == ("| b | target.b | | x |\n", "")
    (conflict,) = merged(deleted("b"), cell("b", "Notes", "x")).conflicts
    assert (conflict.mine, conflict.theirs) == ("", "| b | target.b | | x |\n")


def test_row_added_differently_by_both_is_a_conflict() -> None:
    (conflict,) = merged(added(3, Target="target.n", Notes="x"), added(3, Target="target.n", Notes="y")).conflicts
    assert conflict.base == ""
    assert (conflict.mine, conflict.theirs) == ("| | target.n | | x |\n", "| | target.n | | y |\n")


def test_adjacent_front_matter_keys_are_merged() -> None:
    result = merged(key("status", "approved"), key("updated", "2026-02-02"))
    assert result.resolved() == BASE.text.replace("draft", "approved").replace("2026-01-01", "'2026-02-02'")
    (conflict,) = merged(key("status", "approved"), key("status", "completed")).conflicts
    assert (conflict.mine, conflict.theirs) == ("status: approved\n", "status: completed\n")


def test_text_is_merged_by_lines() -> None:
    base = Document.parse("## A\r\n\r\none\r\n\r\n## B\r\n\r\ntwo\r\n")
    mine = base.with_body(base.section("A"), "one more")
    theirs = base.with_body(base.section("B"), "two more")
    assert merge(base, mine, theirs).resolved() == base.text.replace("one", "one more").replace("two", "two more")


@pytest.mark.parametrize(
    "rows_text",
    [
        "| a | target.a | | |\n| b | target.a | | |\n",  # a target path twice
        "| a | target.a | | |",  # the last line of the file
    ],
)
def test_table_with_ambiguous_rows_is_merged_by_lines(rows_text: str) -> None:
    base = Document.parse(f"{HEAD}{COLUMNS}{rows_text}")
    assert base.mapping is not None
    mine = base.with_cell(base.mapping, 0, "Notes", "x")
    theirs = base.with_front_matter("status", "approved")
    assert merge(base, mine, theirs).resolved() == mine.text.replace("draft", "approved")


@settings(deadline=None, max_examples=100)
@given(st.data())
def test_changes_to_different_cells_are_all_merged(data: st.DataObject) -> None:
    columns = ["Source", "Transformation", "Notes"]
    cells = data.draw(st.permutations([(name, column) for name in "abc" for column in columns]))
    texts = st.sampled_from(["x", "", "a|b", "- y", "\\", "much longer than before"])
    split = data.draw(st.integers(0, 9))
    versions, wanted = [BASE, BASE], {}
    for at, (name, column) in enumerate(cells):
        text = data.draw(texts)
        side = at >= split
        versions[side] = cell(name, column, text)(versions[side])
        wanted[name, column] = text
    result = merge(BASE, *versions)
    assert result.conflicts == ()
    mapping = Document.parse(result.resolved()).mapping
    assert mapping is not None
    assert {location: mapping.cell(mapping.find(location[0]), location[1]).text for location in wanted} == wanted
