"""Values of a grid: cells, rows and columns, column widths, and text that is cut to fit."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from rich.cells import cell_len, chop_cells, set_cell_size

from speclab.app.formatting import ELLIPSIS
from speclab.core.text import UNPRINTABLE


@dataclass(frozen=True, slots=True)
class TextSpan:
    """Characters `start` to `end` (exclusive) of a cell's text with another style."""

    start: int
    end: int
    style: str


@dataclass(frozen=True, slots=True)
class GridCell:
    """Text with a style, and parts of it with other styles; styles are names such as `muted` (see `Grid`)."""

    text: str
    style: str = ""
    spans: tuple[TextSpan, ...] = ()


@dataclass(frozen=True, slots=True)
class GridRow:
    """A row: its key, which is stable across updates, and one cell (or plain text) per column."""

    key: str
    cells: tuple[GridCell | str, ...]


@dataclass(frozen=True, slots=True)
class GridColumn:
    """The layout of a column.

    It is `width` cells wide. With `flex` it takes that share of the remaining width, up to `most` cells. `gap` blank
    cells precede the next column. If not all columns fit, those with the highest `drop` are hidden first; those with 0
    are never hidden.
    """

    title: str
    width: int
    flex: int = 0
    align: Literal["left", "right"] = "left"
    drop: int = 0
    most: int | None = None
    gap: int = 2


@dataclass(frozen=True, slots=True)
class Slot:
    """The position of a column: its index, its first cell and its width."""

    column: int
    x: int
    width: int


def layout(columns: Sequence[GridColumn], width: int) -> tuple[Slot, ...]:
    """Return the position of each column that fits into `width` cells, with a blank cell on both sides."""
    shown = list(range(len(columns)))
    while (over := _needed(columns, shown) - width) > 0 and any(columns[i].drop for i in shown):
        shown.remove(max(shown, key=lambda i: columns[i].drop))
    spare = max(0, -over)
    shares = _shares(columns, shown, spare)
    slots = []
    x = 1
    for i in shown:
        size = min(columns[i].width + shares[i], max(0, width - 1 - x))
        slots.append(Slot(i, x, size))
        x += size + columns[i].gap
    return tuple(slots)


def _needed(columns: Sequence[GridColumn], shown: list[int]) -> int:
    return 2 + sum(columns[i].width + columns[i].gap for i in shown) - (columns[shown[-1]].gap if shown else 0)


def _shares(columns: Sequence[GridColumn], shown: list[int], spare: int) -> dict[int, int]:
    """Return each column's share of `spare` cells by its flex, up to its maximum; the rest goes to the others."""
    shares = dict.fromkeys(shown, 0)
    hungry = [i for i in shown if columns[i].flex]
    while spare > 0 and hungry:
        total = sum(columns[i].flex for i in hungry)
        given = {i: max(1, spare * columns[i].flex // total) for i in hungry}
        for i in list(hungry):
            most = columns[i].most
            room = spare if most is None else most - columns[i].width - shares[i]
            take = min(given[i], room, spare)
            shares[i] += take
            spare -= take
            if take == room:
                hungry.remove(i)
    return shares


def printable(text: str) -> str:
    """Return `text` with a visible picture for each control, bidirectional or unencodable character.

    The length stays the same, so that offsets into `text` still hold.
    """
    return text if text.isprintable() else UNPRINTABLE.sub(_picture, text)


def _picture(match: re.Match[str]) -> str:
    code = ord(match[0])
    if code < 0x20:
        return chr(0x2400 + code)
    return "\u2421" if code == 0x7F else "\ufffd"


def fit(text: str, width: int) -> str:
    """Return `text`, printable, cut with an ellipsis if it is longer than `width` cells; not padded."""
    if width <= 0:
        return ""
    text = printable(text)
    if cell_len(text) <= width:
        return text
    return set_cell_size(text, width - 1) + ELLIPSIS


def fit_middle(text: str, width: int) -> str:
    """Return `text`, printable, cut in its middle if it is longer than `width` cells: paths differ at their ends."""
    text = printable(text)
    if width < 4 or cell_len(text) <= width:
        return fit(text, width)
    head = (width - 1) // 4
    start, end = set_cell_size(text, head), text
    while cell_len(end) > width - 1 - head:
        end = end[1:]
    return f"{start}{ELLIPSIS}{end}"


def broken(text: str, width: int) -> Iterator[str]:
    """Return the lines of `text`, wrapped to `width` cells; a word longer than a line is cut."""
    line = ""
    for word in text.split():
        if line and cell_len(line) + 1 + cell_len(word) > width:
            yield line
            line = ""
        line = f"{line} {word}" if line else word
        while cell_len(line) > width:
            first, *rest = chop_cells(line, width)
            yield first
            line = "".join(rest)
    if line:
        yield line
