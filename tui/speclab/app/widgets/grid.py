"""A grid on Textual's line API: rows are requested when drawn, and only changed lines are drawn again.

Textual's DataTable repaints all of itself for one cell and takes seconds for 10,000 rows; this one draws the lines
that are seen, however many rows there are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from textwrap import wrap
from typing import ClassVar, Final, Literal

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.geometry import Region, Size
from textual.message import Message
from textual.reactive import reactive
from textual.scroll_view import ScrollView
from textual.strip import Strip

from speclab.app.actions import Action, Actor, bindings
from speclab.app.widgets.cells import GridCell, GridColumn, GridRow, Slot, TextSpan, fit, layout

__all__ = ["Grid", "GridCell", "GridColumn", "GridRow", "TextSpan"]

STYLES: Final = ("muted", "strong", "good", "attention", "failed", "live", "spark", "wavy")
"""Names of styles for cells and spans; `""` is plain."""

_NARROWEST: Final = 12
"""Minimum width, in cells, to which text is wrapped."""

MOVES: Final = tuple(
    Action(name, name.replace("-", " "), description, keys, footer=False, palette=False)
    for name, description, keys in (
        ("up", "Move the cursor up one row.", ("up", "k")),
        ("down", "Move the cursor down one row.", ("down", "j")),
        ("left", "Move the cursor one cell to the left.", ("left",)),
        ("right", "Move the cursor one cell to the right.", ("right",)),
        ("page-up", "Move the cursor up one page.", ("pageup",)),
        ("page-down", "Move the cursor down one page.", ("pagedown",)),
        ("first", "Move the cursor to the first row.", ("home",)),
        ("last", "Move the cursor to the last row.", ("end",)),
        ("choose", "Open the row or cell under the cursor.", ("enter",)),
    )
)


class Grid(Actor, ScrollView, can_focus=True):
    """Rows and columns with a cursor on a row or a cell.

    `rows` is any sequence of `GridRow`; only visible rows are requested, so a sequence can build them on demand. Call
    `show` with the new rows: the cursor stays on the row with its key, and only lines that look different are redrawn.
    `empty` is the empty state: a line, then lines that say what to do; long lines are wrapped.
    """

    ACTIONS = MOVES
    BINDINGS = bindings(MOVES)
    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "grid--cursor",
        "grid--line",
        "grid--heading",
        *(f"grid--{style}" for style in STYLES),
    }
    DEFAULT_CSS = """
    Grid {
        background: $background;
        color: $foreground;
        scrollbar-size-vertical: 1;
        overflow-x: hidden;
        & > .grid--heading { color: $muted; }
        & > .grid--cursor { background: $cursor-blurred; }
        & > .grid--line { background: $cursor-blurred; }
        &:focus > .grid--cursor { background: $cursor; }
        & > .grid--muted { color: $muted; }
        & > .grid--strong { text-style: bold; }
        & > .grid--good { color: $success; }
        & > .grid--attention { color: $warning; }
        & > .grid--failed { color: $error; }
        & > .grid--live { color: $accent; }
        & > .grid--spark { color: $spark; }
        & > .grid--wavy { color: $error; text-style: underline; }
        &:ansi > .grid--heading { text-style: dim; }
        &:ansi > .grid--muted { text-style: dim; }
        &:ansi > .grid--cursor { text-style: bold; }
        &:ansi:focus > .grid--cursor { text-style: reverse; }
    }
    """

    cursor_row: reactive[int] = reactive(0, repaint=False)
    cursor_column: reactive[int] = reactive(0, repaint=False)

    @dataclass
    class Moved(Message):
        """Posted when the cursor moves or its row is replaced; `row` is None in an empty grid."""

        grid: Grid
        row: GridRow | None
        column: int

        @property
        def control(self) -> Grid:
            """The grid, for `@on(Grid.Moved, "#id")`."""
            return self.grid

    @dataclass
    class Chosen(Message):
        """Posted when the row or cell under the cursor is opened: enter, or a second click."""

        grid: Grid
        row: GridRow
        column: int

        @property
        def control(self) -> Grid:
            """The grid, for `@on(Grid.Chosen, "#id")`."""
            return self.grid

    def __init__(
        self,
        columns: Sequence[GridColumn],
        rows: Sequence[GridRow] = (),
        *,
        cursor: Literal["row", "cell", "none"] = "row",
        heading: bool = True,
        empty: tuple[str, ...] = (),
        id: str | None = None,  # noqa: A002 (Textual's name)
        classes: str | None = None,
    ) -> None:
        super().__init__(id=id, classes=classes)
        self.columns = tuple(columns)
        self.empty = empty
        self._rows = rows
        self._cursor = cursor
        self._heading = 1 if heading else 0
        self._slots: tuple[Slot, ...] = ()
        self._instead: list[tuple[str, str]] = []  # the lines of `empty` that fit, with their styles
        self._current: GridRow | None = rows[0] if rows else None  # the last row under the cursor
        self._drawn: dict[int, GridRow] = {}  # the rows on the screen, by index
        self._styles: dict[str, Style] = {}

    # Content

    @property
    def rows(self) -> Sequence[GridRow]:
        """The current rows."""
        return self._rows

    @property
    def row(self) -> GridRow | None:
        """The row under the cursor."""
        return self._rows[self.cursor_row] if self.cursor_row < len(self._rows) else None

    def show(self, rows: Sequence[GridRow], *, empty: tuple[str, ...] | None = None) -> None:
        """Replace the rows and redraw only lines that look different.

        Pass the same sequence again when the rows it builds have changed.
        """
        before = dict(self._drawn)
        had = len(self._rows)
        self._rows = rows
        if empty is not None and empty != self.empty:
            self.empty = empty
            self._measure()
            self.refresh()
        if len(rows) != had:
            self._measure()
            if not (rows and had):
                self.refresh()
        self._follow()
        for index, old in before.items():
            if index < len(rows):
                self._compare(index, old, rows[index])
            else:
                self._line_changed(index)
        for index in range(had, len(rows)):
            if not self._line_changed(index):
                break

    def lay_out(self, columns: Sequence[GridColumn]) -> None:
        """Replace the columns."""
        if tuple(columns) != self.columns:
            self.columns = tuple(columns)
            self._slots = layout(self.columns, self.scrollable_content_region.width)
            self.refresh()

    def move(self, row: int | None = None, column: int | None = None) -> None:
        """Move the cursor to a row, a column, or both, and scroll it into view."""
        if row is not None:
            self.cursor_row = max(0, min(row, len(self._rows) - 1))
        if column is not None:
            self.cursor_column = max(0, min(column, len(self.columns) - 1))

    def region_of(self, row: int, column: int) -> Region:
        """Return the region of a cell in the grid's content, for editing in place; empty if its column is dropped."""
        for slot in self._slots:
            if slot.column == column:
                return Region(slot.x, row + self._heading - self.scroll_offset.y, slot.width, 1)
        return Region()

    def visible_rows(self) -> range:
        """The indices of the visible rows."""
        top = self.scroll_offset.y
        return range(top, min(len(self._rows), top + self._page))

    # Drawing

    def render_line(self, y: int) -> Strip:
        """Render one line: the heading, a row, or a line of the empty state."""
        width = self.scrollable_content_region.width
        if self._heading and y == 0:
            return self._join(
                [(slot, GridCell(self.columns[slot.column].title, "heading")) for slot in self._slots], width
            )
        if not self._rows:
            return self._empty_line(y - self._heading, width)
        index = y - self._heading + self.scroll_offset.y
        if index >= len(self._rows):
            self._drawn.pop(index, None)
            return Strip.blank(width, self.rich_style)
        row = self._rows[index]
        self._drawn[index] = row
        cells = [(slot, row.cells[slot.column]) for slot in self._slots if slot.column < len(row.cells)]
        return self._join(cells, width, index)

    def _join(self, cells: Sequence[tuple[Slot, GridCell | str]], width: int, index: int | None = None) -> Strip:
        base = self.rich_style
        on_row = index == self.cursor_row and self._cursor != "none"
        ground = base + self._style("cursor" if self._cursor == "row" else "line") if on_row else base
        segments: list[Segment] = []
        at = 0
        for slot, content in cells:
            cell = GridCell(content) if isinstance(content, str) else content
            on_cell = self._cursor == "cell" and index == self.cursor_row and slot.column == self.cursor_column
            if slot.x > at:
                segments.append(Segment(" " * (slot.x - at), ground))
            segments.extend(self._cell(cell, slot, ground + self._style("cursor") if on_cell else ground))
            at = slot.x + slot.width
        if width > at:
            segments.append(Segment(" " * (width - at), ground))
        return Strip(segments, max(width, at))

    def _cell(self, cell: GridCell, slot: Slot, ground: Style) -> Iterator[Segment]:
        text = fit(cell.text, slot.width)
        plain = ground + self._style(cell.style) if cell.style else ground
        pad = slot.width - cell_len(text)
        right = self.columns[slot.column].align == "right"
        if pad and right:
            yield Segment(" " * pad, ground)
        at = 0
        for span in cell.spans:
            start, end = min(span.start, len(text)), min(span.end, len(text))
            if start > at:
                yield Segment(text[at:start], plain)
            if end > start:
                yield Segment(text[start:end], plain + self._style(span.style))
            at = max(at, end)
        if at < len(text):
            yield Segment(text[at:], plain)
        if pad and not right:
            yield Segment(" " * pad, ground)

    def _empty_line(self, y: int, width: int) -> Strip:
        base = self.rich_style
        if not 0 < y <= len(self._instead):
            return Strip.blank(width, base)
        text, style = self._instead[y - 1]
        segments = [Segment("  ", base), Segment(fit(text, width - 2), base + self._style(style) if style else base)]
        return Strip(segments).adjust_cell_length(width, base)

    def _style(self, name: str) -> Style:
        style = self._styles.get(name)
        if style is None:
            style = self._styles[name] = self.get_component_rich_style(f"grid--{name}", partial=True)
        return style

    def notify_style_update(self) -> None:
        """Drop cached styles after a change of theme or focus."""
        super().notify_style_update()
        self._styles.clear()

    # Changes

    def _compare(self, index: int, old: GridRow, new: GridRow) -> None:
        if old == new:
            return
        y = index + self._heading - self.scroll_offset.y
        if not self._heading <= y < self.size.height:
            self._drawn.pop(index, None)
            return
        for slot in self._slots:
            if old.cells[slot.column : slot.column + 1] != new.cells[slot.column : slot.column + 1]:
                self.refresh(Region(slot.x, y, slot.width, 1))

    def _line_changed(self, index: int) -> bool:
        """Redraw the line of row `index`; return False if it is not visible."""
        y = index + self._heading - self.scroll_offset.y
        if not self._heading <= y < self.size.height:
            self._drawn.pop(index, None)
            return False
        self.refresh(Region(0, y, self.size.width, 1))
        return True

    def _follow(self) -> None:
        """Keep the cursor on its row at the new position, or at its position if the row is gone."""
        rows, was = self._rows, self._current
        here = min(self.cursor_row, max(0, len(rows) - 1))
        if was is not None and rows and rows[here].key != was.key:
            here = next((index for index in _outward(here, len(rows)) if rows[index].key == was.key), here)
        if here != self.cursor_row:
            self.cursor_row = here
        elif self.row != was:
            self._moved()

    def _measure(self) -> None:
        room = max(_NARROWEST, self.scrollable_content_region.width - 3)
        self._instead = [
            (line, "muted" if number else "")
            for number, text in enumerate(self.empty)
            for line in wrap(text, room, break_on_hyphens=False) or [""]
        ]
        lines = len(self._rows) or len(self._instead) + 1
        self.virtual_size = Size(0, lines + self._heading)
        self._drawn.clear()

    @property
    def _page(self) -> int:
        return max(1, self.size.height - self._heading)

    def on_resize(self) -> None:
        """Lay out the columns for the new width, and keep the cursor in view."""
        self._measure()
        self._slots = layout(self.columns, self.scrollable_content_region.width)
        self.refresh()
        self._reveal()

    def watch_show_vertical_scrollbar(self) -> None:
        """Lay out the columns beside the scroll bar, which can appear without a resize."""
        self._slots = layout(self.columns, self.scrollable_content_region.width)
        self.refresh()

    # The cursor

    def watch_cursor_row(self, before: int, now: int) -> None:
        """Redraw the lines of the old and the new cursor."""
        self._line_changed(before)
        self._line_changed(now)
        self._reveal()
        self._moved()

    def watch_cursor_column(self) -> None:
        """Redraw the cursor's line."""
        self._line_changed(self.cursor_row)
        self._moved()

    def _moved(self) -> None:
        self._current = self.row
        self.post_message(self.Moved(self, self.row, self.cursor_column))

    def _reveal(self) -> None:
        top = self.scroll_offset.y
        wanted = max(self.cursor_row - self._page + 1, min(top, self.cursor_row))
        if wanted != top and self._cursor != "none":
            self.scroll_to(y=wanted, animate=False, force=True)  # even before the scroll bar appears

    def action_up(self) -> None:
        """Move the cursor up one row."""
        self._step(-1)

    def action_down(self) -> None:
        """Move the cursor down one row."""
        self._step(1)

    def _step(self, rows: int) -> None:
        if self._cursor == "none":
            self.scroll_relative(y=rows, animate=False)
        else:
            self.move(self.cursor_row + rows)

    def action_left(self) -> None:
        """Move the cursor to the next visible cell on the left."""
        self._step_column(-1)

    def action_right(self) -> None:
        """Move the cursor to the next visible cell on the right."""
        self._step_column(1)

    def _step_column(self, step: int) -> None:
        seen = [slot.column for slot in self._slots]
        if self._cursor != "cell" or not seen:
            return
        at = seen.index(self.cursor_column) if self.cursor_column in seen else 0
        self.move(column=seen[max(0, min(at + step, len(seen) - 1))])

    def action_page_up(self) -> None:
        """Move the cursor up one page."""
        self._step(-self._page)

    def action_page_down(self) -> None:
        """Move the cursor down one page."""
        self._step(self._page)

    def action_first(self) -> None:
        """Move the cursor to the first row."""
        self._step(-len(self._rows))

    def action_last(self) -> None:
        """Move the cursor to the last row."""
        self._step(len(self._rows))

    def action_choose(self) -> None:
        """Open the row or cell under the cursor."""
        if (row := self.row) is not None:
            self.post_message(self.Chosen(self, row, self.cursor_column))

    def on_click(self, event: events.Click) -> None:
        """Move the cursor to the click; a second click opens the row or cell."""
        offset = event.get_content_offset(self)
        if offset is None or self._cursor == "none":
            return
        index = offset.y - self._heading + self.scroll_offset.y
        if offset.y < self._heading or index >= len(self._rows):
            return
        self.move(index, next((slot.column for slot in self._slots if offset.x < slot.x + slot.width), None))
        if event.chain == 2:
            self.action_choose()


def _outward(start: int, length: int) -> Iterator[int]:
    """Yield every index below `length`, nearest to `start` first."""
    for distance in range(length):
        if start + distance < length:
            yield start + distance
        if 0 < distance <= start:
            yield start - distance
