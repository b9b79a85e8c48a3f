"""A record for reading: its fields line by line, short lists and objects in one, nothing quoted that need not be."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

from rich.cells import cell_len, chop_cells

from speclab.app.widgets.grid import Cell, Column, Grid, Row, Span
from speclab.jsonvalue import Json

_PLAIN: Final = re.compile(r"[^\W\d_](?:[^\x00-\x1f\"'{}\[\],:#]|:(?=\S))*(?<! )")
"""Text that cannot be taken for anything but text."""


def lines(value: Json, width: int, *, indent: int = 0) -> Iterator[Cell]:
    """The lines of `value`, keys in the style `muted`; those of a field that takes several follow its key, indented."""
    pad = "  " * indent
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _entry(pad, f"{_text(key)}:", inner, width, indent)
    elif isinstance(value, list) and value:
        for inner in value:
            yield from _entry(pad, "-", inner, width, indent)
    else:
        yield Cell(pad + _inline(value))


def _entry(pad: str, head: str, value: Json, width: int, indent: int) -> Iterator[Cell]:
    spans = (Span(len(pad), len(pad) + len(head), "muted"),)
    inline = _inline(value)
    whole = f"{pad}{head} {inline}"
    if not isinstance(value, dict | list) or not value or cell_len(whole) <= width:
        yield Cell(whole, spans=spans)
        return
    yield Cell(pad + head, spans=spans)
    yield from lines(value, width, indent=indent + 1)


def _inline(value: Json) -> str:
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_text(key)}: {_inline(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_inline, value)) + "]"
    return json.dumps(value, ensure_ascii=False)


def _text(value: str) -> str:
    if _PLAIN.fullmatch(value) and value not in {"true", "false", "null"}:
        return value
    return json.dumps(value, ensure_ascii=False)


class Lines(Grid):
    """Lines to read and to scroll through: a record, a request, an answer, or a few facts."""

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002 (Textual's name)
        super().__init__((Column("", 1, flex=1),), heading=False, cursor="none", id=id)
        self._made: Callable[[int], Iterable[Cell]] = lambda _width: ()

    def tell_record(self, value: Json, *, instead: Sequence[str] = ()) -> None:
        """Show `value`, laid out for the width there is; or, if it is None, say this instead."""
        self._tell(lambda width: () if value is None else lines(value, width), instead)

    def tell_text(self, text: str | None, *, instead: Sequence[str] = ()) -> None:
        """Show `text`, broken to the width there is; or, if it is None, say this instead."""
        self.tell_cells([Cell(line) for line in (text or "").splitlines()], instead=instead)

    def tell_cells(self, cells: Sequence[Cell], *, instead: Sequence[str] = ()) -> None:
        """Show these lines, broken to the width there is; or, if there are none, say this instead."""
        self._tell(
            lambda width: (Cell(part, cell.style) for cell in cells for part in _broken(cell.text, width)), instead
        )

    def _tell(self, made: Callable[[int], Iterable[Cell]], instead: Sequence[str]) -> None:
        self._made = made
        self._lay_out(tuple(instead))
        self.scroll_to(y=0, animate=False)

    def _lay_out(self, empty: tuple[str, ...] | None = None) -> None:
        cells = self._made(max(10, self.scrollable_content_region.width - 2))
        self.show([Row(str(number), (cell,)) for number, cell in enumerate(cells)], empty=empty)

    def on_resize(self) -> None:
        """Lay the lines out anew."""
        super().on_resize()
        self._lay_out()


def _broken(line: str, width: int) -> list[str]:
    """`line` in pieces that fit, broken anywhere: what a system sent is shown as it is."""
    return chop_cells(line, width) or [""]
