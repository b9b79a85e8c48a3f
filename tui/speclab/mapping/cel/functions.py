"""CEL: the syntax of expressions in cells, and the functions that they may call."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, TypeAlias

from rapidfuzz import fuzz, process

from speclab.core.json import Json
from speclab.core.paths import FieldPath
from speclab.mapping.types import INTEGER_RANGE, MAX_TEXT, round_to_places, to_decimal


class TokenKind(StrEnum):
    """The kind of a token."""

    TEXT = "text"
    FLOAT = "float"
    INTEGER = "integer"
    NAME = "name"
    SIGN = "sign"
    OPEN = "open"
    CLOSE = "close"
    COMMENT = "comment"
    BROKEN = "broken"  # an unclosed quote, or an invalid character


@dataclass(frozen=True, slots=True)
class CelToken:
    """A token and its offset; white space is skipped."""

    kind: TokenKind
    text: str
    start: int

    @property
    def end(self) -> int:
        """Offset of its end."""
        return self.start + len(self.text)


# https://github.com/google/cel-spec/blob/master/doc/langdef.md#syntax
_TOKEN: Final = re.compile(
    r'''(?P<text>
            [bB]?[rR][bB]?(?:"""(?s:.*?)"""|\'\'\'(?s:.*?)\'\'\'|"[^"\n\r]*"|'[^'\n\r]*')
          | [bB]?(?:"""(?s:\\.|[^\\])*?"""|\'\'\'(?s:\\.|[^\\])*?\'\'\'|"(?:\\.|[^"\\\n\r])*"|'(?:\\.|[^'\\\n\r])*'))
      | (?P<float>[0-9]*\.[0-9]+(?:[eE][+-]?[0-9]+)?|[0-9]+[eE][+-]?[0-9]+)
      | (?P<integer>(?:0[xX][0-9a-fA-F]+|[0-9]+)[uU]?)
      | (?P<name>[_a-zA-Z][_a-zA-Z0-9]*)
      | (?P<comment>//[^\n]*)
      | (?P<open>[(\[{])
      | (?P<close>[)\]}])
      | (?P<sign>\|\||&&|[<>=!]=|[-+*/%<>!?:.,])
      | (?P<blank>\s+)
      | (?P<broken>.)
    ''',
    re.VERBOSE,
)


_VALUES: Final = frozenset({TokenKind.TEXT, TokenKind.FLOAT, TokenKind.INTEGER, TokenKind.NAME, TokenKind.CLOSE})


def tokenize(text: str, start: int = 0) -> Iterator[CelToken]:
    """Yield the tokens of `text` from `start`."""
    for found in _TOKEN.finditer(text, start):
        if found.lastgroup and found.lastgroup != "blank":
            yield CelToken(TokenKind(found.lastgroup), found[0], found.start())


def find_expression_end(text: str, start: int = 0) -> int:
    """Return the end of the expression at `start`: the first comma outside brackets and quotes, or the end."""
    depth = 0
    for token in tokenize(text, start):
        if token.kind is TokenKind.OPEN:
            depth += 1
        elif token.kind is TokenKind.CLOSE:
            depth -= 1
        elif token.text == "," and depth <= 0 and token.kind is TokenKind.SIGN:
            return token.start
    return len(text)


def is_value_end(token: CelToken) -> bool:
    """Return whether a value can end with `token`."""
    return token.kind in _VALUES and token.text != "in"


def measure_depth(found: Sequence[CelToken]) -> int:
    """Return the maximum depth of nested brackets."""
    depth = most = 0
    for token in found:
        depth += (token.kind is TokenKind.OPEN) - (token.kind is TokenKind.CLOSE)
        most = max(most, depth)
    return most


MAX_LENGTH: Final = 2000
MAX_NESTING: Final = 24
MAX_LOOPS: Final = 3  # loops in loops: each multiplies the work of one record

LOOPS: Final = frozenset({"all", "exists", "exists_one", "filter", "map"})
BUILT_IN: Final = LOOPS | frozenset(
    "bytes contains double duration dyn endsWith getDate getDayOfMonth getDayOfWeek getDayOfYear getFullYear getHours "
    "getMilliseconds getMinutes getMonth getSeconds has int matches startsWith string timestamp type uint".split()
)
_RESERVED_WORDS: Final = frozenset({"true", "false", "null", "in"})
_TYPES: Final = frozenset("bool bytes double int list map null_type string uint".split())
_SPACES: Final = frozenset({"math"})
_NEAR: Final = 70


class ExpressionSyntaxError(ValueError):
    """A syntax error in an expression; `start` and `end` are offsets in it, `fix` is the replacement for that range."""

    def __init__(self, message: str, start: int, end: int, fix: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.start = start
        self.end = end
        self.fix = fix


def check_syntax(text: str, names: Sequence[str], functions: Collection[str]) -> list[CelToken]:
    """Return the tokens of an expression that may use `names` and call `functions` beside CEL's own.

    Raises `ExpressionSyntaxError`.
    """
    if not text.strip():
        raise ExpressionSyntaxError("the expression is empty", 0, len(text))
    if len(text) > MAX_LENGTH:
        raise ExpressionSyntaxError(f"an expression has at most {MAX_LENGTH} characters, not {len(text)}", 0, len(text))
    found = [token for token in tokenize(text) if token.kind is not TokenKind.COMMENT]
    for token in found:
        if token.kind is TokenKind.BROKEN:
            quote = token.text in "\"'"
            message = "unclosed quote" if quote else f"unexpected {token.text}"
            raise ExpressionSyntaxError(message, token.start, len(text) if quote else token.end)
    if measure_depth(found) > MAX_NESTING:
        raise ExpressionSyntaxError(f"brackets are nested more than {MAX_NESTING} deep", 0, len(text))
    _check_loops(found, len(text))
    _check_names(found, names, functions)
    return found


def find_paths(found: Sequence[CelToken], name: str) -> tuple[FieldPath, ...] | None:
    """Return the fields of the variable `name` that an expression reads, or None if it reads all of it."""
    paths: dict[FieldPath, None] = {}
    for at, token in enumerate(found):
        if token.text == name and token.kind is TokenKind.NAME and not _follows_dot(found, at):
            parts = _parts(found, at + 1)
            if not parts or not isinstance(parts[0], str):
                return None
            paths[FieldPath(tuple(parts))] = None
    return tuple(paths)


def _parts(found: Sequence[CelToken], at: int) -> list[str | int]:
    """Parse the path that starts at token `at`: `.name`, `["odd key"]`, `[0]`."""
    parts: list[str | int] = []
    while at + 1 < len(found):
        after = found[at + 2].text if at + 2 < len(found) else ""
        step = found[at + 1]
        if found[at].text == "." and step.kind is TokenKind.NAME and after != "(":
            parts.append(step.text)
            at += 2
        elif found[at].text == "[" and after == "]" and step.kind is TokenKind.INTEGER and step.text.isdecimal():
            parts.append(int(step.text))
            at += 3
        elif found[at].text == "[" and after == "]" and step.kind is TokenKind.TEXT and "\\" not in step.text:
            if step.text[0] not in "\"'" or step.text[:3] in ('"""', "'''"):
                break
            parts.append(step.text[1:-1])
            at += 3
        else:
            break
    return parts


