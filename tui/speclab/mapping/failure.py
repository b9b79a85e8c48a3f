"""Why a record did not get through its mapping: row by row, each with its place in the spec."""

from __future__ import annotations

from dataclasses import dataclass

from speclab.errors import SpeclabError
from speclab.jsonvalue import Json
from speclab.outcome import Stage


@dataclass(frozen=True, slots=True)
class RowFailure:
    """One row's failure with one record, at its place in the file (all from 1).

    `row` is the target path, or None for the filter. `step` is the step as written, or None if it is not a step that
    failed; `value` is what that step was given.
    """

    row: str | None
    line: int
    column: int
    length: int
    step: str | None
    reason: str
    value: Json
    stage: Stage

    def __str__(self) -> str:
        """What failed and why: `birth_date, Date("%d/%m/%Y"): "x" is no date as "%d/%m/%Y"`."""
        where = self.row or "filter"
        return f"{where}, {self.step}: {self.reason}" if self.step else f"{where}: {self.reason}"


class MappingFailure(SpeclabError):
    """A record that the filter or at least one row cannot take, with all the failures."""

    def __init__(self, failures: tuple[RowFailure, ...]) -> None:
        super().__init__("; ".join(map(str, failures)))
        self.failures = failures
