"""The compiler: generates one Python function per spec from rows of typed steps."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import islice
from typing import Final, TypeAlias

from speclab.core.json import Json, Record
from speclab.core.paths import FieldPath
from speclab.mapping.cel import RecordExpression
from speclab.mapping.problems import get_target_location
from speclab.mapping.types import (
    DROPPED,
    Apply,
    Dropped,
    LookupTable,
    Step,
    StepError,
    Value,
    ValueKind,
    add_size,
    describe_kind,
    format_value,
    get_kind,
    get_types,
    shorten,
    to_json,
    to_json_number,
)
from speclab.spec.integration import MappingRow
from speclab.spec.problems import ProblemCollector


@dataclass(frozen=True, slots=True)
class TargetShape:
    """An object or a list of the mapped record; its parts are rows (by number) or nested shapes.

    `keys` are the field names of an object, in the order of the rows; None for a list.
    """

    parts: tuple[int | TargetShape, ...]
    keys: tuple[str, ...] | None

    def build(self, values: Sequence[Json | Dropped]) -> Json:
        """Build the object or list from `values`, one per row, without dropped values and empty shapes."""
        found: list[tuple[str, Json]] = []
        for number, part in enumerate(self.parts):
            value = values[part] if isinstance(part, int) else part.build(values)
            if isinstance(value, Dropped) or (isinstance(part, TargetShape) and not value):
                continue
            found.append((self.keys[number] if self.keys is not None else "", value))
        return dict(found) if self.keys is not None else [value for _, value in found]


def build_record(shape: TargetShape, values: Sequence[Json | Dropped]) -> Record:
    """Build the mapped record from `values`, one per row."""
    built = shape.build(values)
    return built if isinstance(built, dict) else {}


_Tree: TypeAlias = "dict[str | int, _Tree | CompiledRow]"


def build_shape(rows: Sequence[CompiledRow]) -> TargetShape:
    """Return the shape of the record that `rows` write; their targets must not conflict."""
    tree: _Tree = {}
    for row in rows:
        _put(tree, row)
    numbers = {id(row): number for number, row in enumerate(rows)}
    return _target_shape(tree, numbers)


def check_targets(rows: Iterable[CompiledRow], collector: ProblemCollector) -> None:
    """Report targets that conflict: the same twice, one within another, or a list with a gap."""
    tree: _Tree = {}
    for row in rows:
        other = _put(tree, row)
        if other is None:
            continue
        where = f"row {other.target} in line {other.written.line}"
        if other.target == row.target:
            collector.error(
                "D301",
                get_target_location(row.written),
                f"{row.target} is written twice: see line {other.written.line}",
            )
        else:
            collector.error(
                "M111", get_target_location(row.written), f"{row.target} and {where} write to the same field"
            )
    _check_lists(tree, (), collector)


def _put(tree: _Tree, row: CompiledRow) -> CompiledRow | None:
    """Add the row to the tree; return the row it conflicts with, if there is one."""
    *parents, last = row.target.parts
    for part in parents:
        if _has_other_kind(tree, part):
            return _any_row(tree)
        below = tree.setdefault(part, {})
        if isinstance(below, CompiledRow):
            return below
        tree = below
    if last in tree or _has_other_kind(tree, last):
        there = tree.get(last, tree)
        return there if isinstance(there, CompiledRow) else _any_row(there)
    tree[last] = row
    return None


def _has_other_kind(tree: _Tree, part: str | int) -> bool:
    """Return whether `tree` is a list and `part` a field, or the other way round."""
    return any(isinstance(key, int) is not isinstance(part, int) for key in islice(tree, 1))


def _any_row(tree: _Tree) -> CompiledRow:
    first = next(iter(tree.values()))
    return first if isinstance(first, CompiledRow) else _any_row(first)


def _check_lists(tree: _Tree, path: tuple[str | int, ...], collector: ProblemCollector) -> None:
    numbers = {key for key in tree if isinstance(key, int)}
    gap = next((number for number in range(len(numbers)) if number not in numbers), None)
    for key, below in tree.items():
        if gap is not None and key == max(numbers):
            row = below if isinstance(below, CompiledRow) else _any_row(below)
            missing = FieldPath((*path, gap))
            collector.error(
                "M111", get_target_location(row.written), f"no row writes {missing}: a list's items have no gaps"
            )
        if not isinstance(below, CompiledRow):
            _check_lists(below, (*path, key), collector)


def _target_shape(tree: _Tree, numbers: dict[int, int]) -> TargetShape:
    keys = sorted(tree) if all(isinstance(key, int) for key in tree) else list(tree)
    parts = tuple(
        numbers[id(part)] if isinstance(part, CompiledRow) else _target_shape(part, numbers)
        for part in (tree[key] for key in keys)
    )
    is_list = bool(keys) and isinstance(keys[0], int)
    return TargetShape(parts, None if is_list else tuple(str(key) for key in keys))


@dataclass(frozen=True, slots=True)
class SourceField:
    """A source field of a row. A missing field is null; a value that cannot have the field is a failure."""

    path: FieldPath

    def __call__(self, record: Record) -> Json:
        """Return the value in `record`. Raises `StepError` if a parent is neither an object nor null."""
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
                raise StepError(f"{FieldPath(self.path.parts[:at])} is {format_value(value)}, which has no {wanted}")
        return value


@dataclass(frozen=True, slots=True)
class RowExpression:
    """The expression a row begins with, and its offsets in the cell, including the `=`."""

    expression: RecordExpression
    text: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class BoundStep:
    """A step with its arguments, its offsets in the cell, and the values that can reach it."""

    step: Step
    arguments: tuple[Json | LookupTable, ...]
    apply: Apply
    types: frozenset[type]  # it takes
    before: ValueKind
    nullable: bool
    text: str
    start: int
    end: int

    def __call__(self, value: Value) -> Value | Dropped:
        """Return the step's result; null for null unless the step handles it. Raises `StepError`."""
        if value is None and not self.step.sees_null:
            return None
        if value is not None and type(value) not in self.types:
            hint = suggest_conversion(get_kind(value), self.step.takes)
            raise StepError(f"takes {describe_kind(self.step.takes)}, not {format_value(value)}{hint}")
        return self.apply(value)  # type: ignore[arg-type]  # its type is one the step takes

    def join(self, values: Sequence[Value]) -> Value | Dropped:
        """Return a joining step's result for the values of all source fields, or of one list. Raises `StepError`."""
        if len(values) == 1 and isinstance(values[0], list):
            values = values[0]
        return self.apply(values)  # type: ignore[arg-type]  # it checks each value itself


