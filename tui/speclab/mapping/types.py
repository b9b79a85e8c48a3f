"""Types of values in a mapping, and what a step is."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from decimal import ROUND_HALF_UP, Context, Decimal, InvalidOperation
from enum import Flag, StrEnum, auto
from typing import Final, Never, TypeAlias

from speclab.core.json import Json

Value: TypeAlias = "Json | Decimal"
"""What a step takes and returns: JSON, or a `Decimal` on its way to a JSON number."""


class ValueKind(Flag):
    """A set of kinds; null is not one of them, it passes through beside them."""

    TEXT = auto()
    DATE = auto()  # text that is an ISO 8601 date
    DATETIME = auto()  # text that is an ISO 8601 time in UTC
    INTEGER = auto()
    NUMBER = auto()  # a JSON number with a fraction
    DECIMAL = auto()
    BOOLEAN = auto()
    LIST = auto()
    OBJECT = auto()

    ANY_TEXT = TEXT | DATE | DATETIME
    ANY_NUMBER = INTEGER | NUMBER | DECIMAL
    SCALAR = ANY_TEXT | ANY_NUMBER | BOOLEAN
    ANY = SCALAR | LIST | OBJECT


_OF_TYPE: Final[dict[type, ValueKind]] = {
    str: ValueKind.TEXT,
    int: ValueKind.INTEGER,
    float: ValueKind.NUMBER,
    Decimal: ValueKind.DECIMAL,
    bool: ValueKind.BOOLEAN,
    list: ValueKind.LIST,
    dict: ValueKind.OBJECT,
}
_IN_WORDS: Final = (
    (ValueKind.ANY, "anything"),
    (ValueKind.ANY_TEXT, "text"),
    (ValueKind.ANY_NUMBER, "a number"),
    (ValueKind.TEXT, "text"),
    (ValueKind.DATE, "a date"),
    (ValueKind.DATETIME, "a time"),
    (ValueKind.INTEGER | ValueKind.NUMBER, "a number"),
    (ValueKind.INTEGER, "a whole number"),
    (ValueKind.NUMBER, "a number"),
    (ValueKind.DECIMAL, "a decimal"),
    (ValueKind.BOOLEAN, "true or false"),
    (ValueKind.LIST, "a list"),
    (ValueKind.OBJECT, "an object"),
)
_MAX_SHOWN: Final = 60


def get_kind(value: Value) -> ValueKind:
    """The kind of a value that is not null; empty for what JSON does not know."""
    return _OF_TYPE.get(type(value), ValueKind(0))


def get_types(kind: ValueKind) -> frozenset[type]:
    """The Python types that values of `kind` have."""
    return frozenset(cls for cls, own in _OF_TYPE.items() if own & kind or (cls is str and kind & ValueKind.ANY_TEXT))


def describe_kind(kind: ValueKind) -> str:
    """`kind` as a message says it: `text`, `a number or a list`."""
    words: list[str] = []
    for part, word in _IN_WORDS:
        if part in kind and kind:
            words.append(word)
            kind &= ~part
    return " or ".join(dict.fromkeys(words))


def kind_label(kind: ValueKind) -> str:
    """One word for a column: `text`, `date`, `number`; `any` where it is not known before the run."""
    if not kind or kind == ValueKind.ANY:
        return "any"
    if len(kind) == 1:
        return "number" if kind == ValueKind.DECIMAL else str(kind.name).lower()
    for family, word in ((ValueKind.ANY_TEXT, "text"), (ValueKind.ANY_NUMBER, "number")):
        if kind in family:
            return word
    return "any"


def format_value(value: Value) -> str:
    """`value` as JSON, short enough for a message."""
    if isinstance(value, Decimal):
        text = str(value)
    else:
        try:
            text = json.dumps(value, ensure_ascii=False, default=str)
        except RecursionError:
            text = "a value nested too deep to show"
    return text if len(text) <= _MAX_SHOWN else text[: _MAX_SHOWN - 1] + "…"


def to_json(value: Value) -> Json:
    """`value` for a reader of JSON: a decimal as its text."""
    return str(value) if isinstance(value, Decimal) else value


Apply: TypeAlias = "Callable[[Never], Value | Dropped]"
"""Value in, value out; called only with what the step takes (or a list of it, for a step that joins)."""


class StepError(ValueError):
    """A value that a step cannot take; its text is the reason."""


class Dropped:
    """The type of `DROPPED`."""

    def __repr__(self) -> str:
        return "DROPPED"


DROPPED: Final = Dropped()
"""What `Drop` gives for null: the field is left out."""


class ParameterType(StrEnum):
    """What a parameter takes."""

    TEXT = "text"  # in quotes
    COUNT = "count"  # a whole number from 0
    INTEGER = "integer"  # a whole number
    LITERAL = "literal"  # text in quotes, a number, true, false or null
    LOOKUP = "lookup"  # the name of a table under `lookups:`


@dataclass(frozen=True, slots=True)
class Parameter:
    """One argument of a step.

    `check` says what is wrong with an argument of the right type, or nothing. `choices` are the values there are
    (if `closed`) or good ones to offer.
    """

    name: str
    type: ParameterType
    optional: bool = False
    check: Callable[[Never], str | None] | None = None
    choices: tuple[str, ...] = ()
    closed: bool = False


@dataclass(frozen=True, slots=True)
class LookupTable:
    """A table of `lookups:` by its name: what the `LookupTable` step is made of."""

    name: str
    entries: dict[str, Json]


@dataclass(frozen=True, slots=True)
class StepExample:
    """A cell, what goes in (a list for several source fields) and what comes out; a test runs each.

    `lookups` are the tables it needs.
    """

    cell: str
    given: Json
    result: Json
    lookups: dict[str, dict[str, Json]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Step:
    """One step of the catalogue.

    `inline` is the step as a statement of the compiled function, where that is worth it: `{v}` is the value,
    `{f}` the step as a function, `{a}` its first argument. It is run where the value is text, or for any value if the
    step sees null. It must do what `make` does, or raise `StepError` or `KeyError`.
    """

    name: str
    summary: str
    takes: ValueKind
    returns: ValueKind | Callable[[ValueKind, Sequence[Json | LookupTable]], ValueKind]
    make: Callable[..., Apply]
    example: StepExample
    parameters: tuple[Parameter, ...] = ()
    joins: bool = False  # takes the values of several source fields, or the items of a list
    starts: bool = False  # makes its value itself, and so stands first
    ends: bool = False  # leaves the field out, and so stands last
    sees_null: bool = False
    never_null: bool = False
    may_fail: bool = False
    may_null: bool = False
    may_grow: bool = False  # its result may be larger than what it is given
    inline: str | None = None
    other_names: tuple[str, ...] = ()  # what people call it elsewhere, for "did you mean"

    @property
    def signature(self) -> str:
        """The step as it is written: `Split(separator[, index])`."""
        text = ""
        for parameter in self.parameters:
            part = f", {parameter.name}" if text else parameter.name
            text += f"[{part}" if parameter.optional else part
        text += "]" * (len(self.parameters) - self.required)
        return f"{self.name}({text})" if text else self.name

    @property
    def required(self) -> int:
        """How many arguments it needs."""
        return sum(not parameter.optional for parameter in self.parameters)

    def result(self, kind: ValueKind, arguments: Sequence[Json | LookupTable]) -> ValueKind:
        """What it gives for a value of `kind`."""
        return self.returns if isinstance(self.returns, ValueKind) else self.returns(kind, arguments)


MAX_PLACES: Final = 20
"""Decimal places that numbers can be asked to have."""

INTEGER_RANGE: Final = range(-(2**63), 2**64)
"""The whole numbers that JSON readers and databases take unharmed."""

_EXACT: Final = Context(prec=400, rounding=ROUND_HALF_UP)
"""Enough digits for any double and for any number a person has typed."""
_UNITS: Final = [Decimal(1).scaleb(-places) for places in range(MAX_PLACES + 1)]
_SAFE_TEXT: Final = 16
"""A decimal of so many characters, point or sign included, has at most 15 digits: any such is a double's own."""


