"""Evaluation of CEL expressions, with the arithmetic of the standard for doubles."""

from __future__ import annotations

import logging
import math
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib.machinery import EXTENSION_SUFFIXES
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from threading import Lock
from types import ModuleType
from typing import TYPE_CHECKING, Final

from speclab.core.json import Json
from speclab.mapping.cel.functions import CelToken, ExpressionSyntaxError, Function, TokenKind, is_value_end, tokenize

if TYPE_CHECKING:
    from cel import Context, Program

EXACT: Final = 2**53
"""Doubles represent all integers up to this one exactly."""

_RETURN_INTEGERS: Final = frozenset(
    "int uint getDate getDayOfMonth getDayOfWeek getDayOfYear getFullYear getHours getMilliseconds getMinutes "
    "getMonth getSeconds".split()
)


def rewrite_for_doubles(text: str) -> str:
    """A valid expression over doubles; it calls `INNER_FUNCTIONS` too."""
    found = [token for token in tokenize(text) if token.kind is not TokenKind.COMMENT]
    partner = _partners(found)
    before, written, after = [""] * len(found), [token.text for token in found], [""] * len(found)
    for at, token in enumerate(found):
        opened = partner.get(at, at)
        if token.kind is TokenKind.INTEGER and not _is_index(found, at - 1, at + 1):
            written[at] = repr(float(int(token.text.rstrip("uU"), 0 if token.text[:2].lower() == "0x" else 10)))
        elif token.text == "%":
            before[_product_start(found, partner, at - 1)] += "remainder("
            written[at] = ","
            after[_operand_end(found, partner, at + 1)] += ")"
        elif token.text == ")" and found[opened - 1].text in _RETURN_INTEGERS and opened:
            after[at] = ".fraction()" + after[at]
        elif token.text == "]" and _is_index(found, opened, at) and at > opened + 2:
            written[opened], written[at] = "[place(", ")]"
    pieces: list[str] = []
    done = 0
    for at, token in enumerate(found):
        pieces += [text[done : token.start], before[at], written[at], after[at]]
        done = token.end
    return "".join([*pieces, text[done:]])


def with_double_results(functions: Mapping[str, Function]) -> dict[str, Function]:
    """Wrap `functions` to return doubles instead of integers."""

    def doubling(function: Function) -> Callable[..., Json]:
        return lambda *given: to_doubles(function(*given))

    return {name: doubling(function) for name, function in functions.items()}


def to_doubles(value: Json) -> Json:
    """Return `value` with doubles instead of integers."""
    if type(value) is int:
        return float(value)
    if isinstance(value, dict):
        return {key: to_doubles(item) for key, item in value.items()}
    return [to_doubles(item) for item in value] if isinstance(value, list) else value


def _fraction(value: int) -> float:
    if abs(value) > EXACT:
        raise ValueError("a whole number is too large for calculations with fractions")
    return float(value)


def _remainder(value: Json, by: Json) -> float:
    if not isinstance(value, float) or not isinstance(by, float) or not (value.is_integer() and by.is_integer()):
        raise TypeError("% takes whole numbers; convert with int(...)")
    if not by:
        raise ValueError("modulo by zero")
    return math.fmod(value, by)


def _place(value: Json) -> Json:
    return int(value) if isinstance(value, float) and value.is_integer() else value


INNER_FUNCTIONS: Final[dict[str, Function]] = {"fraction": _fraction, "place": _place, "remainder": _remainder}
"""Functions that only rewritten expressions can call."""


def _partners(found: Sequence[CelToken]) -> dict[int, int]:
    """Map each bracket to its partner."""
    partner: dict[int, int] = {}
    opened: list[int] = []
    for at, token in enumerate(found):
        if token.kind is TokenKind.OPEN:
            opened.append(at)
        elif token.kind is TokenKind.CLOSE and opened:
            partner[at] = opened.pop()
            partner[partner[at]] = at
    return partner


def _is_index(found: Sequence[CelToken], opened: int, closed: int) -> bool:
    """Return whether these tokens enclose an index."""
    within = opened > 0 and closed < len(found) and found[opened].text == "[" and found[closed].text == "]"
    return within and is_value_end(found[opened - 1])


def _product_start(found: Sequence[CelToken], partner: Mapping[int, int], at: int) -> int:
    """Return the first token of the product whose last factor ends at token `at`."""
    at = _operand_start(found, partner, at)
    while at > 1 and found[at - 1].text in {"*", "/", "%"}:
        at = _operand_start(found, partner, at - 2)
    return at


def _operand_start(found: Sequence[CelToken], partner: Mapping[int, int], at: int) -> int:
    while True:
        at = min(at, partner.get(at, at))
        if found[at].text in {"(", "["} and at and is_value_end(found[at - 1]):
            at -= 1
        elif at > 1 and found[at - 1].text == ".":
            at -= 2
        else:
            break
    while at and found[at - 1].text in {"-", "!"} and (at == 1 or not is_value_end(found[at - 2])):
        at -= 1
    return at


