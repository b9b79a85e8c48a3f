"""An expression over doubles, for where whole numbers meet fractions, which CEL does not mix.

Its text is written anew: whole numbers as doubles, doubles of what CEL's own functions give as whole numbers, `%`,
which CEL has for whole numbers alone, as a function, and what stands in the brackets of an index made whole again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from speclab.core.json import Json
from speclab.mapping.cel.functions import Function
from speclab.mapping.cel.syntax import CelToken, TokenKind, is_value_end, tokenize

EXACT: Final = 2**53
"""Whole numbers up to this one are doubles of their own."""

_GIVE_WHOLE: Final = frozenset(
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
        elif token.text == ")" and found[opened - 1].text in _GIVE_WHOLE and opened:
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
    """`functions`, with doubles of the whole numbers that they give."""

    def doubling(function: Function) -> Callable[..., Json]:
        return lambda *given: to_doubles(function(*given))

    return {name: doubling(function) for name, function in functions.items()}


def to_doubles(value: Json) -> Json:
    """`value` with doubles for whole numbers."""
    if type(value) is int:
        return float(value)
    if isinstance(value, dict):
        return {key: to_doubles(item) for key, item in value.items()}
    return [to_doubles(item) for item in value] if isinstance(value, list) else value


def _fraction(value: int) -> float:
    if abs(value) > EXACT:
        raise ValueError("a whole number is too large to reckon with fractions")
    return float(value)


def _remainder(value: Json, by: Json) -> float:
    if not isinstance(value, float) or not isinstance(by, float) or not (value.is_integer() and by.is_integer()):
        raise TypeError("% takes whole numbers; int(...) makes them")
    if not by:
        raise ValueError("modulo by zero")
    return math.fmod(value, by)


def _place(value: Json) -> Json:
    return int(value) if isinstance(value, float) and value.is_integer() else value


INNER_FUNCTIONS: Final[dict[str, Function]] = {"fraction": _fraction, "place": _place, "remainder": _remainder}
"""What expressions over doubles call beside the functions that were written; nobody can write these."""


def _partners(found: Sequence[CelToken]) -> dict[int, int]:
    """Each bracket's other one."""
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
    """Whether an index stands between these tokens."""
    within = opened > 0 and closed < len(found) and found[opened].text == "[" and found[closed].text == "]"
    return within and is_value_end(found[opened - 1])


def _product_start(found: Sequence[CelToken], partner: Mapping[int, int], at: int) -> int:
    """Where the product begins whose last factor ends at token `at`."""
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
