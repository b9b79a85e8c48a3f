"""A GFM table in the text: cells with their places, read by the rules of GitHub Flavored Markdown, section 4.10.

A pipe ends a cell, also in code, unless a backslash stands before it; outer pipes may be missing; a row may have too
few cells or too many. markdown-it says which lines are a table; what stands in them is read here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from speclab.errors import UsageError
from speclab.spec.lines import Lines, Span
from speclab.spec.names import nearest
from speclab.spec.outline import Block, comparable

SOURCE: Final = "Source Field"
TARGET: Final = "Target Field"
TRANSFORMATION: Final = "Transformation"
NOTES: Final = "Notes"
_MAPPING_COLUMNS: Final = (SOURCE, TARGET, TRANSFORMATION, NOTES)

_PIPE: Final = re.compile(r"(?<!\\)\|")


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell: `text` without padding and escapes, `span` of the same as written; both empty where a row is short."""

    text: str
    span: Span
    line: int
    column: int


@dataclass(frozen=True, slots=True)
class TableRow:
    """One row: a cell for each column of the header. `span` is its line, `surplus` how many cells are beyond them."""

    cells: tuple[Cell, ...]
    line: int
    span: Span
    surplus: int = 0

    @property
    def texts(self) -> tuple[str, ...]:
        """What its cells say."""
        return tuple(cell.text for cell in self.cells)


@dataclass(frozen=True, slots=True)
class Table:
    """A table. `columns` has the index of each column by its name; the mapping's four by the template's names.

    `first` is the index of the header's line, from 0; the row of marks (`|---|`) is on the next.
    """

    header: TableRow
    rows: tuple[TableRow, ...]
    columns: Mapping[str, int]
    first: int

    @property
    def is_mapping(self) -> bool:
        """Whether it has the columns that make it a Field Mapping."""
        return SOURCE in self.columns and TARGET in self.columns

    def column(self, name: str) -> int:
        """Index of the column called `name`, in any case, or by a name one word off. Raises `UsageError`."""
        names = list(self.columns)
        if name in self.columns:
            return self.columns[name]
        found = [other for other in names if _alike(name, other)]
        if len(found) == 1:
            return self.columns[found[0]]
        raise UsageError(f"no column {name!r}", hint=nearest(name, names, "its columns are"))

    def cell(self, row: int, column: str) -> Cell:
        """The cell of that row in the column of that name."""
        return self.rows[row].cells[self.column(column)]

    def key(self, row: int) -> str:
        """What a row is known by: in a mapping its target path, else what its first cell says."""
        text = self.rows[row].cells[self.columns.get(TARGET, 0) if self.is_mapping else 0].text.strip("`").strip()
        return text.removeprefix("target.") if self.is_mapping else text

    def find(self, key: str) -> int:
        """Index of the row known by `key`. Raises `UsageError` if there is none, or more than one."""
        wanted = key.strip().removeprefix("target.") if self.is_mapping else key.strip()
        keys = [self.key(row) for row in range(len(self.rows))]
        found = [row for row, other in enumerate(keys) if other == wanted] or [
            row for row, other in enumerate(keys) if other.casefold() == wanted.casefold()
        ]
        if not found:
            raise UsageError(f"no row {key!r}", hint=nearest(wanted, keys, "its rows are"))
        if len(found) > 1:
            where = ", ".join(str(self.rows[row].line) for row in found)
            raise UsageError(f"{len(found)} rows are called {key!r}, on lines {where}", hint="rename all but one")
        return found[0]


def read_table(lines: Lines, block: Block) -> Table:
    """The table whose lines `block` names."""
    count = len(slots(lines.content(block.first)))
    header = _row(lines, block.first, count)
    rows = tuple(_row(lines, index, count) for index in range(block.first + 2, block.end))
    return Table(header, rows, _columns(header.texts), block.first)


def slots(line: str) -> list[Span]:
    """What stands between the pipes of a row, padding and all; the outer pipes and blanks are in none."""
    start, end = len(line) - len(line.lstrip()), len(line.rstrip())
    out, at = [], start
    for match in _PIPE.finditer(line, start, end):
        out.append(Span(at, match.start()))
        at = match.end()
    out.append(Span(at, max(end, at)))
    if out[0].start == out[0].end:
        out.pop(0)
    if out and out[-1].start == out[-1].end:
        out.pop()
    return out


def _row(lines: Lines, index: int, count: int) -> TableRow:
    line, start = lines.content(index), lines.starts[index]
    there = slots(line)
    end = len(line.rstrip())
    cells = []
    for at in range(count):
        span = core(line, there[at]) if at < len(there) else Span(end, end)
        text = span.of(line).replace(r"\|", "|")
        cells.append(Cell(text, Span(start + span.start, start + span.end), index + 1, span.start + 1))
    return TableRow(tuple(cells), index + 1, Span(start, lines.ends[index]), max(len(there) - count, 0))


def core(line: str, slot: Span) -> Span:
    """A slot without its padding; of an empty one, the place after its first blank."""
    raw = slot.of(line)
    text = raw.strip()
    if not text:
        return Span(slot.start + len(raw[:1]), slot.start + len(raw[:1]))
    start = slot.start + raw.index(text)
    return Span(start, start + len(text))


def _columns(headers: Sequence[str]) -> dict[str, int]:
    """The columns by name; a mapping's known columns by the names the template gives them."""
    known: dict[int, str] = {}
    for name in _MAPPING_COLUMNS:
        same = [i for i, text in enumerate(headers) if comparable(text) == comparable(name)]
        alike = same or [
            i for i, text in enumerate(headers) if [n for n in _MAPPING_COLUMNS if _alike(text, n)] == [name]
        ]
        if alike:
            known[alike[0]] = name
    if not {SOURCE, TARGET} <= set(known.values()):
        known = {}
    columns: dict[str, int] = {}
    for index, text in enumerate(headers):
        columns.setdefault(known.get(index, text), index)
    return columns


def _alike(one: str, other: str) -> bool:
    """Whether two headers are the same but for case, a word more or less, or an ending (`Transform`, `Note`)."""
    a, b = comparable(one).split(), comparable(other).split()
    fewer, more = sorted((a, b), key=len)
    return bool(fewer) and all(any(_akin(word, of) for of in more) for word in fewer)


def _akin(one: str, other: str) -> bool:
    shorter, longer = sorted((one, other), key=len)
    return longer == shorter or (len(shorter) > 3 and longer.startswith(shorter))
