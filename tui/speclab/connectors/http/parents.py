"""The questions of a read that is made once for each record of a parent list, with `{account.id}` filled in."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Final
from urllib.parse import quote

from speclab.connectors.http.question import Questions
from speclab.connectors.http.templates import Endpoint, Place
from speclab.errors import SpecError
from speclab.jsonvalue import Json, Record
from speclab.spec.systems.http import HttpRead

_PLACE: Final = re.compile(r"\{([^{}]*)\}")


class ParentQuestions:
    """Makes the `Questions` about one parent.

    In the path every place is the parent's. In params and body, where braces may be the API's own, only those are
    places that begin with the name parents go by; one that is all there is keeps its value's type.
    """

    def __init__(self, read: HttpRead, name: str, base: str, origin: str, *, hidden: Collection[str]) -> None:
        """Questions of `read`, whose parents go by `name`. Raises `SpecError`."""
        self._read = read
        self._name = name
        self._names = frozenset({name})
        self._base = base
        self._origin = origin
        self._hidden = hidden
        self._endpoint = Endpoint.parse(read.request or f"GET {read.path}", where="read", names=self._names)
        places = [part for part in self._endpoint.target.parts if isinstance(part, Place)]
        if stray := [found.text for found in places if found.name != name]:
            raise SpecError(f"read: {{{stray[0]}}} is no field of `{name}`, the only record there is when it is asked")
        places += self._places(read.params) + self._places(read.body)
        self._identity = tuple(dict.fromkeys(places))

    def key(self, parent: Record) -> str:
        """What tells `parent` from the others: all of it that is asked for. Raises `MissingValue`."""
        scope: dict[str, Json] = {self._name: parent}
        self._endpoint.target.render({}, scope)  # a value may be there and still have no place in a path, such as `..`
        return "/".join(quote(one.written({}, scope), safe="") for one in self._identity)

    def of(self, parent: Record) -> Questions:
        """The questions about `parent`. Raises `MissingValue`, but not for one that has a `key`."""
        scope: dict[str, Json] = {self._name: parent}
        filled = {
            "request": f"{self._endpoint.method} {self._endpoint.target.render({}, scope)}",
            "params": {name: self._filled(value, scope) for name, value in self._read.params.items()},
            "body": self._filled(self._read.body, scope),
        }
        return Questions(self._read.model_copy(update=filled), self._base, self._origin, hidden=self._hidden)

    def _filled(self, value: Json, scope: Mapping[str, Json]) -> Json:
        if isinstance(value, dict):
            return {name: self._filled(inner, scope) for name, inner in value.items()}
        if isinstance(value, list):
            return [self._filled(inner, scope) for inner in value]
        if not isinstance(value, str):
            return value
        whole = _PLACE.fullmatch(value)
        if whole and (found := self._place(whole)):
            return found.value({}, scope)

        def written(match: re.Match[str]) -> str:
            found = self._place(match)
            return found.written({}, scope) if found else match[0]

        return _PLACE.sub(written, value)

    def _places(self, value: Json) -> list[Place]:
        if isinstance(value, str):
            return [found for match in _PLACE.finditer(value) if (found := self._place(match))]
        inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
        return [found for one in inner for found in self._places(one)]

    def _place(self, match: re.Match[str]) -> Place | None:
        """The place of the parent that is written so; None for braces that are the API's own."""
        text = match[1].strip()
        return Place.parse(text, where="read", names=self._names) if text.startswith(f"{self._name}.") else None
