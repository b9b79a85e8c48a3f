"""A problem: something wrong with a spec, at its place, in words that say what to do."""

from __future__ import annotations

from dataclasses import dataclass

from speclab.outcome import Level


@dataclass(frozen=True, slots=True)
class Problem:
    """One finding. `line` and `column` count from 1, columns in characters; `length` is for underlining.

    `fix` is the text that should stand there instead, where speclab knows it (what `lint --fix` writes and
    the app's fix key offers); the message alone must already say what to do.
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
        """`file:line:column: CODE message`, as editors and compilers write it."""
        return f"{self.file}:{self.line}:{self.column}: {self.code} {self.message}"