def _check_loops(found: Sequence[CelToken], length: int) -> None:
    opened: list[bool] = []  # for each open bracket, whether it belongs to a loop
    for at, token in enumerate(found):
        if token.kind is TokenKind.OPEN:
            opened.append(at > 0 and found[at - 1].text in LOOPS and _follows_dot(found, at - 1))
            if sum(opened) > MAX_LOOPS:
                raise ExpressionSyntaxError(f"loops are nested more than {MAX_LOOPS} deep", token.start, length)
        elif token.kind is TokenKind.CLOSE and opened:
            opened.pop()


def _check_names(found: Sequence[CelToken], names: Sequence[str], functions: Collection[str]) -> None:
    bound = {found[at + 2].text for at, token in enumerate(found[:-2]) if _binds(found, at) and token.text in LOOPS}
    for at, token in enumerate(found):
        if token.kind is not TokenKind.NAME or token.text in _RESERVED_WORDS:
            continue
        after = found[at + 1].text if at + 1 < len(found) else ""
        if token.text in names and token.text in bound:
            raise ExpressionSyntaxError(
                f"{token.text} is a variable already; use another name in the loop", token.start, token.end
            )
        if after == "(":
            space = f"{found[at - 2].text}." if _in_space(found, at) else ""
            if space + token.text not in functions and (space or token.text not in BUILT_IN):
                raise _unknown("function", space + token.text, [*BUILT_IN, *functions], token, len(space))
        elif (
            not _follows_dot(found, at)
            and token.text not in {*names, *bound, *_TYPES}
            and not (token.text in _SPACES and after == ".")
        ):
            raise _unknown_name(token, names)


