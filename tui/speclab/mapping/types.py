"""Field types, conversion between them, and the bounds on the size of values."""

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
"""Input and output of a step: JSON, or a `Decimal` until the row's end, where it becomes a JSON number."""


class ValueKind(Flag):
    """A set of kinds of values. Null has no kind: it can occur with any of them."""

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
    """Return the kind of a value that is not null; empty for a type that is not JSON."""
    return _OF_TYPE.get(type(value), ValueKind(0))


def get_types(kind: ValueKind) -> frozenset[type]:
    """Return the Python types of values of `kind`."""
    return frozenset(cls for cls, own in _OF_TYPE.items() if own & kind or (cls is str and kind & ValueKind.ANY_TEXT))


def describe_kind(kind: ValueKind) -> str:
    """Describe `kind` for a message: `text`, `a number or a list`."""
    words: list[str] = []
    for part, word in _IN_WORDS:
        if part in kind and kind:
            words.append(word)
            kind &= ~part
    return " or ".join(dict.fromkeys(words))


def kind_label(kind: ValueKind) -> str:
    """Return one word for `kind`: `text`, `date`, `number`; `any` if it is not known before the run."""
    if not kind or kind == ValueKind.ANY:
        return "any"
    if len(kind) == 1:
        return "number" if kind == ValueKind.DECIMAL else str(kind.name).lower()
    for family, word in ((ValueKind.ANY_TEXT, "text"), (ValueKind.ANY_NUMBER, "number")):
        if kind in family:
            return word
    return "any"


def format_value(value: Value) -> str:
    """Format `value` as JSON, shortened for a message."""
    if isinstance(value, Decimal):
        text = str(value)
    else:
        try:
            text = json.dumps(value, ensure_ascii=False, default=str)
        except RecursionError:
            text = "a value nested too deep to show"
    return text if len(text) <= _MAX_SHOWN else text[: _MAX_SHOWN - 1] + "…"


def to_json(value: Value) -> Json:
    """Return `value` as JSON: a decimal becomes text."""
    return str(value) if isinstance(value, Decimal) else value


Apply: TypeAlias = "Callable[[Never], Value | Dropped]"
"""The function of a step; called with values that the step takes, or with a list of them if it joins."""


class StepError(ValueError):
    """A value that a step cannot process; its text is the reason."""


class Dropped:
    """The type of `DROPPED`."""

    def __repr__(self) -> str:
        return "DROPPED"


DROPPED: Final = Dropped()
"""Result of `Drop` for null: the field is omitted."""


class ParameterType(StrEnum):
    """The type of a parameter."""

    TEXT = "text"  # in quotes
    COUNT = "count"  # a whole number from 0
    INTEGER = "integer"  # a whole number
    LITERAL = "literal"  # text in quotes, a number, true, false or null
    LOOKUP = "lookup"  # the name of a table under `lookups:`


@dataclass(frozen=True, slots=True)
class Parameter:
    """One argument of a step.

    `check` returns why a value of the right type is invalid, or None. `choices` are the allowed values if
    `closed`, else suggestions.
    """

    name: str
    type: ParameterType
    optional: bool = False
    check: Callable[[Never], str | None] | None = None
    choices: tuple[str, ...] = ()
    closed: bool = False


@dataclass(frozen=True, slots=True)
class LookupTable:
    """A table of `lookups:` with its name, the argument of the step `Lookup`."""

    name: str
    entries: dict[str, Json]


