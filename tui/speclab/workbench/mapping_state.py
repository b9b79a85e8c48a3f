"""The state of the Mapping view: the sheet of rows, the sample records, and the result of checking them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from speclab.core.errors import SpecError
from speclab.core.json import Record
from speclab.core.outcome import Level
from speclab.mapping.fields import Field, collect_fields
from speclab.spec.document import Document
from speclab.spec.parser import read_endpoint
from speclab.spec.problems import Problem
from speclab.workbench.mapping_sheet import MappingSheet, SheetVerdict
from speclab.workbench.samples import NONE, SampleRecords
from speclab.workbench.unmapped import SuggestionCache, UnmappedTarget, find_unmapped_targets

if TYPE_CHECKING:
    from speclab.runlog import FailureRow


class MappingState:
    """The rows, the sample records and what is known of the target's fields.

    `number` is the index of the current sample record. `verdict` is the result of the last check of all records;
    see `current_verdict`. `target_fields` are the fields of the target, if it reported them.
    """

    def __init__(self) -> None:
        self.sheet: MappingSheet | None = None
        self.samples: SampleRecords = NONE
        self.number = 0
        self.fields: tuple[Field, ...] = ()
        self.target_fields: tuple[Field, ...] = ()
        self.unmapped: dict[str, UnmappedTarget] = {}
        self.verdict: SheetVerdict | None = None
        self._verdict_of: MappingSheet | None = None
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
    def current_verdict(self) -> SheetVerdict | None:
        """The verdict, if it is of the sheet as it is now."""
        return self.verdict if self._verdict_of is self.sheet else None

    def set_samples(self, samples: SampleRecords, number: int = 0) -> None:
        """Replace the sample records."""
        self.samples, self.number = samples, number
        self.fields, self._suggestions = collect_fields(samples.records), {}
        self.verdict = None

    def set_verdict(self, verdict: SheetVerdict, sheet: MappingSheet) -> None:
        """Keep the result of checking all records against `sheet`."""
        self.verdict, self._verdict_of = verdict, sheet

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
        if self.verdict is None:
            return
        numbers = self.verdict.failing.get(target) or self._failing()
        self.number = next((number for number in numbers if number > self.number), numbers[0])

    def _failing(self) -> Sequence[int]:
        failing = self.verdict.failing.values() if self.verdict is not None else ()
        return sorted({number for numbers in failing for number in numbers})

    def find_source_problem(self) -> Problem | None:
        """Return the problem that must be fixed before the source can be read; None if there is none."""
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
