"""Preparation of a run, and of a dry run: the compiled spec, its cursor, its store."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final

from speclab.connectors.api import MappedRecord, Report, WriteResult
from speclab.core.errors import SpecError
from speclab.core.files import STATE_DIRECTORY
from speclab.core.json import Record
from speclab.core.outcome import Effect, Level, Stage
from speclab.core.text import format_count
from speclab.mapping import Mapper, MappingFailure, RowFailure, compile_mapping, lint
from speclab.mapping.cel import EvaluationError, RecordExpression
from speclab.mapping.lint import locate_settings
from speclab.runlog import DryRunStore, NewFailure, RunLog, RunStore, RunStoreView
from speclab.spec.document import Document
from speclab.spec.integration import Integration
from speclab.spec.parser import read_integration, read_mapping
from speclab.spec.problems import Problem
from speclab.spec.workspace import workspace_of

if TYPE_CHECKING:
    from speclab.core.json import Json
    from speclab.runlog import RunStoreView
    from speclab.runlog.destinations import LogDestination, Write
    from speclab.spec.settings import System


def build_route(source: System, target: System) -> str:
    """Return a fingerprint of the route from `source` to `target`; their references are resolved."""
    return f"{_hash(source.origin())}-{_hash(target.destination())}"


def load_cursor(log: RunStoreView, spec_id: str, route: str) -> tuple[Json, str]:
    """Return the cursor from which a read on `route` continues; if it belongs to another route, None and a warning."""
    known = log.get_route(spec_id)
    if known is None or known == route:
        return log.get_cursor(spec_id), ""
    endpoint = "source" if known.partition("-")[0] != route.partition("-")[0] else "target"
    return None, f"the {endpoint} differs from the one of the previous runs; reading from the start"


def _hash(text: str) -> str:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


@dataclass(frozen=True, slots=True)
class PreparedSpec:
    """A spec that can run. `is_deleted` returns whether a source record is marked as deleted, if the spec says how."""

    document: Document
    workspace: Path
    integration: Integration
    mapper: Mapper
    is_deleted: Callable[[Record], bool] | None = None

    @property
    def file(self) -> str:
        """The spec's path as the run log names it: relative to the workspace if it is inside."""
        path = self.integration.path.resolve()
        return str(path.relative_to(self.workspace) if path.is_relative_to(self.workspace) else path)


def prepare(path: Path) -> PreparedSpec:
    """Return the spec at `path`, ready to run.

    Raises `SpecError` with all problems, warnings included, if any of them is an error.
    """
    document = Document.load(path)
    integration, problems = _read_with_problems(document)
    errors = sum(problem.level is Level.ERROR for problem in problems)
    if integration is None or errors:
        raise SpecError(f"{path}: {format_count(errors, 'problem')} that prevent a run", problems=problems)
    places = locate_settings(document)
    return PreparedSpec(
        document=document,
        workspace=workspace_of(path),
        integration=integration,
        mapper=compile_mapping(integration.rows, integration.mapping, str(path), places),
        is_deleted=_compile_deleted(integration),
    )


def prepare_mapping(document: Document) -> Mapper:
    """Return the mapping of `document`, ready to use, even if other sections have problems.

    Raises `SpecError` with all problems of the mapping.
    """
    rows, settings = read_mapping(document)
    try:
        return compile_mapping(rows, settings, str(document.path), locate_settings(document))
    except SpecError as error:
        raise SpecError(f"{document.path}: the mapping has problems", problems=error.problems) from error


def find_problems(document: Document) -> list[Problem]:
    """Return all problems that a run of `document` has; what a draft may omit is an error."""
    return _read_with_problems(document)[1]


def _read_with_problems(document: Document) -> tuple[Integration | None, list[Problem]]:
    integration, needs = read_integration(document)
    linted = lint(document)
    found = {(problem.line, problem.column, problem.code, problem.message): problem for problem in (*linted, *needs)}
    return integration, sorted(found.values(), key=lambda problem: (problem.line, problem.column, problem.code))


def _compile_deleted(spec: Integration) -> Callable[[Record], bool] | None:
    tombstone = spec.source.tombstone()
    if tombstone is None:
        return None
    expression = RecordExpression(tombstone)

    def is_deleted(record: Record) -> bool:
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

    return is_deleted


def send_events(log: RunLog, prepared: PreparedSpec, write: Write | None = None) -> None:
    """Send the events of a spec also to the destination in its Logging section; `write` prints to standard error."""
    destination = build_destination(prepared.integration, prepared.workspace)
    if destination is not None:
        log.send_events(prepared.integration.spec_id, destination, write)


def build_destination(spec: Integration, workspace: Path) -> LogDestination | None:
    """Return the destination of events in the Logging section of a spec; None if there is none."""
    logging = spec.logging
    if logging.destination == "none":
        return None
    from speclab.runlog.destinations import LogDestination

    return LogDestination(
        kind=logging.destination,
        level=Level(logging.level),
        format=logging.format,
        directory=workspace / STATE_DIRECTORY / "logs",
        size=logging.rotation.size,
        keep=logging.rotation.keep,
    )


_WRITTEN: Final = WriteResult(effect=Effect.WRITTEN)


class NullWriter:
    """A writer that accepts every record and writes nothing."""

    batch = 1000
    idempotent = True
    keyed = False
    deletes = True

    async def write(self, records: Sequence[MappedRecord]) -> Sequence[WriteResult]:
        """Return that each record was written."""
        return [_WRITTEN] * len(records)

    async def close(self) -> None:
        """Do nothing: nothing is open."""


@contextmanager
def dry_run_store(real: RunStoreView, report: Report) -> Iterator[RunStore]:
    """Open a store for a dry run against the state in `real`: failures are reported, nothing is kept."""

    def report_failure(failure: NewFailure) -> None:
        location = f"{failure.file}:{failure.line}" + (f":{failure.column}" if failure.column else "")
        row = f"{failure.row}: " if failure.row else ""
        report(Level.ERROR, f"{location}: {failure.key}: {row}{failure.message}")

    with (
        TemporaryDirectory(prefix="speclab-dry-run-") as directory,
        RunLog.open(Path(directory) / "runlog.db") as scratch,
    ):
        yield DryRunStore(real, scratch, report_failure)
