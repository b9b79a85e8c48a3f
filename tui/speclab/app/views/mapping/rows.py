"""Rows of the mapping grid, and the interface of the view to its controllers."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Final, Protocol

from textual.content import Content
from textual.geometry import Region, Size

from speclab.app.formatting import ARROW, ATTENTION, FAILED, IDLE, NOTHING, POINTER, WELL, Icon
from speclab.app.view import AppContext
from speclab.app.views.document import DocumentController
from speclab.app.widgets.cells import printable
from speclab.app.widgets.grid import Grid, GridCell, GridColumn, GridRow, TextSpan
from speclab.app.widgets.record import Path, entries, inline
from speclab.core.json import Json, Record
from speclab.core.outcome import Level
from speclab.spec.table import NOTES, SOURCE, TARGET, TRANSFORMATION
from speclab.workbench.mapping_sheet import CellProblem, RowOutcome, SheetRow, UnmappedTarget
from speclab.workbench.mapping_state import MappingState
from speclab.workbench.open_specs import OpenSpec


class MappingHost(Protocol):
    """The Mapping view, as its controllers see it."""

    context: AppContext
    document: DocumentController
    state: MappingState
    grid: Grid

    @property
    def opened(self) -> OpenSpec | None:
        """The open spec."""

    @property
    def size(self) -> Size:
        """The size of the view."""

    @property
    def region(self) -> Region:
        """The region of the view on the screen."""

    @property
    def row(self) -> SheetRow | None:
        """The row of the table under the cursor."""

    @property
    def unmapped(self) -> UnmappedTarget | None:
        """The unmapped target under the cursor."""

    def show_document(self) -> None:
        """Show the rows of the document."""

    def show_record(self) -> None:
        """Show the current sample record and its results."""

    def show_trial(self, trial: SheetRow) -> None:
        """Show a row with the text that is being typed."""

    def check_samples(self) -> object:
        """Check all sample records against the mapping, in the background."""

    def refresh_bindings(self) -> None:
        """Update the available keys."""

    def run_in_background(self, work: Callable[[], Coroutine[None, None, None]], group: str = "") -> Callable[[], None]:
        """Run `work`, and with `group` cancel earlier work of that group; return a function that cancels it."""

    async def action_act(self, action: str) -> None:
        """Run the action with that id."""


TRANSFORMATION_AT: Final = 3
RESULT_AT: Final = 6
_PREFIX: Final = re.compile(r"(?:^|(?<=,)|(?<=, ))source\.")
EDITED: Final = {1: SOURCE, 2: TARGET, 3: TRANSFORMATION, 10: NOTES}
"""The grid's columns that are columns of the table."""


@dataclass(frozen=True, slots=True)
class Fails:
    """The number of records that fail on a row: sample records, and open failures in the run log.

    `sample` is None until the sample records are checked.
    """

    sample: int | None
    dead: int


def columns(width: int) -> tuple[GridColumn, ...]:
    """Return the columns for `width` cells; a small width makes them narrower, and hides the sample first."""
    small = width < 100
    tiny = width < 72
    return (
        GridColumn("", 1, gap=1),
        GridColumn("Source Field", 11 if tiny else 14 if small else 18, flex=3, most=34),
        GridColumn("Target Field", 11 if tiny else 13 if small else 15, flex=2, most=26),
        GridColumn("Transformation", 16 if tiny else 19 if small else 22, flex=4, most=48),
        GridColumn("Sample", 14, flex=3, most=34, drop=4, gap=1),
        GridColumn(ARROW, 1, drop=4, gap=1),
        GridColumn("Result", 11 if tiny else 12 if small else 14, flex=3, most=34),
        GridColumn("Type", 8, drop=5),
        GridColumn("Fails", 5, align="right", drop=3, gap=1 if small else 2),
        GridColumn("Dead", 4, align="right", drop=4),
        GridColumn("Notes", 16, flex=2, drop=9),
    )


