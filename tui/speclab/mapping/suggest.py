"""Suggestions for targets that no row writes: the source field that is probably meant, and the steps it needs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from rapidfuzz import fuzz

from speclab.mapping.complete import in_system
from speclab.mapping.fields import Field, Schema
from speclab.mapping.kinds import Kind
from speclab.mapping.language import quoted
from speclab.mapping.steps.dates import DATE_FORMATS, ISO_DATE, read_date
from speclab.paths import FieldPath, PathSyntaxError

_GOOD: Final = 70.0
_WORD: Final = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+|[^\W\d_a-zA-Z]+")
_SAME: Final = {
    word: canonical
    for canonical, words in {
        "phone": "tel telephone mobile cell fon",
        "email": "mail emailaddress",
        "birth date": "born dob birthday birthdate",
        "first": "given forename vorname",
        "last": "family surname lastname nachname",
        "postal code": "zip postcode plz zipcode",
        "company": "organisation organization org account firm",
        "street": "road line",
        "country": "nation",
        "state": "status stage",
        "amount": "total sum turnover revenue value",
        "created": "creation added",
        "updated": "modified changed",
        "id": "identifier key uuid guid no number",
    }.items()
    for word in words.split()
}


@dataclass(frozen=True, slots=True)
class Suggestion:
    """A row that could be: its cells as they would be written, and how sure it is, up to 100."""

    target: str
    source: str
    transformation: str
    score: float


def unmapped(targets: Iterable[str], known: Iterable[str]) -> tuple[str, ...]:
    """Those `known` target fields that no row with one of `targets` writes, whole or in part."""
    written = {_parts(target) for target in targets}
    around = {above for parts in written for above in _upward(parts)}
    return tuple(
        name
        for name in dict.fromkeys(known)
        if (wanted := _parts(name)) and wanted not in around and written.isdisjoint(_upward(wanted))
    )


def suggest(target: str, fields: Sequence[Field], schema: Schema | None = None) -> tuple[Suggestion, ...]:
    """Rows for `target`, the best first: from fields like it by name, with the steps that its `schema` asks for."""
    schema = schema or {}
    if "const" in schema and isinstance(constant := schema["const"], str):
        return (Suggestion(target, "", f"Constant({quoted(constant)})", 100.0),)
    wanted = _words(target)
    scored = [(round(_likeness(wanted, _words_of(field.path)), 1), field) for field in fields]
    best = sorted((pair for pair in scored if pair[0] >= _GOOD), key=lambda pair: -pair[0])[:3]
    return tuple(
        Suggestion(target, in_system("source", str(field.path)), _steps(target, field, schema), score)
        for score, field in best
    )


def _likeness(one: str, other: str) -> float:
    """How much the words of two paths name the same thing, from 0 to 100; 0 where it surely is not good."""
    shared = fuzz.token_set_ratio(one, other, score_cutoff=(_GOOD - 40) / 0.6)
    return 0.6 * shared + 0.4 * fuzz.token_sort_ratio(one, other) if shared else 0.0


@lru_cache(10_000)
def _words_of(path: FieldPath) -> str:
    return _words(str(path))


def _words(path: str) -> str:
    words = (word.lower() for word in _WORD.findall(path))
    return " ".join(_SAME.get(word, word) for word in words)


def _parts(path: str) -> tuple[str | int, ...]:
    try:
        return FieldPath.parse(path).parts
    except PathSyntaxError:
        return ()


def _upward(parts: tuple[str | int, ...]) -> Iterator[tuple[str | int, ...]]:
    """The path and all those around it."""
    return (parts[:length] for length in range(len(parts), 0, -1))


def _steps(target: str, field: Field, schema: Schema) -> str:
    """The steps between values such as those of `field` and what the target asks for."""
    if field.kind == Kind.TEXT:
        texts = [value for value in field.values if isinstance(value, str)]
        if schema.get("format") == "date" or "date" in _words(target).split():
            forms = [form for form in DATE_FORMATS if all(read_date(text, form) for text in texts)]
            if len(forms) == 1:
                return "Date" if forms == [ISO_DATE] else f"Date({quoted(forms[0])})"
        if schema.get("type") in ("integer", "number"):
            return "Trim, Integer" if schema["type"] == "integer" else "Trim, Decimal"
        if schema.get("format") == "email" or "email" in _words(target).split():
            return "Trim, Lowercase"
        if any(text != text.strip() for text in texts):
            return "Trim"
    elif schema.get("type") == "string" and field.kind and field.kind in Kind.SCALAR:
        return "Text"
    return "Direct"
