"""JSON in and out at orjson's speed, without its one loss: integers beyond 64 bits keep every digit."""

from __future__ import annotations

import base64
import json
import math
from decimal import Decimal
from typing import Final

import orjson

from speclab.jsonvalue import Json, JsonView

_BOM: Final = b"\xef\xbb\xbf"
_ZEROED: Final = bytes(ord("0") if chr(byte).isdigit() and byte < 128 else ord(" ") for byte in range(256))
_BEYOND: Final = b"0" * 20  # every integer of 19 digits fits into 64 bits

NO_NUMBERS: Final = frozenset({"NaN", "Infinity", "-Infinity"})
"""The texts that stand for what a floating point number may be (IEEE 754) and JSON has no number for."""


def decode(text: bytes) -> Json:
    """The value of a JSON text in UTF-8, with or without a byte order mark. Raises `ValueError` with the place."""
    text = text.removeprefix(_BOM)
    value: Json = orjson.loads(text)
    # orjson reads what does not fit into 64 bits as a float, and an identifier of 20 digits would become another one.
    if _BEYOND in text.translate(_ZEROED):
        value = json.loads(text)
    return value


def encode(value: JsonView) -> bytes:
    """`value` as compact JSON in UTF-8."""
    try:
        return orjson.dumps(value)
    except TypeError:  # an integer beyond 64 bits, or half a surrogate pair
        return json.dumps(value, separators=(",", ":")).encode()


def encode_sorted(value: JsonView) -> bytes:
    """`value` as `encode` gives it, keys sorted: equal values, equal bytes."""
    try:
        return orjson.dumps(value, None, orjson.OPT_SORT_KEYS)
    except TypeError:
        return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def as_json(value: object) -> Json:
    """A value of a database or a file as JSON: bytes in base64 (RFC 4648), what else JSON does not have as text."""
    if type(value) is float and not math.isfinite(value):
        return str(Decimal(value))
    if value is None or isinstance(value, str | int | float):
        return value
    if isinstance(value, dict):
        return {str(name): as_json(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return list(map(as_json, value))
    if isinstance(value, bytes):
        return base64.b64encode(value).decode("ascii")
    return str(value)
