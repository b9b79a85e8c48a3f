"""What a step is: its name, its parameters, what it takes and gives, and how it is made; the steps are in `steps/`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, Never, TypeAlias

from speclab.jsonvalue import Json
from speclab.mapping.kinds import Kind, Value

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


class Takes(StrEnum):
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
    takes: Takes
    optional: bool = False
    check: Callable[[Never], str | None] | None = None
    choices: tuple[str, ...] = ()
    closed: bool = False


@dataclass(frozen=True, slots=True)
class Lookup:
    """A table of `lookups:` by its name: what the `Lookup` step is made of."""

    name: str
    entries: dict[str, Json]


@dataclass(frozen=True, slots=True)
class Example:
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
    takes: Kind
    gives: Kind | Callable[[Kind, Sequence[Json | Lookup]], Kind]
    make: Callable[..., Apply]
    example: Example
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

    def result(self, kind: Kind, arguments: Sequence[Json | Lookup]) -> Kind:
        """What it gives for a value of `kind`."""
        return self.gives if isinstance(self.gives, Kind) else self.gives(kind, arguments)
