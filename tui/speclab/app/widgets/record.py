"""A readable record: one field per line, short lists and objects on one line, quotes only where needed."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, TypeAlias

from rich.cells import cell_len, chop_cells

from speclab.app.widgets.grid import Grid, GridCell, GridColumn, GridRow, TextSpan
from speclab.core.json import Json

Path: TypeAlias = "tuple[str | int, ...]"
"""Keys and list indices from a record to a value in it."""

_PLAIN: Final = re.compile(r"[^\W\d_](?:[^\x00-\x1f\"'{}\[\],:#]|:(?=\S))*(?<! )")
"""Text that needs no quotes: it cannot be read as another value."""


def lines(value: Json, width: int) -> Iterator[GridCell]:
    """Return the lines of `value`, keys in the style `muted`; longer values follow their key, indented."""
    return (cell for _, cell in entries(value, width))


def entries(value: Json, width: int, path: Path = ()) -> Iterator[tuple[Path, GridCell]]:
    """Yield the same lines with the path of the value on each."""
    pad = "  " * len(path)
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _entry(pad, f"{_text(key)}:", inner, width, (*path, key))
    elif isinstance(value, list) and value:
        for index, inner in enumerate(value):
            yield from _entry(pad, "-", inner, width, (*path, index))
    else:
        yield path, GridCell(pad + inline(value))


def _entry(pad: str, head: str, value: Json, width: int, path: Path) -> Iterator[tuple[Path, GridCell]]:
    spans = (TextSpan(len(pad), len(pad) + len(head), "muted"),)
    whole = f"{pad}{head} {inline(value)}"
    if not isinstance(value, dict | list) or not value or cell_len(whole) <= width:
        yield path, GridCell(whole, spans=spans)
        return
    yield path, GridCell(pad + head, spans=spans)
    yield from entries(value, width, path)


def inline(value: Json) -> str:
    """Format `value` on one line."""
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_text(key)}: {inline(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(inline, value)) + "]"
    return json.dumps(value, ensure_ascii=False)


def _text(value: str) -> str:
    if _PLAIN.fullmatch(value) and value not in {"true", "false", "null"}:
        return value
    return json.dumps(value, ensure_ascii=False)


class RecordView(Grid):
    """Lines to read and scroll: a record, a request, a response or a few facts."""

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002 (Textual's name)
        super().__init__((GridColumn("", 1, flex=1),), heading=False, cursor="none", id=id)
        self._format_lines: Callable[[int], Iterable[GridCell]] = lambda _width: ()

    def show_value(self, value: Json, *, instead: Sequence[str] = ()) -> None:
        """Show `value`, laid out for the width; if it is None, show `instead`."""
        self.show_lines(lambda width: () if value is None else lines(value, width), instead=instead)

    def show_text(self, text: str | None, *, instead: Sequence[str] = ()) -> None:
        """Show `text`, wrapped to the width; if it is None, show `instead`."""
        split = (text or "").splitlines()
        self.show_lines(
            lambda width: (GridCell(part) for line in split for part in chop_cells(line, width) or [""]),
            instead=instead,
        )

    def show_lines(self, render: Callable[[int], Iterable[GridCell]], *, instead: Sequence[str] = ()) -> None:
        """Show the lines that `render` returns for a width; without lines, show `instead`."""
        self._format_lines = render
        self._lay_out(tuple(instead))
        self.scroll_to(y=0, animate=False)

    def _lay_out(self, empty: tuple[str, ...] | None = None) -> None:
        cells = self._format_lines(max(10, self.scrollable_content_region.width - 2))
        self.show([GridRow(str(number), (cell,)) for number, cell in enumerate(cells)], empty=empty)

    def watch_show_vertical_scrollbar(self) -> None:
        """Lay the lines out beside the scroll bar."""
        super().watch_show_vertical_scrollbar()
        self._lay_out()

    def on_resize(self) -> None:
        """Lay the lines out again."""
        super().on_resize()
        self._lay_out()
