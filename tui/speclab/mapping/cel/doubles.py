"""Rewrites expressions to calculate in doubles, as CEL does not mix integers and fractions.

In the rewritten text, integer literals and integer results of built-in functions are doubles, `%`, which CEL defines
for integers only, is a function call, and an index in brackets is converted back to an integer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from speclab.core.json import Json
from speclab.mapping.cel.functions import Function
from speclab.mapping.cel.syntax import CelToken, TokenKind, is_value_end, tokenize

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