@dataclass(frozen=True, slots=True)
class StepTrace:
    """The values after one step: one per source field until a step joins them."""

    text: str
    start: int
    end: int
    values: tuple[Json, ...]


@dataclass(frozen=True, slots=True)
class StepFault:
    """Why a row failed: `at` is the number of a source field, the expression, or the step that got `value`."""

    reason: str
    value: Json
    at: int | RowExpression | BoundStep


@dataclass(frozen=True, slots=True)
class CompiledRow:
    """One checked row. `kind` is the kind of its value, `nullable` whether it can be null."""

    written: MappingRow
    target: FieldPath
    sources: tuple[SourceField, ...]
    origin: RowExpression | None
    steps: tuple[BoundStep, ...]
    kind: ValueKind
    nullable: bool

    @property
    def source_paths(self) -> tuple[FieldPath, ...]:
        """The source fields it reads."""
        if self.origin:
            return self.origin.expression.fields
        return tuple(source.path for source in self.sources)

    def run(self, record: Record, trace: list[StepTrace]) -> Json | Dropped | StepFault:
        """Return the row's value for `record`, or the fault; appends the values of every step to `trace`."""
        values = self._begin(record)
        if isinstance(values, StepFault):
            return values
        if self.origin:
            trace.append(StepTrace(self.origin.text, self.origin.start, self.origin.end, _traced(values)))
        for bound in self.steps:
            results: list[Value] = []
            for given in [values] if bound.step.joins else [[value] for value in values]:
                try:
                    result = bound.join(given) if bound.step.joins else bound(given[0])
                except StepError as error:
                    return StepFault(str(error), _shown(given), bound)
                if isinstance(result, Dropped):
                    return result
                results.append(result)
            values = results
            trace.append(StepTrace(bound.text, bound.start, bound.end, _traced(values)))
        try:
            return _finished(values[0])
        except StepError as error:
            return StepFault(str(error), _shown(values), self.steps[-1])

    def _begin(self, record: Record) -> list[Value] | StepFault:
        if self.origin:
            try:
                return [self.origin.expression.evaluate(record)]
            except StepError as error:
                return StepFault(str(error), {**self.origin.expression.read_fields(record)}, self.origin)
        values: list[Value] = []
        for number, source in enumerate(self.sources):
            try:
                values.append(source(record))
            except StepError as error:
                return StepFault(str(error), None, number)
        return values or [None]


