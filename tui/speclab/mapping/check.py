"""The check of a row: its steps against the catalogue, their arguments, the kinds along the chain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from speclab.jsonvalue import Json
from speclab.mapping import catalogue
from speclab.mapping.arguments import Values, bind
from speclab.mapping.cel import RecordExpression
from speclab.mapping.cel_check import ExpressionSyntaxError
from speclab.mapping.kinds import Kind, in_words, types_of
from speclab.mapping.language import Call, CellSyntaxError, Expression, parse, render
from speclab.mapping.place import Findings, Place, in_cell, of_source, of_target
from speclab.mapping.program import Bound, Origin, Row, Source, conversion
from speclab.mapping.step import Step
from speclab.outcome import Level
from speclab.paths import FieldPath, PathSyntaxError
from speclab.spec.integration import MappingRow

Lookups = Mapping[str, Mapping[str, Json]]

_DEEPEST: Final = 100  # Python takes code of twice that
_DIRECT: Final = (Call("Direct"),)


def check_row(written: MappingRow, lookups: Lookups, findings: Findings) -> Row | None:
    """The row ready to run; None, and every reason in `findings`, if it cannot."""
    found = len(findings.problems)
    target = _path(written.target, of_target(written), findings)
    if target is not None and isinstance(target.parts[0], int):
        findings.error("D303", of_target(written), "a target path begins with the name of a field")
    if target is not None and len(target.parts) > _DEEPEST:
        findings.error(
            "D303", of_target(written), f"a target path has at most {_DEEPEST} levels, not {len(target.parts)}"
        )
    paths = [_path(text, of_source(written, number), findings) for number, text in enumerate(written.sources)]
    chain = _Chain(written, lookups, findings)
    try:
        chain.read(parse(written.transformation) or _DIRECT)
    except CellSyntaxError as error:
        chain.tell("M102", error.start, error.end, error.message, error.fix)
    if target is None or any(problem.level is Level.ERROR for problem in findings.problems[found:]):
        return None
    sources = () if chain.makes_its_value else tuple(Source(path) for path in paths if path is not None)
    return Row(written, target, sources, chain.origin, tuple(chain.steps), chain.kind, chain.nullable)


def _path(text: str, at: Place, findings: Findings) -> FieldPath | None:
    try:
        return FieldPath.parse(text)
    except PathSyntaxError as error:
        findings.error("D303", at, f"{text or 'an empty cell'} is no path: {error}")
        return None


class _Chain:
    """The steps of one cell, taken one after the other; `kind` is what the values can be after those so far."""

    def __init__(self, row: MappingRow, lookups: Lookups, findings: Findings) -> None:
        self.steps: list[Bound] = []
        self.origin: Origin | None = None
        self.kind = Kind.ANY & ~Kind.DECIMAL
        self.nullable = True
        self.makes_its_value = False
        self._row = row
        self._lookups = lookups
        self._findings = findings
        self._many = len(row.sources) > 1
        self._before = ""  # the step that gave `kind`

    def tell(self, code: str, start: int, end: int, message: str, fix: str | None = None) -> None:
        """A problem at offsets of the cell."""
        self._findings.error(code, in_cell(self._row, start, end), message, fix)

    def read(self, written: Sequence[Call | Expression]) -> None:
        """Take all the steps of the cell."""
        first, last = written[0], written[-1]
        if isinstance(first, Expression):
            self._read_expression(first)
        elif (step := catalogue.find(first.name)) and step.starts:
            self.makes_its_value = True
        if self.makes_its_value:
            self._many = False
        elif not self._row.sources:
            self.tell(
                "M110", first.start, last.end, 'no source field; Constant("...") or = ... make a value without one'
            )
        for call in written:
            if isinstance(call, Call):
                self._read_call(call, is_first=call is first, is_last=call is last)
        if self._many:
            number = len(self._row.sources)
            message = (
                f'{number} source fields, but no step makes one value of them: end with Concat(" "), First or List'
            )
            self.tell("M109", first.start, last.end, message)

    def _read_expression(self, written: Expression) -> None:
        self.makes_its_value = True
        try:
            expression = RecordExpression(written.text)
        except ExpressionSyntaxError as error:
            self.tell("M107", written.start + error.start, written.start + error.end, error.message, error.fix)
        else:
            self.origin = Origin(expression, f"= {written.text}", written.start, written.end)

    def _read_call(self, call: Call, *, is_first: bool, is_last: bool) -> None:
        step = catalogue.find(call.name)
        if step is None or step.joins:
            self._many = False  # an unknown step may be meant to join
        if step is None:
            meant = catalogue.near(call.name)
            hint = f"Did you mean '{meant.name}'?" if meant else "Press F1 in Mapping for a list of all steps."
            message = f"unknown step '{call.name}'. {hint}"
            self.tell("M101", call.start, call.name_end, message, meant.name if meant else None)
            self._follow(call.name, Kind.ANY)
            return
        if step.starts and not is_first:
            self.tell("M108", call.start, call.end, f"{step.name} makes its value itself, and so stands first")
        if step.starts and is_first:
            for number, _ in enumerate(self._row.sources):
                at = of_source(self._row, number)
                self._findings.warning("M115", at, f"{step.name} makes the value: this field has no effect")
        if step.ends and not is_last:
            self.tell("M108", call.start, call.end, f"{step.name} leaves the field out, and so stands last")
        self._check_kind(step, call)
        values = bind(step, call, self._lookups, self.tell)
        if values is None:
            self._follow(step.name, Kind.ANY)
            return
        self._add(step, call, values)

    def _check_kind(self, step: Step, call: Call) -> None:
        if self.kind and not self.kind & step.takes:
            given = in_words(self.kind)
            hint = conversion(self.kind, step.takes)
            message = f"{step.name} takes {in_words(step.takes)}, but {self._before} gives {given}{hint}"
            self.tell("M104", call.start, call.end, message)

    def _add(self, step: Step, call: Call, values: Values) -> None:
        try:
            apply = step.make(*values)
        except ValueError as error:
            self.tell("M103", call.start, call.end, f"{step.name}: {error}")
            return
        types = types_of(step.takes)
        text = render([Call(step.name, call.arguments)])
        self.steps.append(Bound(step, values, apply, types, self.kind, self.nullable, text, call.start, call.end))
        self._follow(step.name, step.result(self.kind, values))
        if step.starts:
            self.nullable = values[0] is None
        else:
            self.nullable = (self.nullable or step.may_null) and not step.never_null

    def _follow(self, name: str, kind: Kind) -> None:
        self._before = name
        self.kind = kind