def grid_row(
    key: str, row: SheetRow, problems: Sequence[CellProblem], outcome: RowOutcome | None, fails: Fails, *, sampled: bool
) -> GridRow:
    """Return one row of the table; `sampled` if there is a record to show."""
    mark = _mark(row, problems, outcome)
    sample, result = _sample(outcome), _result(row, outcome, sampled=sampled)
    return GridRow(
        key,
        (
            GridCell(mark.glyph, mark.style),
            _source(row, outcome, problems),
            _cell(row.texts[TARGET].removeprefix("target."), row.texts[TARGET], TARGET, problems),
            _cell(row.texts[TRANSFORMATION], row.texts[TRANSFORMATION], TRANSFORMATION, problems),
            sample,
            GridCell(ARROW, "muted") if sampled and not row.blank else "",
            result,
            GridCell(outcome.result.type if outcome is not None else "", "muted"),
            _counted(fails.sample),
            _counted(fails.dead),
            GridCell(row.texts[NOTES], "muted"),
        ),
    )


def unmapped_row(unmapped: UnmappedTarget, value: str) -> GridRow:
    """Return a row for a target field that no row writes; `value` is a sample of the suggested field."""
    suggestion = unmapped.suggestion
    offer = GridCell("no field like it in the sample", "muted")
    if suggestion is not None:
        what = " ".join(filter(None, (suggestion.source, suggestion.transformation.replace("Direct", ""))))
        offer = GridCell(f"suggest: {what} ⏎", "live")
    return GridRow(
        unmapped.key,
        (
            GridCell(IDLE.glyph, "muted"),
            "",
            GridCell(unmapped.target, "muted"),
            offer,
            GridCell(value, "muted"),
            "",
            GridCell("required" if unmapped.required else "optional", "attention" if unmapped.required else "muted"),
            GridCell(unmapped.type, "muted"),
            "",
            "",
            "",
        ),
    )


def row_message(
    row: SheetRow | None, problems: Sequence[CellProblem], outcome: RowOutcome | None, undecided: str | None
) -> Content:
    """Return the message below the grid: the worst problem of the row, its failure, or else its notes.

    `undecided` is why the filter cannot decide about the record, if so.
    """
    worst = sorted(problems, key=lambda each: list(Level).index(each.level))
    problem = next((each for each in worst if each.level is not Level.INFO), None)
    if problem is not None and row is not None:
        icon, colour = (FAILED, "$error") if problem.level is Level.ERROR else (ATTENTION, "$warning")
        return Content.assemble((f"{icon.glyph} {row.line} {problem.code} ", colour), printable(problem.message))
    failure = str(outcome.failure) if outcome is not None and outcome.failure is not None else undecided
    if failure is not None:
        return Content.assemble((f"{FAILED.glyph} ", "$error"), printable(failure))
    return Content.styled(printable(row.texts[NOTES]), "$muted") if row is not None else Content("")


def keys(rows: Iterable[SheetRow]) -> list[str]:
    """Return a key for each row: its target path, which survives edits and moves, with a number if it is repeated."""
    seen: Counter[str] = Counter()
    result = []
    for row in rows:
        seen[row.target] += 1
        result.append(row.target if seen[row.target] == 1 else f"{row.target}#{seen[row.target]}")
    return result


def text_of(value: Json) -> str:
    """Format a value for a cell of the grid: text unchanged, anything else as JSON."""
    return value if isinstance(value, str) else inline(value)


def fails_by_row(groups: Iterable[tuple[str | None, int]]) -> Mapping[str, int]:
    """Return the number of records that failed on each row."""
    counts: Counter[str] = Counter()
    for row, count in groups:
        if row is not None:
            counts[row] += count
    return counts


def _counted(number: int | None) -> GridCell:
    if number is None:
        return GridCell(NOTHING, "muted")
    return GridCell(f"{number:,}", "failed") if number else GridCell("·", "muted")


def _mark(row: SheetRow, problems: Sequence[CellProblem], outcome: RowOutcome | None) -> Icon:
    if any(each.level is Level.ERROR for each in problems) or (outcome is not None and outcome.failure is not None):
        return FAILED
    if row.written is None:
        return IDLE
    return ATTENTION if any(each.level is Level.WARNING for each in problems) else WELL


def _source(row: SheetRow, outcome: RowOutcome | None, problems: Sequence[CellProblem]) -> GridCell:
    text = row.texts[SOURCE]
    if not text and outcome is not None and outcome.result.sample:  # fields of the expression
        return GridCell(", ".join(path for path, _ in outcome.result.sample), "muted")
    return _cell(_PREFIX.sub("", text), text, SOURCE, problems)


