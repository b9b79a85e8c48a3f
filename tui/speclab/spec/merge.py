"""Three-way merge of specs: mapping rows by target path and cell, front matter and other text by lines.

Where both versions changed the same text differently, the merge contains a conflict with the three versions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from typing import TypeAlias

from merge3 import Merge3

from speclab.core.errors import SpeclabError
from speclab.spec import table
from speclab.spec.document import Document
from speclab.spec.outline import LineSpan, split_line_ends
from speclab.spec.table import TableRow


class Side(StrEnum):
    """The version that resolves a conflict; `BOTH` is mine, followed by theirs."""

    MINE = "mine"
    THEIRS = "theirs"
    BOTH = "both"


@dataclass(frozen=True, slots=True)
class Conflict:
    """Whole lines that both versions changed, with their common base."""

    mine: str
    theirs: str
    base: str

    def resolved(self, side: Side) -> str:
        """Return the lines of that side."""
        if side is Side.BOTH:
            return self.mine + self.theirs
        return self.mine if side is Side.MINE else self.theirs


@dataclass(frozen=True, slots=True)
class Merge:
    """The merged text in pieces, in order: merged text and conflicts."""

    pieces: tuple[str | Conflict, ...]

    @property
    def conflicts(self) -> tuple[Conflict, ...]:
        """The conflicts, in order."""
        return tuple(piece for piece in self.pieces if isinstance(piece, Conflict))

    def resolved(self, sides: Sequence[Side] = ()) -> str:
        """Return the text, with the conflicts resolved by `sides`, in order. Raises `ValueError` for a wrong number."""
        if len(sides) != len(self.conflicts):
            raise ValueError(f"expected {len(self.conflicts)} sides, got {len(sides)}")
        sides_left = iter(sides)
        return "".join(piece if isinstance(piece, str) else piece.resolved(next(sides_left)) for piece in self.pieces)


class SaveConflict(SpeclabError):
    """The file and the edit changed the same lines; nothing was written.

    `merge` contains the merged text and the conflicts; `theirs` is the file as it is now, the base of the next save.
    """

    def __init__(self, message: str, *, merge: Merge, theirs: Document, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.merge = merge
        self.theirs = theirs

    @property
    def conflicts(self) -> tuple[Conflict, ...]:
        """The conflicting changes, in order."""
        return self.merge.conflicts


def merge(base: Document, mine: Document, theirs: Document) -> Merge:
    """Merge the changes from `base` to `mine` and to `theirs`."""
    versions = (base, mine, theirs)
    texts = [version.text for version in versions]
    for part in (_rows(*versions), _front_matter(*versions)):  # from the end, so that the other spans stay valid
        if part is not None:
            texts = [
                text[: span.start] + new + text[span.end :]
                for text, span, new in zip(texts, part.spans, part.texts, strict=True)
            ]
    return Merge(tuple(_pieces(*texts)))


def _pieces(base: str, mine: str, theirs: str) -> Iterator[str | Conflict]:
    for group in Merge3(split_line_ends(base), split_line_ends(mine), split_line_ends(theirs)).merge_groups():
        if group[0] == "conflict":
            was, a, b = ("".join(lines) for lines in group[1:])
            yield Conflict(mine=a, theirs=b, base=was)
        else:
            yield "".join(group[1])


_Three: TypeAlias = tuple[str, str, str]  # base, mine, theirs


@dataclass(frozen=True, slots=True)
class _Part:
    """A span of each version, and the texts to compare instead: three equal ones where it could be merged."""

    spans: tuple[LineSpan, LineSpan, LineSpan]
    texts: _Three


def _part(spans: Sequence[LineSpan], merged: Sequence[_Three]) -> _Part:
    base, mine, theirs = spans
    return _Part(
        (base, mine, theirs),
        ("".join(t[0] for t in merged), "".join(t[1] for t in merged), "".join(t[2] for t in merged)),
    )


def _front_matter(base: Document, mine: Document, theirs: Document) -> _Part | None:
    """Merge the front matter line by line, if its keys are the same: neighbouring lines are independent."""
    versions = (base, mine, theirs)
    keys = {tuple(entry.key for entry in version.front_matter.entries) for version in versions}
    spans = [version.front_matter.inner for version in versions]
    lines = [split_line_ends(span.of(version.text)) for span, version in zip(spans, versions, strict=True)]
    if len(keys) != 1 or len({len(version) for version in lines}) != 1:
        return None
    return _part(spans, [_choose_text(*three) for three in zip(*lines, strict=True)])


def _choose_text(base: str, mine: str, theirs: str) -> _Three:
    if mine in (base, theirs):
        return theirs, theirs, theirs
    if theirs == base:
        return mine, mine, mine
    return base, mine, theirs


# --- the mapping's rows


@dataclass(frozen=True, slots=True)
class _MergeRow:
    line: str
    end: str  # its line end
    texts: tuple[str, ...]

    def __str__(self) -> str:
        return self.line + self.end


def _rows(base: Document, mine: Document, theirs: Document) -> _Part | None:
    """Merge the mapping rows by target path; None if the tables cannot be compared that way."""
    versions = (base, mine, theirs)
    tables = [table for version in versions if (table := version.mapping)]
    if len(tables) < len(versions) or len({table.header.texts for table in tables}) != 1:
        return None
    spans, keyed = [], []
    for version, table in zip(versions, tables, strict=True):
        first, end = table.first + 2, table.first + 2 + len(table.rows)
        if end >= len(version.lines):  # the last row has no line end
            return None
        spans.append(LineSpan(version.lines.starts[first], version.lines.starts[end]))
        keyed.append({table.key(at): _row(version, row) for at, row in enumerate(table.rows)})
        if len(keyed[-1]) < len(table.rows):  # a target path appears twice
            return None
    was, ours, others = keyed
    header = theirs.lines.content(tables[2].first)
    order = _order(list(was), list(ours), list(others))
    return _part(spans, [_merged_row(was.get(key), ours.get(key), others.get(key), header) for key in order])


def _row(version: Document, row: TableRow) -> _MergeRow:
    end = version.text[row.span.end : version.lines.starts[row.line]]
    return _MergeRow(row.span.of(version.text), end, row.texts)


def _order(base: Sequence[str], mine: Sequence[str], theirs: Sequence[str]) -> list[str]:
    """Return the keys of both versions, each after its predecessor; rows that `mine` moved stay moved."""
    common = set(base) & set(mine) & set(theirs)
    moved = [key for key in mine if key in common] != [key for key in base if key in common]
    first, second = (mine, theirs) if moved else (theirs, mine)
    order = list(first)
    for before, key in pairwise([None, *second]):
        if key is not None and key not in first:
            order.insert(0 if before is None else order.index(before) + 1, key)
    return order


def _merged_row(base: _MergeRow | None, mine: _MergeRow | None, theirs: _MergeRow | None, header: str) -> _Three:
    if mine is None or theirs is None:
        left = mine or theirs
        if base is None:
            return (str(left),) * 3
        if left is None or left.texts == base.texts:
            return "", "", ""
        return str(base), str(mine or ""), str(theirs or "")
    if base is not None and str(base) in (str(mine), str(theirs)):
        return _choose_text(str(base), str(mine), str(theirs))
    was = base.texts if base else ("",) * len(mine.texts)
    both = theirs.line
    clashes = {}
    for at, (old, ours, other) in enumerate(zip(was, mine.texts, theirs.texts, strict=True)):
        if ours not in (old, other):
            if other == old:
                both = _with_cell(both, at, ours, header)
            else:
                clashes[at] = ours
    clashing = both
    for at, ours in clashes.items():
        clashing = _with_cell(clashing, at, ours, header)
    return str(base or "") if clashes else both + theirs.end, clashing + theirs.end, both + theirs.end


def _with_cell(line: str, at: int, text: str, header: str) -> str:
    # Between outer pipes, any text is read as a cell.
    piped = line if line.lstrip().startswith("|") else table.with_outer_pipes(line)
    return table.row_with_cell(piped, at, text, header)
