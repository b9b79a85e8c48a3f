"""CEL, the expression language: compiled once, limited in size and nesting, with located errors.

The engine is the Rust core of `common-expression-language`. Four of its behaviours would damage a record and are
corrected here:

- JSON has one kind of number. CEL has two that do not mix (`2 * 1.5` is an error), and it divides integers without a
  remainder (`1999 / 100` is 19). Here, mixed numbers and all divisions are computed in doubles, and a result without
  a fraction becomes an integer again. Use `int(...)` and `%` for integer arithmetic.
- `size` counts the bytes of a text; here it counts characters.
- Integers beyond 64 bits silently become doubles. Here they are errors, as are results that are not JSON.
- Objects have their keys in random order; here they are sorted, so that the same record always maps to the same bytes.
  (A loop over an object's keys still runs in any order, as CEL allows.)
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Final, TypeAlias

from speclab.core.json import Json, Record
from speclab.mapping.cel.engine import (
    EXACT,
    INNER_FUNCTIONS,
    SIZE,
    CompiledProgram,
    compile_program,
    describe_error,
    rewrite_for_doubles,
    to_doubles,
    with_double_results,
)
from speclab.mapping.cel.functions import FUNCTIONS, CelToken, Function, TokenKind, check_syntax, find_paths
from speclab.mapping.types import INTEGER_RANGE, StepError, format_value

SOURCE: Final = "source"
"""The name of the record in expressions."""

Variables: TypeAlias = Mapping[str, Json]


class EvaluationError(StepError):
    """An expression that fails for these values; its text is the reason."""


def verify(text: str, names: Sequence[str], functions: Collection[str]) -> None:
    """Check an expression that may use `names` and call `functions` beside the built-in ones.

    Raises `ExpressionSyntaxError`.
    """
    check_syntax(text, names, {*FUNCTIONS, *functions})
    compile_program(text)


class CelExpression:
    """A compiled expression. `find_paths` are the paths it names, by variable: `source.name` is `name` of `source`."""

    def __init__(self, text: str, names: Sequence[str], functions: Mapping[str, Function] | None = None) -> None:
        """Compile `text`, which may use `names` and call `functions` beside the built-in ones.

        Raises `ExpressionSyntaxError`.
        """
        known = {**FUNCTIONS, **(functions or {})}
        found = check_syntax(text, names, known)
        self.text = text
        self.paths = {name: find_paths(found, name) for name in names}
        compile_program(text)  # before it is rewritten, for the positions of errors
        called = {name: function for name, function in known.items() if _calls(found, name)}
        divides = any(token.text == "/" for token in found)
        renamed = _rename_size(found, text)
        self._exact = None if divides else CompiledProgram(renamed, called)
        self._doubles = CompiledProgram(
            rewrite_for_doubles(renamed), {**with_double_results(called), **INNER_FUNCTIONS}
        )

    def evaluate(self, variables: Variables) -> Json:
        """Evaluate the expression with `variables`. All values are copied, so pass only those that it reads.

        Raises `EvaluationError`.
        """
        try:
            return self._evaluate(variables)
        except EvaluationError:
            raise
        except Exception as error:  # noqa: BLE001  # the engine raises eight classes for bad values
            raise EvaluationError(describe_error(error)) from None

    def _evaluate(self, variables: Variables) -> Json:
        if not _fits(variables, INTEGER_RANGE):
            raise EvaluationError("a whole number does not fit into 64 bits")
        if self._exact is None:
            return self._in_doubles(variables)
        try:
            return _json(self._exact.run(variables))
        except TypeError as error:
            try:
                return self._in_doubles(variables)
            except TypeError:
                raise error from None  # mixed numbers were not the cause

    def _in_doubles(self, variables: Variables) -> Json:
        result = self._doubles.run({name: to_doubles(value) for name, value in variables.items()})
        if not _fits(variables, range(-EXACT, EXACT + 1)):
            raise EvaluationError("a whole number is too large for calculations with fractions")
        return _whole(_json(result))


class RecordExpression:
    """An expression over one record, named `source`."""

    def __init__(self, text: str) -> None:
        """Compile `text`. Raises `ExpressionSyntaxError`."""
        self._expression = CelExpression(text, [SOURCE])
        self.fields = self._expression.paths[SOURCE] or ()
        whole = self._expression.paths[SOURCE] is None
        self._keys = None if whole else tuple(dict.fromkeys(path.parts[0] for path in self.fields))

    def evaluate(self, record: Record) -> Json:
        """Evaluate the expression for `record`. Raises `EvaluationError`."""
        if self._keys is None:
            return self._expression.evaluate({SOURCE: record})
        return self._expression.evaluate({SOURCE: {key: record[key] for key in self._keys if key in record}})

    def read_fields(self, record: Record) -> dict[str, Json]:
        """Return the fields of `record` that it reads, by path, to show with a failure."""
        found: dict[str, Json] = {}
        for path in self.fields:
            with suppress(KeyError):
                found[str(path)] = path.get(record)
        return found

    def matches(self, record: Record) -> bool:
        """Return whether it is true for `record`. Raises `EvaluationError`, also for a result that is not a boolean."""
        result = self.evaluate(record)
        if not isinstance(result, bool):
            raise EvaluationError(f"expected true or false, got {format_value(result)}")
        return result


def _rename_size(found: Sequence[CelToken], text: str) -> str:
    pieces: list[str] = []
    done = 0
    for at, token in enumerate(found):
        piece = token.text
        if token.kind is TokenKind.NAME and token.text == "size" and _text_at(found, at + 1) == "(":
            piece = SIZE
        pieces += [text[done : token.start], piece]
        done = token.end
    return "".join([*pieces, text[done:]])


def _text_at(found: Sequence[CelToken], at: int) -> str:
    return found[at].text if at < len(found) else ""


def _calls(found: Sequence[CelToken], name: str) -> bool:
    last = name.rpartition(".")[2]
    return any(token.text == last and _text_at(found, at + 1) == "(" for at, token in enumerate(found))


def _fits(value: object, whole: range) -> bool:
    """Return whether all integers in `value` are in the range `whole`."""
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
    """Return `value` as JSON, a timestamp as ISO 8601 in UTC. Raises `EvaluationError` if it is not JSON."""
    if value is None or isinstance(value, (str, int)):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise EvaluationError(f"the result is {value}, which is not a JSON number")
        return value
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    if isinstance(value, list):
        return [_json(item) for item in value]
    if isinstance(value, dict):
        if not all(isinstance(key, str) for key in value):
            raise EvaluationError("the result is an object with keys that are not text")
        return {str(key): _json(value[key]) for key in sorted(value)}  # the engine returns them in random order
    raise EvaluationError(f"the result is a {type(value).__name__}, which is not JSON; string(...) converts it to text")
