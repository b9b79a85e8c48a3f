"""The headers of a write: the same for all, or filled in for the record, such as `If-Match: "{lookup.etag}"`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from speclab.connectors.auth.plain import header_name, header_value
from speclab.connectors.base import Item
from speclab.connectors.http.client import Client, Exchange
from speclab.connectors.http.templates import MissingValue, Place
from speclab.connectors.references import References
from speclab.jsonvalue import Json
from speclab.spec.systems.http_write import HttpWrite

_PLACE: Final = re.compile(r"(?<!\$)\{([^{}]*)\}")
"""What is filled in: anything in braces but references."""
_NAMES: Final = frozenset({"source", "found", "lookup"})
_OF_THE_LOOKUP: Final = frozenset({"found", "lookup"})
_UNSENDABLE: Final = re.compile(r"[\x00-\x1f\x7f]|^ | $")


class Headers:
    """The headers of one target's writes."""

    def __init__(self, write: HttpWrite, client: Client, references: References) -> None:
        """Headers as `write.headers` has them, with the references still in them: a secret is no template.

        Raises `SpecError`.
        """
        texts = write.headers
        fixed = {name: references.resolve(text) for name, text in texts.items() if not _PLACE.search(text)}
        self.fixed: Sequence[tuple[bytes, bytes]] = client.encoded(fixed)
        """The headers that are the same for every record."""
        self._filled = [_Header.parse(name, text, references) for name, text in texts.items() if name not in fixed]
        self._key = header_name(write.idempotency).encode("ascii") if write.idempotency else None

    def given(self, item: Item, scope: Mapping[str, Json]) -> list[tuple[bytes, bytes]]:
        """The headers of the write of `item`; without those that tell of what the lookup found, if it found nothing.

        Raises `MissingValue`.
        """
        headers = [
            header.given(item.payload, scope)
            for header in self._filled
            if not header.of_the_lookup or "lookup" in scope
        ]
        return [*self.fixed, *headers, *self.keyed(item.idempotency_key)]

    def keyed(self, key: str) -> list[tuple[bytes, bytes]]:
        """The header that carries the idempotency key, where the spec has one."""
        return [] if self._key is None else [(self._key, key.encode("ascii"))]


def of_lookup(answer: Exchange) -> Json:
    """What `{lookup.etag}` and `{lookup.header.NAME}` stand for after `answer`."""
    headers: dict[str, Json] = dict(answer.headers.items())
    etag: dict[str, Json] = {"etag": headers["etag"]} if "etag" in headers else {}
    return {**etag, "header": headers}


@dataclass(frozen=True, slots=True)
class _Header:
    name: str
    parts: Sequence[str | Place]

    @classmethod
    def parse(cls, name: str, text: str, references: References) -> _Header:
        parts: list[str | Place] = []
        at = 0
        for match in _PLACE.finditer(text):
            inner = match[1].strip()
            if inner.lower().startswith("lookup."):  # names of headers are in no case
                inner = inner.lower()
            parts.append(header_value(name, references.resolve(text[at : match.start()])))
            parts.append(Place.parse(inner, where=f"write.headers.{name}", names=_NAMES))
            at = match.end()
        return cls(header_name(name), [*parts, header_value(name, references.resolve(text[at:]))])

    @property
    def of_the_lookup(self) -> bool:
        return any(isinstance(part, Place) and part.name in _OF_THE_LOOKUP for part in self.parts)

    def given(self, record: Json, scope: Mapping[str, Json]) -> tuple[bytes, bytes]:
        value = "".join(part if isinstance(part, str) else self._text(part, record, scope) for part in self.parts)
        return self.name.encode("ascii"), value.encode("utf-8")

    def _text(self, place: Place, record: Json, scope: Mapping[str, Json]) -> str:
        text = place.written(record, scope)
        if _UNSENDABLE.search(text):
            raise MissingValue(place.text, f"has what cannot stand in a header, such as {self.name}")
        return text
