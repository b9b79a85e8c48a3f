"""Functions of expressions beside those of CEL: parts of cel-go's strings and math libraries, and `sum`.

A TypeError or ValueError explains which values they cannot process.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final, TypeAlias

from speclab.core.json import Json
from speclab.mapping.sizes import MAX_TEXT
from speclab.mapping.types import INTEGER_RANGE, round_to_places, to_decimal

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
