"""The grid: its output, its cursor, and how little it redraws."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, overload

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from textual.app import App, ComposeResult
from textual.geometry import Region
from textual.pilot import Pilot

from speclab.app.formatting import DARK
from speclab.app.widgets.cells import broken, fit, layout, printable
from speclab.app.widgets.grid import Grid, GridCell, GridColumn, GridRow, TextSpan
from speclab.app.widgets.record import RecordView

COLUMNS = (GridColumn("name", 6, flex=1), GridColumn("count", 6, align="right"))


def rows(*names: str) -> list[GridRow]:
    return [GridRow(name, (name, str(len(name)))) for name in names]


class GridApp(App[None]):
    """An app with one grid."""

    def __init__(self, grid: Grid) -> None:
        super().__init__()
        self.grid = grid
        self.moved: list[str | None] = []
        self.chosen: list[str] = []
        self.register_theme(DARK)
        self.theme = DARK.name

    def compose(self) -> ComposeResult:
        yield self.grid

    def on_grid_moved(self, event: Grid.Moved) -> None:
        self.moved.append(event.row.key if event.row else None)

    def on_grid_chosen(self, event: Grid.Chosen) -> None:
        self.chosen.append(event.row.key)


def lines(grid: Grid) -> list[str]:
    return [grid.render_line(y).text.rstrip() for y in range(grid.size.height)]


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Region]:
    """Record the regions that grids ask to redraw; an empty region is the whole grid."""
    regions: list[Region] = []
    refresh = Grid.refresh

    def spy(grid: Grid, *redrawn: Region, **more: Any) -> Grid:
        regions.extend(redrawn or [Region()])
        return refresh(grid, *redrawn, **more)

    monkeypatch.setattr(Grid, "refresh", spy)
    return regions


# Output


async def test_cells_are_aligned_with_their_headings_and_numbers_right_aligned() -> None:
    async with GridApp(Grid(COLUMNS, rows("crm", "billing"))).run_test(size=(30, 6)) as pilot:
        assert lines(grid_of(pilot))[:3] == [
            " name                   count",
            " crm                        3",
            " billing                    7",
        ]


async def test_text_that_is_too_long_ends_in_an_ellipsis() -> None:
    async with GridApp(Grid(COLUMNS, rows("a-very-long-name-indeed"))).run_test(size=(20, 4)) as pilot:
        assert lines(grid_of(pilot))[1] == " a-very-lo…      23"


async def test_empty_grid_says_what_to_do() -> None:
    grid = Grid(COLUMNS, empty=("No runs yet.", "r runs the spec now."))
    async with GridApp(grid).run_test(size=(30, 6)) as pilot:
        assert lines(grid_of(pilot))[2:4] == ["  No runs yet.", "  r runs the spec now."]


async def test_spans_of_a_cell_have_their_own_style() -> None:
    cell = GridCell("01/02", spans=(TextSpan(0, 2, "failed"),))
    async with GridApp(Grid((GridColumn("", 5),), [GridRow("a", (cell,))])).run_test(size=(10, 3)) as pilot:
        grid = grid_of(pilot)
        styled = {segment.text: segment.style for segment in grid.render_line(1)}
        failed = grid.get_component_rich_style("grid--failed", partial=True)
        assert styled["01"] is not None
        assert styled["01"].color == failed.color
        assert styled["/02"] is not None
        assert styled["/02"].color != failed.color


def test_columns_share_the_remaining_width_by_flex() -> None:
    slots = layout((GridColumn("", 4, flex=1), GridColumn("", 4, flex=3), GridColumn("", 4)), 40)
    assert [(slot.x, slot.width) for slot in slots] == [(1, 10), (13, 20), (35, 4)]


def test_column_is_not_wider_than_its_maximum() -> None:
    slots = layout((GridColumn("", 4, flex=1, most=6), GridColumn("", 4, flex=1)), 40)
    assert [slot.width for slot in slots] == [6, 30]


def test_least_important_columns_are_hidden_first() -> None:
    columns = (GridColumn("a", 10), GridColumn("b", 10, drop=1), GridColumn("c", 10, drop=2))
    assert [slot.column for slot in layout(columns, 40)] == [0, 1, 2]
    assert [slot.column for slot in layout(columns, 30)] == [0, 1]
    assert [slot.column for slot in layout(columns, 20)] == [0]


@pytest.mark.parametrize(
    ("text", "width", "fitted"),
    [
        ("東京タワー", 10, "東京タワー"),
        ("東京タワー", 7, "東京タ…"),
        ("東京タワー", 6, "東京 …"),
        ("né", 2, "né"),
        ("👩‍👩‍👧 family", 4, "👩‍👩‍👧 …"),
        ("any", 0, ""),
    ],
)
def test_width_is_counted_in_cells_not_in_characters(text: str, width: int, fitted: str) -> None:
    assert fit(text, width) == fitted


def test_external_text_can_neither_move_the_cursor_nor_reverse_the_line() -> None:
    assert printable("a\x1b[2Jb\r\nc\x7f\u202ed\udcff") == "a␛[2Jb␍␊c␡�d�"


# The cursor


async def test_keys_move_the_cursor_and_stop_at_the_ends() -> None:
    async with GridApp(Grid(COLUMNS, rows("a", "b", "c"))).run_test() as pilot:
        await pilot.press("down", "down", "down")
        assert grid_of(pilot).cursor_row == 2
        await pilot.press("up", "home", "up")
        assert grid_of(pilot).cursor_row == 0
        await pilot.press("end")
        assert app_of(pilot).moved[-1] == "c"


async def test_enter_and_a_second_click_open_a_row() -> None:
    async with GridApp(Grid(COLUMNS, rows("a", "b", "c"))).run_test() as pilot:
        await pilot.press("down", "enter")
        await pilot.click(Grid, offset=(3, 3))
        assert app_of(pilot).chosen == ["b"]
        await pilot.double_click(Grid, offset=(3, 3))
        assert app_of(pilot).chosen == ["b", "c"]


async def test_cell_cursor_moves_over_visible_columns() -> None:
    columns = (GridColumn("a", 4), GridColumn("hidden", 40, drop=1), GridColumn("c", 4))
    grid = Grid(columns, [GridRow("x", ("1", "2", "3"))], cursor="cell")
    async with GridApp(grid).run_test(size=(20, 5)) as pilot:
        await pilot.press("right")
        assert grid_of(pilot).cursor_column == 2
        await pilot.press("right", "left")
        assert grid_of(pilot).cursor_column == 0


async def test_cursor_stays_on_its_row_while_others_are_added_and_removed() -> None:
    async with GridApp(Grid(COLUMNS, rows("a", "b", "c"))).run_test() as pilot:
        await pilot.press("down")
        grid_of(pilot).show(rows("new", "a", "b", "c"))
        assert grid_of(pilot).row == rows("b")[0]
        grid_of(pilot).show(rows("b"))
        assert grid_of(pilot).cursor_row == 0


async def test_cursor_stays_at_its_position_when_its_row_is_removed() -> None:
    async with GridApp(Grid(COLUMNS, rows("a", "b", "c"))).run_test() as pilot:
        await pilot.press("down")
        grid_of(pilot).show(rows("a", "c"))
        await pilot.pause()
        assert grid_of(pilot).cursor_row == 1
        assert app_of(pilot).moved[-1] == "c"


async def test_cursor_stays_visible_when_the_terminal_shrinks() -> None:
    async with GridApp(Grid(COLUMNS, rows(*"abcdefghijklmnop"))).run_test(size=(30, 20)) as pilot:
        await pilot.press("end")
        await pilot.resize_terminal(30, 6)
        await pilot.pause()
        assert grid_of(pilot).cursor_row in grid_of(pilot).visible_rows()


@given(st.text(st.sampled_from("ab -é値長😀")), st.integers(2, 30))
def test_words_are_wrapped_to_the_width_and_none_is_lost(text: str, width: int) -> None:
    lines = list(broken(text, width))
    assert all(0 < cell_len(line) <= width for line in lines)
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")


async def test_columns_make_room_for_a_scroll_bar() -> None:
    async with GridApp(Grid(COLUMNS, rows("a", "b"))).run_test(size=(30, 8)) as pilot:
        assert grid_of(pilot).region_of(0, 1).right == 29
        grid_of(pilot).show(rows(*"abcdefghijklmnop"))
        await pilot.pause()
        assert grid_of(pilot).region_of(0, 1).right == 28
        grid_of(pilot).show(rows("a", "b"))
        await pilot.pause()
        assert grid_of(pilot).region_of(0, 1).right == 29


async def test_text_is_wrapped_beside_a_scroll_bar() -> None:
    text = "0123456789" * 30
    view = RecordView()
    async with GridApp(view).run_test(size=(30, 6)) as pilot:
        view.show_text(text)
        await pilot.pause()
        assert view.show_vertical_scrollbar
        cells = [row.cells[0] for row in view.rows]
        assert all(isinstance(cell, GridCell) and cell_len(cell.text) <= 27 for cell in cells)
        assert "".join(cell.text for cell in cells if isinstance(cell, GridCell)) == text


async def test_region_of_a_cell_is_known_for_editing() -> None:
    async with GridApp(Grid(COLUMNS, rows("a", "b"))).run_test(size=(30, 6)) as pilot:
        assert grid_of(pilot).region_of(1, 1) == Region(23, 2, 6, 1)


# How little it redraws, and never too little


async def test_screen_equals_the_rows_after_any_changes() -> None:
    async with GridApp(Grid(COLUMNS, rows("a", "b", "c"))).run_test(size=(30, 6)) as pilot:
        for names in ("new", "a", "b", "c"), ("b",), ("b", "z"), ("z", "b"), (), ("x", "y"):
            grid_of(pilot).show(rows(*names))
            await pilot.pause()
            assert seen(pilot)[1 : len(names) + 1] == list(names)


def seen(pilot: Pilot[None]) -> list[str]:
    """Return the first word of each line in the compositor's output, including its caches."""
    strips = pilot.app.screen._compositor.render_strips()
    return [(strip.text.split() or [""])[0] for strip in strips]


