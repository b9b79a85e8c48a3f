"""Problems of a mapping: their codes and their place in the cell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from speclab.core.errors import SpeclabError
from speclab.core.json import Json
from speclab.core.outcome import Stage
from speclab.spec.integration import MappingRow
from speclab.spec.problems import Code, TextLocation

_ALL: Final = (
    Code(
        "M101",
        "A step is unknown",
        "A Transformation is a list of named steps. Press F1 in Mapping for a list of all steps.",
    ),
    Code(
        "M102",
        "A cell cannot be read",
        'Steps are separated by commas, their arguments stand in brackets: Trim, Date("%d/%m/%Y"). What is to be said '
        "to people belongs in Notes.",
    ),
    Code(
        "M103",
        "A step has the wrong arguments",
        "Each step takes arguments of its own, of a kind and a number.",
    ),
    Code(
        "M104",
        "A step cannot take what the step before it gives",
        "Text, numbers, dates and lists do not turn into each other by themselves; a step says how.",
    ),
    Code(
        "M105",
        "A lookup is unknown",
        "Lookup(name) needs a table of that name under lookups: in the section's settings.",
    ),
    Code(
        "M106",
        "A lookup has no entries",
        "Every value would fail. Fill the table, or take the step out.",
    ),
    Code(
        "M107",
        "An expression cannot be used",
        "Expressions are CEL over the record, which they call source: source.qty * source.price.",
    ),
    Code(
        "M108",
        "A step stands in the wrong place",
        "What makes its value itself (= and Constant) stands first; Drop, which leaves the field out, stands last.",
    ),
    Code(
        "M109",
        "Several source fields are not joined",
        "A target field takes one value. Concat, First or List makes one of several.",
    ),
    Code(
        "M110",
        "A row has no source field",
        "A value comes from a source field, from Constant or from an expression.",
    ),
    Code(
        "M111",
        "Two rows write to one place",
        "A value cannot be in two places at once: a field that is an object in one row cannot be a value in another, "
        "and the items of a list are numbered from 0 without gaps.",
    ),
    Code(
        "M112",
        "A check names no row",
        "check: holds what target fields must be, so its keys are target paths of the table.",
    ),
    Code(
        "M113",
        "A check is no JSON Schema",
        "The keywords of JSON Schema are those of https://json-schema.org; a schema may not refer to another document.",
    ),
    Code(
        "M114",
        "The filter cannot be used",
        "The filter is a CEL expression over the record that is true of the records to take.",
    ),
    Code(
        "M115",
        "A source field has no effect",
        "Constant and expressions make the value themselves.",
    ),
    Code(
        "M116",
        "A lookup is not used",
        "No row has a Lookup step with its name.",
    ),
    Code(
        "M201",
        "A source field is in no sample record",
        "A field that is not there reads as null. It may be rare, or misspelt.",
    ),
)

CODES: Final = {code.code: code for code in _ALL}


class CellLocations(Protocol):
    """Finds the places of the section's settings."""

    def key(self, path: Sequence[str]) -> TextLocation:
        """Where the key at `path` stands."""

    def value(self, path: Sequence[str], start: int, end: int) -> TextLocation:
        """Where characters `start` to `end` of the text at `path` stand."""


@dataclass(frozen=True, slots=True)
class HeadingLocation:
    """The places of settings of which only the section's line is known."""

    line: int

    def key(self, path: Sequence[str]) -> TextLocation:
        """The section's heading."""
        del path
        return TextLocation(self.line, 1, 1)

    def value(self, path: Sequence[str], start: int, end: int) -> TextLocation:
        """The section's heading."""
        del start, end
        return self.key(path)


def get_cell_location(row: MappingRow, start: int, end: int) -> TextLocation:
    """Where characters `start` to `end` of the row's Transformation cell stand."""
    column = row.column(start)
    return TextLocation(row.line, column, max(1, row.column(end) - column))


def get_source_location(row: MappingRow, number: int) -> TextLocation:
    """Where the row's source field of that number, from 0, stands."""
    return TextLocation(row.line, row.source_columns[number], max(1, len(row.sources[number])))


def get_target_location(row: MappingRow) -> TextLocation:
    """Where the row's target field stands."""
    return TextLocation(row.line, row.target_column, max(1, len(row.target)))


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
