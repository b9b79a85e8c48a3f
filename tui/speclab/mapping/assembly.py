"""A whole mapping put together from its table and the settings beside it: all its problems, and the mapper."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from speclab.errors import SpecError
from speclab.mapping.cel import RecordExpression
from speclab.mapping.cel_check import ExpressionSyntaxError
from speclab.mapping.check import check_row
from speclab.mapping.contract import compile_checks
from speclab.mapping.mapper import Filter, Mapper
from speclab.mapping.place import Findings, Heading, Places
from speclab.mapping.program import Row
from speclab.mapping.step import Lookup
from speclab.mapping.targets import check_targets
from speclab.outcome import Level
from speclab.spec.integration import MappingRow
from speclab.spec.problem import Problem

if TYPE_CHECKING:
    from speclab.spec.settings import MappingSettings


@dataclass(frozen=True, slots=True)
class Assembly:
    """What a table and its settings make: `mapper` is None if an error is among the `problems`."""

    problems: tuple[Problem, ...]
    mapper: Mapper | None


def compile_mapping(
    rows: Sequence[MappingRow], settings: MappingSettings, file: str, places: Places | None = None
) -> Mapper:
    """The mapper of a table and its settings; `places` are those of the settings (`lint.settings_places`).

    Raises `SpecError` with all the problems that stand in the way.
    """
    assembly = assemble(rows, settings, file, places or Heading(1))
    if assembly.mapper is None:
        errors = [problem for problem in assembly.problems if problem.level is Level.ERROR]
        more = f" (and {len(errors) - 1} more)" if errors[1:] else ""
        raise SpecError(f"{errors[0]}{more}", problems=assembly.problems)
    return assembly.mapper


def assemble(rows: Sequence[MappingRow], settings: MappingSettings, file: str, places: Places) -> Assembly:
    """Check a table and its settings, and compile them if all is well; `places` are those of the settings."""
    findings = Findings(file)
    filter_ = _filter(settings.filter, places, findings)
    checked = [check_row(row, settings.lookups, findings) for row in rows]
    ready = [row for row in checked if row is not None]
    check_targets(ready, findings)
    if ready and len(ready) == len(rows):
        _check_use(settings.lookups, ready, places, findings)
    checks = compile_checks(settings.check, rows, places, findings)
    problems = tuple(sorted(findings.problems, key=lambda problem: (problem.line, problem.column)))
    if any(problem.level is Level.ERROR for problem in problems):
        return Assembly(problems, None)
    return Assembly(problems, Mapper(ready, checks, filter_))


def _check_use(names: Iterable[str], rows: Sequence[Row], places: Places, findings: Findings) -> None:
    used = {value.name for row in rows for bound in row.steps for value in bound.arguments if isinstance(value, Lookup)}
    for name in names:
        if name not in used:
            findings.warning("M116", places.key(("lookups", name)), f"no row uses the lookup '{name}'")


def _filter(text: str | None, places: Places, findings: Findings) -> Filter | None:
    if text is None:
        return None
    try:
        return Filter(RecordExpression(text), places.value(("filter",), 0, len(text)))
    except ExpressionSyntaxError as error:
        at = places.value(("filter",), error.start, error.end)
        exact = at.length == max(1, error.end - error.start)
        findings.error("M114", at, f"filter: {error.message}", error.fix if exact else None)
    return None
