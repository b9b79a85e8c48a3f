"""The mapper: applies a compiled mapping to records, and explains the result of each row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from speclab.core.json import Json, Record
from speclab.core.outcome import Stage
from speclab.mapping.cel import RecordExpression
from speclab.mapping.compiler import (
    CompiledRow,
    MapRecord,
    StepFault,
    StepTrace,
    build_record,
    build_shape,
    compile_rows,
)
from speclab.mapping.fields import FieldCheck
from speclab.mapping.problems import MappingFailure, RowFailure, get_cell_location, get_source_location
from speclab.mapping.types import (
    MAX_RECORD,
    MAX_TEXT,
    Dropped,
    StepError,
    add_size,
    get_kind,
    kind_label,
    shorten,
    to_json,
)
from speclab.spec.problems import TextLocation


@dataclass(frozen=True, slots=True)
class RowResult:
    """The result of one row for one record, for display.

    `sample` has the path and the value of each source field; `missing` are the fields that the record does not have.
    `steps` has the values after each step. `type` is `text`, `integer`, `date`, ...; empty if the row failed.
    """

    row: str
    line: int
    sample: tuple[tuple[str, Json], ...]
    missing: tuple[str, ...]
    steps: tuple[StepTrace, ...]
    value: Json
    dropped: bool
    type: str
    failure: RowFailure | None


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The result of one record: mapped (`record`), filtered (no record, no failures), or failed.

    `record` is None where the filter or a row failed; a mapped record that breaks the contract is kept.
    """

    record: Record | None
    failures: tuple[RowFailure, ...] = ()

    @property
    def is_filtered(self) -> bool:
        """Whether the filter left the record out."""
        return self.record is None and not self.failures


_FILTERED: Final = Evaluation(None)

_MAX_UNMEASURED: Final = MAX_RECORD // MAX_TEXT
"""Rows that may grow without being measured: even together they stay below `MAX_RECORD`."""


@dataclass(frozen=True, slots=True)
class Filter:
    """The section's filter, compiled, with its location."""

    expression: RecordExpression
    location: TextLocation


class Mapper:
    """A compiled mapping. `rows` are its rows in the order of the table."""

    def __init__(self, rows: Sequence[CompiledRow], checks: Sequence[FieldCheck], filter_: Filter | None) -> None:
        self.rows = tuple(rows)
        self._checks = tuple(checks)
        self._filter = filter_
        self._shape = build_shape(rows)
        self._measured = _select_measured(rows)
        self._map: MapRecord = self._compile_and_map

    def evaluate(self, record: Record) -> Evaluation:
        """Filter, map and check `record`."""
        try:
            if not self.accepts(record):
                return _FILTERED
            mapped = self.map(record)
        except MappingFailure as failure:
            return Evaluation(None, failure.failures)
        return Evaluation(mapped, self.check(mapped))

    def accepts(self, record: Record) -> bool:
        """Return whether the record passes the filter. Raises `MappingFailure` if the filter fails."""
        if self._filter is None:
            return True
        expression = self._filter.expression
        try:
            return expression.matches(record)
        except StepError as error:
            at, value = self._filter.location, {**expression.read_fields(record)}
            failure = RowFailure(None, at.line, at.column, at.length, None, str(error), value, Stage.MAP)
            raise MappingFailure((failure,)) from None

    def map(self, record: Record) -> Record:
        """Return the mapped record. Raises `MappingFailure` with all rows that fail."""
        try:
            return self._map(record)
        except (StepError, KeyError):  # row by row, for the failures
            return self._map_carefully(record)

    def check(self, mapped: Record) -> tuple[RowFailure, ...]:
        """Return the violations of the target's contract in a mapped record."""
        if not self._checks:
            return ()
        return tuple(failure for check in self._checks for failure in check.find_failures(mapped))

    def explain(self, record: Record) -> tuple[RowResult, ...]:
        """Return the result of each row for `record`, step by step."""
        return tuple(_explained(row, record) for row in self.rows)

    def _compile_and_map(self, record: Record) -> Record:
        """Compile on the first record; a mapping that is only linted or explained is never compiled."""
        self._map = compile_rows(self.rows, self._shape, self._measured)
        return self._map(record)

    def _map_carefully(self, record: Record) -> Record:
        """Map row by row, to collect the failures of all rows."""
        values: list[Json | Dropped] = []
        failures: list[RowFailure] = []
        size = 0
        for row, measured in zip(self.rows, self._measured, strict=True):
            value = row.run(record, [])
            if measured and not isinstance(value, StepFault):
                try:
                    size = add_size(size, value)
                except StepError as error:
                    failures.append(_failure(row, StepFault(str(error), None, row.steps[-1])))
                    break
            if isinstance(value, StepFault):
                failures.append(_failure(row, value))
            else:
                values.append(value)
        if failures:
            raise MappingFailure(tuple(failures))
        return build_record(self._shape, values)


def _select_measured(rows: Sequence[CompiledRow]) -> Sequence[bool]:
    """Return for each row whether its value has to be measured.

    None has to be if the mapped record cannot exceed the source record by more than `MAX_RECORD`: rows that copy a
    field once add nothing, and a few others are limited to `MAX_TEXT` each.
    """
    paths = Counter(source.path.parts for row in rows for source in row.sources)
    around = {path[:length] for path in paths for length in range(1, len(path))}

    def may_grow(row: CompiledRow) -> bool:
        if row.origin is not None or any(bound.step.may_grow for bound in row.steps):
            return True
        reads = [source.path.parts for source in row.sources]
        return any(
            paths[path] > 1 or path in around or any(path[:length] in paths for length in range(1, len(path)))
            for path in reads
        )

    measured = [may_grow(row) for row in rows]
    return measured if sum(measured) > _MAX_UNMEASURED else [False] * len(rows)


def _explained(row: CompiledRow, record: Record) -> RowResult:
    steps: list[StepTrace] = []
    value = row.run(record, steps)
    sample: list[tuple[str, Json]] = []
    missing: list[str] = []
    for path in row.source_paths:
        try:
            sample.append((str(path), path.get(record)))
        except KeyError:
            sample.append((str(path), None))
            missing.append(str(path))
    failure = _failure(row, value) if isinstance(value, StepFault) else None
    dropped = isinstance(value, Dropped)
    result = None if isinstance(value, (Dropped, StepFault)) else to_json(shorten(value))
    return RowResult(
        row=str(row.target),
        line=row.written.line,
        sample=tuple(sample),
        missing=tuple(missing),
        steps=tuple(steps),
        value=result,
        dropped=dropped,
        type="" if failure else _type(row, result, dropped=dropped),
        failure=failure,
    )


def _type(row: CompiledRow, value: Json, *, dropped: bool) -> str:
    expected = kind_label(row.kind)
    if expected != "any":
        return expected
    return "null" if value is None or dropped else kind_label(get_kind(value))


def _failure(row: CompiledRow, fault: StepFault) -> RowFailure:
    step: str | None = None
    if isinstance(fault.at, int):
        at = get_source_location(row.written, fault.at)
    else:
        at = get_cell_location(row.written, fault.at.start, fault.at.end)
        step = fault.at.text
    return RowFailure(str(row.target), at.line, at.column, at.length, step, fault.reason, fault.value, Stage.MAP)
