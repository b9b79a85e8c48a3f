"""The two kinds of braces in settings: references `${kind:name}` and placeholders `{path}`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

REFERENCE: Final = re.compile(r"\$\{(?P<kind>[A-Za-z0-9_]+):(?P<name>[^{}]*)\}")
"""A reference that can be resolved."""

REFERENCE_LIKE: Final = re.compile(r"\$\{(?P<kind>[^{}:]*)(?P<colon>:?)(?P<name>[^{}]*)(?P<close>\}?)")
"""A reference, also one without a kind or without its closing brace."""

ENCLOSED_REFERENCE: Final = re.compile(r"\$\{[^{}]*\}")
"""A reference with both braces, whatever is between them."""

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
