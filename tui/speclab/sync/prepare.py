"""Preparing a run: a spec file read, checked and compiled, or refused with every problem that stands in the way."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from speclab.errors import SpecError
from speclab.jsonvalue import Record
from speclab.mapping import Mapper, MappingFailure, RowFailure, compile_mapping, lint
from speclab.mapping.cel import EvaluationError, RecordExpression
from speclab.mapping.lint import settings_places
from speclab.outcome import Level, Stage
from speclab.plural import plural
from speclab.spec.document import Document
from speclab.spec.integration import Integration
from speclab.spec.problem import Problem
from speclab.spec.read import read_integration, read_mapping
from speclab.spec.systems.http import HttpSystem
from speclab.spec.workspace import workspace_of


@dataclass(frozen=True, slots=True)
class Prepared:
    """A spec that can run. `deleted` tells a deleted record of the source, where the spec says how."""

    document: Document
    workspace: Path
    integration: Integration
    mapper: Mapper
    deleted: Callable[[Record], bool] | None = None

    @property
    def file(self) -> str:
        """The spec's path as the run log names it: from the workspace, where the spec is in it."""
        path = self.integration.path.resolve()
        return str(path.relative_to(self.workspace) if path.is_relative_to(self.workspace) else path)


def prepare(path: Path) -> Prepared:
    """The spec at `path`, ready to run.

    Raises `SpecError` with all problems, warnings too, if any of them is an error.
    """
    document = Document.load(path)
    integration, needs = read_integration(document)
    problems = _together(needs, lint(document))
    errors = sum(problem.level is Level.ERROR for problem in problems)
    if integration is None or errors:
        raise SpecError(f"{path}: {plural(errors, 'problem')} in the way of a run", problems=problems)
    places = settings_places(document)
    return Prepared(
        document=document,
        workspace=workspace_of(path),
        integration=integration,
        mapper=compile_mapping(integration.rows, integration.mapping, str(path), places),
        deleted=_deleted(integration),
    )


def prepare_mapping(document: Document) -> Mapper:
    """The mapping of `document`, ready to use, whatever the rest of it is like.

    Raises `SpecError` with all problems that stand in the way.
    """
    rows, settings = read_mapping(document)
    try:
        return compile_mapping(rows, settings, str(document.path), settings_places(document))
    except SpecError as error:
        raise SpecError(f"{document.path}: the mapping is not right", problems=error.problems) from error


def _together(needs: Sequence[Problem], linted: Sequence[Problem]) -> list[Problem]:
    """Both lists as one: what a run needs counts as that, even where a draft may leave it for later."""
    found = {(problem.line, problem.column, problem.code, problem.message): problem for problem in (*linted, *needs)}
    return sorted(found.values(), key=lambda problem: (problem.line, problem.column, problem.code))


def _deleted(spec: Integration) -> Callable[[Record], bool] | None:
    if not isinstance(spec.source, HttpSystem) or spec.source.read is None or spec.source.read.deleted is None:
        return None
    expression = RecordExpression(spec.source.read.deleted)

    def deleted(record: Record) -> bool:
        try:
            return expression.holds(record)
        except EvaluationError as error:
            failure = RowFailure(
                row=None,
                line=spec.source_line,
                column=1,
                length=1,
                step=None,
                reason=str(error),
                value=None,
                stage=Stage.READ,
            )
            raise MappingFailure((failure,)) from None

    return deleted
