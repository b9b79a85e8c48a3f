"""State of the Mapping view, the edits of its rows, and replay of failures with them."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from speclab.core.errors import EditRejected, SpecError, SpeclabError
from speclab.core.json import Json, Record
from speclab.core.outcome import ErrorClass, FailureState, Level
from speclab.mapping.completion import qualify_path
from speclab.mapping.fields import Field, collect_fields
from speclab.spec.document import Document, MarkdownTable
from speclab.spec.parser import read_endpoint
from speclab.spec.problems import Problem
from speclab.spec.table import SOURCE, TARGET, TRANSFORMATION
from speclab.workbench.launcher import launch_retry
from speclab.workbench.mapping_sheet import (
    COLUMNS,
    MappingSheet,
    RowOutcome,
    SampleCheck,
    SheetRow,
    SuggestionCache,
    UnmappedTarget,
    find_unmapped_targets,
)
from speclab.workbench.samples import NO_SAMPLES, SampleRecords

if TYPE_CHECKING:
    from speclab.runlog import FailureRow, RunLogReader


@dataclass(frozen=True, slots=True)
class CellEdit:
    """A cell while it is edited: the column `name` of row `index`.

    `before` is its text when editing began, `written` its text in the document now. By `written` and the row's
    `target` the cell is found again after an external change. The edits of one `group` are one step to undo.
    """

    index: int
    name: str
    target: str
    before: str
    written: str
    group: str

    def find_row(self, table: MarkdownTable) -> int:
        """Return the current index of the row. Raises `EditRejected` if the row or the cell changed."""
        if self.name not in table.columns:
            raise EditRejected(f"the table no longer has a column {self.name}")
        for index in sorted(range(len(table.rows)), key=lambda at: abs(at - self.index)):
            texts = (table.cell(index, TARGET).text, table.cell(index, self.name).text)
            if texts == (self.target, self.written):
                return index
        raise EditRejected("the cell was changed externally in the meantime", hint="esc keeps the external change")

    def apply(self, document: Document, text: str) -> tuple[Document, CellEdit]:
        """Write `text` into the cell. Raises `EditRejected`."""
        table = table_of(document)
        index = self.find_row(table)
        target = text if self.name == TARGET else self.target
        edited = document.with_cell(table, index, self.name, text)
        return edited, replace(self, index=index, written=text.strip(), target=target.strip())


def table_of(document: Document) -> MarkdownTable:
    """Return the Field Mapping table. Raises `EditRejected` without a table."""
    if document.mapping is None:
        raise EditRejected("the spec no longer has a Field Mapping table")
    return document.mapping


def parse_pasted_rows(text: str) -> list[list[str]]:
    """Return the cells of text copied from a spreadsheet, without blank rows and the heading of the table."""
    lines = [line for line in csv.reader(io.StringIO(text), dialect="excel-tab") if any(line)]
    if lines and {cell.strip().lower() for cell in lines[0]} <= {name.lower() for name in COLUMNS}:
        del lines[0]
    return lines


def paste_rows(document: Document, first: int | None, rows: Sequence[Mapping[str, str]]) -> Document:
    """Write cells into the rows from `first` on; None, and rows that are missing, add rows at the end."""
    start = len(table_of(document).rows) if first is None else first
    for index, cells in enumerate(rows, start):
        if index < len(table_of(document).rows):
            for name, text in cells.items():
                document = document.with_cell(table_of(document), index, name, text)
        else:
            document = document.with_row_added(table_of(document), len(table_of(document).rows), cells)
    return document


def add_suggested_rows(document: Document, targets: Sequence[UnmappedTarget]) -> Document:
    """Add a row for each target, with the suggestion if there is one. Raises `EditRejected`."""
    for unmapped in targets:
        cells = {TARGET: qualify_path("target", unmapped.target), TRANSFORMATION: "Direct"}
        if unmapped.suggestion is not None:
            cells |= {SOURCE: unmapped.suggestion.source, TRANSFORMATION: unmapped.suggestion.transformation}
        if TRANSFORMATION not in table_of(document).columns and cells.pop(TRANSFORMATION) != "Direct":
            raise EditRejected(f"the table has no column {TRANSFORMATION}, which {unmapped.target} needs")
        document = document.with_row_added(table_of(document), len(table_of(document).rows), cells)
    return document


class MappingState:
    """The rows, the sample records and the known fields of the target.

    `number` is the index of the current sample record. `last_check` is the result of the last check of all records;
    see `current_check`. `target_fields` are the fields of the target, if it reported them. `outcomes` has the outcome
    of each row for the current record, see `evaluate`.
    """

    def __init__(self) -> None:
        self.sheet: MappingSheet | None = None
        self.samples: SampleRecords = NO_SAMPLES
        self.number = 0
        self.fields: tuple[Field, ...] = ()
        self.target_fields: tuple[Field, ...] = ()
        self.unmapped: dict[str, UnmappedTarget] = {}
        self.outcomes: Sequence[RowOutcome | None] = ()
        self._evaluated: tuple[Record | None, Sequence[SheetRow]] = (None, ())  # the record and rows of `outcomes`
        self.last_check: SampleCheck | None = None
        self._checked_sheet: MappingSheet | None = None
        self._suggestions: SuggestionCache = {}
        self._checked_source: tuple[Document, Problem | None] | None = None

    @property
    def record(self) -> Record | None:
        """The current sample record."""
        return self.samples.records[self.number] if self.number < len(self.samples.records) else None

    @property
    def failure(self) -> FailureRow | None:
        """The failure of the current record, if it is a dead letter."""
        return self.samples.failures[self.number] if self.number < len(self.samples.failures) else None

    @property
    def current_check(self) -> SampleCheck | None:
        """The check, if it is of the sheet as it is now."""
        return self.last_check if self._checked_sheet is self.sheet else None

    def evaluate(self, rows: Sequence[SheetRow]) -> None:
        """Set `outcomes` of `rows` for the current record; unchanged rows are not evaluated again."""
        record, (before, evaluated) = self.record, self._evaluated
        known = dict(zip(map(id, evaluated), self.outcomes, strict=True)) if record is before else {}
        self.outcomes = [
            known[id(row)] if id(row) in known else row.outcome(record) if record is not None else None for row in rows
        ]
        self._evaluated = record, rows

    def outcome_of(self, row: SheetRow | None) -> RowOutcome | None:
        """Return the outcome of `row` for the current record; None if it has none."""
        return self.outcomes[row.index] if row is not None and row.index < len(self.outcomes) else None

    def group_problems(self, problems: Sequence[Problem]) -> Mapping[int, Sequence[Problem]]:
        """Return `problems`, and those of fields that no sample record has, by line."""
        check = self.current_check
        missing = check.missing if check is not None and not self.samples.failures else ()
        by_line: dict[int, list[Problem]] = {}
        for problem in (*problems, *missing):
            by_line.setdefault(problem.line, []).append(problem)
        return by_line

    def find_suggested_values(self, key: str) -> Sequence[Json]:
        """Return sample values of the field that is suggested for the unmapped target `key`."""
        suggestion = self.unmapped[key].suggestion
        fields = (each for each in self.fields if suggestion and f"source.{each.path}" == suggestion.source)
        field = next(fields, None)
        return field.values if field is not None else ()

    def set_samples(self, samples: SampleRecords, number: int = 0) -> None:
        """Replace the sample records."""
        self.samples, self.number = samples, number
        self.fields, self._suggestions = collect_fields(samples.records), {}
        self.last_check = None

    def set_check(self, check: SampleCheck, sheet: MappingSheet) -> None:
        """Keep the result of checking all records against `sheet`."""
        self.last_check, self._checked_sheet = check, sheet

    def update_unmapped(self) -> None:
        """Find the target fields that no row writes."""
        if self.sheet is not None:
            found = find_unmapped_targets(self.sheet, self.fields, self.target_fields, self._suggestions)
            self.unmapped = {each.key: each for each in found}

    def move(self, by: int) -> None:
        """Go `by` records on, around the ends."""
        self.number = (self.number + by) % len(self.samples.records)

    def move_to_failing(self, target: str) -> None:
        """Go to the next record that fails on the row `target`, or on any row if none fails there."""
        if self.last_check is None:
            return
        numbers = self.last_check.failing.get(target) or self._failing()
        self.number = next((number for number in numbers if number > self.number), numbers[0])

    def _failing(self) -> Sequence[int]:
        failing = self.last_check.failing.values() if self.last_check is not None else ()
        return sorted({number for numbers in failing for number in numbers})

    def find_source_problem(self) -> Problem | None:
        """Return the problem that must be fixed before the source can be read, or None."""
        if self.sheet is None or self.sheet.reading.integration is not None:
            return None
        if self._checked_source is None or self._checked_source[0] is not self.sheet.document:
            found = None
            try:
                read_endpoint(self.sheet.document, "source")
            except SpecError as error:
                found = next((each for each in error.problems if each.level is Level.ERROR), None)
            self._checked_source = (self.sheet.document, found)
        return self._checked_source[1]


@dataclass(frozen=True, slots=True)
class SimilarFailures:
    """Failures that one change may fix: those of one mapping row or, if no row is known, of one error class."""

    spec_id: str
    row: str | None
    error_class: ErrorClass | None
    """None for failures of a row, which may be of any class."""

    @classmethod
    def of(cls, failure: FailureRow) -> SimilarFailures:
        """Return the group that `failure` belongs to."""
        return cls(failure.spec_id, failure.row, failure.error_class if failure.row is None else None)

    def read(self, reader: RunLogReader, limit: int | None, *, full: bool) -> list[FailureRow]:
        """Return the open failures of the group, newest first."""
        return reader.failures(self.spec_id, row=self.row, error_class=self.error_class, limit=limit, full=full)

    @property
    def options(self) -> tuple[str, ...]:
        """The options of `speclab retry` that select the group."""
        return ("--class", self.error_class.value) if self.error_class is not None else ("--row", self.row or "")

    def __str__(self) -> str:
        return f"as {self.error_class.replace('_', ' ')}" if self.error_class is not None else f"on {self.row}"


@dataclass(frozen=True, slots=True)
class ReplayReport:
    """The result of a replay: a row per record, the last line of output, and why it failed, if it did."""

    rows: Sequence[Record]
    last_line: str
    error: SpeclabError | None

    @property
    def still_open(self) -> Record | None:
        """The first record that failed again."""
        return next(filter(_is_open, self.rows), None)

    def __str__(self) -> str:
        counts = Counter(str(row["became"]) for row in self.rows)
        text = ", ".join(f"{count:,} {became}" for became, count in counts.most_common())
        if (row := self.still_open) is not None:
            location = f"{row['row']}: " if row["row"] else ""
            text = f"{text}. Of those: {location}{row['message']}"
        return text


class Replay:
    """The replays of this session. `results` has the outcome of each replayed failure by id."""

    def __init__(self) -> None:
        self.results: dict[str, str] = {}
        self.in_progress = ""
        self._closed: set[str] = set()

    def explain_disabled(self, state: MappingState) -> str | None:
        """Return why the current record cannot be replayed; None if it can."""
        failure = state.failure
        if failure is None:
            return "the sample is not from dead letters: o opens them as the sample, e in the Monitor opens one here"
        if self.in_progress:
            return f"{self.in_progress} are being replayed"
        if failure.id in self._closed:
            return f"it was replayed, and is {self.results[failure.id]}"
        if state.current_check is None:
            return "the sample records are being checked"
        return None if find_passing(state) else "no record passes yet"

    def begin(self, records: str) -> None:
        """Mark `records`, in words, as being replayed; `run` follows."""
        self.in_progress = records

    async def run(self, spec_id: str, selection: Sequence[str], workspace: Path, run_log: Path) -> ReplayReport:
        """Run `speclab retry` for `selection` and keep its results."""
        lines: Sequence[str]
        rows: Sequence[Record]
        try:
            launched = launch_retry(spec_id, selection, workspace, run_log)
            error = await launched.end()
            lines, rows = launched.read_lines(), launched.read_rows()
        except SpeclabError as failed:
            error, lines, rows = failed, (), ()
        finally:
            self.in_progress = ""
        self.results |= {str(row["id"]): str(row["became"]) for row in rows}
        self._closed |= {str(row["id"]) for row in rows if not _is_open(row)}
        return ReplayReport(rows, lines[-1] if lines else "", error)


def find_passing(state: MappingState) -> list[int]:
    """Return the indices of samples with a failure similar to the current one that pass the mapping now."""
    if state.failure is None or state.current_check is None:
        return []
    similar = SimilarFailures.of(state.failure)
    failing = {number for numbers in state.current_check.failing.values() for number in numbers}
    return [
        number
        for number, other in enumerate(state.samples.failures)
        if number not in failing and SimilarFailures.of(other) == similar
    ]


def _is_open(row: Record) -> bool:
    """Return whether the failure in a row of `speclab retry --json` is still open."""
    return FailureState(str(row["state"])).is_open
