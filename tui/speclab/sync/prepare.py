"""Preparing a run: the spec checked and compiled, and the route from source to target."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from speclab.core.errors import SpecError
from speclab.core.json import Record
from speclab.core.outcome import Level, Stage
from speclab.core.text import format_count
from speclab.mapping import Mapper, MappingFailure, RowFailure, compile_mapping, lint
from speclab.mapping.cel import EvaluationError, RecordExpression
from speclab.mapping.lint import locate_settings
from speclab.spec.document import Document
from speclab.spec.integration import Integration
from speclab.spec.parser import read_integration, read_mapping
from speclab.spec.problems import Problem
from speclab.spec.workspace import workspace_of

if TYPE_CHECKING:
    from speclab.core.json import Json
    from speclab.runlog import RunStore
    from speclab.spec.settings import System


def way(source: System, target: System) -> str:
    """A name for the way from `source` to `target`, whose references are resolved; it tells nothing of them."""
    return f"{_short(source.origin())}-{_short(target.destination())}"


def cursor_on(log: RunStore, spec_id: str, way: str) -> tuple[Json, str]:
    """The cursor that a read on `way` goes on from; where it is of another way, none, and what is told of that."""
    known = log.get_route(spec_id)
    if known is None or known == way:
        return log.get_cursor(spec_id), ""
    end = "source" if known.partition("-")[0] != way.partition("-")[0] else "target"
    return None, f"the {end} is another than that of the runs before; reading from the start"


def _short(text: str) -> str:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


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
        raise SpecError(f"{path}: {format_count(errors, 'problem')} in the way of a run", problems=problems)
    places = locate_settings(document)
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
        return compile_mapping(rows, settings, str(document.path), locate_settings(document))
    except SpecError as error:
        raise SpecError(f"{document.path}: the mapping is not right", problems=error.problems) from error


def _together(needs: Sequence[Problem], linted: Sequence[Problem]) -> list[Problem]:
    """Both lists as one: what a run needs counts as that, even where a draft may leave it for later."""
    found = {(problem.line, problem.column, problem.code, problem.message): problem for problem in (*linted, *needs)}
    return sorted(found.values(), key=lambda problem: (problem.line, problem.column, problem.code))


def _deleted(spec: Integration) -> Callable[[Record], bool] | None:
    tombstone = spec.source.tombstone()
    if tombstone is None:
        return None
    expression = RecordExpression(tombstone)

    def deleted(record: Record) -> bool:
        try:
            return expression.matches(record)
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