def _finished(value: Value) -> Json:
    return to_json_number(value) if isinstance(value, Decimal) else value


def _traced(values: Sequence[Value]) -> tuple[Json, ...]:
    return tuple(to_json(shorten(value)) for value in values)


def _shown(values: Sequence[Value]) -> Json:
    shown = [to_json(shorten(value)) for value in values]
    return shown[0] if len(shown) == 1 else shown


def suggest_conversion(given: ValueKind, wanted: ValueKind) -> str:
    """Return a hint which step converts `given` to one of the kinds `wanted`; empty if none does."""
    if wanted & ValueKind.TEXT and (
        given & ValueKind.ANY_NUMBER or (given & ValueKind.BOOLEAN and not wanted & ValueKind.ANY_NUMBER)
    ):
        return "; put Text before it"
    if given & ValueKind.TEXT and wanted & ValueKind.ANY_NUMBER:
        return "; put Decimal or Integer before it"
    if given & ValueKind.LIST and wanted & ValueKind.TEXT:
        return "; put Concat before it"
    return ""


MapRecord = Callable[[Record], Record]

_DECIMAL: Final = Decimal
_TEXT: Final = frozenset({str})


def compile_rows(rows: Sequence[CompiledRow], shape: TargetShape, measured: Sequence[bool] = ()) -> MapRecord:
    """Compile `rows` and `shape` to a function that maps a record; it counts the size of `measured` rows."""
    return write_function(rows, shape, measured).function()


def write_function(rows: Sequence[CompiledRow], shape: TargetShape, measured: Sequence[bool] = ()) -> CodeWriter:
    """Write the code of the function."""
    writer = CodeWriter()
    measures = any(measured)
    if measures:
        writer.begin_measuring()
    for number, row in enumerate(rows):
        writer.row(row, f"v{number}")
        if measures and measured[number]:
            writer.measure(f"v{number}")
    writer.result(shape, dropping=[bool(row.steps) and row.steps[-1].step.ends for row in rows])
    return writer