async def test_one_changed_cell_is_the_only_region_redrawn(drawn: list[Region]) -> None:
    async with GridApp(Grid(COLUMNS, rows("a", "b", "c"))).run_test(size=(30, 6)) as pilot:
        await pilot.pause()
        drawn.clear()
        grid_of(pilot).show([*rows("a", "b"), GridRow("c", ("c", "9"))])
        assert drawn == [Region(23, 3, 6, 1)]


async def test_invisible_rows_are_not_redrawn(drawn: list[Region]) -> None:
    names = [f"r{number}" for number in range(50)]
    async with GridApp(Grid(COLUMNS, rows(*names))).run_test(size=(30, 6)) as pilot:
        await pilot.pause()
        drawn.clear()
        grid_of(pilot).show([*rows(*names[:-1]), GridRow("r49", ("changed", "0"))])
        assert drawn == []


async def test_moving_the_cursor_redraws_two_lines(drawn: list[Region]) -> None:
    async with GridApp(Grid(COLUMNS, rows("a", "b", "c"))).run_test(size=(30, 6)) as pilot:
        await pilot.pause()
        drawn.clear()
        await pilot.press("down")
        assert drawn == [Region(0, 1, 30, 1), Region(0, 2, 30, 1)]


class LazyRows(Sequence[GridRow]):
    """A hundred thousand rows that are created on access and counted."""

    def __init__(self) -> None:
        self.requested: set[int] = set()

    def __len__(self) -> int:
        return 100_000

    @overload
    def __getitem__(self, index: int) -> GridRow: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[GridRow]: ...
    def __getitem__(self, index: int | slice) -> GridRow | Sequence[GridRow]:
        assert isinstance(index, int)
        self.requested.add(index)
        return GridRow(str(index), (f"record {index}", str(index)))


