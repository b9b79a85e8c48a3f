"""Markdown tables: reading their cells with spans, and writing rows."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from wcwidth import wcswidth

from speclab.core.errors import EditRejected, UsageError
from speclab.core.text import describe_choices
from speclab.spec.outline import Block, LineSpan, TextLines, comparable


def row_with_cell(line: str, index: int, text: str, header: str) -> str:
    """Return the row `line` with `text` in its cell `index`; a cell that was aligned stays aligned if it fits."""
    there = slots(line)
    written = escaped(text)
    if index >= len(there):
        return _with_more(line, [""] * (index - len(there)) + [written]) if written else line
    slot = there[index]
    if written == core(line, slot).of(line):
        return line
    raw = slot.of(line)
    closed = line[slot.end : slot.end + 1] == "|"
    filled = _filled(raw, written, closed=closed)
    if closed and raw.endswith(" ") and _width(raw) == _width(slots(header)[index].of(header)):
        filled = _pad(f"{filled.rstrip(' ')} " if written else filled, _width(raw))
    return line[: slot.start] + filled + line[slot.end :]


def row_like(neighbour: str, header: str, cells: Sequence[str], *, piped: bool = False) -> str:
    """Return a new row of `cells` with the indentation, alignment and, if not `piped`, outer pipes of `neighbour`."""
    row = neighbour.strip()
    indent = neighbour[: len(neighbour) - len(neighbour.lstrip())]
    opening, closing = piped or row.startswith("|"), piped or _closed(row)
    widths = [_width(slot.of(header)) for slot in slots(header)]
    in_line = widths == [_width(slot.of(neighbour)) for slot in slots(neighbour)]
    parts = [f" {escaped(text)} " if text.strip() else " " for text in cells]
    if in_line:
        parts = [_pad(part, width) for part, width in zip(parts, widths, strict=True)]
    out = "|".join(parts)
    if not opening:
        out = out[1:]
    if not closing:
        out = out.rstrip()
    return f"{indent}{'|' if opening else ''}{out}{'|' if closing else ''}"


def with_outer_pipes(line: str) -> str:
    """Return the row with outer pipes, so that its cells are not read as other Markdown."""
    indent = line[: len(line) - len(line.lstrip())]
    return f"{indent}| {' | '.join(core(line, slot).of(line) for slot in slots(line))} |"


def aligned_rows(lines: Sequence[str]) -> list[str]:
    """Return the lines of a table, starting with the header, with each column as wide as its widest cell."""
    header, marks, *rows = ([core(line, slot).of(line) for slot in slots(line)] for line in lines)
    count = len(header)
    texts = [header, *rows]
    widths = [max(3, *(_width(row[at]) for row in texts if at < len(row))) for at in range(count)]
    indent = lines[0][: len(lines[0]) - len(lines[0].lstrip())]

    def row(cells: Sequence[str]) -> str:
        padded = [_pad(cell, widths[at] if at < count else 0) for at, cell in enumerate(cells)]
        return f"{indent}| {' | '.join(padded)} |"

    bars = [_mark(mark, width) for mark, width in zip(marks, widths, strict=True)]
    return [
        row(header),
        f"{indent}| {' | '.join(bars)} |",
        *(row(cells + [""] * (count - len(cells))) for cells in rows),
    ]


def escaped(text: str) -> str:
    r"""Return `text` as in a cell: stripped, with pipes as `\|`. Raises `EditRejected` if it has several lines."""
    if "\n" in text or "\r" in text:
        raise EditRejected("a table cell is one line of text", hint="write it in one line, or as text of the section")
    return text.strip().replace("|", r"\|")


def _filled(raw: str, written: str, *, closed: bool) -> str:
    """Return the slot `raw` with its text replaced by `written`, and a space between a backslash and the pipe."""
    inside = core(raw, LineSpan(0, len(raw)))
    before, after = raw[: inside.start], raw[inside.end :]
    if not raw.strip():
        before, after = before or " ", after or " "
    elif closed and not after and written.endswith("\\"):
        after = " "
    return before + written + after


def _with_more(line: str, texts: Sequence[str]) -> str:
    """Return the row `line`, which has too few cells, with `texts` as further cells."""
    row = line.rstrip()
    more = " | ".join(texts)
    return (f"{row} {more} |" if _closed(row) else f"{row} | {more}") + line[len(row) :]


def _closed(row: str) -> bool:
    return row.endswith("|") and not row.endswith(r"\|")


def _mark(mark: str, width: int) -> str:
    left, right = mark.startswith(":"), mark.endswith(":")
    return f"{':' if left else '-'}{'-' * (width - 2)}{':' if right else '-'}"


def _pad(text: str, width: int) -> str:
    return text + " " * (width - _width(text))


def _width(text: str) -> int:
    """Return the width in terminal columns; in characters if there are control characters."""
    width = wcswidth(text)
    return width if width >= 0 else len(text)


SOURCE: Final = "Source Field"
TARGET: Final = "Target Field"
TRANSFORMATION: Final = "Transformation"
NOTES: Final = "Notes"
_MAPPING_COLUMNS: Final = (SOURCE, TARGET, TRANSFORMATION, NOTES)

_PIPE: Final = re.compile(r"(?<!\\)\|")


@dataclass(frozen=True, slots=True)
class TableCell:
    """A cell: `text` without padding and escapes, and its `span`; both are empty if the row has too few cells."""

    text: str
    span: LineSpan
    line: int
    column: int


@dataclass(frozen=True, slots=True)
class TableRow:
    """A row with one cell per column of the header; `span` is its line, `surplus` the number of further cells."""

    cells: tuple[TableCell, ...]
    line: int
    span: LineSpan
    surplus: int = 0

    @property
    def texts(self) -> tuple[str, ...]:
        """The texts of the cells."""
        return tuple(cell.text for cell in self.cells)


@dataclass(frozen=True, slots=True)
class MarkdownTable:
    """A table. `columns` maps names to indices; the four columns of a mapping have the template's names.

    `first` is the index of the header's line, from 0; the delimiter row (`|---|`) is the next line.
    """

    header: TableRow
    rows: tuple[TableRow, ...]
    columns: Mapping[str, int]
    first: int

    @property
    def is_mapping(self) -> bool:
        """Whether it has the columns of a Field Mapping."""
        return SOURCE in self.columns and TARGET in self.columns

    def column(self, name: str) -> int:
        """Return the index of the column called `name`, in any case or with a similar name. Raises `UsageError`."""
        names = list(self.columns)
        if name in self.columns:
            return self.columns[name]
        found = [other for other in names if _is_similar(name, other)]
        if len(found) == 1:
            return self.columns[found[0]]
        raise UsageError(f"no column {name!r}", hint=describe_choices(name, names, "its columns are"))

    def cell(self, row: int, column: str) -> TableCell:
        """Return a cell by row index and column name."""
        return self.rows[row].cells[self.column(column)]

    def key(self, row: int) -> str:
        """Return the key of a row: in a mapping its target path, otherwise the text of its first cell."""
        text = self.rows[row].cells[self.columns.get(TARGET, 0) if self.is_mapping else 0].text.strip("`").strip()
        return text.removeprefix("target.") if self.is_mapping else text

    def find(self, key: str) -> int:
        """Return the index of the row with `key`. Raises `UsageError` if there is none, or more than one."""
        wanted = key.strip().removeprefix("target.") if self.is_mapping else key.strip()
        keys = [self.key(row) for row in range(len(self.rows))]
        found = [row for row, other in enumerate(keys) if other == wanted] or [
            row for row, other in enumerate(keys) if other.casefold() == wanted.casefold()
        ]
        if not found:
            raise UsageError(f"no row {key!r}", hint=describe_choices(wanted, keys, "its rows are"))
        if len(found) > 1:
            where = ", ".join(str(self.rows[row].line) for row in found)
            raise UsageError(f"{len(found)} rows are called {key!r}, on lines {where}", hint="rename all but one")
        return found[0]


def read_table(lines: TextLines, block: Block) -> MarkdownTable:
    """Return the table in `block`."""
    count = len(slots(lines.content(block.first)))
    header = _row(lines, block.first, count)
    rows = tuple(_row(lines, index, count) for index in range(block.first + 2, block.end))
    return MarkdownTable(header, rows, _columns(header.texts), block.first)


def slots(line: str) -> list[LineSpan]:
    """Return the spans between the pipes of a row, with padding, without outer pipes and indentation."""
    start, end = len(line) - len(line.lstrip()), len(line.rstrip())
    out, at = [], start
    for match in _PIPE.finditer(line, start, end):
        out.append(LineSpan(at, match.start()))
        at = match.end()
    out.append(LineSpan(at, max(end, at)))
    if out[0].start == out[0].end:
        out.pop(0)
    if out and out[-1].start == out[-1].end:
        out.pop()
    return out


def _row(lines: TextLines, index: int, count: int) -> TableRow:
    line, start = lines.content(index), lines.starts[index]
    there = slots(line)
    end = len(line.rstrip())
    cells = []
    for at in range(count):
        span = core(line, there[at]) if at < len(there) else LineSpan(end, end)
        text = span.of(line).replace(r"\|", "|")
        cells.append(TableCell(text, LineSpan(start + span.start, start + span.end), index + 1, span.start + 1))
    return TableRow(tuple(cells), index + 1, LineSpan(start, lines.ends[index]), max(len(there) - count, 0))


def core(line: str, slot: LineSpan) -> LineSpan:
    """Return a slot without its padding; for an empty one, the position after its first space."""
    raw = slot.of(line)
    text = raw.strip()
    if not text:
        return LineSpan(slot.start + len(raw[:1]), slot.start + len(raw[:1]))
    start = slot.start + raw.index(text)
    return LineSpan(start, start + len(text))


def _columns(headers: Sequence[str]) -> dict[str, int]:
    """Return the columns by name; those of a mapping by the template's names."""
    known: dict[int, str] = {}
    for name in _MAPPING_COLUMNS:
        same = [i for i, text in enumerate(headers) if comparable(text) == comparable(name)]
        alike = same or [
            i for i, text in enumerate(headers) if [n for n in _MAPPING_COLUMNS if _is_similar(text, n)] == [name]
        ]
        if alike:
            known[alike[0]] = name
    if not {SOURCE, TARGET} <= set(known.values()):
        known = {}
    columns: dict[str, int] = {}
    for index, text in enumerate(headers):
        columns.setdefault(known.get(index, text), index)
    return columns


def _is_similar(one: str, other: str) -> bool:
    """Whether two headers are equal except for case, an extra word, or an ending (`Transform`, `Note`)."""
    a, b = comparable(one).split(), comparable(other).split()
    fewer, more = sorted((a, b), key=len)
    return bool(fewer) and all(any(_is_same_word(word, of) for of in more) for word in fewer)


def _is_same_word(one: str, other: str) -> bool:
    shorter, longer = sorted((one, other), key=len)
    return longer == shorter or (len(shorter) > 3 and longer.startswith(shorter))
