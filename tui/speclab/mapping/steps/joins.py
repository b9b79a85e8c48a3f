"""Steps that join several values into one: those of several source fields, or the items of a list."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Final

from speclab.core.json import Json
from speclab.mapping.sizes import MAX_TEXT, check_text_size
from speclab.mapping.types import (
    LookupTable,
    Parameter,
    ParameterType,
    Step,
    StepError,
    StepExample,
    Value,
    ValueKind,
    describe_kind,
    get_kind,
    to_json_number,
    to_text,
)


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
