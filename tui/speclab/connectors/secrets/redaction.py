"""Redacts secrets in text, in whatever encoding the text contains them.

A secret of eight characters or more is searched in a normal form of the text: percent-encoding, backslash escapes and
HTML entities decoded (repeatedly), case folded, and the two base64 alphabets unified. It is found literally, in another
case, encoded once or twice, in hexadecimal, and in base64 at any offset. A shorter secret is searched with a pattern,
since its normal form would match many texts by chance.
"""

from __future__ import annotations

import base64
import json
import re
from bisect import bisect_right
from collections.abc import Iterator
from typing import Final
from urllib.parse import quote, quote_plus

MASK: Final = "***"
_SHORT: Final = 4
"""A secret shorter than this is masked only as a whole word: a one-letter password must not mask all text."""
_LONG: Final = 8
"""Minimum characters for a search in normal form, and for a line of a secret to count as a secret."""
_LONGEST_CHARACTER: Final = 24
"""Maximum bytes of a character: escaped as two surrogates within another escape."""

_PROBE: Final = 16
"""Characters of a secret that are searched first: a search for a short text is several times faster."""
_DEPTH: Final = 4
"""Maximum nesting of different encodings that is decoded; the same encoding is decoded any number of times."""

_ENCODED: Final = re.compile(
    rb"%(?:25)*(?P<percent>[0-9a-f]{2})"
    rb"|\\+u(?P<unit>[0-9a-f]{4})"
    rb"|&(?:amp;|#0*38;|#x0*26;)*(?:(?P<entity>amp|lt|gt|quot|apos)|#0*(?P<decimal>\d{1,7})|#x0*(?P<hex>[0-9a-f]{1,6}));"
    rb"|\\+",
    re.IGNORECASE,
)
_PERCENT: Final = re.compile(r"%[0-9A-F]{2}")
_ENTITIES: Final = {b"amp": b"&", b"lt": b"<", b"gt": b">", b"quot": b'"', b"apos": b"'"}
_FOLDED: Final = bytes.maketrans(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ -_", b"abcdefghijklmnopqrstuvwxyz++/")
"""Case folding, the alphabets of base64 and base64url (RFC 4648), and the plus that encodes a space in forms."""
_BASE64: Final = frozenset(b"abcdefghijklmnopqrstuvwxyz0123456789/=")


class Redactor:
    """Masks all registered secrets in text."""

    def __init__(self) -> None:
        self._secrets: set[str] = set()
        self._needles: dict[bytes, bool] = {}  # in normal form; True for a part of base64
        self._raw: set[bytes] = set()
        self._patterns: set[str] = set()
        self._pattern: re.Pattern[str] | None = None
        self._longest = 0

    def add(self, secret: str) -> None:
        """Mask `secret` from now on.

        Each line of a multi-line secret, such as a private key, is a secret too: logs contain single lines. The frame
        `-----BEGIN ...` (RFC 7468) is not.
        """
        if not secret.strip() or secret in self._secrets:
            return
        lines = secret.splitlines() if "\n" in secret else ()
        for one in {secret, *(line for line in lines if len(line) >= _LONG and not line.startswith("-----"))}:
            self._secrets.add(one)
            self._longest = max(self._longest, len(one))
            if len(_Normal(_bytes(one)).text) >= _LONG:
                self._raw.add(_bytes(one))
                self._needles |= _needles(one)
            else:
                self._patterns |= {one, base64.b64encode(one.encode("utf-8", "surrogateescape")).decode().rstrip("=")}
                longest_first = sorted(self._patterns, key=len, reverse=True)  # one secret may be the prefix of another
                self._pattern = re.compile("|".join(map(_pattern, longest_first)))

    def redact(self, text: str) -> str:
        """Return `text` with `***` in place of each secret."""
        if self._needles:
            text = self._without_long(text)
        return self._pattern.sub(MASK, text) if self._pattern is not None else text

    def excerpt(self, body: bytes, limit: int) -> str:
        """Return about the first `limit` bytes of `body` as text, without a truncated secret at the end."""
        margin = _LONGEST_CHARACTER * self._longest
        return self.redact(body[: limit + margin].decode("utf-8", "replace"))[:limit]

    def _without_long(self, text: str) -> str:
        data = _bytes(text)
        spans = sorted(self._spans(data))
        if not spans:
            return text
        parts: list[bytes] = []
        end = 0
        for start, stop in spans:
            if start >= end:
                parts += [data[end:start], MASK.encode()]
            end = max(end, stop)
        masked = b"".join([*parts, data[end:]])
        try:
            return masked.decode("utf-8", "surrogatepass")
        except UnicodeDecodeError:  # a secret that is not UTF-8 ended within a character
            return masked.decode("utf-8", "replace")

    def _spans(self, data: bytes) -> Iterator[tuple[int, int]]:
        """Yield the spans of secrets in `data`."""
        for raw in self._raw:
            for start in _found(raw, data):
                yield start, start + len(raw)
        normal = _Normal(data)
        for needle, encoded in self._needles.items():
            for at in _found(needle, normal.text):
                start, stop = _widened(normal.text, at, len(needle)) if encoded else (at, at + len(needle))
                yield normal.start(start), normal.stop(stop)


class _Normal:
    """The normal form of a text, with the offsets of the original text."""

    def __init__(self, data: bytes) -> None:
        self._layers: list[_Layer] = []
        while len(self._layers) < _DEPTH and _ENCODED.search(data):
            self._layers.append(_Layer(data))
            data = self._layers[-1].text
        self.text = data.translate(_FOLDED)

    def start(self, at: int) -> int:
        """Return the start in the text of the character at `at` of the normal form."""
        for layer in reversed(self._layers):
            at = layer.start(at)
        return at

    def stop(self, at: int) -> int:
        """Return the end in the text of the character before `at` of the normal form."""
        for layer in reversed(self._layers):
            at = layer.stop(at)
        return at


class _Layer:
    """A text with one layer of encoding removed."""

    def __init__(self, data: bytes) -> None:
        parts: list[bytes] = []
        self._here = [0]
        self._there = [0]
        size = end = 0
        for match in _ENCODED.finditer(data):
            decoded = _decoded(match)
            size += match.start() - end
            parts += [data[end : match.start()], decoded]
            end = match.end()
            self._here += [size, size + len(decoded)]
            self._there += [match.start(), end]
            size += len(decoded)
        self.text = b"".join([*parts, data[end:]])

    def start(self, at: int) -> int:
        piece = bisect_right(self._here, at) - 1
        return self._there[piece] + (0 if piece % 2 else at - self._here[piece])  # every second part was encoded

    def stop(self, at: int) -> int:
        piece = bisect_right(self._here, at - 1) - 1
        return self._there[piece + 1] if piece % 2 else self._there[piece] + at - self._here[piece]


def _decoded(match: re.Match[bytes]) -> bytes:
    """Return the decoded `match`; empty for a backslash, which escapes may multiply."""
    found = _character(match)
    return b"" if found == b"\\" else found


def _character(match: re.Match[bytes]) -> bytes:
    if (percent := match["percent"]) is not None:
        return bytes.fromhex(percent.decode())
    if (entity := match["entity"]) is not None:
        return _ENTITIES[entity.lower()]
    number = match["unit"] or match["hex"] or match["decimal"]
    if number is None:
        return b""
    code = int(number, 10 if match["decimal"] else 16)
    return chr(code).encode("utf-8", "surrogatepass") if code <= 0x10FFFF else b""


def _needles(secret: str) -> dict[bytes, bool]:
    """Return the search strings for normal forms, each with whether it is a part of base64."""
    forms = {secret, secret.lower(), secret.upper(), json.dumps(secret)[1:-1]}
    found = {_Normal(_bytes(one)).text: False for one in forms}
    raw = secret.encode("utf-8", "surrogateescape")
    found[_Normal(raw).text] = False
    in_url = (quote(raw, safe=""), quote(raw), quote_plus(raw))
    inner = {raw, *(one.encode() for one in in_url), *(_PERCENT.sub(_lower, one).encode() for one in in_url)}
    for one in inner | {json.dumps(secret)[1:-1].encode()}:
        found[one.hex().encode()] = False
        for shift in range(3):
            whole = base64.b64encode(bytes(shift) + one)
            first, last = -(-shift * 8 // 6), (shift + len(one)) * 8 // 6
            found.setdefault(whole[first:last].translate(_FOLDED), True)
    return {needle: encoded for needle, encoded in found.items() if len(needle.strip(b"+/=")) >= _SHORT}


def _widened(text: bytes, at: int, length: int) -> tuple[int, int]:
    """Return the span of the base64 at `at`, including the neighbouring characters that contain the remaining bits."""
    start, stop = at - (at > 0 and text[at - 1] in _BASE64), at + length
    while stop < len(text) and stop < at + length + 3 and text[stop] in _BASE64:
        stop += 1
    return start, stop


def _lower(match: re.Match[str]) -> str:
    return match[0].lower()


def _found(needle: bytes, text: bytes) -> Iterator[int]:
    probe = needle[:_PROBE]
    at = text.find(probe)
    while at >= 0:
        if text.startswith(needle, at):
            yield at
        at = text.find(probe, at + 1)


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _pattern(secret: str) -> str:
    found = "".join(map(_encodings, secret))
    return found if len(secret) >= _SHORT else rf"(?<!\w){found}(?!\w)"


def _encodings(character: str) -> str:
    """Return a pattern for `character`: literal, percent-encoded, or escaped any number of times."""
    if character.isascii() and character.isalnum():
        return character
    percent = "".join(f"%{byte:02X}" for byte in character.encode("utf-8", "surrogateescape"))
    units = character.encode("utf-16-be", "surrogatepass").hex()
    escape = "".join(rf"\\+u{units[at : at + 4]}" for at in range(0, len(units), 4))
    ways = [rf"\\*{re.escape(character)}", f"(?i:{percent})", f"(?i:{escape})"]
    return f"(?:{'|'.join([*ways, *([chr(92) + '+'] if character == ' ' else [])])})"
