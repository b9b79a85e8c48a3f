"""Kinds of values inside a cell, as steps declare and the type check follows them, and how messages name them."""

from __future__ import annotations

import json
from decimal import Decimal
from enum import Flag, auto
from typing import Final, TypeAlias

from speclab.jsonvalue import Json

Value: TypeAlias = "Json | Decimal"
"""What a step takes and gives: JSON, or a `Decimal` on its way to a JSON number."""


class Kind(Flag):
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


_OF_TYPE: Final[dict[type, Kind]] = {
    str: Kind.TEXT,
    int: Kind.INTEGER,
    float: Kind.NUMBER,
    Decimal: Kind.DECIMAL,
    bool: Kind.BOOLEAN,
    list: Kind.LIST,
    dict: Kind.OBJECT,
}
_IN_WORDS: Final = (
    (Kind.ANY, "anything"),
    (Kind.ANY_TEXT, "text"),
    (Kind.ANY_NUMBER, "a number"),
    (Kind.TEXT, "text"),
    (Kind.DATE, "a date"),
    (Kind.DATETIME, "a time"),
    (Kind.INTEGER | Kind.NUMBER, "a number"),
    (Kind.INTEGER, "a whole number"),
    (Kind.NUMBER, "a number"),
    (Kind.DECIMAL, "a decimal"),
    (Kind.BOOLEAN, "true or false"),
    (Kind.LIST, "a list"),
    (Kind.OBJECT, "an object"),
)
_MAX_SHOWN: Final = 60


def kind_of(value: Value) -> Kind:
    """The kind of a value that is not null; empty for what JSON does not know."""
    return _OF_TYPE.get(type(value), Kind(0))


def types_of(kind: Kind) -> frozenset[type]:
    """The Python types that values of `kind` have."""
    return frozenset(cls for cls, own in _OF_TYPE.items() if own & kind or (cls is str and kind & Kind.ANY_TEXT))


def in_words(kind: Kind) -> str:
    """`kind` as a message says it: `text`, `a number or a list`."""
    words: list[str] = []
    for part, word in _IN_WORDS:
        if part in kind and kind:
            words.append(word)
            kind &= ~part
    return " or ".join(dict.fromkeys(words))


def label(kind: Kind) -> str:
    """One word for a column: `text`, `date`, `number`; `any` where it is not known before the run."""
    if not kind or kind == Kind.ANY:
        return "any"
    if len(kind) == 1:
        return "number" if kind == Kind.DECIMAL else str(kind.name).lower()
    for family, word in ((Kind.ANY_TEXT, "text"), (Kind.ANY_NUMBER, "number")):
        if kind in family:
            return word
    return "any"


def show(value: Value) -> str:
    """`value` as JSON, short enough for a message."""
    if isinstance(value, Decimal):
        text = str(value)
    else:
        try:
            text = json.dumps(value, ensure_ascii=False, default=str)
        except RecursionError:
            text = "a value nested too deep to show"
    return text if len(text) <= _MAX_SHOWN else text[: _MAX_SHOWN - 1] + "…"


def as_json(value: Value) -> Json:
    """`value` for a reader of JSON: a decimal as its text."""
    return str(value) if isinstance(value, Decimal) else value
