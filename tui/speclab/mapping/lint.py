"""Checks of a mapping before it runs: types of steps, conflicting targets, fields of sample records."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from speclab.core.errors import SpecError
from speclab.core.json import Json, Record
from speclab.core.outcome import Level
from speclab.core.paths import FieldPath, PathSyntaxError
from speclab.core.text import find_likely_name
from speclab.mapping import steps
from speclab.mapping.cel import RecordExpression, verify
from speclab.mapping.cel.functions import ExpressionSyntaxError
from speclab.mapping.compiler import (
    BoundStep,
    CompiledRow,
    RowExpression,
    SourceField,
    check_targets,
    suggest_conversion,
)
from speclab.mapping.fields import collect_fields, compile_checks
from speclab.mapping.language import CellSyntaxError, ExpressionCell, StepCall, Values, bind_arguments, parse, render
from speclab.mapping.mapper import Filter, Mapper
from speclab.mapping.problems import (
    CellLocations,
    HeadingLocation,
    get_cell_location,
    get_source_location,
    get_target_location,
)
from speclab.mapping.types import LookupTable, Step, ValueKind, describe_kind, get_types
from speclab.spec import problems as spec_findings
from speclab.spec.document import FIELD_MAPPING, Document, Sections
from speclab.spec.integration import MappingRow
from speclab.spec.outline import LineSpan
from speclab.spec.parser import examine
from speclab.spec.positioned_yaml import MappingNode, ScalarNode
from speclab.spec.problems import Problem, ProblemCollector, TextLocation
from speclab.spec.rules import CheckExpression
from speclab.spec.settings_block import read_block

if TYPE_CHECKING:
    from speclab.spec.settings import MappingSettings


Lookups = Mapping[str, Mapping[str, Json]]

_DEEPEST: Final = 100  # Python compiles code of twice that depth
_DIRECT: Final = (StepCall("Direct"),)


def compile_row(written: MappingRow, lookups: Lookups, collector: ProblemCollector) -> CompiledRow | None:
    """Compile the row; None, with every reason added to `collector`, if it has errors."""
    found = len(collector.problems)
    target = _path(written.target, get_target_location(written), collector)
    if target is not None and isinstance(target.parts[0], int):
        collector.error("D303", get_target_location(written), "a target path must start with a field name")
    if target is not None and len(target.parts) > _DEEPEST:
        collector.error(
            "D303",
            get_target_location(written),
            f"a target path has at most {_DEEPEST} levels, not {len(target.parts)}",
        )
    paths = [
        _path(text, get_source_location(written, number), collector) for number, text in enumerate(written.sources)
    ]
    compiler = _CellCompiler(written, lookups, collector)
    try:
        compiler.compile_steps(parse(written.transformation) or _DIRECT)
    except CellSyntaxError as error:
        compiler.report("M102", error.start, error.end, error.message, error.fix)
    if target is None or any(problem.level is Level.ERROR for problem in collector.problems[found:]):
        return None
    sources = () if compiler.makes_value else tuple(SourceField(path) for path in paths if path is not None)
    return CompiledRow(
        written, target, sources, compiler.origin, tuple(compiler.steps), compiler.kind, compiler.nullable
    )


def _path(text: str, at: TextLocation, collector: ProblemCollector) -> FieldPath | None:
    try:
        return FieldPath.parse(text)
    except PathSyntaxError as error:
        collector.error("D303", at, f"{text or 'an empty cell'} is not a valid path: {error}")
        return None


class _CellCompiler:
    """Compiles the steps of one cell in order; `kind` is the kind of the value after the steps so far."""

    def __init__(self, row: MappingRow, lookups: Lookups, collector: ProblemCollector) -> None:
        self.steps: list[BoundStep] = []
        self.origin: RowExpression | None = None
        self.kind = ValueKind.ANY & ~ValueKind.DECIMAL
        self.nullable = True
        self.makes_value = False
        self._row = row
        self._lookups = lookups
        self._findings = collector
        self._many = len(row.sources) > 1
        self._previous = ""  # the step that returned `kind`

    def report(self, code: str, start: int, end: int, message: str, fix: str | None = None) -> None:
        """Report an error at offsets of the cell."""
        self._findings.error(code, get_cell_location(self._row, start, end), message, fix)

    def compile_steps(self, written: Sequence[StepCall | ExpressionCell]) -> None:
        """Compile all steps of the cell."""
        first, last = written[0], written[-1]
        if isinstance(first, ExpressionCell):
            self._compile_expression(first)
        elif (step := steps.find_step(first.name)) and step.starts:
            self.makes_value = True
        if self.makes_value:
            self._many = False
        elif not self._row.sources:
            self.report(
                "M110", first.start, last.end, 'no source field; use Constant("...") or = ... for a value without one'
            )
        for call in written:
            if isinstance(call, StepCall):
                self._compile_call(call, is_first=call is first, is_last=call is last)
        if self._many:
            number = len(self._row.sources)
            message = f'{number} source fields are not joined into one value: end with Concat(" "), First or List'
            self.report("M109", first.start, last.end, message)

    def _compile_expression(self, written: ExpressionCell) -> None:
        self.makes_value = True
        try:
            expression = RecordExpression(written.text)
        except ExpressionSyntaxError as error:
            self.report("M107", written.start + error.start, written.start + error.end, error.message, error.fix)
        else:
            self.origin = RowExpression(expression, f"= {written.text}", written.start, written.end)

    def _compile_call(self, call: StepCall, *, is_first: bool, is_last: bool) -> None:
        step = steps.find_step(call.name)
        if step is None or step.joins:
            self._many = False  # an unknown step may be a misspelled joining step
        if step is None:
            meant = steps.find_similar_step(call.name)
            hint = f"Did you mean '{meant.name}'?" if meant else "Press F1 in Mapping for a list of all steps."
            message = f"unknown step '{call.name}'. {hint}"
            self.report("M101", call.start, call.name_end, message, meant.name if meant else None)
            self._follow(call.name, ValueKind.ANY)
            return
        if step.starts and not is_first:
            self.report("M108", call.start, call.end, f"{step.name} reads no field and must be the first step")
        if step.starts and is_first:
            for number, _ in enumerate(self._row.sources):
                at = get_source_location(self._row, number)
                self._findings.warning("M115", at, f"{step.name} reads no field: this source field has no effect")
        if step.ends and not is_last:
            self.report("M108", call.start, call.end, f"{step.name} omits the field and must be the last step")
        self._check_kind(step, call)
        values = bind_arguments(step, call, self._lookups, self.report)
        if values is None:
            self._follow(step.name, ValueKind.ANY)
            return
        self._add(step, call, values)

    def _check_kind(self, step: Step, call: StepCall) -> None:
        if self.kind and not self.kind & step.takes:
            given = describe_kind(self.kind)
            hint = suggest_conversion(self.kind, step.takes)
            message = f"{step.name} takes {describe_kind(step.takes)}, but {self._previous} returns {given}{hint}"
            self.report("M104", call.start, call.end, message)

    def _add(self, step: Step, call: StepCall, values: Values) -> None:
        try:
            apply = step.make(*values)
        except ValueError as error:
            self.report("M103", call.start, call.end, f"{step.name}: {error}")
            return
        types = get_types(step.takes)
        text = render([StepCall(step.name, call.arguments)])
        self.steps.append(BoundStep(step, values, apply, types, self.kind, self.nullable, text, call.start, call.end))
        self._follow(step.name, step.result(self.kind, values))
        if step.starts:
            self.nullable = values[0] is None
        else:
            self.nullable = (self.nullable or step.may_null) and not step.never_null

    def _follow(self, name: str, kind: ValueKind) -> None:
        self._previous = name
        self.kind = kind


@dataclass(frozen=True, slots=True)
class CompileResult:
    """The compiled mapping and its problems; `mapper` is None if one of them is an error."""

    problems: tuple[Problem, ...]
    mapper: Mapper | None


def compile_mapping(
    rows: Sequence[MappingRow], settings: MappingSettings, file: str, locations: CellLocations | None = None
) -> Mapper:
    """Compile a table and its settings; `locations` are those of the settings (`locate_settings`).

    Raises `SpecError` with all problems if one of them is an error.
    """
    assembly = check_and_compile(rows, settings, file, locations or HeadingLocation(1))
    if assembly.mapper is None:
        errors = [problem for problem in assembly.problems if problem.level is Level.ERROR]
        more = f" (and {len(errors) - 1} more)" if errors[1:] else ""
        raise SpecError(f"{errors[0]}{more}", problems=assembly.problems)
    return assembly.mapper


def check_and_compile(
    rows: Sequence[MappingRow], settings: MappingSettings, file: str, locations: CellLocations
) -> CompileResult:
    """Check a table and its settings, and compile them if there is no error; `locations` are those of the settings."""
    collector = ProblemCollector(file)
    filter_ = _filter(settings.filter, locations, collector)
    compiled = [compile_row(row, settings.lookups, collector) for row in rows]
    ready = [row for row in compiled if row is not None]
    check_targets(ready, collector)
    if ready and len(ready) == len(rows):
        _check_lookup_use(settings.lookups, ready, locations, collector)
    checks = compile_checks(settings.check, rows, locations, collector)
    problems = tuple(sorted(collector.problems, key=lambda problem: (problem.line, problem.column)))
    if any(problem.level is Level.ERROR for problem in problems):
        return CompileResult(problems, None)
    return CompileResult(problems, Mapper(ready, checks, filter_))


def _check_lookup_use(
    names: Iterable[str], rows: Sequence[CompiledRow], locations: CellLocations, collector: ProblemCollector
) -> None:
    used = {
        value.name for row in rows for bound in row.steps for value in bound.arguments if isinstance(value, LookupTable)
    }
    for name in names:
        if name not in used:
            collector.warning("M116", locations.key(("lookups", name)), f"unused lookup '{name}': no row uses it")


def _filter(text: str | None, locations: CellLocations, collector: ProblemCollector) -> Filter | None:
    if text is None:
        return None
    try:
        return Filter(RecordExpression(text), locations.value(("filter",), 0, len(text)))
    except ExpressionSyntaxError as error:
        at = locations.value(("filter",), error.start, error.end)
        exact = at.length == max(1, error.end - error.start)
        collector.error("M114", at, f"filter: {error.message}", error.fix if exact else None)
    return None


def check_samples(mapper: Mapper, records: Sequence[Record], file: str) -> list[Problem]:
    """Warn of source fields that are missing in all `records` (M201), and suggest a similar field.

    Fields in expressions are not checked: an expression tests optional fields with `has(...)`.
    """
    collector = ProblemCollector(file)
    names: list[str] = []
    for row in mapper.rows:
        for number, source in enumerate(row.sources):
            path = source.path
            if records and not any(_has(record, path) for record in records):
                names = names or [str(field.path) for field in collect_fields(records)]
                meant = find_likely_name(str(path), names)
                hint = f" Did you mean '{meant}'?" if meant else ""
                message = f"'{path}' is missing in all {len(records)} sample records and is null.{hint}"
                collector.warning("M201", get_source_location(row.written, number), message)
    return collector.problems


def _has(record: Record, path: FieldPath) -> bool:
    try:
        path.get(record)
    except KeyError:
        return False
    return True


_OF_LOOKUPS: Final = frozenset({"M105", "M106"})


def lint(document: Document) -> list[Problem]:
    """Return all problems of `document`, sorted by location."""
    reading = examine(document)
    file = str(document.path or "<spec>")
    collector = ProblemCollector(file)
    for expression in reading.expressions:
        _check_expression(document, expression, collector)
    problems = [*reading.problems, *collector.problems]
    if reading.mapping is not None:
        problems += check_mapping(reading.rows, reading.mapping, file, locate_settings(document))
    elif reading.rows:  # the settings block has errors, so its lookups are unknown
        found = check_mapping(reading.rows, _no_settings(), file)
        problems += [problem for problem in found if problem.code not in _OF_LOOKUPS]
    return sorted(dict.fromkeys(problems), key=lambda problem: (problem.line, problem.column, problem.code))


def check_mapping(
    rows: Sequence[MappingRow], settings: MappingSettings, file: str, locations: CellLocations | None = None
) -> list[Problem]:
    """Return all problems of a table and its settings, sorted by location; `locations` are those of the settings."""
    return list(check_and_compile(rows, settings, file, locations or HeadingLocation(1)).problems)


def locate_settings(document: Document) -> CellLocations:
    """Return the locations of the Field Mapping settings."""
    silent = spec_findings.ProblemCollector("", document.text, document.position)
    section = Sections(document, silent).find(FIELD_MAPPING)
    tree = read_block(section, silent) if section else None
    line = section.line if section else 1
    return HeadingLocation(line) if tree is None else _BlockLocations(document, tree)


@dataclass(frozen=True, slots=True)
class _BlockLocations:
    """Locations in a settings block."""

    document: Document
    tree: MappingNode

    def key(self, path: Sequence[str]) -> TextLocation:
        """Return the location of the key at `path`, or of its nearest parent."""
        entry = self.tree.at(path)
        return self._locate(entry.key.start, entry.key.end) if entry else self._locate(self.tree.start, self.tree.start)

    def value(self, path: Sequence[str], start: int, end: int) -> TextLocation:
        """Return the location of characters `start` to `end` of the text at `path`."""
        entry = self.tree.at(path)
        if entry is None or not isinstance(entry.node, ScalarNode):
            return self.key(path)
        part = entry.node.part(start, end)
        return self._locate(part.start, part.end)

    def _locate(self, start: int, end: int) -> TextLocation:
        line, column = self.document.position(start)
        return TextLocation(line, column, max(1, end - start))


def _check_expression(document: Document, expression: CheckExpression, collector: ProblemCollector) -> None:
    try:
        verify(expression.text, expression.names, expression.functions)
    except ExpressionSyntaxError as error:
        part = _locate_error(document, expression, error)
        at = part or LineSpan(expression.start, expression.end)
        line, column = document.position(at.start)
        place = TextLocation(line, column, max(1, at.end - at.start))
        collector.error("C401", place, error.message, error.fix if part else None)


def _locate_error(document: Document, expression: CheckExpression, error: ExpressionSyntaxError) -> LineSpan | None:
    r"""Return the error's range in the file, if known; in a table, pipes are escaped by a backslash."""
    written = document.text[expression.start : expression.end]
    if written == expression.text:
        return LineSpan(expression.start + error.start, expression.start + error.end)
    escaped = len(written) - len(expression.text) == expression.text.count("|")
    if not escaped:
        return None
    before, inside = (expression.text.count("|", *span) for span in ((0, error.start), (error.start, error.end)))
    start = expression.start + error.start + before
    return LineSpan(start, start + error.end - error.start + inside)


def _no_settings() -> MappingSettings:
    from speclab.spec.settings import MappingSettings

    return MappingSettings.model_validate({})
