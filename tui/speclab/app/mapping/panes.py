"""The panes below the mapping's grid: the sample record, what becomes of it, and the steps of one row."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Final

from speclab.app.glyphs import BECOMES, FAILED
from speclab.app.mapping.rows import text_of
from speclab.app.mapping.sheet import Outcome, SheetRow
from speclab.app.widgets.grid import Cell, Span
from speclab.app.widgets.record import Path, entries, inline
from speclab.jsonvalue import Record

_APART: Final = 3


def record_lines(record: Record, width: int, failing: Mapping[Path, str], lit: AbstractSet[Path]) -> Iterator[Cell]:
    """The record; fields of `failing` name the row that fails on them, those in `lit` are of the row in hand."""
    found = list(entries(record, width))
    for at, (path, cell) in enumerate(found):
        within = found[at + 1][0] if at + 1 < len(found) else ()
        opened = within[: len(path)] == path and len(within) > len(path)
        row = None if opened else next((row for field, row in failing.items() if field[: len(path)] == path), None)
        here = not opened and any(field[: len(path)] == path for field in lit)
        text = cell.text
        spans = tuple(Span(span.start, span.end, "live") for span in cell.spans) if here else cell.spans
        if row is not None:
            mark = f"{BECOMES} {row}"
            text = f"{text}{' ' * _APART}{mark}"
            spans = (*spans, Span(len(text) - len(mark), len(text), "failed"))
        yield Cell(text, cell.style, spans)


def mapped_lines(rows: Sequence[SheetRow], outcomes: Sequence[Outcome | None], lit: str) -> Iterator[Cell]:
    """The mapped record, a line a target path, that of the row `lit` standing out; what fails says so."""
    for row, outcome in zip(rows, outcomes, strict=True):
        if row.written is None:
            continue
        head = f"{row.target}:"
        spans: tuple[Span, ...] = (Span(0, len(head), "live" if row.target == lit else "muted"),)
        if outcome is None:
            text, style = "cannot run", "failed"
        elif outcome.failure is not None:
            text, style = FAILED.glyph, "failed"
        elif outcome.result.dropped:
            text, style = "left out", "muted"
        else:
            text, style = inline(outcome.result.value), ""
        whole = f"{head} {text}"
        if style:
            spans = (*spans, Span(len(head) + 1, len(whole), style))
        yield Cell(whole, spans=spans)


def step_lines(outcome: Outcome | None) -> Iterator[Cell]:
    """What there is after each step of a row."""
    if outcome is None:
        yield Cell("the row cannot run", "failed")
        return
    result = outcome.result
    names = [step.text for step in result.steps]
    failed = outcome.failure
    width = max((len(name) for name in ("sample", *names, (failed.step if failed else None) or "")), default=6)
    yield _step("sample", ", ".join(text_of(value) for _, value in result.sample), width)
    for step in result.steps:
        yield _step(step.text, ", ".join(text_of(value) for value in step.values), width)
    if failed is not None:
        whole = f"{failed.step or failed.stage:<{width}}  {failed.reason}"
        yield Cell(whole, spans=(Span(0, width, "muted"), Span(width + 2, len(whole), "failed")))


def failing_fields(rows: Sequence[SheetRow], outcomes: Sequence[Outcome | None]) -> dict[Path, str]:
    """The source fields of the rows that fail, and the words that say so."""
    return {
        path: f"row {row.target}"
        for row, outcome in zip(rows, outcomes, strict=True)
        if outcome is not None and outcome.failure is not None
        for path in fields_of(row)
    }


def fields_of(row: SheetRow | None) -> set[Path]:
    """The paths of the source fields that the row reads."""
    if row is None or row.mapper is None:
        return set()
    return {path.parts for made in row.mapper.rows for path in made.reads}


def _step(name: str, value: str, width: int) -> Cell:
    return Cell(f"{name:<{width}}  {value}", spans=(Span(0, width, "muted"),))
