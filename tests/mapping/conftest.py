"""Fixtures of the mapping tests: rows as the spec parser returns them, and mappers of a few rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

import pytest

from speclab.core.json import Json
from speclab.mapping import Mapper, check_mapping, compile_mapping
from speclab.spec.integration import MappingRow
from speclab.spec.problems import Problem
from speclab.spec.settings import MappingSettings

FILE = "spec.md"
FIRST_LINE = 41
TARGET_COLUMN = 40
CELL_COLUMN = 60

Rows: TypeAlias = list[tuple[str, str, str]]


def make_rows(rows: Rows) -> list[MappingRow]:
    """Build rows from (source cell, target, transformation), one per line; sources are at columns 3, 23, ..."""
    made = []
    for line, (source, target, cell) in enumerate(rows, FIRST_LINE):
        sources = tuple(part.strip() for part in source.split(",")) if source else ()
        escapes = tuple(at for at, character in enumerate(cell) if character == "|")
        columns = tuple(3 + 20 * number for number in range(len(sources)))
        made.append(MappingRow(sources, target, cell, "", line, columns, TARGET_COLUMN, CELL_COLUMN, escapes))
    return made


MakeMapper: TypeAlias = Callable[..., Mapper]
Apply: TypeAlias = Callable[..., Json]
FindProblems: TypeAlias = Callable[..., list[Problem]]


@pytest.fixture
def mapper_of() -> MakeMapper:
    """Return a function that compiles rows (source, target, transformation) with settings given by name."""

    def make(*rows: tuple[str, str, str], **settings: Json) -> Mapper:
        return compile_mapping(make_rows([*rows]), MappingSettings.model_validate(settings), FILE)

    return make


@pytest.fixture
def apply() -> Apply:
    """Return a function that applies a cell to one value or several source fields; it raises `MappingFailure`."""

    def run(cell: str, *values: Json, lookups: Mapping[str, Json] | None = None) -> Json:
        names = [f"f{number}" for number, _ in enumerate(values)]
        settings = MappingSettings.model_validate({"lookups": lookups or {}})
        mapper = compile_mapping(make_rows([(", ".join(names), "result", cell)]), settings, FILE)
        return mapper.map(dict(zip(names, values, strict=True)))["result"]

    return run


@pytest.fixture
def problems_of() -> FindProblems:
    """Return a function that finds the problems of rows, with settings given by name."""

    def find(*rows: tuple[str, str, str], **settings: Json) -> list[Problem]:
        return check_mapping(make_rows([*rows]), MappingSettings.model_validate(settings), FILE)

    return find
