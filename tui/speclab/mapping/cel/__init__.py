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

import math
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Final, TypeAlias

from speclab.core.json import Json, Record
from speclab.mapping.cel.doubles import EXACT, INNER_FUNCTIONS, rewrite_for_doubles, to_doubles, with_double_results
from speclab.mapping.cel.engine import SIZE, CompiledProgram, compile_program, describe_error
from speclab.mapping.cel.functions import FUNCTIONS, Function
from speclab.mapping.cel.syntax import CelToken, TokenKind, check_syntax, find_paths
from speclab.mapping.types import INTEGER_RANGE, StepError, format_value

SOURCE: Final = "source"
"""What expressions call the record."""

Variables: TypeAlias = Mapping[str, Json]


class EvaluationError(StepError):
    """An expression that cannot be evaluated for these values; its text is the reason."""


def verify(text: str, names: Sequence[str], functions: Collection[str]) -> None:
    """Check an expression that may speak of `names` and call `functions` beyond the usual ones.

    Raises `ExpressionSyntaxError`.
    """
    check_syntax(text, names, {*FUNCTIONS, *functions})
    compile_program(text)


class CelExpression:
    """A compiled expression. `find_paths` are the paths it names, by variable: `source.name` is `name` of `source`."""

    def __init__(self, text: str, names: Sequence[str], functions: Mapping[str, Function] | None = None) -> None:
        """Compile `text`, which may speak of `names` and call `functions` beyond the usual ones.

        Raises `ExpressionSyntaxError`.
        """
        known = {**FUNCTIONS, **(functions or {})}
        found = check_syntax(text, names, known)
        self.text = text
        self.paths = {name: find_paths(found, name) for name in names}
        compile_program(text)  # for errors with places in the text as it was written
        called = {name: function for name, function in known.items() if _calls(found, name)}
        divides = any(token.text == "/" for token in found)
        renamed = _with_own_size(found, text)
        self._exact = None if divides else CompiledProgram(renamed, called)
        self._doubles = CompiledProgram(
            rewrite_for_doubles(renamed), {**with_double_results(called), **INNER_FUNCTIONS}
        )

    def evaluate(self, variables: Variables) -> Json:
        """What it gives for `variables`, all of whose values are copied: give no more than it reads.

        Raises `EvaluationError`.
        """
        try:
            return self._evaluate(variables)
        except EvaluationError:
            raise
        except Exception as error:  # noqa: BLE001  # the edge of the engine, which raises eight classes for bad values
            raise EvaluationError(describe_error(error)) from None

    def _evaluate(self, variables: Variables) -> Json:
        if not _fits(variables, INTEGER_RANGE):
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
        result = self._doubles.run({name: to_doubles(value) for name, value in variables.items()})
        if not _fits(variables, range(-EXACT, EXACT + 1)):
            raise EvaluationError("a whole number is too large to reckon with fractions")
        return _whole(_json(result))


class RecordExpression:
    """An expression over one record, which it calls `source`."""

    def __init__(self, text: str) -> None:
        """Compile `text`. Raises `ExpressionSyntaxError`."""
        self._expression = CelExpression(text, [SOURCE])
        self.fields = self._expression.paths[SOURCE] or ()
        whole = self._expression.paths[SOURCE] is None
        self._keys = None if whole else tuple(dict.fromkeys(path.parts[0] for path in self.fields))

    def evaluate(self, record: Record) -> Json:
        """What it gives for `record`. Raises `EvaluationError`."""
        if self._keys is None:
            return self._expression.evaluate({SOURCE: record})
        return self._expression.evaluate({SOURCE: {key: record[key] for key in self._keys if key in record}})

    def read_fields(self, record: Record) -> dict[str, Json]:
        """The fields it names that `record` has, by path: what there is to show where it fails."""
        found: dict[str, Json] = {}
        for path in self.fields:
            with suppress(KeyError):
                found[str(path)] = path.get(record)
        return found

    def matches(self, record: Record) -> bool:
        """Whether it is true of `record`. Raises `EvaluationError`, also where it gives neither true nor false."""
        answer = self.evaluate(record)
        if not isinstance(answer, bool):
            raise EvaluationError(f"expected true or false, not {format_value(answer)}")
        return answer


def _with_own_size(found: Sequence[CelToken], text: str) -> str:
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
