"""A record for reading: its fields line by line, short lists and objects in one, nothing quoted that need not be."""

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
"""Text that cannot be taken for anything but text."""


def lines(value: Json, width: int) -> Iterator[GridCell]:
    """The lines of `value`, keys in the style `muted`; those of a field that takes several follow its key, indented."""
    return (cell for _, cell in entries(value, width))


def entries(value: Json, width: int, path: Path = ()) -> Iterator[tuple[Path, GridCell]]:
    """The same, each line with the path of the value that it shows."""
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
    """`value` in one line."""
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
    """Lines to read and to scroll through: a record, a request, an answer, or a few facts."""

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002 (Textual's name)
        super().__init__((GridColumn("", 1, flex=1),), heading=False, cursor="none", id=id)
        self._made: Callable[[int], Iterable[GridCell]] = lambda _width: ()

    def tell_record(self, value: Json, *, instead: Sequence[str] = ()) -> None:
        """Show `value`, laid out for the width there is; or, if it is None, say this instead."""
        self.tell(lambda width: () if value is None else lines(value, width), instead=instead)

    def tell_text(self, text: str | None, *, instead: Sequence[str] = ()) -> None:
        """Show `text` as it is, broken to the width there is; or, if it is None, say this instead."""
        told = (text or "").splitlines()
        self.tell(
            lambda width: (GridCell(part) for line in told for part in chop_cells(line, width) or [""]), instead=instead
        )

    def tell(self, made: Callable[[int], Iterable[GridCell]], *, instead: Sequence[str] = ()) -> None:
        """Show the lines that `made` makes for a width; or, if it makes none, say this instead."""
        self._made = made
        self._lay_out(tuple(instead))
        self.scroll_to(y=0, animate=False)

    def _lay_out(self, empty: tuple[str, ...] | None = None) -> None:
        cells = self._made(max(10, self.scrollable_content_region.width - 2))
        self.show([GridRow(str(number), (cell,)) for number, cell in enumerate(cells)], empty=empty)

    def watch_show_vertical_scrollbar(self) -> None:
        """Lay the lines out for what the scroll bar leaves."""
        super().watch_show_vertical_scrollbar()
        self._lay_out()

    def on_resize(self) -> None:
        """Lay the lines out anew."""
        super().on_resize()
        self._lay_out()
