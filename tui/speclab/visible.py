"""Characters that a terminal would obey rather than show, made visible.

Text from specs, records, servers and file names may hold escape sequences (C0 and C1 controls) or turn the direction of
what stands around it (bidirectional controls). Apart because the command line and the app both need it.
"""

from __future__ import annotations

import re
from typing import Final

_CONTROLS: Final = "\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069"
"""DEL and C1, line and paragraph separators, bidirectional embeddings, overrides and isolates."""

UNPRINTABLE: Final = re.compile(f"[\x00-\x1f{_CONTROLS}\ud800-\udfff]")
"""Every character that cannot stand in a cell of the screen, line ends and tabs included."""

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
