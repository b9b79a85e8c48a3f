"""Masking: which fields of a record may be stored in clear text, by name and by the rules of a spec."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache
from typing import Final
from urllib.parse import quote, quote_plus

from speclab.core.json import Json, Record

MASKED: Final = "***masked***"
"""Stands for a value that is not stored."""

_MARK: Final = re.compile(r"\*\*\*(?:masked|hashed:[0-9a-f]{16})\*\*\*")
_ANYWHERE: Final = re.compile(r"passw|secret|token|iban|(?:credit|debit|bank)card")
_WORDS: Final = frozenset({"ssn", "iban", "card", "cards", "pwd"})
_WORD: Final = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_PAIR: Final = re.compile(
    r"""(?P<before>"(?P<name>[^"\\]{1,80})"\s*:\s*)(?:"(?:[^"\\]|\\.)*+"?|[^\s,\]}[{]+)""", re.DOTALL
)
"""A name and its value in JSON, also if the text ends within the value."""
_SHORTEST: Final = 3
"""Characters of the shortest value that is also masked in messages, requests and responses."""
_SHORT: Final = 6
"""Characters below which such a value is only masked as a whole word."""


class FieldRule(StrEnum):
    """How the value of a field is stored in the run log."""

    STORE = "store"
    MASK = "mask"
    HASH = "hash"


@lru_cache(maxsize=4096)
def is_sensitive(name: str) -> bool:
    """Return whether a field of that name is masked by default: passwords, tokens, secrets, SSN, IBAN and cards."""
    if _ANYWHERE.search(name.replace("_", "").replace("-", "").casefold()):
        return True
    return not _WORDS.isdisjoint(word.casefold() for word in _WORD.findall(name))


def has_masks(value: object) -> bool:
    """Return whether a stored record has masked or hashed values."""
    if isinstance(value, str):
        return _MARK.fullmatch(value) is not None
    inner = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ()
    return any(map(has_masks, inner))


@dataclass(frozen=True, slots=True)
class FieldPolicy:
    """The rules of one spec: by path or name of a field, in lower case; other fields follow their name.

    The fields in `keys` identify a record and are always stored.
    """

    rules: Mapping[str, FieldRule] = field(default_factory=dict)
    keys: frozenset[str] = frozenset()

    def get_rule(self, path: str, name: str) -> FieldRule:
        """Return the rule of the field `name` at `path`."""
        if self.keys and path.casefold() in self.keys:
            return FieldRule.STORE
        for known in (path.casefold(), name.casefold()) if self.rules else ():
            if (rule := self.rules.get(known)) is not None:
                return rule
        return FieldRule.MASK if is_sensitive(name) else FieldRule.STORE


DEFAULT_POLICY: Final = FieldPolicy()
"""Masks fields by their names only."""


class Masker:
    """Masks records by a policy, and remembers the masked values for the texts about them.

    `salt` prevents guessing values from their hashes; None if no field is hashed.
    """

    def __init__(self, policy: FieldPolicy, salt: bytes | None) -> None:
        self._policy = policy
        self._salt = salt
        self._values: set[str] = set()

    def mask_record(self, record: Record) -> Record:
        """Return `record` with its sensitive values masked or hashed; the same object if it has none."""
        masked = self._mask(record, "", "", FieldRule.STORE)
        return masked if isinstance(masked, dict) and masked != record else record

    def mask_text(self, text: str | None) -> str | None:
        """Return `text` without the values that were masked in the records before, in the usual encodings."""
        if not text or not self._values:
            return text
        forms = {form for value in self._values for form in _encode(value)}
        pattern = "|".join(map(_build_pattern, sorted(forms, key=len, reverse=True)))
        return re.sub(pattern, "***", text)

    def mask_pairs(self, text: str | None) -> str | None:
        """Return `text`, which contains JSON that cannot be read, without the values of sensitive names."""

        def mask_pair(match: re.Match[str]) -> str:
            rule = self._policy.get_rule(match["name"], match["name"])
            return match[0] if rule is FieldRule.STORE else f"{match['before']}***"

        return _PAIR.sub(mask_pair, text) if text else text

    def _mask(self, value: Json, path: str, name: str, outer: FieldRule) -> Json:
        if name and outer is FieldRule.STORE:
            outer = self._policy.get_rule(path, name)
            if outer is FieldRule.STORE and self._allows(path, name):
                return value  # the spec allows it, with all it contains
        if isinstance(value, dict) and (outer is FieldRule.STORE or self._has_key(path)):
            return {inner: self._mask(one, _join(path, inner), inner, outer) for inner, one in value.items()}
        if isinstance(value, list) and outer is FieldRule.STORE:
            return [self._mask(one, path, "", outer) for one in value]
        if outer is FieldRule.STORE or path.casefold() in self._policy.keys:
            return value
        if value is None or value == "" or isinstance(value, bool) or has_masks(value):
            return value
        self._remember(value)
        return MASKED if outer is FieldRule.MASK else self._hash(value)

    def _allows(self, path: str, name: str) -> bool:
        rules = self._policy.rules
        return bool(rules) and FieldRule.STORE in (rules.get(path.casefold()), rules.get(name.casefold()))

    def _has_key(self, path: str) -> bool:
        return any(key.startswith(f"{path.casefold()}.") for key in self._policy.keys)

    def _remember(self, value: Json) -> None:
        inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
        for one in inner:
            self._remember(one)
        if isinstance(value, str | int | float) and not isinstance(value, bool) and len(str(value)) >= _SHORTEST:
            self._values.add(str(value))

    def _hash(self, value: Json) -> str:
        assert self._salt is not None  # noqa: S101 - the caller has a salt for a policy that hashes
        text = value if isinstance(value, str) else json.dumps(value, sort_keys=True)
        digest = hmac.new(self._salt, text.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()
        return f"***hashed:{digest[:16]}***"


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _encode(value: str) -> set[str]:
    raw = value.encode("utf-8", "surrogatepass")
    return {value, json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1], quote(raw), quote_plus(raw)}


def _build_pattern(text: str) -> str:
    escaped = re.escape(text)
    return escaped if len(text) >= _SHORT else rf"(?<!\w){escaped}(?!\w)"
