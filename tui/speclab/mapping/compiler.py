"""One Python function for a whole mapping, put together from fixed fragments.

Nothing of the spec's text gets into the code: keys, arguments and steps are constants handed in, named `k0`, `k1`, ...
The function gives the mapped record, or raises `StepError` or `KeyError` as soon as anything is out of the ordinary;
the careful way (`program`) then says what, and for which rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Final

from speclab.jsonvalue import Record
from speclab.mapping.kinds import Kind, types_of
from speclab.mapping.program import Bound, Row
from speclab.mapping.sizes import add_size
from speclab.mapping.step import DROPPED, Lookup
from speclab.mapping.steps.scalar import json_number
from speclab.mapping.targets import Shape

MapRecord = Callable[[Record], Record]

_DECIMAL: Final = Decimal
_TEXT: Final = frozenset({str})


def compile_rows(rows: Sequence[Row], shape: Shape, measured: Sequence[bool] = ()) -> MapRecord:
    """The function that maps a record by `rows` into `shape`; the values of `measured` rows count for its size."""
    return written(rows, shape, measured).function()


def written(rows: Sequence[Row], shape: Shape, measured: Sequence[bool] = ()) -> Writer:
    """The writer that has written the function."""
    writer = Writer()
    measures = any(measured)
    if measures:
        writer.begin_measuring()
    for number, row in enumerate(rows):
        writer.row(row, f"v{number}")
        if measures and measured[number]:
            writer.measure(f"v{number}")
    writer.result(shape, dropping=[bool(row.steps) and row.steps[-1].step.ends for row in rows])
    return writer


class Writer:
    """Writes the function's lines and gathers the constants they use."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._constants: list[object] = []

    def source(self) -> str:
        """The code, which makes the function of its constants."""
        names = ", ".join(f"k{number}" for number in range(len(self._constants)))
        lines = [f"def make({names}):", "    def map_record(record):", "        get = record.get"]
        lines += [f"        {line}" for line in self._lines]
        return "\n".join([*lines, "    return map_record\n"])

    def function(self) -> MapRecord:
        """The function."""
        namespace: dict[str, Callable[..., MapRecord]] = {}
        exec(compile(self.source(), "<mapping>", "exec"), namespace)  # noqa: S102  # fragments of this module only
        return namespace["make"](*self._constants)

    def row(self, row: Row, name: str) -> None:
        """The lines that leave the row's value in the variable `name`."""
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
        if row.kind & Kind.DECIMAL:
            self._line(f"if type({name}) is {self._constant(_DECIMAL)}: {name} = {self._constant(json_number)}({name})")

    def begin_measuring(self) -> None:
        """Write the line before all rows whose values are measured."""
        self._line("size = 0")

    def measure(self, name: str) -> None:
        """Write the line that adds the size of the variable `name`, or raises `StepError`."""
        self._line(f"size = {self._constant(add_size)}(size, {name})")

    def result(self, shape: Shape, dropping: Sequence[bool]) -> None:
        """The lines that build and return the record; `dropping` tells which rows may leave their field out."""
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

    def _step(self, bound: Bound, name: str) -> None:
        step = bound.step
        if step.inline == "":
            return
        apply, types = self._constant(bound.apply), bound.types
        work = f"{name} = {apply}({name})"
        if step.inline:
            types = _TEXT
            first = bound.arguments[0] if bound.arguments else None
            argument = self._constant(first.entries if isinstance(first, Lookup) else first)
            work = step.inline.format(v=name, f=apply, a=argument)
        if step.sees_null:
            self._line(work)
        elif types_of(bound.before) <= types:
            self._line(f"if {name} is not None: {work}" if bound.nullable else work)
        else:
            is_taken = f"type({name}) is {self._constant(next(iter(types)))}"
            if len(types) > 1:
                is_taken = f"type({name}) in {self._constant(types)}"
            self._line(f"if {is_taken}: {work}")
            self._line(f"elif {name} is not None: {name} = {self._constant(bound)}({name})")

    def _join(self, bound: Bound, names: Sequence[str]) -> None:
        if len(names) == 1:
            self._line(f"{names[0]} = {self._constant(bound.join)}(({names[0]},))")
        else:
            self._line(f"{names[0]} = {self._constant(bound.apply)}(({', '.join(names)}))")

    def _display(self, shape: Shape) -> str:
        parts = [f"v{part}" if isinstance(part, int) else self._display(part) for part in shape.parts]
        if shape.keys is None:
            return f"[{', '.join(parts)}]"
        pairs = (f"{self._constant(key)}: {part}" for key, part in zip(shape.keys, parts, strict=True))
        return f"{{{', '.join(pairs)}}}"

    def _build(self, shape: Shape, name: str, dropping: Sequence[bool]) -> None:
        self._line(f"{name} = {'[]' if shape.keys is None else '{}'}")
        for number, part in enumerate(shape.parts):
            value, condition = f"v{part}", ""
            if isinstance(part, Shape):
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
