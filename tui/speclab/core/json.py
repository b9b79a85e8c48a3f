"""JSON values: their types, and reading and writing them without losing digits or characters."""

from __future__ import annotations

import base64
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Final, TypeAlias

import orjson

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"
Record: TypeAlias = dict[str, Json]
"""One record, as read or as mapped: a JSON object."""

JsonView: TypeAlias = "bool | int | float | str | Sequence[JsonView] | Mapping[str, JsonView] | None"
"""A JSON value that is only read."""


def loses_digits(number: str) -> bool:
    """Whether a double would lose digits of `number`."""
    mantissa = number.lower().partition("e")[0]
    if "." not in mantissa and "e" not in number.lower():
        return False  # integers keep all digits
    try:
        exact, double = Decimal(number), float(number)
    except (ValueError, ArithmeticError):
        return False  # digits and dots in a string
    if not math.isfinite(double):
        return True
    digits = len(mantissa.lstrip("-0.").replace(".", ""))
    return exact not in (Decimal(repr(double)), Decimal(f"{double:.{max(digits, 1) - 1}e}"))


_BOM: Final = b"\xef\xbb\xbf"
_ZEROED: Final = bytes(ord("0") if chr(byte).isdigit() and byte < 128 else ord(" ") for byte in range(256))
_BEYOND: Final = b"0" * 20  # every integer of 19 digits fits into 64 bits
_LONG: Final = b"0" * 16  # a double keeps every decimal of 15 digits
_NUMBER: Final = re.compile(rb"-?[0-9][0-9.]{15,}(?:[eE][-+]?[0-9]+)?")
_LONE: Final = re.compile("[\ud800-\udfff]")
_MAX_SHOWN: Final = 60
_MAX_DIGITS: Final = 4_000
_MAX_WHOLE: Final = b"0" * _MAX_DIGITS

NO_NUMBERS: Final = frozenset({"NaN", "Infinity", "-Infinity"})
"""Texts for floating point values (IEEE 754) that JSON cannot represent."""


def decode(text: bytes) -> Json:
    """Decode a JSON text in UTF-8, with or without a byte order mark. Raise `ValueError` with the position."""
    text = text.removeprefix(_BOM)
    value: Json = orjson.loads(text)
    # orjson reads integers beyond 64 bits as floats: an identifier of 20 digits would change.
    if _BEYOND in text.translate(_ZEROED):
        value = json.loads(text)
    return value


class UnfitNumber(str):
    """The text of a number that no double and no integer of reasonable length can represent."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class LenientValue:
    """A JSON value, of which parts may be unfit; `is_clean` if every part is fit.

    Unfit parts are texts with half a surrogate pair, texts with a byte that is not UTF-8 (a surrogate, PEP 383), and
    numbers that would lose digits (`UnfitNumber`).
    """

    value: Json
    is_clean: bool


def decode_leniently(text: bytes) -> LenientValue:
    """Decode a JSON text, also one with unfit strings and numbers. Raise `ValueError` if it is not JSON.

    `describe_unfit` describes an unfit part.
    """
    text = text.removeprefix(_BOM)
    try:
        value: Json = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        try:
            return LenientValue(_read_slowly(text), is_clean=False)
        except (ValueError, RecursionError):
            raise error from None
    digits = text.translate(_ZEROED, b".")
    if _LONG in digits:
        if _has_lossy(text):
            return LenientValue(_read_slowly(text), is_clean=False)
        if _BEYOND in digits:
            return LenientValue(_read_slowly(text), is_clean=_MAX_WHOLE not in digits)
    return LenientValue(value, is_clean=True)


def describe_unfit(value: Json, path: str = "") -> str | None:
    """Return why a part of `value` is unfit, with its path; None if `value` can be kept."""
    if isinstance(value, str):
        return _why_text_unfit(value, f" at {path}" if path else "")
    if isinstance(value, dict):
        parts = [(f"{path}.{_shown(key)}" if path else _shown(key), inner) for key, inner in value.items()]
        if (why := next(filter(None, (_why_text_unfit(key, " of a key") for key in value)), None)) is not None:
            return why
    else:
        parts = [(f"{path}[{at}]", inner) for at, inner in enumerate(value)] if isinstance(value, list) else []
    return next(filter(None, (describe_unfit(inner, where) for where, inner in parts)), None)


def _why_text_unfit(value: str, at: str) -> str | None:
    if isinstance(value, UnfitNumber):
        return f"the number {_shown(value)}{at} cannot be read without loss: a JSON number keeps 15 to 17 digits"
    lone = _LONE.search(value)
    if lone is None:
        return None
    code = ord(lone[0])
    if 0xDC80 <= code <= 0xDCFF:
        return f"the text{at} has the byte 0x{code - 0xDC00:02x}, which is not UTF-8"
    return f"the text{at} has half a surrogate pair, U+{code:04X}, which is not a character"


def _shown(text: str) -> str:
    """Return `text` shortened, and without half surrogate pairs."""
    short = text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}…"
    return short.encode("utf-8", "backslashreplace").decode()


def _has_lossy(text: bytes) -> bool:
    return any(loses_digits(found[0].decode()) for found in _NUMBER.finditer(text))


def _read_slowly(text: bytes) -> Json:
    """Read JSON with what cannot be kept: `UnfitNumber` numbers, and surrogates for halves of pairs and odd bytes."""

    def real(number: str) -> float | UnfitNumber:
        return UnfitNumber(number) if loses_digits(number) or not math.isfinite(float(number)) else float(number)

    def whole(number: str) -> int | UnfitNumber:
        return int(number) if len(number) <= _MAX_DIGITS else UnfitNumber(number)

    def constant(name: str) -> Json:
        raise ValueError(f"{name} is no JSON")

    decoded = text.decode("utf-8", "surrogateescape")
    value: Json = json.loads(decoded, parse_float=real, parse_int=whole, parse_constant=constant)
    return value


def encode(value: JsonView) -> bytes:
    """Encode `value` as compact JSON in UTF-8."""
    try:
        return orjson.dumps(value)
    except TypeError:  # an integer beyond 64 bits, or half a surrogate pair
        return json.dumps(value, separators=(",", ":")).encode()


def encode_canonical(value: JsonView) -> bytes:
    """Encode `value` as JSON with sorted keys: equal values have equal bytes."""
    try:
        return orjson.dumps(value, None, orjson.OPT_SORT_KEYS)
    except TypeError:
        return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def is_same_json(one: Json, other: Json) -> bool:
    """Whether two JSON values are equal: `1` and `1.0` are, `1` and `true` are not."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(is_same_json(one[name], other[name]) for name in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(is_same_json, one, other))
    return one == other


def to_json(value: object) -> Json:
    """Convert a value of a database or a file to JSON: bytes to base64 (RFC 4648), other types to text."""
    if type(value) is float and not math.isfinite(value):
        return str(Decimal(value))
    if value is None or isinstance(value, str | int | float):
        return value
    if isinstance(value, dict):
        return {str(name): to_json(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return list(map(to_json, value))
    if isinstance(value, bytes):
        return base64.b64encode(value).decode("ascii")
    return str(value)
