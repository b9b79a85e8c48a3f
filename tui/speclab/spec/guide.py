"""What belongs in each section: in words, as settings with their types, as choices, and as an example to begin with.

The settings come from the models, so that the guide, completion and the reference cannot say other than what is read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from types import UnionType
from typing import TYPE_CHECKING, Annotated, Final, Literal, Union, get_args, get_origin

from speclab.installed import Unusable
from speclab.spec.choices import DIRECTIONS, FREQUENCIES, INTEGRATION_TYPES, Choice
from speclab.spec.examples import EXAMPLES, SUMMARIES
from speclab.spec.outline import comparable_path
from speclab.spec.sections import (
    ALERTS,
    CRITERIA,
    DIRECTION,
    ERROR_TYPES,
    FIELD_MAPPING,
    FREQUENCY,
    INTEGRATION_TYPE,
    LOGGING,
    RETRY_LOGIC,
    SOURCE_AUTH,
    SOURCE_SYSTEM,
    TARGET_AUTH,
    TARGET_SYSTEM,
    VOLUME,
)
from speclab.spec.validation import model_in

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

    from speclab.spec.settings import Settings


class Form(StrEnum):
    """How a section speaks to the machine."""

    PROSE = "prose"
    CHOICE = "choice"
    SETTINGS = "settings"
    TABLE = "table"
    CHECK_LIST = "check list"


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting; `name` is dotted (`read.pagination.by`), `default` as a spec writes it, "" where there is none."""

    name: str
    type: str
    required: bool
    default: str
    description: str


@dataclass(frozen=True, slots=True)
class Variant:
    """One kind of settings block a section may have: what it is called, its settings, and one to begin with.

    `provider` is the package that it comes from, if that is not speclab.
    """

    name: str
    summary: str
    settings: tuple[Setting, ...]
    example: str
    provider: str = ""


@dataclass(frozen=True, slots=True)
class Guide:
    """What belongs in the section at `address`.

    `example` is Markdown that can stand in the section; where there are variants, the first one's block.
    """

    address: str
    summary: str
    form: Form
    example: str = ""
    choices: tuple[Choice, ...] = ()
    variants: tuple[Variant, ...] = field(default=(), repr=False)


_FORMS: Final = {
    INTEGRATION_TYPE: Form.CHOICE,
    DIRECTION: Form.CHOICE,
    FREQUENCY: Form.CHOICE,
    ERROR_TYPES: Form.TABLE,
    ALERTS: Form.TABLE,
    FIELD_MAPPING: Form.TABLE,
    CRITERIA: Form.CHECK_LIST,
}
_CHOICES: Final[Mapping[str, tuple[Choice, ...]]] = {
    INTEGRATION_TYPE: tuple(INTEGRATION_TYPES.values()),
    DIRECTION: tuple(DIRECTIONS.values()),
    FREQUENCY: FREQUENCIES,
}
_WAYS: Final = {SOURCE_SYSTEM: ("read", "write"), TARGET_SYSTEM: ("write", "read")}
_TYPES: Final = {str: "text", int: "whole number", float: "number", bool: "true or false"}


def guide(address: str) -> Guide:
    """The guide to the section at `address`, in any case and spacing; any other section is prose."""
    wanted = comparable_path(address)
    known = next((other for other in SUMMARIES if comparable_path(other) == wanted), None)
    if known is None:
        return Guide(address, "Prose, for people. It is kept as it is.", Form.PROSE)
    variants = tuple(_variants(known))
    return Guide(
        known,
        SUMMARIES[known],
        _FORMS.get(known, Form.SETTINGS if variants else Form.PROSE),
        example=EXAMPLES.get(known, "") or (variants[0].example if variants else ""),
        choices=_CHOICES.get(known, ()),
        variants=variants,
    )


