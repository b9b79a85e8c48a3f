"""The rows of a mapping after their check: what each reads, its steps with their arguments, and how they are run.

This is the careful way through a row: one step after the other, every value kept. `compiler` makes the fast one of the
same parts; the two agree, which a property test holds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from speclab.jsonvalue import Json, Record
from speclab.mapping.cel import RecordExpression
from speclab.mapping.kinds import Kind, Value, as_json, in_words, kind_of, show
from speclab.mapping.sizes import shorten
from speclab.mapping.step import Apply, Dropped, Lookup, Step, StepError
from speclab.mapping.steps.scalar import json_number
from speclab.paths import FieldPath
from speclab.spec.integration import MappingRow


@dataclass(frozen=True, slots=True)
class Source:
    """A source field of a row. A field that is not there is null; a value that cannot have it is a failure."""

    path: FieldPath

    def __call__(self, record: Record) -> Json:
        """The field's value in `record`. Raises `StepError` where another value stands in the way."""
        value: Json = record
        for at, part in enumerate(self.path.parts):
            if value is None:
                return None
            if isinstance(part, str) and isinstance(value, dict):
                value = value.get(part)
            elif isinstance(part, int) and isinstance(value, list):
                value = value[part] if part < len(value) else None
            else:
                wanted = f"field {part}" if isinstance(part, str) else f"item {part}"
                raise StepError(f"{FieldPath(self.path.parts[:at])} is {show(value)}, which has no {wanted}")
        return value


@dataclass(frozen=True, slots=True)
class Origin:
    """An expression a row begins with, and where it stands in the cell, from its `=` on."""

    expression: RecordExpression
    text: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Bound:
    """A step with its arguments, where it stands in the cell, and what can reach it there."""

    step: Step
    arguments: tuple[Json | Lookup, ...]
    apply: Apply
    types: frozenset[type]  # that it takes
    before: Kind
    nullable: bool
    text: str
    start: int
    end: int

    def __call__(self, value: Value) -> Value | Dropped:
        """The step's result, null for null unless the step sees it. Raises `StepError`."""
        if value is None and not self.step.sees_null:
            return None
        if value is not None and type(value) not in self.types:
            hint = conversion(kind_of(value), self.step.takes)
            raise StepError(f"takes {in_words(self.step.takes)}, not {show(value)}{hint}")
        return self.apply(value)  # type: ignore[arg-type]  # its type is one the step takes

    def join(self, values: Sequence[Value]) -> Value | Dropped:
        """What a step that joins makes of the values of all source fields, or of the one list. Raises `StepError`."""
        if len(values) == 1 and isinstance(values[0], list):
            values = values[0]
        return self.apply(values)  # type: ignore[arg-type]  # it looks at each value itself


@dataclass(frozen=True, slots=True)
class Traced:
    """What there was after one step; `values` has one for each source field until a step joins them."""

    text: str
    start: int
    end: int
    values: tuple[Json, ...]


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a row failed: `at` a source field of that number, the expression, or a step, which was given `value`."""

    reason: str
    value: Json
    at: int | Origin | Bound


@dataclass(frozen=True, slots=True)
class Row:
    """One row, checked. `kind` is what its value can be, `nullable` whether it can be null."""

    written: MappingRow
    target: FieldPath
    sources: tuple[Source, ...]
    origin: Origin | None
    steps: tuple[Bound, ...]
    kind: Kind
    nullable: bool

    @property
    def reads(self) -> tuple[FieldPath, ...]:
        """The source fields its value is made of."""
        if self.origin:
            return self.origin.expression.fields
        return tuple(source.path for source in self.sources)

    def run(self, record: Record, trace: list[Traced]) -> Json | Dropped | Fault:
        """The row's value for `record`, or why there is none; every step's values are added to `trace`."""
        values = self._begin(record)
        if isinstance(values, Fault):
            return values
        if self.origin:
            trace.append(Traced(self.origin.text, self.origin.start, self.origin.end, _traced(values)))
        for bound in self.steps:
            results: list[Value] = []
            for given in [values] if bound.step.joins else [[value] for value in values]:
                try:
                    result = bound.join(given) if bound.step.joins else bound(given[0])
                except StepError as error:
                    return Fault(str(error), _shown(given), bound)
                if isinstance(result, Dropped):
                    return result
                results.append(result)
            values = results
            trace.append(Traced(bound.text, bound.start, bound.end, _traced(values)))
        try:
            return _finished(values[0])
        except StepError as error:
            return Fault(str(error), _shown(values), self.steps[-1])

    def _begin(self, record: Record) -> list[Value] | Fault:
        if self.origin:
            try:
                return [self.origin.expression.evaluate(record)]
            except StepError as error:
                return Fault(str(error), {**self.origin.expression.reading(record)}, self.origin)
        values: list[Value] = []
        for number, source in enumerate(self.sources):
            try:
                values.append(source(record))
            except StepError as error:
                return Fault(str(error), None, number)
        return values or [None]


def _finished(value: Value) -> Json:
    return json_number(value) if isinstance(value, Decimal) else value


def _traced(values: Sequence[Value]) -> tuple[Json, ...]:
    return tuple(as_json(shorten(value)) for value in values)


def _shown(values: Sequence[Value]) -> Json:
    shown = [as_json(shorten(value)) for value in values]
    return shown[0] if len(shown) == 1 else shown


def conversion(given: Kind, wanted: Kind) -> str:
    """What step would make of a value of kind `given` one of the kinds `wanted`, as the end of a message."""
    if wanted & Kind.TEXT and (given & Kind.ANY_NUMBER or (given & Kind.BOOLEAN and not wanted & Kind.ANY_NUMBER)):
        return "; put Text before it"
    if given & Kind.TEXT and wanted & Kind.ANY_NUMBER:
        return "; put Decimal or Integer before it"
    if given & Kind.LIST and wanted & Kind.TEXT:
        return "; put Concat before it"
    return ""