def _cell(shown: str, text: str, column: str, problems: Sequence[CellProblem]) -> GridCell:
    """Return a cell that shows `shown` for `text`, its problems underlined; all of it if the two differ."""
    spans = []
    for each in problems:
        if each.column == column and each.level is not Level.INFO and shown:
            start, end = (each.start, max(each.end, each.start + 1)) if shown == text else (0, len(shown))
            spans.append(TextSpan(start, end, "wavy"))
    return GridCell(shown, spans=tuple(sorted(spans, key=lambda span: span.start)))


def _sample(outcome: RowOutcome | None) -> GridCell:
    if outcome is None or not outcome.result.sample:
        return GridCell("")
    sample = outcome.result.sample
    if all(path in outcome.result.missing for path, _ in sample):
        return GridCell("not there", "muted")
    return GridCell(", ".join("" if value is None else text_of(value) for _, value in sample))


def _result(row: SheetRow, outcome: RowOutcome | None, *, sampled: bool) -> GridCell:
    if not sampled or row.blank:
        return GridCell("")
    if outcome is None:
        return GridCell(NOTHING, "muted")
    if outcome.failure is not None:
        return GridCell(outcome.failure.reason, "failed")
    if outcome.result.dropped:
        return GridCell("left out", "muted")
    value = outcome.result.value
    return GridCell("null", "muted") if value is None else GridCell(text_of(value), "good")


_APART: Final = 3


def record_lines(record: Record, width: int, failing: Mapping[Path, str], lit: AbstractSet[Path]) -> Iterator[GridCell]:
    """Yield the record's lines; fields in `failing` name the row that fails on them, those in `lit` are highlighted."""
    found = list(entries(record, width))
    for at, (path, cell) in enumerate(found):
        within = found[at + 1][0] if at + 1 < len(found) else ()
        opened = within[: len(path)] == path and len(within) > len(path)
        row = None if opened else next((row for field, row in failing.items() if field[: len(path)] == path), None)
        here = not opened and any(field[: len(path)] == path for field in lit)
        text = cell.text
        spans = tuple(TextSpan(span.start, span.end, "live") for span in cell.spans) if here else cell.spans
        if row is not None:
            mark = f"{POINTER} {row}"
            text = f"{text}{' ' * _APART}{mark}"
            spans = (*spans, TextSpan(len(text) - len(mark), len(text), "failed"))
        yield GridCell(text, cell.style, spans)


def mapped_lines(rows: Sequence[SheetRow], outcomes: Sequence[RowOutcome | None], lit: str) -> Iterator[GridCell]:
    """Yield a line per target path of the mapped record; the row `lit` is highlighted, failures are marked."""
    for row, outcome in zip(rows, outcomes, strict=True):
        if row.written is None:
            continue
        head = f"{row.target}:"
        spans: tuple[TextSpan, ...] = (TextSpan(0, len(head), "live" if row.target == lit else "muted"),)
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
            spans = (*spans, TextSpan(len(head) + 1, len(whole), style))
        yield GridCell(whole, spans=spans)


def step_lines(outcome: RowOutcome | None) -> Iterator[GridCell]:
    """Yield the values after each step of a row."""
    if outcome is None:
        yield GridCell("the row cannot run", "failed")
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
        yield GridCell(whole, spans=(TextSpan(0, width, "muted"), TextSpan(width + 2, len(whole), "failed")))


def failing_fields(rows: Sequence[SheetRow], outcomes: Sequence[RowOutcome | None]) -> dict[Path, str]:
    """Return the source fields of failing rows, each with a note that names the row."""
    return {
        path: f"row {row.target}"
        for row, outcome in zip(rows, outcomes, strict=True)
        if outcome is not None and outcome.failure is not None
        for path in fields_of(row)
    }


def fields_of(row: SheetRow | None) -> set[Path]:
    """Return the paths of the source fields that the row reads."""
    if row is None or row.mapper is None:
        return set()
    return {path.parts for made in row.mapper.rows for path in made.source_paths}


def _step(name: str, value: str, width: int) -> GridCell:
    return GridCell(f"{name:<{width}}  {value}", spans=(TextSpan(0, width, "muted"),))
