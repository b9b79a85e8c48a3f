"""Rows of a table as text: a cell set within its padding, a new row in the manner of its neighbours, columns aligned.

Text in, text out; whether the result is still the same table is for the edit to verify.
"""

from __future__ import annotations

from collections.abc import Sequence

from wcwidth import wcswidth

from speclab.errors import EditRefused
from speclab.spec.lines import Span
from speclab.spec.table import core, slots


def with_cell(line: str, index: int, text: str, header: str) -> str:
    """The row `line` with `text` in its cell `index`; in line with the header if that was and it fits."""
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


def like(neighbour: str, header: str, cells: Sequence[str], *, piped: bool = False) -> str:
    """A new row of `cells`: indent and outer pipes (if not `piped`) as `neighbour` has them, in line if that is."""
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
    """The same row between outer pipes, so that nothing in its cells can be taken for something else."""
    indent = line[: len(line) - len(line.lstrip())]
    return f"{indent}| {' | '.join(core(line, slot).of(line) for slot in slots(line))} |"


def aligned(lines: Sequence[str]) -> list[str]:
    """All lines of a table, header and marks first, with each column as wide as its widest cell."""
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
    r"""`text` as it is written in a cell: without blanks around it, a pipe as `\|`. Raises `EditRefused` for lines."""
    if "\n" in text or "\r" in text:
        raise EditRefused("a table cell is one line of text", hint="write it in one line, or in a section's prose")
    return text.strip().replace("|", r"\|")


def _filled(raw: str, written: str, *, closed: bool) -> str:
    """What stands between two pipes, `raw`, with `written` in place of its text; never a pipe behind a backslash."""
    inside = core(raw, Span(0, len(raw)))
    before, after = raw[: inside.start], raw[inside.end :]
    if not raw.strip():
        before, after = before or " ", after or " "
    elif closed and not after and written.endswith("\\"):
        after = " "
    return before + written + after


def _with_more(line: str, texts: Sequence[str]) -> str:
    """The row `line`, which is short, with `texts` as its further cells."""
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
    """Columns of a terminal; characters, where control characters are among them."""
    width = wcswidth(text)
    return width if width >= 0 else len(text)
