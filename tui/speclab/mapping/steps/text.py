"""Steps on text."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from decimal import Decimal
from typing import Final

import re2

from speclab.core.json import Json
from speclab.mapping.types import (
    MAX_ITEMS,
    MAX_TEXT,
    Parameter,
    ParameterType,
    Step,
    StepError,
    StepExample,
    ValueKind,
    check_item_count,
    check_text_size,
    format_value,
    to_text,
)

MAX_LENGTH: Final = 10_000
_ALGORITHMS: Final = ("sha256", "sha512", "sha1", "md5")
_LETTERS: Final = r"[^\W\d_](?:[^\W\d_]|[\u0300-\u036f])*"  # with combining accents
_WORD: Final = re.compile(rf"{_LETTERS}(?:['’][^\W\d_](?![^\W\d_]))?")  # "it's" is one word, "o'neil" two  # noqa: RUF001

_REGEX: Final = re2.Options()
_REGEX.log_errors = False  # they become problems of the spec; RE2 would also print them


def _title(value: str) -> str:
    return _WORD.sub(lambda word: word[0][0].title() + word[0][1:].lower(), value)


def _replace(old: str, new: str) -> Callable[[str], str]:
    growth = len(new) - len(old)

    def apply(value: str) -> str:
        if growth > 0 and len(value) * len(new) > MAX_TEXT:
            check_text_size(len(value) + growth * value.count(old), len(value))
        return value.replace(old, new)

    return apply


def _regex_replace(pattern: str, new: str) -> Callable[[str], str]:
    compiled = re2.compile(pattern, _REGEX)
    parts = re.split(r"\\([0-9])", new)  # literal, group, literal, ...
    literals, groups = parts[::2], [_group(compiled.groups, int(part)) for part in parts[1::2]]

    def apply(value: str) -> str:
        made: list[str] = []
        size = 0
        span = (0, 0)
        for found in compiled.finditer(_utf8(value)):
            if made and found.span() == span:
                continue  # RE2's iterator returns some empty matches twice, such as at the end
            pieces = [value[span[1] : found.start()], literals[0]]
            for group, literal in zip(groups, literals[1:], strict=True):
                pieces += [found[group] or "", literal]
            made += pieces
            size += sum(map(len, pieces))
            if size > MAX_TEXT:
                check_text_size(size, len(value))
            span = found.span()
        check_text_size(size + len(value) - span[1], len(value))
        return "".join([*made, value[span[1] :]])

    return apply


def _regex_extract(pattern: str, group: int = 0) -> Callable[[str], str | None]:
    compiled = re2.compile(pattern, _REGEX)
    _group(compiled.groups, group)

    def apply(value: str) -> str | None:
        found = compiled.search(_utf8(value))
        return None if found is None else found[group]

    return apply


def _group(groups: int, group: int) -> int:
    if group > groups:
        raise ValueError(f"the pattern has {groups} groups, no group {group}")
    return group


def _utf8(value: str) -> str:
    """Return `value` if it can be encoded as UTF-8, which RE2 matches. Raises `StepError`."""
    try:
        value.encode()
    except UnicodeEncodeError:
        raise StepError(f"{format_value(value)} has half a surrogate pair, which is not a character") from None
    return value


def _truncate(length: int) -> Callable[[str], str]:
    return lambda value: value[:length]


def _pad(length: int, fill: str = "0") -> Callable[[str], str]:
    return lambda value: value.rjust(length, fill)


def _split(separator: str, index: int | None = None) -> Callable[[str], Json]:
    def parts(value: str) -> list[Json]:
        if len(value) > MAX_ITEMS:
            check_item_count(value.count(separator) + 1)
        return [*value.split(separator)] if value else []

    def part(value: str) -> Json:
        found = parts(value)
        at = index or 0
        return found[at] if -len(found) <= at < len(found) else None

    return parts if index is None else part


def _hash(algorithm: str = "sha256") -> Callable[[str | float | Decimal], str]:
    def apply(value: str | float | Decimal) -> str:
        data = to_text(value).encode("utf-8", "surrogatepass")
        return hashlib.new(algorithm, data, usedforsecurity=False).hexdigest()

    return apply


def _not_empty(value: str) -> str | None:
    return None if value else "must not be empty"


def _pattern(value: str) -> str | None:
    try:
        re2.compile(value, _REGEX)
    except re2.error as error:
        reason = error.args[0] if error.args else error
        return f"is not a valid RE2 pattern: {reason.decode() if isinstance(reason, bytes) else reason}"
    return None


def _length(value: int) -> str | None:
    return None if value <= MAX_LENGTH else f"must be at most {MAX_LENGTH}"


def _one_character(value: str) -> str | None:
    return None if len(value) == 1 else "must be one character"


TEXT_STEPS: Final = (
    Step(
        "Trim",
        "Removes white space at both ends.",
        takes=ValueKind.ANY_TEXT,
        returns=ValueKind.TEXT,
        make=lambda: str.strip,
        inline="{v} = {v}.strip()",
        example=StepExample("Trim", " Ada ", "Ada"),
        other_names=("strip", "trimspace"),
    ),
    Step(
        "Uppercase",
        "Converts all letters to upper case.",
        takes=ValueKind.ANY_TEXT,
        returns=ValueKind.TEXT,
        make=lambda: str.upper,
        inline="{v} = {v}.upper()",
        example=StepExample("Uppercase", "Ada", "ADA"),
        other_names=("upper", "toupper", "caps", "ucase"),
    ),
    Step(
        "Lowercase",
        "Converts all letters to lower case.",
        takes=ValueKind.ANY_TEXT,
        returns=ValueKind.TEXT,
        make=lambda: str.lower,
        inline="{v} = {v}.lower()",
        example=StepExample("Lowercase", "Ada@Example.org", "ada@example.org"),
        other_names=("lower", "tolower", "lcase", "casefold"),
    ),
    Step(
        "Title",
        "Converts the first letter of each word to upper case and the others to lower case.",
        takes=ValueKind.ANY_TEXT,
        returns=ValueKind.TEXT,
        make=lambda: _title,
        example=StepExample("Title", "ADA o'neil-LOVELACE", "Ada O'Neil-Lovelace"),
        other_names=("titlecase", "capitalize", "propercase", "proper", "initcap"),
    ),
    Step(
        "Replace",
        "Replaces every `old` by `new`.",
        takes=ValueKind.ANY_TEXT,
        returns=ValueKind.TEXT,
        make=_replace,
        parameters=(Parameter("old", ParameterType.TEXT, check=_not_empty), Parameter("new", ParameterType.TEXT)),
        may_grow=True,
        example=StepExample('Replace("-", "")', "020-7946", "0207946"),
        other_names=("substitute", "translate", "remove"),
    ),
    Step(
        "RegexReplace",
        r"Replaces every match of the RE2 `pattern` by `new`, in which \1 is the first group.",
        takes=ValueKind.ANY_TEXT,
        returns=ValueKind.TEXT,
        make=_regex_replace,
        parameters=(Parameter("pattern", ParameterType.TEXT, check=_pattern), Parameter("new", ParameterType.TEXT)),
        may_fail=True,
        may_grow=True,
        example=StepExample(r'RegexReplace("\D+", "")', "+44 20 7946", "44207946"),
        other_names=("regex", "gsub", "sub", "resub"),
    ),
    Step(
        "RegexExtract",
        "Returns the first match of the RE2 `pattern`, or its `group`; null without a match.",
        takes=ValueKind.ANY_TEXT,
        returns=ValueKind.TEXT,
        make=_regex_extract,
        parameters=(
            Parameter("pattern", ParameterType.TEXT, check=_pattern),
            Parameter("group", ParameterType.COUNT, optional=True),
        ),
        may_fail=True,
        may_null=True,
        example=StepExample(r'RegexExtract("#(\d+)", 1)', "order #4711", "4711"),
        other_names=("match", "extract", "capture", "search"),
    ),
    Step(
        "Truncate",
        "Cuts text to at most `length` characters.",
        takes=ValueKind.ANY_TEXT,
        returns=ValueKind.TEXT,
        make=_truncate,
        inline="{v} = {v}[:{a}]",
        parameters=(Parameter("length", ParameterType.COUNT),),
        example=StepExample("Truncate(3)", "Lovelace", "Lov"),
        other_names=("left", "cut", "substring", "limit", "maxlength"),
    ),
    Step(
        "Pad",
        'Pads text on the left to `length` characters, with "0" or the character `fill`.',
        takes=ValueKind.ANY_TEXT,
        returns=ValueKind.TEXT,
        make=_pad,
        parameters=(
            Parameter("length", ParameterType.COUNT, check=_length),
            Parameter("fill", ParameterType.TEXT, optional=True, check=_one_character),
        ),
        may_grow=True,
        example=StepExample("Pad(5)", "1067", "01067"),
        other_names=("zfill", "lpad", "padleft", "padstart"),
    ),
    Step(
        "Split",
        "Splits text at each `separator` into a list, or returns the part `index`: 0 is the first, -1 the last, null "
        "if there is no such part.",
        takes=ValueKind.ANY_TEXT,
        returns=lambda _, arguments: ValueKind.TEXT if len(arguments) > 1 else ValueKind.LIST,
        make=_split,
        parameters=(
            Parameter("separator", ParameterType.TEXT, check=_not_empty),
            Parameter("index", ParameterType.INTEGER, optional=True),
        ),
        may_null=True,
        may_grow=True,
        example=StepExample('Split(", ", 0)', "Lovelace, Ada", "Lovelace"),
        other_names=("tokenize", "part", "explode"),
    ),
    Step(
        "Hash",
        "Returns the hexadecimal digest of the UTF-8 text, by SHA-256 or another `algorithm`.",
        takes=ValueKind.SCALAR,
        returns=ValueKind.TEXT,
        make=_hash,
        parameters=(Parameter("algorithm", ParameterType.TEXT, optional=True, choices=_ALGORITHMS, closed=True),),
        example=StepExample(
            'Hash("sha256")', "Ada", "99a563ab2f6e21e96998f9fddd2a2bab82b70ac019579502b8d7fc0032ff62bb"
        ),
        other_names=("digest", "sha256", "md5", "checksum", "anonymize"),
    ),
)
"""In the order of the help."""
