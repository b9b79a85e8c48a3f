"""Templates such as `PUT /customers/{external_id}`: fields of a record in a path or a query, percent-encoded.

There is one rule about what is not there: it is an error of that record, and never sent literally. A record's value
cannot leave its place in the path either: `..` is refused, `/` is encoded.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

from speclab.errors import SpecError
from speclab.jsonvalue import Json
from speclab.paths import FieldPath, PathSyntaxError

_PLACE: Final = re.compile(r"\{([^{}]*)\}")
_DOTS: Final = (".", "..")
SCOPE: Final = frozenset({"source", "found"})
"""What a write's request is about beside the record: the record before mapping, and what the lookup found."""
_WITHIN: Final = {
    "source": "is not in the source record",
    "found": "is not in what the lookup found",
    "lookup": "is not in the answer to the lookup",
}


class MissingValue(Exception):
    """A record has nothing that could stand in a template's place; `path` is the place, `name` what it looks into."""

    def __init__(self, path: str, reason: str, name: str = "") -> None:
        super().__init__(f"{{{path}}} {reason}")
        self.path = path
        self.name = name
        self.message = f"{{{path}}} {reason}"


@dataclass(frozen=True, slots=True)
class Place:
    """One `{path}`: a name of the scope and a path from there; without one, a path in the record itself."""

    text: str
    name: str
    path: FieldPath

    @classmethod
    def parse(cls, text: str, *, where: str, names: frozenset[str]) -> Place:
        """The place whose braces hold `text`, see `Template.parse`. Raises `SpecError`."""
        try:
            path = FieldPath.parse(text)
        except PathSyntaxError as error:
            raise SpecError(f"{where}: {{{text}}} is no field: {error}") from None
        first = path.parts[0]
        if first in names and len(path.parts) > 1:
            return cls(text, str(first), FieldPath(path.parts[1:]))
        return cls(text, "", path)

    def value(self, record: Json, scope: Mapping[str, Json]) -> Json:
        """The value here, which may be null. Raises `MissingValue`."""
        root = scope.get(self.name) if self.name else record
        try:
            return self.path.get(root)
        except KeyError:
            raise MissingValue(self.text, _WITHIN.get(self.name, "is not in the record"), self.name) from None

    def written(self, record: Json, scope: Mapping[str, Json]) -> str:
        """The value here as a URL has it, not encoded yet. Raises `MissingValue` for what cannot stand in one."""
        return _text(self, self.value(record, scope))


@dataclass(frozen=True, slots=True)
class Template:
    """Text with places, for URLs."""

    parts: tuple[str | Place, ...]

    @classmethod
    def parse(cls, text: str, *, where: str, names: frozenset[str] = frozenset()) -> Template:
        """The template `text`; a path that begins with one of `names` is looked up in the scope under that name.

        Raises `SpecError`, which says `where` the template stands.
        """
        parts: list[str | Place] = []
        at = 0
        for match in _PLACE.finditer(text):
            parts.append(text[at : match.start()])
            parts.append(Place.parse(match[1].strip(), where=where, names=names))
            at = match.end()
        parts.append(text[at:])
        if stray := [brace for part in parts if isinstance(part, str) for brace in part if brace in "{}"]:
            raise SpecError(f"{where}: '{stray[0]}' without its partner in {text!r}")
        return cls(tuple(part for part in parts if part != ""))

    def render(self, record: Json, scope: Mapping[str, Json]) -> str:
        """The text with every value in its place, percent-encoded. Raises `MissingValue`."""
        out = ""
        for index, part in enumerate(self.parts):
            if isinstance(part, str):
                out += part
                continue
            text = part.written(record, scope)
            out += quote(text, safe="")
            if self._segment_ends(index) and out.rpartition("/")[2] in _DOTS:
                raise MissingValue(part.text, f"is {text!r}, which would change the path it stands in")
        return out

    def _segment_ends(self, index: int) -> bool:
        following = self.parts[index + 1] if index + 1 < len(self.parts) else "/"
        return isinstance(following, str) and following[0] in "/?"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A method and where to send it."""

    method: str
    target: Template
    text: str

    @classmethod
    def fixed(cls, text: str, *, where: str) -> tuple[str, str]:
        """Method and path of an endpoint that is asked for no record in particular. Raises `SpecError`."""
        endpoint = cls.parse(text, where=where)
        try:
            return endpoint.method, endpoint.target.render({}, {})
        except MissingValue as error:
            raise SpecError(f"{where}: there is no record that could fill in {{{error.path}}}") from None

    @classmethod
    def parse(cls, text: str, *, where: str, names: frozenset[str] = frozenset()) -> Endpoint:
        """The endpoint written as `PUT /customers/{id}`. Raises `SpecError`."""
        method, _, path = text.partition(" ")
        target = f"/{path.strip().removeprefix('/')}"
        return cls(method, Template.parse(target, where=where, names=names), text)


def scalar_text(value: Json) -> str | None:
    """`value` as it stands in a URL: text, a number, true or false; None for what cannot."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    return None


def _text(place: Place, value: Json) -> str:
    text = scalar_text(value)
    if text is None:
        reason = "is null" if value is None else "is a list" if isinstance(value, list) else "is an object"
        raise MissingValue(place.text, f"{reason}, which cannot stand in a URL")
    if not text:
        raise MissingValue(place.text, "is empty")
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise MissingValue(place.text, "holds half a surrogate pair, which is no text")
    return text
