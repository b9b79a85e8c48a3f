"""CEL, the one expression language: compiled once, bounded in size and nesting, its errors in words with a place.

The package `common-expression-language` is a Rust core. Five of its ways would harm a record and are mended here:

- JSON has one kind of number, CEL has two that do not mix (`2 * 1.5` is an error) and divides whole ones without a
  rest (`1999 / 100` is 19). Here numbers are numbers: where they meet, and in every division, all are doubles, and
  a result without a fraction is whole again. `int(...)` and `%` are there for those who want whole ones.
- `size` counts the bytes of a text, not its characters.
- Whole numbers beyond 64 bits silently become doubles. Here they are refused, as is what JSON cannot say.
- Objects come back with their keys in an order of chance; here they are sorted, so that the same record gives the
  same bytes. (A loop over an object's keys still meets them in any order, as CEL allows.)
- Importing it takes half a second, for the command line that comes with it.
"""

from __future__ import annotations

import logging
import math
import re
import sys
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import cache
from importlib.machinery import EXTENSION_SUFFIXES
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Final, TypeAlias

from speclab.core.json import Json, Record
from speclab.mapping.cel.doubles import EXACT, INNER, doubled, giving_doubles, over_doubles
from speclab.mapping.cel.functions import FUNCTIONS, Function
from speclab.mapping.cel.syntax import CelToken, TokenKind, checked, reads, syntax_error
from speclab.mapping.types import WHOLE, StepError, show

if TYPE_CHECKING:
    from cel import Context, Program


SOURCE: Final = "source"
"""What expressions call the record."""

Variables: TypeAlias = Mapping[str, Json]

_SIZE: Final = "characters"  # what `size` is called inside, for a function cannot take the place of CEL's own
_FAILED_CALL: Final = re.compile(r"Function '([^']*)' error: (?:Python function call failed: \w+: )?(.*)", re.DOTALL)
_ADVICE: Final = re.compile(r"\.? (?:CEL does not coerce|Check (?:function|that)|The value is outside).*", re.DOTALL)


class EvaluationError(StepError):
    """An expression that cannot be evaluated for these values; its text is the reason."""


def verify(text: str, names: Sequence[str], functions: Collection[str]) -> None:
    """Check an expression that may speak of `names` and call `functions` beyond the usual ones.

    Raises `ExpressionSyntaxError`.
    """
    checked(text, names, {*FUNCTIONS, *functions})
    _compile(text)


class CelExpression:
    """A compiled expression. `reads` are the paths it names, by variable: `source.name` is `name` of `source`."""

    def __init__(self, text: str, names: Sequence[str], functions: Mapping[str, Function] | None = None) -> None:
        """Compile `text`, which may speak of `names` and call `functions` beyond the usual ones.

        Raises `ExpressionSyntaxError`.
        """
        known = {**FUNCTIONS, **(functions or {})}
        found = checked(text, names, known)
        self.text = text
        self.reads = {name: reads(found, name) for name in names}
        _compile(text)  # for errors with places in the text as it was written
        called = {name: function for name, function in known.items() if _calls(found, name)}
        divides = any(token.text == "/" for token in found)
        renamed = _with_own_size(found, text)
        self._exact = None if divides else _Program(renamed, called)
        self._doubles = _Program(over_doubles(renamed), {**giving_doubles(called), **INNER})

    def evaluate(self, variables: Variables) -> Json:
        """What it gives for `variables`, all of whose values are copied: give no more than it reads.

        Raises `EvaluationError`.
        """
        try:
            return self._evaluate(variables)
        except EvaluationError:
            raise
        except Exception as error:  # noqa: BLE001  # the edge of the engine, which raises eight classes for bad values
            raise EvaluationError(_reason(error)) from None

    def _evaluate(self, variables: Variables) -> Json:
        if not _fits(variables, WHOLE):
            raise EvaluationError("a whole number is beyond 64 bits")
        if self._exact is None:
            return self._in_doubles(variables)
        try:
            return _json(self._exact.run(variables))
        except TypeError as error:
            try:
                return self._in_doubles(variables)
            except TypeError:
                raise error from None  # it was not for mixed numbers

    def _in_doubles(self, variables: Variables) -> Json:
        result = self._doubles.run({name: doubled(value) for name, value in variables.items()})
        if not _fits(variables, range(-EXACT, EXACT + 1)):
            raise EvaluationError("a whole number is too large to reckon with fractions")
        return _whole(_json(result))


class RecordExpression:
    """An expression over one record, which it calls `source`."""

    def __init__(self, text: str) -> None:
        """Compile `text`. Raises `ExpressionSyntaxError`."""
        self._expression = CelExpression(text, [SOURCE])
        self.fields = self._expression.reads[SOURCE] or ()
        whole = self._expression.reads[SOURCE] is None
        self._keys = None if whole else tuple(dict.fromkeys(path.parts[0] for path in self.fields))

    def evaluate(self, record: Record) -> Json:
        """What it gives for `record`. Raises `EvaluationError`."""
        if self._keys is None:
            return self._expression.evaluate({SOURCE: record})
        return self._expression.evaluate({SOURCE: {key: record[key] for key in self._keys if key in record}})

    def reading(self, record: Record) -> dict[str, Json]:
        """The fields it names that `record` has, by path: what there is to show where it fails."""
        found: dict[str, Json] = {}
        for path in self.fields:
            with suppress(KeyError):
                found[str(path)] = path.get(record)
        return found

    def holds(self, record: Record) -> bool:
        """Whether it is true of `record`. Raises `EvaluationError`, also where it gives neither true nor false."""
        answer = self.evaluate(record)
        if not isinstance(answer, bool):
            raise EvaluationError(f"expected true or false, not {show(answer)}")
        return answer


