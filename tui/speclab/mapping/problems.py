"""Problems and failures of a mapping: their codes and locations."""

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
        "A cell has a syntax error",
        'Separate steps by commas and put arguments in brackets: Trim, Date("%d/%m/%Y"). Comments belong in Notes.',
    ),
    Code(
        "M103",
        "A step has wrong arguments",
        "The reference of the steps lists the arguments of each.",
    ),
    Code(
        "M104",
        "A step does not take what the step before it returns",
        "Text, numbers, dates and lists are not converted implicitly. Add a step that converts them.",
    ),
    Code(
        "M105",
        "A lookup is unknown",
        "Lookup(name) needs a table of that name under lookups: in the section's settings.",
    ),
    Code(
        "M106",
        "A lookup is empty",
        "Every value would fail. Add entries, or remove the step.",
    ),
    Code(
        "M107",
        "An expression is not valid",
        "Expressions are CEL; the record is `source`: source.qty * source.price.",
    ),
    Code(
        "M108",
        "A step is in the wrong position",
        "Expressions and Constant come first, Drop comes last.",
    ),
    Code(
        "M109",
        "Several source fields are not joined",
        "A target field takes one value. Join several with Concat, First or List.",
    ),
    Code(
        "M110",
        "A row has no source field",
        "A value comes from a source field, from Constant or from an expression.",
    ),
    Code(
        "M111",
        "Two target fields conflict",
        "A field that is an object in one row cannot be a value in another. "
        "Lists have no gaps: their items are numbered from 0.",
    ),
    Code(
        "M112",
        "A check has an unknown target field",
        "The keys under check: are target fields of the table.",
    ),
    Code(
        "M113",
        "A check is not a valid JSON Schema",
        "See https://json-schema.org for the keywords. References to other documents are not allowed.",
    ),
    Code(
        "M114",
        "The filter is not valid",
        "The filter is a CEL expression that is true for the records to sync.",
    ),
    Code(
        "M115",
        "A source field has no effect",
        "Constant and expressions do not read the row's source fields.",
    ),
    Code(
        "M116",
        "A lookup is unused",
        "No row has a Lookup step with its name.",
    ),
    Code(
        "M201",
        "A source field is missing in all sample records",
        "A missing field is null. The field may be rare, or misspelled.",
    ),
)

CODES: Final = {code.code: code for code in _ALL}


class CellLocations(Protocol):
    """Locates the section's settings."""

    def key(self, path: Sequence[str]) -> TextLocation:
        """Return the location of the key at `path`."""

    def value(self, path: Sequence[str], start: int, end: int) -> TextLocation:
        """Return the location of characters `start` to `end` of the text at `path`."""


@dataclass(frozen=True, slots=True)
class HeadingLocation:
    """Locations of settings of which only the section's line is known."""

    line: int

    def key(self, path: Sequence[str]) -> TextLocation:
        """Return the section's heading."""
        del path
        return TextLocation(self.line, 1, 1)

    def value(self, path: Sequence[str], start: int, end: int) -> TextLocation:
        """Return the section's heading."""
        del start, end
        return self.key(path)


def get_cell_location(row: MappingRow, start: int, end: int) -> TextLocation:
    """Return the location of characters `start` to `end` of the row's Transformation cell."""
    column = row.column(start)
    return TextLocation(row.line, column, max(1, row.column(end) - column))


def get_source_location(row: MappingRow, number: int) -> TextLocation:
    """Return the location of the row's source field `number`, from 0."""
    return TextLocation(row.line, row.source_columns[number], max(1, len(row.sources[number])))


def get_target_location(row: MappingRow) -> TextLocation:
    """Return the location of the row's target field."""
    return TextLocation(row.line, row.target_column, max(1, len(row.target)))


@dataclass(frozen=True, slots=True)
class RowFailure:
    """The failure of one row for one record, with its location in the spec (counting from 1).

    `row` is the target path, or None for the filter. `step` is the step that failed, as written, and `value` its input;
    `step` is None if something else failed.
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
        """Return what failed and why: `birth_date, Date("%d/%m/%Y"): expected a date like %d/%m/%Y, got "x"`."""
        where = self.row or "filter"
        return f"{where}, {self.step}: {self.reason}" if self.step else f"{where}: {self.reason}"


class MappingFailure(SpeclabError):
    """A record on which the filter or at least one row failed, with all failures."""

    def __init__(self, failures: tuple[RowFailure, ...]) -> None:
        super().__init__("; ".join(map(str, failures)))
        self.failures = failures