@dataclass(frozen=True, slots=True)
class StepExample:
    """An example: a cell, its input (a list for several source fields) and its result. A test runs each.

    `lookups` are the tables it uses.
    """

    cell: str
    given: Json
    result: Json
    lookups: dict[str, dict[str, Json]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Step:
    """One step of the catalogue.

    `inline` is the step as a statement of the compiled function, for speed: `{v}` is the value, `{f}` the step as a
    function, `{a}` its first argument. It runs for text, or for any value if the step handles null. It must do the
    same as `make`, or raise `StepError` or `KeyError`.
    """

    name: str
    summary: str
    takes: ValueKind
    returns: ValueKind | Callable[[ValueKind, Sequence[Json | LookupTable]], ValueKind]
    make: Callable[..., Apply]
    example: StepExample
    parameters: tuple[Parameter, ...] = ()
    joins: bool = False  # joins the values of several source fields, or the items of a list
    starts: bool = False  # reads no field and must come first
    ends: bool = False  # omits the field and must come last
    sees_null: bool = False
    never_null: bool = False
    may_fail: bool = False
    may_null: bool = False
    may_grow: bool = False  # its result may be larger than its input
    inline: str | None = None
    other_names: tuple[str, ...] = ()  # names in other tools, for "did you mean"

    @property
    def signature(self) -> str:
        """The step with its parameters: `Split(separator[, index])`."""
        text = ""
        for parameter in self.parameters:
            part = f", {parameter.name}" if text else parameter.name
            text += f"[{part}" if parameter.optional else part
        text += "]" * (len(self.parameters) - self.required)
        return f"{self.name}({text})" if text else self.name

    @property
    def required(self) -> int:
        """The number of required arguments."""
        return sum(not parameter.optional for parameter in self.parameters)

    def result(self, kind: ValueKind, arguments: Sequence[Json | LookupTable]) -> ValueKind:
        """Return the kind of the result for a value of `kind`."""
        return self.returns if isinstance(self.returns, ValueKind) else self.returns(kind, arguments)


MAX_PLACES: Final = 20
"""Maximum decimal places of the steps on numbers."""

INTEGER_RANGE: Final = range(-(2**63), 2**64)
"""Integers that fit into 64 bits, signed or unsigned: JSON readers and databases keep them exactly."""

_EXACT: Final = Context(prec=400, rounding=ROUND_HALF_UP)
"""Enough digits for any double and any number typed by a person."""
_UNITS: Final = [Decimal(1).scaleb(-places) for places in range(MAX_PLACES + 1)]
_SAFE_TEXT: Final = 16
"""A decimal of this length, including point and sign, has at most 15 digits, which a double keeps exactly."""


def to_text(value: str | float | Decimal) -> str:
    """Return `value` as text: numbers as in JSON, decimals with their places, `true` and `false`."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Decimal):
        return format(value, "f")
    return repr(value if isinstance(value, int) else _finite(value))


def to_decimal(value: float | Decimal) -> Decimal:
    """Return `value` as a decimal with the digits it is written with: 0.1 is exactly 0.1."""
    if isinstance(value, float):
        return Decimal(repr(_finite(value)))
    return Decimal(value)


def _finite(value: float) -> float:
    if not math.isfinite(value):
        raise StepError(f"{value} cannot be written as a JSON number")
    return value


def round_to_places(value: Decimal, places: int) -> Decimal:
    """Round `value` to `places` decimal places, halves away from zero."""
    try:
        return value.quantize(_UNITS[places], context=_EXACT)
    except InvalidOperation:
        raise StepError(f"{format_value(value)} has too many digits") from None


def check_integer(value: int) -> int:
    """Return `value` if it fits into 64 bits. Raises `StepError`."""
    if value not in INTEGER_RANGE:
        raise StepError(f"{format_value(value)} does not fit into 64 bits; Text keeps all digits")
    return value


def to_json_number(value: Decimal) -> int | float:
    """Return `value` as exactly the same JSON number: an int without decimal places, else a double."""
    text = str(value)
    if len(text) <= _SAFE_TEXT and "E" not in text:
        return float(text) if "." in text else int(text)
    if value.as_tuple().exponent == 0:
        return check_integer(int(value))
    number = float(value)
    if not math.isfinite(number) or Decimal(repr(number)) != value:
        raise StepError(f"{format_value(value)} has more digits than a JSON number can hold; Text keeps them all")
    return number


MAX_TEXT: Final = 1_000_000
"""Maximum characters of a step's result."""

MAX_ITEMS: Final = 100_000
"""Maximum items of a list made from a text."""

MAX_RECORD: Final = 16_000_000
"""Maximum characters of all values of a mapped record."""

_MAX_IN_FAILURE: Final = 10_000


def check_text_size(made: int, given: int) -> None:
    """Check the size of a text of `made` characters from an input of `given`. Raises `StepError`."""
    if made > MAX_TEXT and made > given:
        raise StepError(f"result too long: {made:,} characters from {given:,}; the limit is {MAX_TEXT:,}")


def check_item_count(made: int) -> None:
    """Check the size of a list of `made` items. Raises `StepError`."""
    if made > MAX_ITEMS:
        raise StepError(f"result too long: a list of {made:,} items; the limit is {MAX_ITEMS:,}")


def add_size(size: int, value: Value | Dropped) -> int:
    """Return `size` plus the size of `value`. Raises `StepError` if the record becomes too large."""
    size += len(value) if type(value) is str else _measure(value)
    if size > MAX_RECORD:
        raise StepError(f"mapped record too large: {size:,} characters or more; the limit is {MAX_RECORD:,}")
    return size


def shorten(value: Value) -> Value:
    """Return `value` for display: a very long text or list is cut, with its length."""
    if isinstance(value, str) and len(value) > _MAX_IN_FAILURE:
        return f"{value[:_MAX_IN_FAILURE]}… ({len(value):,} characters)"
    if isinstance(value, list) and len(value) > _MAX_IN_FAILURE:
        return [*value[:_MAX_IN_FAILURE], f"… ({len(value):,} items)"]
    return value


def _measure(value: object) -> int:
    size, left = 0, [value]
    while left:
        one = left.pop()
        if isinstance(one, str):
            size += len(one)
        elif isinstance(one, list):
            size += len(one)
            left += one
        elif isinstance(one, dict):
            size += sum(map(len, one))
            left += one.values()
        else:
            size += 1
    return size
