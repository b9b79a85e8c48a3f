"""The rows of the mapping's grid: each row of the table with a sample value and what becomes of it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from speclab.app.glyphs import ARROW, ATTENTION, FAILED, IDLE, NOTHING, WELL, Mark
from speclab.app.mapping.sheet import Outcome, SheetRow, Wrong
from speclab.app.widgets.grid import Cell, Column, Row, Span
from speclab.app.widgets.record import inline
from speclab.jsonvalue import Json
from speclab.mapping.suggest import Suggestion
from speclab.outcome import Level
from speclab.spec.table import NOTES, SOURCE, TARGET, TRANSFORMATION

TRANSFORMATION_AT: Final = 3
_PREFIX: Final = re.compile(r"(?:^|(?<=,)|(?<=, ))source\.")
EDITED: Final = {1: SOURCE, 2: TARGET, 3: TRANSFORMATION, 10: NOTES}
"""The grid's columns that are columns of the table."""


@dataclass(frozen=True, slots=True)
class Unmapped:
    """A target field that no row writes: its type and whether it must be, as far as is known, and a row that could."""

    target: str
    type: str
    required: bool
    suggestion: Suggestion | None

    @property
    def key(self) -> str:
        """The key of its row in the grid."""
        return f"+{self.target}"


@dataclass(frozen=True, slots=True)
class Fails:
    """How many records fail on a row: of the sample, and in the run log (open failures of earlier runs).

    `sample` is None while there is no sample, or it is not mapped yet.
    """

    sample: int | None
    dead: int


def columns(width: int) -> tuple[Column, ...]:
    """The grid's columns in `width` cells; where that is little, all are narrower and the sample goes first."""
    small = width < 100
    tiny = width < 72
    return (
        Column("", 1, gap=1),
        Column("Source Field", 11 if tiny else 14 if small else 18, flex=3, most=34),
        Column("Target Field", 11 if tiny else 13 if small else 15, flex=2, most=26),
        Column("Transformation", 16 if tiny else 19 if small else 24, flex=4, most=48),
        Column("Sample", 14, flex=3, most=34, drop=4, gap=1),
        Column(ARROW, 1, drop=4, gap=1),
        Column("Result", 11 if tiny else 12 if small else 14, flex=3, most=34),
        Column("Type", 8, drop=5),
        Column("Fails", 5, align="right", drop=3, gap=1 if small else 2),
        Column("Dead", 4, align="right", drop=3),
        Column("Notes", 16, flex=2, drop=9),
    )


def grid_row(
    key: str, row: SheetRow, wrong: Sequence[Wrong], outcome: Outcome | None, fails: Fails, *, sampled: bool
) -> Row:
    """Return one row of the table; `sampled` if there is a record to show."""
    mark = _mark(row, wrong, outcome)
    sample, result = _sample(outcome), _result(row, outcome, sampled=sampled)
    return Row(
        key,
        (
            Cell(mark.glyph, mark.style),
            _source(row, outcome, wrong),
            _cell(row.texts[TARGET].removeprefix("target."), row.texts[TARGET], TARGET, wrong),
            _cell(row.texts[TRANSFORMATION], row.texts[TRANSFORMATION], TRANSFORMATION, wrong),
            sample,
            Cell(ARROW, "muted") if sampled and not row.blank else "",
            result,
            Cell(outcome.result.type if outcome is not None else "", "muted"),
            _counted(fails.sample),
            _counted(fails.dead),
            Cell(row.texts[NOTES], "muted"),
        ),
    )


def unmapped_row(unmapped: Unmapped, value: str) -> Row:
    """A row for a target field that none writes; `value` is the sample of the field that is suggested."""
    suggestion = unmapped.suggestion
    offer = Cell("no field like it in the sample", "muted")
    if suggestion is not None:
        what = " ".join(filter(None, (suggestion.source, suggestion.transformation.replace("Direct", ""))))
        offer = Cell(f"suggest: {what} ⏎", "live")
    return Row(
        unmapped.key,
        (
            Cell(IDLE.glyph, "muted"),
            "",
            Cell(unmapped.target, "muted"),
            offer,
            Cell(value, "muted"),
            "",
            Cell("required" if unmapped.required else "optional", "attention" if unmapped.required else "muted"),
            Cell(unmapped.type, "muted"),
            "",
            "",
            "",
        ),
    )


def keys(rows: Iterable[SheetRow]) -> list[str]:
    """A key for each row: its target path, which survives edits and moves, and a number where that stands twice."""
    seen: Counter[str] = Counter()
    result = []
    for row in rows:
        seen[row.target] += 1
        result.append(row.target if seen[row.target] == 1 else f"{row.target}#{seen[row.target]}")
    return result


def text_of(value: Json) -> str:
    """A value as a cell of the grid shows it: text as it is, anything else as JSON."""
    return value if isinstance(value, str) else inline(value)


def fails_by_row(groups: Iterable[tuple[str | None, int]]) -> Mapping[str, int]:
    """How many records failed on each row."""
    counts: Counter[str] = Counter()
    for row, count in groups:
        if row is not None:
            counts[row] += count
    return counts


def _counted(number: int | None) -> Cell:
    if number is None:
        return Cell(NOTHING, "muted")
    return Cell(f"{number:,}", "failed") if number else Cell("·", "muted")


def _mark(row: SheetRow, wrong: Sequence[Wrong], outcome: Outcome | None) -> Mark:
    if any(each.level is Level.ERROR for each in wrong) or (outcome is not None and outcome.failure is not None):
        return FAILED
    if row.written is None:
        return IDLE
    return ATTENTION if any(each.level is Level.WARNING for each in wrong) else WELL


def _source(row: SheetRow, outcome: Outcome | None, wrong: Sequence[Wrong]) -> Cell:
    text = row.texts[SOURCE]
    if not text and outcome is not None and outcome.result.sample:  # what the expression reads
        return Cell(", ".join(path for path, _ in outcome.result.sample), "muted")
    return _cell(_PREFIX.sub("", text), text, SOURCE, wrong)


def _cell(shown: str, text: str, column: str, wrong: Sequence[Wrong]) -> Cell:
    """A cell that shows `shown` for `text`; what is wrong in it is underlined, all of it where they differ."""
    spans = []
    for each in wrong:
        if each.column == column and each.level is not Level.INFO and shown:
            start, end = (each.start, max(each.end, each.start + 1)) if shown == text else (0, len(shown))
            spans.append(Span(start, end, "wavy"))
    return Cell(shown, spans=tuple(sorted(spans, key=lambda span: span.start)))


def _sample(outcome: Outcome | None) -> Cell:
    if outcome is None or not outcome.result.sample:
        return Cell("")
    sample = outcome.result.sample
    if all(path in outcome.result.missing for path, _ in sample):
        return Cell("not there", "muted")
    return Cell(", ".join("" if value is None else text_of(value) for _, value in sample))


def _result(row: SheetRow, outcome: Outcome | None, *, sampled: bool) -> Cell:
    if not sampled or row.blank:
        return Cell("")
    if outcome is None:
        return Cell(NOTHING, "muted")
    if outcome.failure is not None:
        return Cell(outcome.failure.reason, "failed")
    if outcome.result.dropped:
        return Cell("left out", "muted")
    value = outcome.result.value
    return Cell("null", "muted") if value is None else Cell(text_of(value), "good")