class CodeWriter:
    """Writes the lines of the function, and collects the constants they use."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._constants: list[object] = []

    def source(self) -> str:
        """Return the source code: `make(constants)`, which returns the function."""
        names = ", ".join(f"k{number}" for number in range(len(self._constants)))
        lines = [f"def make({names}):", "    def map_record(record):", "        get = record.get"]
        lines += [f"        {line}" for line in self._lines]
        return "\n".join([*lines, "    return map_record\n"])

    def function(self) -> MapRecord:
        """Compile the code and return the function."""
        namespace: dict[str, Callable[..., MapRecord]] = {}
        exec(compile(self.source(), "<mapping>", "exec"), namespace)  # noqa: S102  # fragments of this module only
        return namespace["make"](*self._constants)

    def row(self, row: CompiledRow, name: str) -> None:
        """Write the lines that set the variable `name` to the row's value."""
        names = [name]
        if row.origin:
            self._line(f"{name} = {self._constant(row.origin.expression.evaluate)}(record)")
        elif not row.sources:
            self._line(f"{name} = None")
        else:
            names = [name, *(f"{name}_{number}" for number in range(1, len(row.sources)))]
            for variable, source in zip(names, row.sources, strict=True):
                self._load(source.path.parts, self._constant(source), variable)
        for bound in row.steps:
            if bound.step.joins:
                self._join(bound, names)
                names = [name]
            else:
                for variable in names:
                    self._step(bound, variable)
        if row.kind & ValueKind.DECIMAL:
            self._line(
                f"if type({name}) is {self._constant(_DECIMAL)}: {name} = {self._constant(to_json_number)}({name})"
            )

    def begin_measuring(self) -> None:
        """Write the line that initializes the size."""
        self._line("size = 0")

    def measure(self, name: str) -> None:
        """Write the line that adds the size of the variable `name`, or raises `StepError`."""
        self._line(f"size = {self._constant(add_size)}(size, {name})")

    def result(self, shape: TargetShape, dropping: Sequence[bool]) -> None:
        """Write the lines that build and return the record; `dropping` marks rows that may omit their field."""
        if not any(dropping):
            self._line(f"return {self._display(shape)}")
            return
        self._build(shape, "out", dropping)
        self._line("return out")

    def _load(self, parts: Sequence[str | int], careful: str, name: str) -> None:
        self._line(f"{name} = get({self._constant(parts[0])})")
        for part in parts[1:]:
            key = self._constant(part)
            if isinstance(part, str):
                plain = f"{name}.get({key}) if type({name}) is dict"
            else:
                plain = f"{name}[{key}] if type({name}) is list and len({name}) > {key}"
            self._line(f"if {name} is not None: {name} = {plain} else {careful}(record)")

    def _step(self, bound: BoundStep, name: str) -> None:
        step = bound.step
        if step.inline == "":
            return
        apply, types = self._constant(bound.apply), bound.types
        work = f"{name} = {apply}({name})"
        if step.inline:
            types = _TEXT
            first = bound.arguments[0] if bound.arguments else None
            argument = self._constant(first.entries if isinstance(first, LookupTable) else first)
            work = step.inline.format(v=name, f=apply, a=argument)
        if step.sees_null:
            self._line(work)
        elif get_types(bound.before) <= types:
            self._line(f"if {name} is not None: {work}" if bound.nullable else work)
        else:
            is_taken = f"type({name}) is {self._constant(next(iter(types)))}"
            if len(types) > 1:
                is_taken = f"type({name}) in {self._constant(types)}"
            self._line(f"if {is_taken}: {work}")
            self._line(f"elif {name} is not None: {name} = {self._constant(bound)}({name})")

    def _join(self, bound: BoundStep, names: Sequence[str]) -> None:
        if len(names) == 1:
            self._line(f"{names[0]} = {self._constant(bound.join)}(({names[0]},))")
        else:
            self._line(f"{names[0]} = {self._constant(bound.apply)}(({', '.join(names)}))")

    def _display(self, shape: TargetShape) -> str:
        parts = [f"v{part}" if isinstance(part, int) else self._display(part) for part in shape.parts]
        if shape.keys is None:
            return f"[{', '.join(parts)}]"
        pairs = (f"{self._constant(key)}: {part}" for key, part in zip(shape.keys, parts, strict=True))
        return f"{{{', '.join(pairs)}}}"

    def _build(self, shape: TargetShape, name: str, dropping: Sequence[bool]) -> None:
        self._line(f"{name} = {'[]' if shape.keys is None else '{}'}")
        for number, part in enumerate(shape.parts):
            value, condition = f"v{part}", ""
            if isinstance(part, TargetShape):
                value = f"{name}_{number}"
                self._build(part, value, dropping)
                condition = f"if {value}: "
            elif dropping[part]:
                condition = f"if {value} is not {self._constant(DROPPED)}: "
            put = f"{name}.append({value})" if shape.keys is None else ""
            self._line(condition + (put or f"{name}[{self._constant((shape.keys or ())[number])}] = {value}"))

    def _constant(self, value: object) -> str:
        self._constants.append(value)
        return f"k{len(self._constants) - 1}"

    def _line(self, code: str) -> None:
        self._lines.append(code)
