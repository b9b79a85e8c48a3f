"""A problem: something wrong with a spec, at its place, in words that say what to do."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from speclab.outcome import Level

_CONTROL: Final = re.compile("[\0-\x1f\x7f-\x9f\u2028\u2029]")


@dataclass(frozen=True, slots=True)
class Problem:
    """One finding. `line` and `column` count from 1, columns in characters; `length` is for underlining.

    `fix` is the text that should stand there instead, where speclab knows it (what the app's fix key writes); the
    message alone must already say what to do.
    """

    file: str
    line: int
    column: int
    code: str
    level: Level
    message: str
    fix: str | None = None
    length: int = 1

    def __str__(self) -> str:
        """`file:line:column: CODE message`, as editors and compilers write it: a line that no terminal obeys."""
        message = _CONTROL.sub(lambda match: repr(match[0])[1:-1], self.message)
        return f"{self.file}:{self.line}:{self.column}: {self.code} {message}"