async def test_only_visible_rows_of_a_hundred_thousand_are_accessed() -> None:
    made = LazyRows()
    async with GridApp(Grid(COLUMNS, made)).run_test(size=(30, 10)) as pilot:
        await pilot.press("pagedown", "end", "up")
        assert grid_of(pilot).cursor_row == 99_998
        assert len(made.requested) < 50


ONE_CELL = """
from speclab.app.terminal import DiffingApp
from speclab.app.formatting import DARK
from speclab.app.widgets.grid import GridCell, GridColumn, Grid, GridRow

def rows(value):
    good, words = GridCell("+", "good"), GridCell("some words", "muted")
    return [GridRow(str(n), (good, f"integration-{n}", words, value if n == 7 else "1")) for n in range(30)]

class Ticking(DiffingApp):
    BINDINGS = [("t", "tick")]
    def __init__(self):
        super().__init__()
        self.register_theme(DARK)
        self.theme = DARK.name
    def compose(self):
        columns = [GridColumn("", 1), GridColumn("name", 20, flex=1)]
        columns += [GridColumn("words", 20), GridColumn("count", 8, align="right")]
        yield Grid(columns, rows("412"))
    def action_tick(self):
        self.query_one(Grid).show(rows("9,135"))

Ticking().run()
"""


def test_one_changed_cell_costs_at_most_300_bytes(pty: Callable[..., Any]) -> None:
    terminal = pty(ONE_CELL, width=160, height=45)
    terminal.until("412")
    terminal.press("t")
    assert len(terminal.until("9,135").encode()) <= 300


def grid_of(pilot: Pilot[None]) -> Grid:
    return app_of(pilot).grid


def app_of(pilot: Pilot[None]) -> GridApp:
    assert isinstance(pilot.app, GridApp)
    return pilot.app