def _binds(found: Sequence[CelToken], at: int) -> bool:
    return _follows_dot(found, at) and found[at + 1].text == "(" and found[at + 2].kind is TokenKind.NAME


def _follows_dot(found: Sequence[CelToken], at: int) -> bool:
    return at > 0 and found[at - 1].text == "."


def _in_space(found: Sequence[CelToken], at: int) -> bool:
    return _follows_dot(found, at) and at > 1 and found[at - 2].text in _SPACES and not _follows_dot(found, at - 2)


def _unknown_name(token: CelToken, names: Sequence[str]) -> ExpressionSyntaxError:
    if list(names) != ["source"]:
        return _unknown("name", token.text, names, token)
    near = fuzz.ratio(token.text, "source") >= _NEAR
    meant = "source" if near else f"source.{token.text}"
    hint = f"Did you mean '{meant}'?" if near else f"Write fields of the record as {meant}."
    return ExpressionSyntaxError(f"unknown name '{token.text}'. {hint}", token.start, token.end, meant)


def _unknown(what: str, name: str, known: Collection[str], token: CelToken, before: int = 0) -> ExpressionSyntaxError:
    near = process.extractOne(name, known, scorer=fuzz.ratio, score_cutoff=_NEAR)
    hint = f" Did you mean '{near[0]}'?" if near else ""
    return ExpressionSyntaxError(
        f"unknown {what} '{name}'.{hint}", token.start - before, token.end, near[0] if near else None
    )


Function: TypeAlias = Callable[..., Json]

_WORDS: Final = {str: "text", int: "a whole number", float: "a number", list: "a list", dict: "an object"}


def _function(name: str, *takes: type | tuple[type, ...], optional: int = 0) -> Callable[[Function], Function]:
    """Check arguments against `takes`, of which the last `optional` may be omitted; `int` also takes 2.0."""

    def decorate(function: Function) -> Function:
        def checked(*given: Json) -> Json:
            if not len(takes) - optional <= len(given) <= len(takes):
                raise TypeError(f"{name}() takes {len(takes)} values, not {len(given)}")
            values: list[Json] = []
            for value, kinds in zip(given, takes, strict=False):
                wanted = kinds if isinstance(kinds, tuple) else (kinds,)
                if wanted == (int,) and isinstance(value, float) and value.is_integer():
                    values.append(int(value))
                elif isinstance(value, float) and not math.isfinite(value):
                    raise ValueError(f"{name}() takes a number, not {value}")
                elif type(value) in wanted:
                    values.append(value)
                else:
                    words = " or ".join(_WORDS[kind] for kind in wanted if kind is not int or wanted == (int,))
                    raise TypeError(f"{name}() takes {words}, not {_name(value)}")
            result = function(*values)
            if isinstance(result, str) and len(result) > MAX_TEXT:
                raise ValueError(f"{name}(): result too long: {len(result):,} characters")
            if isinstance(result, int) and result not in INTEGER_RANGE:
                raise ValueError(f"{name}(): the result does not fit into 64 bits")
            return result

        return checked

    return decorate


