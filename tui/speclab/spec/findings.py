"""Where problems of one file are gathered: found at offsets in its text, told as lines and columns."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Final, Protocol

from speclab.outcome import Level
from speclab.spec.problem import Problem

_LINE_END: Final = re.compile(r"[\r\n]")


class Stretch(Protocol):
    """Anything that lies between two offsets in a file's text."""

    @property
    def start(self) -> int:
        """Offset of the first character."""

    @property
    def end(self) -> int:
        """Offset after the last character."""


class Findings:
    """The problems of one file.

    `position` gives line and column (from 1) of an offset in `text`. `needs` is how much it matters that something
    is not there yet or cannot be run yet: an error to a run, a mere note about a draft.
    """

    def __init__(
        self, file: str, text: str, position: Callable[[int], tuple[int, int]], *, needs: Level = Level.ERROR
    ) -> None:
        self._file = file
        self.text = text
        self._position = position
        self._needs = needs
        self._problems: list[Problem] = []

    def error(self, code: str, at: Stretch, message: str, fix: str | None = None) -> None:
        """Something wrong; `fix` is what should stand at `at` instead."""
        self._add(Level.ERROR, code, at, message, fix)

    def warning(self, code: str, at: Stretch, message: str, fix: str | None = None) -> None:
        """Something that is probably not what is meant."""
        self._add(Level.WARNING, code, at, message, fix)

    def note(self, code: str, at: Stretch, message: str) -> None:
        """Something worth knowing."""
        self._add(Level.INFO, code, at, message, None)

    def need(self, code: str, at: Stretch, message: str) -> None:
        """Something a run needs that is not there yet."""
        self._add(self._needs, code, at, message, None)

    def extend(self, problems: Iterable[Problem]) -> None:
        """Problems found elsewhere, as they are."""
        self._problems.extend(problems)

    @property
    def errors(self) -> int:
        """How many of them are errors."""
        return sum(problem.level is Level.ERROR for problem in self._problems)

    def in_order(self) -> list[Problem]:
        """All of them by place; of different levels at one place the gravest, for the others follow from it."""
        gravest: dict[tuple[int, int], Level] = {}
        levels = list(Level)
        for problem in self._problems:
            place = (problem.line, problem.column)
            gravest[place] = min(gravest.get(place, problem.level), problem.level, key=levels.index)
        told = dict.fromkeys(self._problems)
        kept = [problem for problem in told if gravest[problem.line, problem.column] is problem.level]
        return sorted(kept, key=lambda problem: (problem.line, problem.column))

    def _add(self, level: Level, code: str, at: Stretch, message: str, fix: str | None) -> None:
        line, column = self._position(at.start)
        line_end = _LINE_END.search(self.text, at.start, at.end)
        length = max(1, (line_end.start() if line_end else at.end) - at.start)
        self._problems.append(Problem(self._file, line, column, code, level, message, fix, length))
