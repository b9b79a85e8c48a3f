"""Text for users and in settings: counts, suggestions, visible control characters, placeholders in braces."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Final


def format_count(number: int, one: str, many: str = "") -> str:
    """Return `1 row`, `2 rows`; `many` is an irregular plural."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


_NEAR: Final = 65.0
_SURE: Final = 75.0
_SHOWN: Final = 12
_MAX_COMPARED: Final = 2_000
"""Maximum names that are searched for a similar one: comparing more takes too long for a hint."""


def find_similar(name: str, names: Sequence[str]) -> list[str]:
    """Return up to three of `names` that resemble `name`, best first; for an address its end is enough."""
    if len(names) > _MAX_COMPARED:
        return []
    scores = dict(_scored(name, names))
    tails = {other: other.rpartition(" > ")[2] for other in names if " > " in other}
    for (_, score), other in zip(_scored(name, list(tails.values())), tails, strict=True):
        scores[other] = max(scores[other], score)
    return sorted((other for other in scores if scores[other] >= _NEAR), key=lambda other: -scores[other])[:3]


def find_likely_name(name: str, names: Sequence[str]) -> str | None:
    """Return the one of `names` that `name` is certainly a misspelling of: nearly equal, and no other is as near."""
    if len(names) > _MAX_COMPARED:
        return None
    from rapidfuzz.distance import OSA
    from rapidfuzz.utils import default_process

    scores = sorted(((score, other) for other, score in _scored(name, names)), reverse=True)
    if not scores or (len(scores) > 1 and scores[1][0] == scores[0][0]):
        return None
    score, other = scores[0]
    one_slip = len(name) > 2 and OSA.distance(name, other, processor=default_process, score_cutoff=1) == 1
    return other if score >= _SURE or one_slip else None


def format_suggestion(name: str, names: Iterable[str]) -> str:
    """Return the end of a message: `. Did you mean 'a'?`, or nothing without a similar name."""
    found = find_similar(name, list(names))
    return f". Did you mean '{found[0]}'?" if found else ""


def describe_choices(name: str, names: Sequence[str], there_are: str) -> str:
    """Return `did you mean 'a' or 'b'?`, or else `there_are` and the names."""
    if close := find_similar(name, names):
        return f"did you mean {' or '.join(repr(other) for other in close)}?"
    return f"{there_are} {join_names([repr(other) for other in names[: _SHOWN + 1]])}" if names else ""


def join_names(names: Iterable[str]) -> str:
    """Return the first of `names`, separated by commas, with `...` if there are more."""
    shown = list(islice(names, _SHOWN + 1))
    return ", ".join(shown[:_SHOWN] + ["..."] * (len(shown) > _SHOWN))


def _scored(name: str, names: Sequence[str]) -> list[tuple[str, float]]:
    """Return each of `names` with its similarity to `name` from 0 to 100, in order."""
    from rapidfuzz import fuzz, process
    from rapidfuzz.utils import default_process

    found = process.extract_iter(name, names, scorer=fuzz.ratio, processor=default_process)
    return [(other, score) for other, score, _ in found]


_CONTROLS: Final = "\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069"
"""DEL and C1, line and paragraph separators, bidirectional embeddings, overrides and isolates."""

UNPRINTABLE: Final = re.compile(f"[\x00-\x1f{_CONTROLS}\ud800-\udfff]")
"""Characters that a screen cell cannot show, including line ends and tabs."""

_UNSAFE: Final = re.compile(f"[\x00-\x08\x0b\x0c\x0e-\x1f{_CONTROLS}]|\r(?!\n)")
_UNSAFE_IN_JSON: Final = re.compile(f"[{_CONTROLS}]")


def escape_controls(text: str) -> str:
    r"""Return `text` with each control character as its escape (`\x1b`, `\u202e`), except line ends and tabs."""
    if text.isprintable():
        return text
    return _UNSAFE.sub(_escape, text)


def escape_controls_in_json(text: str) -> str:
    r"""Return the JSON text with the control characters that JSON allows in strings as `\u009b`: the same value."""
    return _UNSAFE_IN_JSON.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


REFERENCE: Final = re.compile(r"\$\{(?P<kind>[A-Za-z0-9_]+):(?P<name>[^{}]*)\}")
"""A reference that can be resolved."""

REFERENCE_LIKE: Final = re.compile(r"\$\{(?P<kind>[^{}:]*)(?P<colon>:?)(?P<name>[^{}]*)(?P<close>\}?)")
"""A reference, also one without a kind or without its closing brace."""

ENCLOSED_REFERENCE: Final = re.compile(r"\$\{[^{}]*\}")
"""A reference with both braces and any text between them."""

PLACEHOLDER: Final = re.compile(r"(?<!\$)\{(?P<path>[^{}]*)\}")
"""A placeholder in a text that may contain references, which are not placeholders."""

RESOLVED_PLACEHOLDER: Final = re.compile(r"\{(?P<path>[^{}]*)\}")
"""A placeholder in a text without references: a `$` before it is a character of the text."""

TEMPLATE_TOKEN: Final = re.compile(r"\$\{[^{}]*\}|\{(?P<path>[^{}]*)\}|(?P<odd>[{}])")
"""A reference, a placeholder (`path`) or an unbalanced brace (`odd`)."""


def split_template(text: str, pattern: re.Pattern[str] = RESOLVED_PLACEHOLDER) -> Iterator[tuple[str, str | None]]:
    """Yield each literal part of `text` with the path of the placeholder after it; None after the last part."""
    at = 0
    for match in pattern.finditer(text):
        yield text[at : match.start()], match["path"].strip()
        at = match.end()
    yield text[at:], None


def find_placeholders(value: object) -> list[str]:
    """Return the paths of the placeholders in `value`, a text or JSON that contains texts."""
    if isinstance(value, str):
        return [match["path"].strip() for match in PLACEHOLDER.finditer(value)]
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [path for one in inner for path in find_placeholders(one)]