def settings_of(model: type[Settings], *, without: str = "", before: str = "") -> Iterator[Setting]:
    """The settings of a model in order, those of models in it right after it; none of the one called `without`."""
    for name, info in model.model_fields.items():
        written = info.alias or name
        if written == without:
            continue
        inner = model_in(info.annotation)
        yield Setting(
            before + written,
            "settings" if inner else type_text(info.annotation, info.metadata),
            info.is_required(),
            "" if inner else _default_text(info),
            info.description or "",
        )
        if inner:
            yield from settings_of(inner, before=f"{before}{written}.")


def type_text(annotation: object, metadata: Sequence[object] = ()) -> str:
    """What a setting's type is called in a spec."""
    from pydantic import JsonValue

    from speclab.spec.kinds import Kind

    kind = next((data for data in metadata if isinstance(data, Kind)), None)
    if kind is not None:
        return kind.name
    if annotation is JsonValue:
        return "any value"
    if isinstance(annotation, type) and annotation in _TYPES:
        return _TYPES[annotation]
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return type_text(args[0], args[1:])
    if origin is Literal:
        return " | ".join(str(arg) for arg in args)
    if origin in {Union, UnionType}:
        return " or ".join(type_text(arg) for arg in args if arg is not type(None))
    if origin is dict:
        return f"mapping of {type_text(args[1])}"
    return f"list of {type_text(args[0])}" if args else "any value"


def _variants(address: str) -> Iterator[Variant]:
    """The kinds of settings block that the section may have."""
    from speclab.spec.auth import AUTHS
    from speclab.spec.settings import LoggingSettings, MappingSettings, RetrySettings, VolumeSettings

    several: Mapping[str, Mapping[str, type[Settings]]] = {
        SOURCE_AUTH: AUTHS,
        TARGET_AUTH: AUTHS,
        VOLUME: {"": VolumeSettings},
        FIELD_MAPPING: {"": MappingSettings},
        RETRY_LOGIC: {"": RetrySettings},
        LOGGING: {"": LoggingSettings},
    }
    for name, model in several.get(address, {}).items():
        yield Variant(name, _summary(model), tuple(settings_of(model)), _example(address, name))
    if address in _WAYS:
        yield from _systems(address)


def _systems(address: str) -> Iterator[Variant]:
    """The kinds of system that may stand at one end: those there is an example of, in its order, then any other."""
    from speclab.spec.systems import SYSTEMS

    way, other = _WAYS[address]
    examples = [name for name in SYSTEMS if _example(address, name)]
    examples.sort(key=lambda name: list(EXAMPLES).index(f"{address} > {name}"))
    for name in dict.fromkeys([*examples, *SYSTEMS]):
        model, provider = SYSTEMS[name], SYSTEMS.provider(name)
        if isinstance(model, Unusable):
            yield Variant(name, f"It cannot be used: {model.reason}", (), "", provider)
        elif way in model.model_fields or other not in model.model_fields:
            settings = [_of_system(setting, name, way) for setting in settings_of(model, without=other)]
            settings.sort(key=lambda setting: setting.name.split(".")[0] == "limits")  # what is asked, then how much
            yield Variant(name, _summary(model), tuple(settings), _example(address, name), provider)


def _of_system(setting: Setting, connector: str, way: str) -> Setting:
    if setting.name == "connector":
        return replace(setting, type=connector)
    return replace(setting, required=True) if setting.name == way else setting


def _summary(model: type[Settings]) -> str:
    """The first paragraph of its docstring."""
    return " ".join((model.__doc__ or "").strip().split("\n\n")[0].split())


def _example(address: str, variant: str) -> str:
    return EXAMPLES.get(f"{address} > {variant}" if variant else address, "")


def _default_text(info: FieldInfo) -> str:
    from speclab.spec.kinds import Kind

    value = info.default
    if info.is_required() or value is None or value == () or info.default_factory is not None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    kind = next((data for data in info.metadata if isinstance(data, Kind)), None)
    return kind.show(value) if kind else str(value)