def to_text(value: str | float | Decimal) -> str:
    """`value` as text: numbers as JSON writes them, decimals with their places, `true` and `false`."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Decimal):
        return format(value, "f")
    return repr(value if isinstance(value, int) else _finite(value))


def to_decimal(value: float | Decimal) -> Decimal:
    """`value` as it is written, so 0.1 is 0.1 and not what the double nearest to it is."""
    if isinstance(value, float):
        return Decimal(repr(_finite(value)))
    return Decimal(value)


def _finite(value: float) -> float:
    if not math.isfinite(value):
        raise StepError(f"{value} is no number that JSON can write")
    return value


def round_to_places(value: Decimal, places: int) -> Decimal:
    """`value` with so many decimal places, halves rounded away from zero."""
    try:
        return value.quantize(_UNITS[places], context=_EXACT)
    except InvalidOperation:
        raise StepError(f"{format_value(value)} has too many digits") from None


def check_integer(value: int) -> int:
    """`value`, if 64 bits hold it."""
    if value not in INTEGER_RANGE:
        raise StepError(f"{format_value(value)} is beyond 64 bits; Text keeps all its digits")
    return value


def to_json_number(value: Decimal) -> int | float:
    """`value` as a JSON number, which must say exactly the same: whole without places, else a double."""
    text = str(value)
    if len(text) <= _SAFE_TEXT and "E" not in text:
        return float(text) if "." in text else int(text)
    if value.as_tuple().exponent == 0:
        return check_integer(int(value))
    number = float(value)
    if not math.isfinite(number) or Decimal(repr(number)) != value:
        raise StepError(f"{format_value(value)} has more digits than a JSON number keeps; Text keeps them all")
    return number
