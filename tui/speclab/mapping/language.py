"""The cell language: a pipe of steps with arguments, and the binding of arguments to parameters."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Final, Protocol, TypeAlias

from speclab.core.json import Json
from speclab.core.text import find_likely_name, find_similar, join_names
from speclab.mapping.cel.functions import TokenKind, find_expression_end, tokenize
from speclab.mapping.types import LookupTable, Parameter, ParameterType, Step, StepError, to_json_number


class CellSyntaxError(ValueError):
    """A syntax error in a cell; `start` and `end` are offsets in it, `fix` is the replacement for that range."""

    def __init__(self, message: str, start: int, end: int, fix: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.start = start
        self.end = end
        self.fix = fix


@dataclass(frozen=True, slots=True)
class NameArgument:
    """A bare name as an argument: a lookup, or true, false or null."""

    text: str


Literal: TypeAlias = str | int | float | NameArgument


@dataclass(frozen=True, slots=True)
class StepArgument:
    """One argument of a call, with its offsets in the cell."""

    value: Literal
    start: int = 0
    end: int = 0


@dataclass(frozen=True, slots=True)
class StepCall:
    """A step as written: name and arguments."""

    name: str
    arguments: tuple[StepArgument, ...] = ()
    start: int = 0
    end: int = 0

    @property
    def name_end(self) -> int:
        """Offset of the end of the name."""
        return self.start + len(self.name)


@dataclass(frozen=True, slots=True)
class ExpressionCell:
    """A CEL expression as written; `start` is the offset of its first character, after the `=`."""

    text: str
    start: int = 0
    end: int = 0


_BLANKS: Final = re.compile(r"\s*")
_NAME: Final = re.compile(r"[A-Za-z_]\w*", re.ASCII)
_NUMBER: Final = re.compile(r"[+-]?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?", re.ASCII)
_LONGEST_NUMBER: Final = 40
_TEXT: Final = re.compile(r'"((?:[^"\\]|\\.)*)"' + r"|'((?:[^'\\]|\\.)*)'", re.DOTALL)
_ESCAPE: Final = re.compile(r"""\\(["'\\nt])""")
_ESCAPED_QUOTE: Final = re.compile(r"""\\["']""")
_ESCAPED: Final = {"n": "\n", "t": "\t"}
_CURLY: Final = "“”„«»‘’"  # noqa: RUF001  # quotes of word processors
_UNDECODED: Final = re.compile("[\ud800-\udfff]")  # bytes that are not UTF-8 (surrogateescape)
_WORD_END: Final = re.compile(r"[\s,|()]|$")


def parse(text: str) -> tuple[StepCall | ExpressionCell, ...]:
    """Parse a cell into its steps; an empty cell has none.

    Raises `CellSyntaxError` at the first syntax error.
    """
    if found := _UNDECODED.search(text):
        raise CellSyntaxError("a byte that is not UTF-8; save the file as UTF-8", found.start(), found.end())
    return tuple(_Parser(text).steps())


def render(steps: Iterable[StepCall | ExpressionCell]) -> str:
    """Render steps as a cell; `parse` returns the same steps."""
    return ", ".join(f"= {step.text}" if isinstance(step, ExpressionCell) else _call(step) for step in steps)


def quote(text: str) -> str:
    """Return `text` as a quoted argument."""
    for plain, escaped in (("\\", "\\\\"), ('"', '\\"'), ("\n", "\\n"), ("\t", "\\t")):
        text = text.replace(plain, escaped)
    return f'"{text}"'


def _call(call: StepCall) -> str:
    written = (
        argument.value.text
        if isinstance(argument.value, NameArgument)
        else quote(argument.value)
        if isinstance(argument.value, str)
        else repr(argument.value)
        for argument in call.arguments
    )
    return f"{call.name}({', '.join(written)})" if call.arguments else call.name


class _Parser:
    """A recursive descent parser of one cell."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def steps(self) -> list[StepCall | ExpressionCell]:
        steps: list[StepCall | ExpressionCell] = []
        self._blanks()
        if self._at == len(self._text):
            return steps
        steps.append(self._expression() if self._next() == "=" else self._call())
        while self._separator():
            if self._next() == "=":
                raise self._error('an expression must come first: "= ..., Round(2)"', end=self._at + 1)
            steps.append(self._call())
        return steps

    def _expression(self) -> ExpressionCell:
        self._at += 1
        self._blanks()
        start, end = self._at, find_expression_end(self._text, self._at)
        for token in tokenize(self._text[:end], start):
            if token.kind is TokenKind.BROKEN and token.text in "\"'":
                self._at = token.start
                raise self._error("unclosed quote", end=len(self._text))
            if token.kind is TokenKind.COMMENT:
                self._at = token.start
                raise self._error("comments belong in the Notes column", end=end)
        text = self._text[start:end].rstrip()
        if not text:
            raise self._error("an expression is missing after =", end=self._at)
        self._at = start + len(text)
        self._blanks()
        return ExpressionCell(text, start, start + len(text))

    def _call(self) -> StepCall:
        found = _NAME.match(self._text, self._at)
        if not found:
            raise self._unexpected("the name of a step")
        start = self._at
        self._at = end = found.end()
        arguments: list[StepArgument] = []
        self._blanks()
        if self._next() == "(":
            self._at += 1
            arguments = self._arguments(start)
            end = self._at
            self._blanks()
        return StepCall(found[0], tuple(arguments), start, end)

    def _arguments(self, start: int) -> list[StepArgument]:
        arguments: list[StepArgument] = []
        self._blanks()
        if self._next() == ")":
            self._at += 1
            return arguments
        while True:
            arguments.append(self._argument())
            self._blanks()
            following = self._next()
            if following not in (",", ")"):
                if not following:
                    self._at = start
                    raise self._error("unclosed bracket", end=len(self._text))
                raise self._unexpected("a comma or a closing bracket", self._backslash(arguments[-1].start))
            self._at += 1
            if following == ")":
                return arguments
            self._blanks()

    def _argument(self) -> StepArgument:
        start = self._at
        value: Literal
        if found := _TEXT.match(self._text, start):
            body = found[1] if found[1] is not None else found[2]
            value = _ESCAPE.sub(lambda escape: _ESCAPED.get(escape[1], escape[1]), body)
        elif found := _NUMBER.match(self._text, start):
            value = self._number(found[0])
        elif found := _NAME.match(self._text, start):
            value = NameArgument(found[0])
        elif self._next() in ('"', "'"):
            hint = self._backslash(start, len(self._text))
            raise self._error(f"unclosed quote{hint}", end=len(self._text))
        else:
            raise self._unexpected("text in quotes, a number or a name")
        self._at = found.end()
        return StepArgument(value, start, self._at)

    def _number(self, written: str) -> int | float:
        if len(written) <= _LONGEST_NUMBER:
            with suppress(StepError, InvalidOperation):
                return to_json_number(Decimal(written))
        raise self._error(
            "this number does not fit into a JSON number; put it in quotes as text", self._at + len(written)
        )

    def _backslash(self, start: int, end: int | None = None) -> str:
        """Return a hint if a quote between `start` and here is escaped by a backslash."""
        found = _ESCAPED_QUOTE.search(self._text, start, self._at if end is None else end)
        return r"; write a backslash in quotes as \\" if found else ""

    def _separator(self) -> bool:
        """Skip the comma before a further step; return False at the end of the cell."""
        if self._at == len(self._text):
            return False
        if self._next() != ",":
            if self._next() == "|":
                raise self._pipe()
            if self._next() == ";":
                raise self._error("separate steps by commas, not by semicolons", self._at + 1, fix=",")
            raise self._unexpected("a comma between steps", "; comments belong in the Notes column")
        self._at += 1
        self._blanks()
        return True

    def _pipe(self) -> CellSyntaxError:
        end = self._at + 1
        while self._at and self._text[self._at - 1].isspace():
            self._at -= 1
        return self._error("separate steps by commas, not by pipes", end=end, fix=",")

    def _next(self) -> str:
        return self._text[self._at : self._at + 1]

    def _blanks(self) -> None:
        found = _BLANKS.match(self._text, self._at)
        self._at = found.end() if found else self._at

    def _unexpected(self, expected: str, hint: str = "") -> CellSyntaxError:
        """Return the error of a cell that continues with something else than `expected`."""
        if self._at == len(self._text):
            return self._error(f"expected {expected}, got the end of the cell", end=self._at)
        character = self._next()
        if character in _CURLY:
            fix = "'" if character in "‘’" else '"'  # noqa: RUF001
            return self._error(f"{character} is a curly quote; use a straight one: {fix}", self._at + 1, fix)
        if character == "`":
            return self._error("write steps without backticks", self._at + 1, fix="")
        end = _WORD_END.search(self._text, self._at + 1)
        word = self._text[self._at : end.start() if end else len(self._text)]
        return self._error(f"expected {expected}, got {word}{hint}", end=self._at + len(word))

    def _error(self, message: str, end: int, fix: str | None = None) -> CellSyntaxError:
        return CellSyntaxError(message, self._at, end, fix)


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
