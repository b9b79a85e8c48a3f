"""Steps that choose, look up, join and split values."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Final, NoReturn

import orjson
from rapidfuzz import fuzz, process

from speclab.core.json import Json, loses_digits
from speclab.mapping.types import (
    DROPPED,
    MAX_TEXT,
    Dropped,
    LookupTable,
    Parameter,
    ParameterType,
    Step,
    StepError,
    StepExample,
    Value,
    ValueKind,
    check_text_size,
    describe_kind,
    format_value,
    get_kind,
    to_decimal,
    to_json_number,
    to_text,
)

_NEAR: Final = 75


def _same(kind: ValueKind, _: Sequence[Json | LookupTable]) -> ValueKind:
    return kind


def _text(value: str | float | Decimal) -> str:
    return to_text(value)


def _constant(value: Json) -> Callable[[Value], Json]:
    return lambda _: value


def _default(value: Json) -> Callable[[Value], Value]:
    return lambda given: value if given is None else given


def _null_if(value: Json) -> Callable[[Value], Value]:
    exact = to_decimal(value) if isinstance(value, float) else value

    def apply(given: Value) -> Value:
        same = given == (exact if isinstance(given, Decimal) else value)
        return None if same and (type(given) is bool) is (type(value) is bool) else given

    return apply


def _required(value: Value) -> Value:
    if value is None:
        raise StepError("the value is null or missing")
    if value == "":
        raise StepError("the value is empty text")
    return value


def _drop(value: Value) -> Value | Dropped:
    return DROPPED if value is None else value


def _lookup(table: LookupTable) -> Callable[[str | float], Json]:
    entries = table.entries

    def apply(value: str | float) -> Json:
        key = to_text(value)
        try:
            return entries[key]
        except KeyError:
            near = process.extractOne(key, entries.keys(), scorer=fuzz.ratio, score_cutoff=_NEAR)
            hint = f"; the nearest is {format_value(near[0])}" if near else ""
            raise StepError(f"no entry for {format_value(value)} in lookups.{table.name}{hint}") from None

    return apply


def _entries_kind(_: ValueKind, arguments: Sequence[Json | LookupTable]) -> ValueKind:
    table = arguments[0]
    kind = ValueKind(0)
    for entry in table.entries.values() if isinstance(table, LookupTable) else ():
        kind |= get_kind(entry)
    return kind


def _json(value: Json) -> str:
    try:
        text = orjson.dumps(value).decode()
        if "null" in text:
            json.dumps(value, allow_nan=False)  # orjson writes null for NaN and infinities
    except (orjson.JSONEncodeError, ValueError) as error:
        raise StepError(f"cannot be written as JSON: {error}") from None
    return text


def _parse_json(value: str) -> Json:
    try:
        parsed: Json = json.loads(value, parse_constant=_reject_constant, parse_float=_finite, parse_int=_whole)
    except json.JSONDecodeError as error:
        raise StepError(f"expected JSON, got {format_value(value)}: {error.msg} at character {error.pos + 1}") from None
    except RecursionError:
        raise StepError(f"JSON nested too deep: {format_value(value)}") from None
    return parsed


def _reject_constant(name: str) -> NoReturn:
    raise StepError(f"{name} is not valid JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise StepError(f"{text} is too large for a JSON number")
    if loses_digits(text):
        raise StepError(f"{text} has more digits than a JSON number can hold")
    return number


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:  # Python's limit of digits
        raise StepError(f"a whole number of {len(text)} digits is too long") from None


def _not_null(value: Json) -> str | None:
    return "must not be null" if value is None else None


VALUE_STEPS: Final = (
    Step(
        "Direct",
        "Copies the value unchanged; the same as an empty cell.",
        takes=ValueKind.ANY,
        returns=_same,
        make=lambda: lambda value: value,
        inline="",
        example=StepExample("Direct", "Ada", "Ada"),
        other_names=("copy", "asis", "none", "same", "passthrough"),
    ),
    Step(
        "Constant",
        "Returns `value` for every record; the row needs no source field.",
        takes=ValueKind.ANY,
        returns=lambda _, arguments: ValueKind(0) if isinstance(arguments[0], LookupTable) else get_kind(arguments[0]),
        make=_constant,
        parameters=(Parameter("value", ParameterType.LITERAL),),
        starts=True,
        sees_null=True,
        may_null=True,
        inline="{v} = {a}",
        may_grow=True,
        example=StepExample('Constant("EU")', None, "EU"),
        other_names=("const", "fixed", "literal", "static", "value"),
    ),
    Step(
        "Default",
        "Replaces null, and a missing field, by `value`.",
        takes=ValueKind.ANY,
        returns=lambda kind, arguments: (
            kind | get_kind(arguments[0]) if not isinstance(arguments[0], LookupTable) else kind
        ),
        make=_default,
        parameters=(Parameter("value", ParameterType.LITERAL, check=_not_null),),
        sees_null=True,
        never_null=True,
        inline="if {v} is None: {v} = {a}",
        may_grow=True,
        example=StepExample('Default("unknown")', None, "unknown"),
        other_names=("ifnull", "nvl", "fallback", "otherwise", "else"),
    ),
    Step(
        "NullIf",
        'Replaces `value` by null: NullIf("") for empty text.',
        takes=ValueKind.ANY,
        returns=_same,
        make=_null_if,
        parameters=(Parameter("value", ParameterType.LITERAL, check=_not_null),),
        may_null=True,
        example=StepExample('NullIf("")', "", None),
        other_names=("emptytonull", "blanktonull", "null", "nullify"),
    ),
    Step(
        "Required",
        "Fails for null, a missing field, and empty text.",
        takes=ValueKind.ANY,
        returns=_same,
        make=lambda: _required,
        sees_null=True,
        never_null=True,
        may_fail=True,
        inline='if {v} is None or {v} == "": {f}({v})',
        example=StepExample("Required", "Ada", "Ada"),
        other_names=("mandatory", "notnull", "notempty", "require"),
    ),
    Step(
        "Drop",
        "Omits the field if the value is null.",
        takes=ValueKind.ANY,
        returns=_same,
        make=lambda: _drop,
        ends=True,
        sees_null=True,
        inline="if {v} is None: {v} = {f}({v})",
        example=StepExample("Drop", None, None),
        other_names=("omit", "skip", "leaveout", "dropnull", "exclude"),
    ),
    Step(
        "Lookup",
        "Replaces the value by its entry in the table `name` under `lookups:` in the section's settings.",
        takes=ValueKind.ANY_TEXT | ValueKind.INTEGER | ValueKind.BOOLEAN,
        returns=_entries_kind,
        make=_lookup,
        parameters=(Parameter("name", ParameterType.LOOKUP),),
        may_fail=True,
        may_null=True,
        inline="{v} = {a}[{v}]",
        may_grow=True,
        example=StepExample("Lookup(status)", "A", "active", {"status": {"A": "active", "I": "inactive"}}),
        other_names=("map", "switch", "vlookup", "translate", "case", "enum"),
    ),
    Step(
        "Text",
        "Converts a number, true or false to text.",
        takes=ValueKind.SCALAR,
        returns=ValueKind.TEXT,
        make=lambda: _text,
        example=StepExample("Text", 42, "42"),
        other_names=("string", "str", "tostring", "totext", "varchar"),
    ),
    Step(
        "Json",
        "Writes any value as JSON text.",
        takes=ValueKind.ANY & ~ValueKind.DECIMAL,
        returns=ValueKind.TEXT,
        make=lambda: _json,
        may_fail=True,
        may_grow=True,
        example=StepExample("Json", {"a": [1, True]}, '{"a":[1,true]}'),
        other_names=("tojson", "stringify", "serialize"),
    ),
    Step(
        "ParseJson",
        "Parses JSON text.",
        takes=ValueKind.ANY_TEXT,
        returns=ValueKind.ANY & ~ValueKind.DECIMAL,
        make=lambda: _parse_json,
        may_fail=True,
        may_null=True,
        may_grow=True,
        example=StepExample("ParseJson", '{"a": [1, true]}', {"a": [1, True]}),
        other_names=("fromjson", "deserialize"),
    ),
)
"""In the order of the help."""


def _concat(separator: str = "") -> Callable[[Sequence[Value]], str | None]:
    def apply(values: Sequence[Value]) -> str | None:
        parts: list[str] = []
        for value in values:
            if isinstance(value, str):
                parts.append(value)
            elif isinstance(value, (list, dict)):
                raise StepError(f"cannot join {describe_kind(get_kind(value))}")
            elif value is not None:
                parts.append(to_text(value))
        size = sum(map(len, parts)) + len(separator) * (len(parts) - 1) if parts else 0
        if size > MAX_TEXT:
            check_text_size(size, max(map(len, parts)))
        return separator.join(parts) if parts else None

    return apply


def _first(values: Sequence[Value]) -> Value:
    return next((value for value in values if value is not None), None)


def _list(values: Sequence[Value]) -> list[Json] | None:
    return [
        to_json_number(value) if isinstance(value, Decimal) else value for value in values if value is not None
    ] or None


def _item(kind: ValueKind, _: Sequence[Json | LookupTable]) -> ValueKind:
    """Return the kind of `First`: that of the values; for a list, any kind."""
    return kind if not kind & ValueKind.LIST else ValueKind.ANY & ~ValueKind.DECIMAL | kind


JOIN_STEPS: Final = (
    Step(
        "Concat",
        "Joins texts with `separator` between them. Numbers are written as by Text, nulls are skipped.",
        takes=ValueKind.SCALAR | ValueKind.LIST,
        returns=ValueKind.TEXT,
        make=_concat,
        parameters=(Parameter("separator", ParameterType.TEXT, optional=True),),
        joins=True,
        may_fail=True,
        may_null=True,
        may_grow=True,
        example=StepExample('Trim, Concat(" ")', ["Ada ", None, "Lovelace"], "Ada Lovelace"),
        other_names=("join", "concatenate", "merge", "combine", "implode", "textjoin"),
    ),
    Step(
        "First",
        "Returns the first value that is not null.",
        takes=ValueKind.ANY,
        returns=_item,
        make=lambda: _first,
        joins=True,
        may_null=True,
        example=StepExample("First", [None, "+44 20 7946", "+44 20 7947"], "+44 20 7946"),
        other_names=("coalesce", "firstof", "any", "or", "either"),
    ),
    Step(
        "List",
        "Collects the values into a list without nulls; null if it would be empty.",
        takes=ValueKind.ANY,
        returns=ValueKind.LIST,
        make=lambda: _list,
        joins=True,
        may_fail=True,
        may_null=True,
        example=StepExample(
            "List", ["ada@example.org", None, "a.l@example.org"], ["ada@example.org", "a.l@example.org"]
        ),
        other_names=("array", "collect", "tolist", "gather"),
    ),
)
"""In the order of the help."""