def _operand_end(found: Sequence[CelToken], partner: Mapping[int, int], at: int) -> int:
    while found[at].text in {"-", "!"}:
        at += 1
    at = max(at, partner.get(at, at))
    while at + 1 < len(found):
        if found[at + 1].text == ".":
            at += 2
        elif found[at + 1].text in {"(", "["}:
            at = partner[at + 1]
        else:
            break
    return at


SIZE: Final = "characters"
"""The engine's name of our `size`: a registered function cannot replace a built-in one."""

_POSITION: Final = re.compile(r"ERROR: <input>:(\d+):(\d+): (?:Syntax error: )?(.*)")
_UNEXPECTED: Final = re.compile(r"(?:mismatched input|extraneous input|no viable alternative at input) '(.*?)'(?: |$)")
_MISSING: Final = re.compile(r"missing '(.*?)' at ")
_FAILED_CALL: Final = re.compile(r"Function '([^']*)' error: (?:Python function call failed: \w+: )?(.*)", re.DOTALL)
_ADVICE: Final = re.compile(r"\.? (?:CEL does not coerce|Check (?:function|that)|The value is outside).*", re.DOTALL)


class CompiledProgram:
    """A compiled program with the functions it calls."""

    def __init__(self, text: str, functions: Mapping[str, Function]) -> None:
        """Compile `text`. Raises `ExpressionSyntaxError`."""
        self._program = compile_program(text)
        self._context: Context | None = None
        if functions:
            registered = {SIZE if name == "size" else name: function for name, function in functions.items()}
            self._context = load_extension().Context(functions=registered)

    def run(self, variables: Mapping[str, Json]) -> object:
        """Return the engine's result for `variables`; `describe_error` explains what is raised."""
        if self._context is None:
            return self._program.execute({**variables})
        for name, value in variables.items():
            self._context.add_variable(name, value)
        return self._program.execute(self._context)


def compile_program(text: str) -> Program:
    """Compile `text`. Raises `ExpressionSyntaxError`."""
    try:
        program: Program = load_extension().compile(text)
    except ValueError as error:
        raise locate_syntax_error(text, str(error)) from None
    return program


_LOADING: Final = Lock()
"""Two threads may need the extension first: initializing it twice is a fatal error in it."""


def load_extension() -> ModuleType:
    """Return the Rust extension, loaded without the package around it."""
    with _LOADING:
        return _load_extension()


@cache
def _load_extension() -> ModuleType:
    logger = logging.getLogger("cel")
    logger.addHandler(logging.NullHandler())
    logger.propagate = False
    package = find_spec("cel")
    for directory in (package and package.submodule_search_locations) or ():
        for file in (Path(directory, f"cel{suffix}") for suffix in EXTENSION_SUFFIXES):
            spec = spec_from_file_location("cel.cel", file) if file.exists() else None
            if spec and spec.loader:
                module = sys.modules["cel.cel"] = module_from_spec(spec)
                spec.loader.exec_module(module)
                return module
    raise ImportError("common-expression-language is incomplete: its extension module is missing. Reinstall it.")


def locate_syntax_error(text: str, message: str) -> ExpressionSyntaxError:
    """Return the engine's `message` about `text` as an error with a short reason and a position."""
    found = _POSITION.search(message)
    if not found:
        return ExpressionSyntaxError(message, 0, len(text))
    line, column, reason = int(found[1]), int(found[2]), found[3]
    start = min(sum(len(part) for part in text.splitlines(keepends=True)[: line - 1]) + column - 1, len(text))
    end = next((token.end for token in tokenize(text) if token.start == start), start)
    if unexpected := _UNEXPECTED.match(reason):
        if unexpected[1] == "<EOF>":
            return ExpressionSyntaxError("the expression ends too early", start, end)
        reason = f"unexpected {unexpected[1]}"
    elif missing := _MISSING.match(reason):
        reason = f"{missing[1]} is missing here"
    return ExpressionSyntaxError(reason, start, end)


def describe_error(error: Exception) -> str:
    """Return the reason of an error that `CompiledProgram.run` raised."""
    text = str(error)
    if isinstance(error, KeyError):
        return f"there is no field {error.args[0]!r}; has(...) asks for it"
    if isinstance(error, RecursionError):
        return "a value is nested too deep"
    if isinstance(error, TypeError) and text.startswith("No such overload"):
        return "a function or operator cannot take these values: null, or text and numbers mixed"
    if isinstance(error, ValueError) and text.startswith("Conversion Error"):
        return "a text has half a surrogate pair, which is not a character"
    text = _ADVICE.sub("", text).partition("\n")[0].rstrip(":.")
    if found := re.match(r"Undefined variable or function: '([^']*)'", text):
        return f"{found[1]}() cannot take this value"
    if found := _FAILED_CALL.match(text):
        own = f"{found[1]}()" in found[2] or found[1] in {SIZE, *INNER_FUNCTIONS}
        return found[2] if own else f"{found[1]}(): {found[2]}"
    return text[:1].lower() + text[1:]