def _name(value: Json) -> str:
    if value is None:
        return "null"
    return "true or false" if isinstance(value, bool) else _WORDS.get(type(value), type(value).__name__)


_NUMBER: Final = (int, float)


@_function("size", (str, list, dict))
def _size(value: str | list[Json] | dict[str, Json]) -> int:
    return len(value)


@_function("trim", str)
def _trim(text: str) -> str:
    return text.strip()


@_function("lowerAscii", str)
def _lower(text: str) -> str:
    return "".join(character.lower() if character.isascii() else character for character in text)


@_function("upperAscii", str)
def _upper(text: str) -> str:
    return "".join(character.upper() if character.isascii() else character for character in text)


@_function("replace", str, str, str)
def _replace(text: str, old: str, new: str) -> str:
    if len(text) + text.count(old) * len(new) > MAX_TEXT:
        raise ValueError(f"replace(): result too long: more than {MAX_TEXT:,} characters")
    return text.replace(old, new)


@_function("split", str, str)
def _split(text: str, separator: str) -> Json:
    return [*text.split(separator)] if separator else [*text]


@_function("join", list, str, optional=1)
def _join(parts: list[Json], separator: str = "") -> str:
    texts = [part for part in parts if isinstance(part, str)]
    if len(texts) != len(parts):
        raise TypeError("join() takes a list of texts")
    return separator.join(texts)


@_function("substring", str, int, int, optional=1)
def _substring(text: str, start: int, end: int | None = None) -> str:
    end = len(text) if end is None else end
    if not 0 <= start <= end <= len(text):
        raise ValueError(f"substring({start}, {end}) is not within a text of {len(text)} characters")
    return text[start:end]


@_function("charAt", str, int)
def _char_at(text: str, index: int) -> str:
    if not 0 <= index <= len(text):
        raise ValueError(f"charAt({index}) is not within a text of {len(text)} characters")
    return text[index : index + 1]


@_function("indexOf", str, str)
def _index_of(text: str, part: str) -> int:
    return text.find(part)


@_function("sum", list)
def _sum(values: list[Json]) -> float:
    numbers = [value for value in values if type(value) in _NUMBER and isinstance(value, (int, float))]
    if len(numbers) != len(values):
        raise TypeError("sum() takes a list of numbers")
    return math.fsum(numbers) if any(isinstance(number, float) for number in numbers) else sum(numbers)


@_function("math.abs", _NUMBER)
def _abs(value: float) -> float:
    return abs(value)


@_function("math.ceil", _NUMBER)
def _ceil(value: float) -> int:
    return math.ceil(value)


@_function("math.floor", _NUMBER)
def _floor(value: float) -> int:
    return math.floor(value)


@_function("math.round", _NUMBER)
def _round(value: float) -> int:
    return int(round_to_places(to_decimal(value), 0))


@_function("math.greatest", _NUMBER, _NUMBER)
def _greatest(one: float, other: float) -> float:
    return max(one, other)


@_function("math.least", _NUMBER, _NUMBER)
def _least(one: float, other: float) -> float:
    return min(one, other)


FUNCTIONS: Final[dict[str, Function]] = {
    "charAt": _char_at,
    "indexOf": _index_of,
    "join": _join,
    "lowerAscii": _lower,
    "math.abs": _abs,
    "math.ceil": _ceil,
    "math.floor": _floor,
    "math.greatest": _greatest,
    "math.least": _least,
    "math.round": _round,
    "replace": _replace,
    "size": _size,
    "split": _split,
    "substring": _substring,
    "sum": _sum,
    "trim": _trim,
    "upperAscii": _upper,
}
"""By name; `x.f(y)` and `f(x, y)` are the same call."""
