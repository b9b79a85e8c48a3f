"""Binding of a step's arguments to its parameters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Protocol

from speclab.core.json import Json
from speclab.core.text import find_likely_name, find_similar, join_names
from speclab.mapping.language import NameArgument, StepArgument, StepCall, quote
from speclab.mapping.types import LookupTable, Parameter, ParameterType, Step

_MAX_COMPARED: Final = 200  # lookups that are searched for a similar name
_WORDS: Final[Mapping[str, Json]] = {"true": True, "false": False, "null": None}
_EXPECTED: Final = {
    ParameterType.TEXT: "text in quotes",
    ParameterType.COUNT: "a whole number from 0",
    ParameterType.INTEGER: "a whole number",
    ParameterType.LITERAL: "text in quotes, a number, true or false",
    ParameterType.LOOKUP: "the name of a lookup",
}


class _InvalidArgument(Exception):
    """An argument that cannot be used; its text is the reason."""

    def __init__(self, message: str, fix: str | None = None, code: str = "M103") -> None:
        super().__init__(message)
        self.fix = fix
        self.code = code


class ReportProblem(Protocol):
    """Reports a problem at offsets of the cell."""

    def __call__(self, code: str, start: int, end: int, message: str, fix: str | None = None) -> None:
        """Report a problem from `start` to `end`."""


Values = tuple["Json | LookupTable", ...]


def bind_arguments(
    step: Step, call: StepCall, lookups: Mapping[str, Mapping[str, Json]], report: ReportProblem
) -> Values | None:
    """Return the values of the arguments of `call`; None, with every reason reported, if they do not fit `step`."""
    given, most = len(call.arguments), len(step.parameters)
    if given > most:
        number = f"{most} argument{'s' * (most != 1)}" if most else "no arguments"
        report(
            "M103", call.arguments[most].start, call.arguments[-1].end, f"{step.name} takes {number}: {step.signature}"
        )
        return None
    if given < step.required:
        missing = step.parameters[given].name
        report("M103", call.start, call.end, f"{step.name} needs the argument {missing}: {step.signature}")
        return None
    values: list[Json | LookupTable] = []
    valid = True
    for parameter, argument in zip(step.parameters, call.arguments, strict=False):
        try:
            if parameter.type is ParameterType.LOOKUP:
                values.append(_lookup(argument, lookups))
            else:
                values.append(_value(step, parameter, argument))
        except _InvalidArgument as error:
            report(error.code, argument.start, argument.end, str(error), error.fix)
            valid = False
    return tuple(values) if valid else None


def _value(step: Step, parameter: Parameter, argument: StepArgument) -> Json:
    value: Json
    if isinstance(argument.value, NameArgument):
        word = argument.value.text
        if parameter.type is ParameterType.LITERAL and word not in _WORDS and (lower := word.lower()) in _WORDS:
            raise _InvalidArgument(f"{_describe_mismatch(step, parameter, word)}; write {lower}", lower)
        if parameter.type is not ParameterType.LITERAL or word not in _WORDS:
            fix = quote(word) if parameter.type in (ParameterType.TEXT, ParameterType.LITERAL) else None
            hint = f"; put text in quotes: {fix}" if fix else ""
            raise _InvalidArgument(_describe_mismatch(step, parameter, word) + hint, fix)
        value = _WORDS[word]
    else:
        value = argument.value
        if not _fits(parameter.type, value):
            raise _InvalidArgument(
                _describe_mismatch(step, parameter, _render(value)), _fix_quotes(parameter.type, value)
            )
    if parameter.closed and isinstance(value, str) and value not in parameter.choices:
        meant = find_similar(value, parameter.choices)
        hint = f"Did you mean '{meant[0]}'?" if meant else f"Expected one of {', '.join(parameter.choices)}."
        fix = quote(meant[0]) if meant else None
        raise _InvalidArgument(f"unknown {parameter.name} '{value}' of {step.name}. {hint}", fix)
    if parameter.check and (wrong := parameter.check(value)):  # type: ignore[arg-type]  # of the kind it takes
        raise _InvalidArgument(f"{step.name}: {parameter.name} {wrong}")
    return value


def _fits(takes: ParameterType, value: str | float) -> bool:
    if takes is ParameterType.LITERAL:
        return True
    if takes is ParameterType.TEXT:
        return isinstance(value, str)
    return isinstance(value, int) and (takes is ParameterType.INTEGER or value >= 0)


def _describe_mismatch(step: Step, parameter: Parameter, written: str) -> str:
    return f"{step.name} takes {_EXPECTED[parameter.type]} as {parameter.name}, got {written}"


def _render(value: str | float) -> str:
    return quote(value) if isinstance(value, str) else str(value)


def _fix_quotes(takes: ParameterType, value: str | float) -> str | None:
    """Return the argument with quotes added or removed, if that makes it valid."""
    if takes is ParameterType.TEXT:
        return quote(str(value))
    return value if isinstance(value, str) and value.isascii() and value.isdecimal() else None


def _lookup(argument: StepArgument, lookups: Mapping[str, Mapping[str, Json]]) -> LookupTable:
    name = argument.value.text if isinstance(argument.value, NameArgument) else argument.value
    if not isinstance(name, str):
        raise _InvalidArgument(f"Lookup takes {_EXPECTED[ParameterType.LOOKUP]}, got {name}")
    if name not in lookups:
        meant = find_likely_name(name, list(lookups)) if len(lookups) <= _MAX_COMPARED else None
        there = f"There are {join_names(lookups)}." if lookups else "The section's settings have no lookups."
        hint = f"Did you mean '{meant}'?" if meant else there
        raise _InvalidArgument(f"unknown lookup '{name}'. {hint}", meant, "M105")
    if not lookups[name]:
        raise _InvalidArgument(f"the lookup '{name}' has no entries, so every value would fail", code="M106")
    return LookupTable(name, dict(lookups[name]))
