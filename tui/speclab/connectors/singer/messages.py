"""The messages a tap writes, one JSON object a line, as the Singer specification (0.3.0) and its SDK have them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from speclab.connectors.jsontext import decode_leniently
from speclab.connectors.unreadable import checked
from speclab.jsonvalue import Json, Record


@dataclass(frozen=True, slots=True)
class RecordMessage:
    """A record of a stream."""

    stream: str
    record: Record


@dataclass(frozen=True, slots=True)
class SchemaMessage:
    """What the records of a stream that follow look like (JSON Schema), and which fields are their key."""

    stream: str
    schema: Record
    key: Sequence[str]


@dataclass(frozen=True, slots=True)
class StateMessage:
    """Where a tap can go on after all that came before."""

    value: Json


@dataclass(frozen=True, slots=True)
class OtherMessage:
    """A message of another type, such as ACTIVATE_VERSION or BATCH."""

    kind: str
    stream: str


Message: TypeAlias = RecordMessage | SchemaMessage | StateMessage | OtherMessage


class NoMessage(Exception):
    """A line that is no message; says why."""


_EXPECTED: Final = 'expected a Singer message such as {"type": "RECORD", ...}'


def parse(line: bytes) -> Message:
    """The message that `line` is. Raises `NoMessage`."""
    try:
        found = decode_leniently(line)
    except ValueError:
        raise NoMessage(f"is not JSON; {_EXPECTED}") from None
    match found.value:
        case {"type": "RECORD", "stream": str(stream), "record": dict(record)}:
            return RecordMessage(stream, record if found.is_clean else checked(record, line))
        case {"type": "STATE", "value": state}:
            return StateMessage(state)
        case {"type": "SCHEMA", "stream": str(stream), "schema": dict(schema), **rest}:
            key = rest.get("key_properties")
            return SchemaMessage(stream, schema, [str(name) for name in key] if isinstance(key, list) else [])
        case {"type": "RECORD" | "STATE" | "SCHEMA" as kind}:
            wanted = {"RECORD": "`stream` and `record`", "STATE": "`value`", "SCHEMA": "`stream` and `schema`"}
            raise NoMessage(f"is a {kind} message without its {wanted[kind]}")
        case {"type": str(kind), **rest}:
            return OtherMessage(kind, str(rest.get("stream", "")))
    raise NoMessage(f"is no message; {_EXPECTED}")
