"""Where problems of a mapping stand: in a cell of a row, or in the settings beside the table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from speclab.outcome import Level
from speclab.spec.integration import MappingRow
from speclab.spec.problem import Problem


@dataclass(frozen=True, slots=True)
class Place:
    """A stretch of one line; line and column count from 1."""

    line: int
    column: int
    length: int


class Places(Protocol):
    """Finds the places of the section's settings."""

    def key(self, path: Sequence[str]) -> Place:
        """Where the key at `path` stands."""

    def value(self, path: Sequence[str], start: int, end: int) -> Place:
        """Where characters `start` to `end` of the text at `path` stand."""


@dataclass(frozen=True, slots=True)
class Heading:
    """The places of settings of which only the section's line is known."""

    line: int

    def key(self, path: Sequence[str]) -> Place:
        """The section's heading."""
        del path
        return Place(self.line, 1, 1)

    def value(self, path: Sequence[str], start: int, end: int) -> Place:
        """The section's heading."""
        del start, end
        return self.key(path)


def in_cell(row: MappingRow, start: int, end: int) -> Place:
    """Where characters `start` to `end` of the row's Transformation cell stand."""
    column = row.column(start)
    return Place(row.line, column, max(1, row.column(end) - column))


def of_source(row: MappingRow, number: int) -> Place:
    """Where the row's source field of that number, from 0, stands."""
    return Place(row.line, row.source_columns[number], max(1, len(row.sources[number])))


def of_target(row: MappingRow) -> Place:
    """Where the row's target field stands."""
    return Place(row.line, row.target_column, max(1, len(row.target)))


@dataclass(frozen=True, slots=True)
class Findings:
    """Gathers the problems of one file."""

    file: str
    problems: list[Problem] = field(default_factory=list)

    def error(self, code: str, at: Place, message: str, fix: str | None = None) -> None:
        """Something that stands in the way of a run; `fix` is what should stand there instead."""
        self._add(Level.ERROR, code, at, message, fix)

    def warning(self, code: str, at: Place, message: str) -> None:
        """Something that is probably not what is meant."""
        self._add(Level.WARNING, code, at, message, None)

    def _add(self, level: Level, code: str, at: Place, message: str, fix: str | None) -> None:
        self.problems.append(Problem(self.file, at.line, at.column, code, level, message, fix, at.length))