class _Program:
    """A program of the engine with the functions it calls."""

    def __init__(self, text: str, functions: Mapping[str, Function]) -> None:
        self._program: Program = _compile(text)
        self._context: Context | None = None
        if functions:
            self._context = _engine().Context(functions={_SIZE if n == "size" else n: f for n, f in functions.items()})

    def run(self, variables: Variables) -> object:
        if self._context is None:
            return self._program.execute({**variables})
        for name, value in variables.items():
            self._context.add_variable(name, value)
        return self._program.execute(self._context)


@cache
def _engine() -> ModuleType:
    """The Rust extension without the package around it, which imports a command line and all that it needs."""
    logger = logging.getLogger("cel")  # a function that fails is told by its exception; the log would tell it again,
    logger.addHandler(logging.NullHandler())  # with the record's values, on stderr
    logger.propagate = False
    package = find_spec("cel")
    for folder in (package and package.submodule_search_locations) or ():
        for file in (Path(folder, f"cel{suffix}") for suffix in EXTENSION_SUFFIXES):
            spec = spec_from_file_location("cel.cel", file) if file.exists() else None
            if spec and spec.loader:
                module = sys.modules["cel.cel"] = module_from_spec(spec)
                spec.loader.exec_module(module)
                return module
    raise ImportError("the package common-expression-language is not whole: its extension module is missing")


def _compile(text: str) -> Program:
    try:
        program: Program = _engine().compile(text)
    except ValueError as error:
        raise syntax_error(text, str(error)) from None
    return program


def _with_own_size(found: Sequence[CelToken], text: str) -> str:
    pieces: list[str] = []
    done = 0
    for at, token in enumerate(found):
        piece = token.text
        if token.kind is TokenKind.NAME and token.text == "size" and _text_at(found, at + 1) == "(":
            piece = _SIZE
        pieces += [text[done : token.start], piece]
        done = token.end
    return "".join([*pieces, text[done:]])


def _text_at(found: Sequence[CelToken], at: int) -> str:
    return found[at].text if at < len(found) else ""


def _calls(found: Sequence[CelToken], name: str) -> bool:
    last = name.rpartition(".")[2]
    return any(token.text == last and _text_at(found, at + 1) == "(" for at, token in enumerate(found))


def _fits(value: object, whole: range) -> bool:
    """Whether all whole numbers in `value` are within `whole`."""
    if isinstance(value, int):
        return value in whole
    if isinstance(value, dict):
        return all(_fits(item, whole) for item in value.values())
    return all(_fits(item, whole) for item in value) if isinstance(value, list) else True


def _whole(value: Json) -> Json:
    if isinstance(value, float) and value.is_integer() and abs(value) <= EXACT:
        return int(value)
    if isinstance(value, dict):
        return {key: _whole(item) for key, item in value.items()}
    return [_whole(item) for item in value] if isinstance(value, list) else value


def _json(value: object) -> Json:
    """`value` as JSON: a timestamp as ISO 8601 in UTC; raises for what JSON cannot say."""
    if value is None or isinstance(value, (str, int)):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise EvaluationError(f"the result is {value}, which is no JSON")
        return value
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    if isinstance(value, list):
        return [_json(item) for item in value]
    if isinstance(value, dict):
        if not all(isinstance(key, str) for key in value):
            raise EvaluationError("the result is an object with keys that are no text")
        return {str(key): _json(value[key]) for key in sorted(value)}  # the engine gives them in an order of chance
    raise EvaluationError(f"the result is a {type(value).__name__}, which is no JSON; string(...) makes it text")


def _reason(error: Exception) -> str:
    text = str(error)
    if isinstance(error, KeyError):
        return f"there is no field {error.args[0]!r}; has(...) asks for it"
    if isinstance(error, RecursionError):
        return "a value is nested too deep"
    if isinstance(error, TypeError) and text.startswith("No such overload"):
        return "a function or operator cannot take these values: null, or text and numbers mixed"
    if isinstance(error, ValueError) and text.startswith("Conversion Error"):
        return "a text has half a surrogate pair, which is no character"
    text = _ADVICE.sub("", text).partition("\n")[0].rstrip(":.")
    if found := re.match(r"Undefined variable or function: '([^']*)'", text):
        return f"{found[1]}() cannot take this value"
    if found := _FAILED_CALL.match(text):
        return found[2] if f"{found[1]}()" in found[2] or found[1] in {_SIZE, *INNER} else f"{found[1]}(): {found[2]}"
    return text[:1].lower() + text[1:]
